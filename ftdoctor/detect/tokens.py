"""Detectors on tokens: how training rows begin and end, and whether ids and stop sets agree."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.log import log_of
from ftdoctor.detect.points import kind_of
from ftdoctor.detect.rows import MIN_ROWS, facts_of, lines_of, no_rows, of_split, share_of
from ftdoctor.detect.wording import shown
from ftdoctor.families import Family, families, family, is_base_model, table
from ftdoctor.model import Fact, Observation, Run

if TYPE_CHECKING:
    import polars as pl

TOKENIZER = "tokenizer files (tokenizer.json, tokenizer_config.json)"
GENERATION = "generation_config.json"
# Trainers whose own renderers close every answer with the stop token of the template they use.
CLOSE_ANSWERS = ("axolotl", "llama-factory", "torchtune", "tinker", "openai")
_SCRIPT = "the formatting code of the training script"
CHATS = ("messages", "sharegpt", "multimodal")


# --- who appends what -------------------------------------------------------------------------


def family_of(run: Run) -> Family | None:
    """Return the run's model family, if it is known."""
    fact = run.fact("model.family")
    return family(str(fact.value)) if fact else None


def eos_of(run: Run) -> str | None:
    """Return the text of the token that ends a text, from the tokenizer or the family."""
    fact = run.fact("tokenizer.eos_token") or run.fact("gguf.eos_token")
    if fact is not None and isinstance(fact.value, str):
        return fact.value
    own = family_of(run)
    return own.eos[0] if own else None


# Settings of SFTConfig that came with TRL 0.18 (sft_config.py).
SINCE_TRL_18 = ("packing_strategy", "completion_only_loss", "assistant_only_loss")


def version_of(run: Run, package: str) -> tuple[int, ...] | None:
    """Return a package's version as numbers, or None if no file tells it."""
    fact = run.fact(f"environment.package.{package}")
    if fact is None:
        return None
    parts = re.findall(r"\d+", str(fact.value))
    return tuple(int(p) for p in parts[:3]) or None


def appender(run: Run, *, templated: bool) -> str | None:
    """Return who puts a stop token after answers that hold none: "" nobody, None unknown.

    `templated` rows are conversations that a chat template renders: TRL and MLX add nothing to
    these. To text and completions TRL appends EOS since 0.16 (sft_trainer.py) and MLX does;
    axolotl, LLaMA-Factory, torchtune and the services close every answer themselves, torchtune
    not the rows of a `text_completion_dataset` with `add_eos: false`.
    """
    trainer = run.fact("run.trainer")
    name = str(trainer.value) if trainer else ""
    told = run.setting("add_eos") or run.setting("dataset.add_eos")
    if name == "torchtune" and told is not None and told.value is False:
        return ""
    if name in CLOSE_ANSWERS:
        return name
    renderer = run.setting("renderer_name")
    if renderer is not None and isinstance(renderer.value, str):
        return f"the renderer `{renderer.value}`"  # renderers of conversations close every turn
    for fact_name in ("script.train.appends_eos", "tokenizer.add_eos_token"):
        fact = run.fact(fact_name)
        if fact is not None and fact.value is True:
            return str(fact.where)
    adds_after = run.fact("tokenizer.adds_after")
    if adds_after is not None and adds_after.value:
        return f"the post-processor in {adds_after.where.path}"
    if templated:
        return ""
    if _in_log(run, "Adding EOS to train dataset"):
        return "TRL (log: Adding EOS to train dataset)"
    if name == "mlx":
        return name
    if name == "trl":
        version = version_of(run, "trl")
        newer = next((run.setting(n) for n in SINCE_TRL_18 if run.setting(n) is not None), None)
        if version is None and newer is not None:
            return f"TRL 0.18 or later, which has `{newer.name}`"
        if version is None:
            return None
        return "" if version < (0, 16) else f"TRL {'.'.join(map(str, version))}"
    return "" if name in ("hf", "unsloth") and _has_training_script(run) else None


def _has_training_script(run: Run) -> bool:
    return run.fact("script.train.file") is not None


def _in_log(run: Run, text: str) -> bool:
    import polars as pl

    return run.lines.height > 0 and bool(
        run.lines.select(pl.col("text").str.contains(text, literal=True).any()).item()
    )


def _ids(fact: Fact) -> list[int]:
    """Return the ids of a fact that holds one or a list; -1 and the like stand for none."""
    values = fact.value if isinstance(fact.value, list) else [fact.value]
    return [v for v in values if isinstance(v, int) and not isinstance(v, bool) and v >= 0]


def may_be_causal(run: Run) -> bool:
    """Say whether the model may be a causal language model: nothing says that it is another.

    ForConditionalGeneration is the name of vision chat models of known families and of encoder
    decoders alike.
    """
    architecture = run.fact("model.architecture")
    if architecture is not None:
        causal = str(architecture.value).endswith(("ForCausalLM", "LMHeadModel"))
        return causal or family_of(run) is not None
    task = run.fact("adapter.task_type")
    return task is None or task.value in ("CAUSAL_LM", None)


def id_of(run: Run, text: str) -> int | None:
    """Return the id of an added token by its text."""
    for fact in run.facts.get("tokenizer.added_tokens", ()):
        for number, token in fact.value.items():
            if token["content"] == text and number.lstrip("-").isdigit():
                return int(number)
    own = family_of(run)
    pairs = (*own.turn_ends, own.eos) if own else ()
    return next((number for known, number in pairs if known == text and number is not None), None)


def is_special(run: Run, text: str) -> bool | None:
    """Say whether a text is one token of this model; None if no file tells."""
    special = run.fact("tokenizer.special_tokens")
    if special is not None and text in special.value:
        return True
    tables = run.facts.get("tokenizer.added_tokens", ())
    if any(t["content"] == text for fact in tables for t in fact.value.values()):
        return True
    if tables:
        return False
    own = family_of(run)
    if own is None:
        return None
    known = {*own.stop_texts, own.bos[0], own.pad[0]}
    if text in known:
        return True
    return False if _stop_of_others(text, own) else None


def _stop_of_others(text: str, own: Family) -> bool:
    return any(text in other.stop_texts for other in families() if other.id != own.id)


# --- ends of rows -----------------------------------------------------------------------------


def _whole_rows(run: Run) -> pl.DataFrame:
    """Return the training rows whose end can be judged: rendered, answered, not cut."""
    import polars as pl

    rows = of_split(run, "train")
    return rows.filter(
        pl.col("rendered_by").is_not_null()
        & ~pl.col("truncated").fill_null(False)
        & ~pl.col("response_empty").fill_null(False)
        & ~pl.col("ends_with_header").fill_null(False)
    )


def _answers(rows: pl.DataFrame) -> pl.DataFrame:
    """Leave out plain text that is no dialogue: a corpus needs no stop token in every row."""
    import polars as pl

    return rows.filter((pl.col("rendered_by") != "text") | pl.col("format").is_not_null())


@detector("tokens.eos_missing", of_text=True)
def eos_missing(run: Run, *, above: float, sure: bool = True) -> Observation:
    """Find that answers end without any stop token, and that nobody appends one.

    A row counts if its trained text ends with neither EOS nor a turn end of any family. Rows cut
    by max_length, rows that end with an empty answer header and plain corpora are left out.
    Without `sure` the rows alone count where it is not known whether the trainer appends one; of a
    text file it is not known either whether training took its lines for rows.
    """
    import polars as pl

    rows = _answers(_whole_rows(run))
    if not sure:
        lines = [a.path for a in run.artifacts if a.kind == "data-text"]
        rows = rows.filter(~pl.col("path").is_in(lines))
    if kind_of(run) == "preference":
        return unobservable("Trainers of preferences append the end token to both answers")
    if rows.height < MIN_ROWS:
        if of_split(run, "train").height:
            return unobservable(
                "The rows cannot be rendered as training did", "chat template or formatting script"
            )
        return no_rows("train")
    if _closes_by_next_turn(run):
        return absent("This family ends a turn by the header of the next one")
    ids = rows.filter(pl.col("rendered_by") == "ids")
    if ids.height:
        return _prepared_without_stop(run, ids, above)
    hits = rows.filter(pl.col("stop_text") == "")
    templated = hits.filter(pl.col("rendered_by") == "template").height == hits.height
    who = appender(run, templated=templated)
    if hits.height and who:
        return absent(f"{who} appends the end token")
    columns = hits.filter(pl.col("rendered_by") == "joined").height == hits.height > 0
    if columns and who is None and not sure:
        # Columns of questions, answers and labels hold no stop token: a renderer, a template or a
        # loop makes the text of them, and may put one there.
        return unobservable("How question and answer are put together is not known", _SCRIPT)
    if hits.height / rows.height > above and who is None and sure:
        said = f"{hits.height:,} of {rows.height:,} rows hold no stop token; the trainer may add it"
        return unobservable(said, "training script, or the versions of trl and unsloth")
    return _without_stop(run, rows, hits, above, eos_of(run))


def _prepared_without_stop(run: Run, ids: pl.DataFrame, above: float) -> Observation:
    import polars as pl

    known = ids.filter(pl.col("ends_with_eos").is_not_null())
    if not known.height:
        return unobservable("The id of the end token is not known", TOKENIZER)
    hits = known.filter(~pl.col("ends_with_eos") & (pl.col("stop_text").fill_null("") == ""))
    return _without_stop(run, known, hits, above, None)


def _without_stop(
    run: Run, rows: pl.DataFrame, hits: pl.DataFrame, above: float, eos: str | None
) -> Observation:
    expected = f"`{eos}`" if eos else "the end token"
    found = share_of(
        rows,
        hits,
        f"end without {expected} or any turn end",
        above=above,
        fact="data.last_text",
        column="rendered",
    )
    fact = run.fact("tokenizer.eos_token")
    if found.facts and fact:
        return present(found.text, *found.facts, fact)
    return found


def _closes_by_next_turn(run: Run) -> bool:
    own = family_of(run)
    return own is not None and own.id in ("glm-4", "chatglm-2-3")


@detector("tokens.stop_is_text", of_text=True)
def stop_is_text(run: Run, *, above: float) -> Observation:
    """Find that the text which ends the answers is no single token of this tokenizer."""
    import polars as pl

    rows = _whole_rows(run).filter(pl.col("stop_text").fill_null("") != "")
    if not rows.height:
        if of_split(run, "train").height:
            return unobservable("No row ends with a stop text", "rendered training text")
        return no_rows("train")
    verdicts: dict[str, bool | None] = {}
    for text in rows["stop_text"].unique().to_list():
        width = rows.filter(pl.col("stop_text") == text)["stop_ids"].drop_nulls()
        verdicts[text] = bool(width[0] == 1) if width.len() else is_special(run, text)
    if all(v is None for v in verdicts.values()):
        return unobservable("No file tells which texts are tokens", TOKENIZER)
    plain = [text for text, whole in verdicts.items() if whole is False]
    hits = rows.filter(pl.col("stop_text").is_in(plain))
    widths = hits["stop_ids"].drop_nulls()
    pieces = f"{widths[0]} ordinary tokens" if widths.len() else "ordinary text"
    claim = f"end with `{plain[0] if plain else ''}`, which is {pieces} for this tokenizer"
    if not plain:
        return absent(f"The answers end with {rows['stop_text'][0]!r}, which is one token")
    return share_of(rows, hits, claim, above=above, fact="data.stop_text", column="stop_text")


@detector("tokens.end_differs_from_eos", of_text=True)
def end_differs_from_eos(run: Run, *, above: float) -> Observation:
    """Find that answers end with a turn end that is neither EOS nor a stop token of generation."""
    import polars as pl

    rows = _whole_rows(run).filter(pl.col("stop_text").fill_null("") != "")
    closes = run.fact("template.closes")
    ends: list[str] = rows["stop_text"].value_counts(sort=True)["stop_text"].to_list()
    if not ends and closes is not None and run.fact("script.train.applies_chat_template"):
        ends = [t for t in _texts() if str(closes.value).strip().startswith(t)][:1]
    if not ends:
        return unobservable("How the answers end is not known", "training data or chat template")
    end = ends[0]
    eos = eos_of(run)
    if eos is None:
        return unobservable("No file names the end token", TOKENIZER)
    if end == eos:
        return absent(f"The answers end with the tokenizer's end token `{eos}`")
    if rows.height and rows.filter(pl.col("stop_text") == end).height / rows.height <= above:
        return absent("The answers end in several ways")
    stated = run.fact("generation.eos_token_id")
    if stated is None:
        return _unstopped(run, rows, end, eos)
    number = id_of(run, end)
    if number is None:
        return unobservable(f"The id of `{end}` is not known", TOKENIZER)
    ids = _ids(stated)
    if not ids or number in ids:
        return absent(f"generation_config.json stops at `{end}` ({number})", stated)
    said = f"Answers end with `{end}` ({number}); EOS is `{eos}`, and generation stops at {ids}"
    return present(said, stated, *facts_of(rows, "data.stop_text", "stop_text", 2))


def _unstopped(run: Run, rows: pl.DataFrame, end: str, eos: str) -> Observation:
    """Judge without generation_config.json: base models stop at EOS alone, chat models at both."""
    own = family_of(run)
    model = run.setting("model_name_or_path") or run.setting("lora.base_model")
    base = is_base_model(str(model.value)) if model else None
    if base is None and own is not None and own.eos[0]:
        # The family table holds the chat model's EOS: another one is that of the base model.
        base = eos != own.eos[0] and end in own.stop_texts
    if not base:
        return unobservable(f"Whether `{end}` stops generation is not known", GENERATION)
    fact = run.fact("tokenizer.eos_token")
    said = f"Answers end with `{end}`, but the base model's end token is `{eos}`"
    return present(
        said, *([fact] if fact else []), *facts_of(rows, "data.stop_text", "stop_text", 2)
    )


def _texts() -> list[str]:
    own = {t for f in families() for t in f.stop_texts}
    return sorted({*own, *table()["end_of_generation"]["value"]}, key=len, reverse=True)


@detector("tokens.eos_masked", of_text=True)
def eos_masked(run: Run, *, above: float) -> Observation:
    """Find in prepared rows that the end token is there and its label is -100."""
    import polars as pl

    rows = of_split(run, "train").filter(pl.col("eos_masked").is_not_null())
    if not rows.height:
        return unobservable("No prepared rows with labels", "prepared dataset (Arrow) with labels")
    hits = rows.filter(pl.col("eos_masked"))
    return share_of(
        rows,
        hits,
        "hold the end token with label -100",
        above=above,
        fact="data.last_tokens",
        column="last_tokens",
    )


@detector("tokens.pad_is_turn_end", of_text=True)
def pad_is_turn_end(run: Run) -> Observation:
    """Find that the padding token is the token that ends answers (by files or by the script)."""
    pad = run.fact("tokenizer.pad_token")
    eos = eos_of(run)
    script = run.fact("script.train.pad_token")
    if script is not None and script.value == "eos_token":
        return _pad_is_end(run, script, eos)
    if pad is None:
        return unobservable("No file names the padding token", TOKENIZER)
    if pad.value != eos:
        return absent(f"The padding token `{pad.value}` is not the end token", pad)
    return _pad_is_end(run, pad, eos)


def _pad_is_end(run: Run, fact: Fact, eos: str | None) -> Observation:
    """Leave out families whose turns end with another token than EOS."""
    own = family_of(run)
    closes = run.fact("template.closes")
    if closes is not None and eos and eos not in str(closes.value) and str(closes.value).strip():
        return absent(f"Turns end with {closes.value!r}, not with the padding token", fact)
    if own is not None and own.turn_ends and eos not in [t for t, _ in own.turn_ends] and closes:
        return absent("Turns of this family end with another token", fact)
    token = f" `{eos}`" if eos else ""
    return present(f"The padding token is the end token{token} ({fact.where})", fact)


@detector("tokens.collator_masks_padding")
def collator_masks_padding(run: Run) -> Observation:
    """Find a collator that sets every label equal to the padding token to -100.

    transformers' DataCollatorForLanguageModeling does, and with it SFTTrainer before TRL 0.17;
    packing leaves no padding and is safe.
    """
    packing = run.known("packing")
    if packing is not None and packing.value is True:
        return absent("Packed rows have no padding", packing)
    collator = run.fact("script.train.collator")
    if collator is not None:
        if "LanguageModeling" in str(collator.value):
            return present(f"{collator.value} masks labels equal to the padding token", collator)
        return absent(f"{collator.value} keeps the labels of end tokens", collator)
    trainer = run.fact("run.trainer")
    if trainer is None or trainer.value not in ("trl", "unsloth"):
        return unobservable("Which collator was used is not known", "training script")
    version = version_of(run, "trl")
    fact = run.fact("environment.package.trl")
    if version is None or fact is None:
        return unobservable("The version of TRL is not known", "requirements or pip freeze")
    text = f"TRL {fact.value}"
    if version < (0, 17):
        return present(f"{text} masks labels equal to the padding token by default", fact)
    return absent(f"{text} builds labels before padding", fact)


# --- length -----------------------------------------------------------------------------------


@detector("tokens.truncated")
def truncated(run: Run, *, above: float, below: float | None = None) -> Observation:
    """Find that more than a share of the training rows is longer than max_length."""
    import polars as pl

    rows = of_split(run, "train")
    if not rows.height:
        return no_rows("train")
    if run.fact("script.train.encodes_apart") is not None:
        return unobservable("Each text of a row is encoded by itself", "tokens of each text")
    judged = rows.filter(pl.col("truncated").is_not_null())
    limit = run.setting("max_length")
    if judged.height < max(MIN_ROWS, rows.filter(pl.col("rendered_by").is_not_null()).height / 2):
        missing = "training configuration (max_length)" if limit is None else "tokenizer.json"
        return unobservable("Row lengths cannot be compared with a limit", missing)
    packing = run.known("packing")
    if packing is not None and packing.value is True:
        return absent("Packed rows are split, not cut", packing)
    hits = judged.filter(pl.col("truncated"))
    share = hits.height / judged.height
    cut = limit.value if limit else "TRL's default of 1,024"
    length = judged["n_tokens"].drop_nulls()
    quantile = length.quantile(0.95) if length.len() else None
    tail = f"; the 95th percentile is {quantile:,.0f}" if quantile else ""
    text = f"{hits.height:,} of {judged.height:,} rows ({share:.1%}) exceed {cut} tokens{tail}"
    facts = ([limit] if limit else []) + list(facts_of(hits, "data.n_tokens", "n_tokens"))
    if share > above and (below is None or share <= below):
        return present(f"{text}, e.g. {lines_of(hits)}", *facts)
    return absent(text, *([limit] if limit else []))


@detector("tokens.length_spread")
def length_spread(run: Run, *, times_median: float, top_share: float) -> Observation:
    """Find a few enormous rows: one beyond `times_median`, the top 1 % holding `top_share`."""
    import polars as pl

    rows = of_split(run, "train")
    rows = rows.with_columns(
        pl.coalesce(pl.col("n_tokens"), pl.col("n_chars"), pl.col("record").str.len_chars()).alias(
            "size"
        )
    ).sort("size", descending=True)
    if rows.height < 50:
        return (
            no_rows("train")
            if not rows.height
            else unobservable(
                f"{rows.height} rows are too few for a distribution", "more training rows"
            )
        )
    sizes = rows["size"]
    median, total = float(sizes.quantile(0.5) or 0), float(sizes.sum())
    top = float(sizes.head(max(1, rows.height // 100)).sum()) / max(1.0, total)
    ratio = float(sizes[0]) / max(1.0, median)
    text = f"The longest row is {ratio:.3g} times the median; the longest 1 % hold {top:.0%} of all"
    if ratio > times_median and top > top_share:
        return present(text, *facts_of(rows, "data.size", "size"))
    return absent(text)


# --- beginnings -------------------------------------------------------------------------------


@detector("tokens.double_bos")
def double_bos(run: Run, *, above: float) -> Observation:
    """Find rows that begin with two BOS tokens: written in the text and added by the tokenizer."""
    import polars as pl

    rows = of_split(run, "train").filter(pl.col("double_bos").is_not_null())
    if not rows.height:
        if not of_split(run, "train").height:
            return no_rows("train")
        return unobservable("Whether the tokenizer adds BOS is not known", TOKENIZER)
    hits = rows.filter(pl.col("double_bos"))
    trainer = run.fact("run.trainer")
    if hits.height and trainer is not None and trainer.value == "unsloth":
        return absent("Unsloth removes the second BOS", trainer)
    return share_of(
        rows, hits, "begin with BOS twice", above=above, fact="data.first_text", column="rendered"
    )


# Texts that begin a document in the families whose tokenizers put them there themselves.
_BOS_TEXTS = ("<s>", "<|begin_of_text|>", "<bos>", "<｜begin▁of▁sentence｜>", "<BOS_TOKEN>")


@detector("tokens.bos_written_and_added")
def bos_written_and_added(run: Run, *, above: float) -> Observation:
    """Find rows that begin with a written BOS, and a script whose tokenizer call adds another.

    For runs without tokenizer files; with these, `tokens.double_bos` knows what is added.
    """
    import polars as pl

    calls = run.facts.get("script.train.adds_special_tokens", ())
    if not calls:
        return unobservable("No call of the tokenizer was found in a script", "training script")
    if run.fact("tokenizer.bos_token") is not None:
        return unobservable("The tokenizer files tell what is added to the rows", TOKENIZER)
    trainer = run.fact("run.trainer")
    if trainer is not None and trainer.value == "unsloth":
        return absent("Unsloth removes the second BOS", trainer)
    rows = of_split(run, "train").filter(pl.col("rendered_by").is_in(["text", "script", "joined"]))
    if rows.height < MIN_ROWS:
        return no_rows("train")
    written = pl.any_horizontal(*(pl.col("rendered").str.starts_with(t) for t in _BOS_TEXTS))
    hits = rows.filter(written)
    without = next((f for f in calls if f.value is False), None)
    if hits.height and without is not None:
        return absent(f"The text is encoded without special tokens ({without.where})", without)
    found = share_of(
        rows, hits, "begin with a written BOS", above=above, fact="data.first_text",
        column="rendered",
    )  # fmt: skip
    if not found.facts:
        return found
    said = f"{hits.height:,} of {rows.height:,} sampled rows begin with a written BOS"
    return present(
        f"{said}, and the tokenizer adds its own ({calls[0].where}), e.g. {lines_of(hits)}",
        *found.facts,
        calls[0],
    )


_PRINTED_IDS = re.compile(r"[\[(]\s*(\d+),\s*(\d+),\s*(\d+),")
_NAMES_IDS = re.compile(r"(?i)\bids?\b|_ids?\b|tokens?\b|\bencod|\binputs?\b")
_NO_INPUT_IDS = re.compile(r"(?i)label|mask|type_ids|position|target|shape|size|count|length")
_DOUBLED_TEXT = re.compile(
    "|".join(rf"(?<!{t})(?<!{t}\s)({t})(?:\(-?\d+, ?\d+\))?\s?{t}(?!\s?{t})"
             for t in map(re.escape, _BOS_TEXTS))
)  # fmt: skip
# Other ids than these are no BOS in any family, or also pad there.
_OWN_BOS = frozenset({1, 2, 5, 100000, 128000, 200000})


@detector("tokens.doubled_in_log")
def doubled_in_log(run: Run, *, patterns: list[str]) -> Observation:
    """Find printed token ids, or a printed text, that begin with BOS twice.

    Lists of labels and masks are left out, and longer runs of one id, which are padding.
    """
    candidates = log_of(run).find(patterns)
    lists = []
    for text in candidates:
        if found := _DOUBLED_TEXT.search(text.text):
            said = f"the text printed at {text.fact.where} begins with"
            return present(f"{said} {shown(next(g for g in found.groups() if g))} twice", text.fact)
        lists += [(text, ids) for ids in _printed_ids(text.text)]
    if not lists:
        return unobservable("No token ids were printed", "stdout log with the ids of a row")
    for text, (first, second, third) in lists:
        if first == second != third and _is_bos(run, first) and not _is_bos(run, third):
            said = f"the ids printed at {text.fact.where} begin {first}, {second}, {third}"
            return present(f"{said}: the BOS twice", text.fact)
    return absent("No printed list of token ids begins with BOS twice", lists[0][0].fact)


def _printed_ids(line: str) -> list[tuple[int, int, int]]:
    """Return the first three ids of the lists that a line prints under a name for ids."""
    found = []
    for match in _PRINTED_IDS.finditer(line[:2000]):
        before = line[max(0, match.start() - 40) : match.start()]
        name = re.split(r"[\])},]", before)[-1]
        if _NAMES_IDS.search(name) and not _NO_INPUT_IDS.search(name):
            found.append((int(match[1]), int(match[2]), int(match[3])))
    return found


def _is_bos(run: Run, number: int) -> bool:
    known = run.fact("tokenizer.bos_id")
    if known is not None and isinstance(known.value, int):
        pad = run.fact("tokenizer.pad_id")
        return number == known.value and (pad is None or pad.value != number)
    return number in _OWN_BOS


@detector("tokens.bos_missing")
def bos_missing(run: Run, *, above: float) -> Observation:
    """Find rows without BOS in a family whose tokenizer adds one (Gemma, Llama, Mistral)."""
    import polars as pl

    own = family_of(run)
    if own is None:
        return unobservable("The model family is not known", "config.json or the model's name")
    if not own.adds_bos:
        return absent(f"{own.id} needs no BOS")
    rows = of_split(run, "train").filter(pl.col("rendered_by") == "ids")
    rows = rows.filter(pl.col("starts_with_bos").is_not_null())
    if not rows.height:
        return unobservable("No prepared token ids", "prepared dataset (Arrow) with input_ids")
    hits = rows.filter(~pl.col("starts_with_bos"))
    return share_of(
        rows, hits, f"begin without `{own.bos[0]}`", above=above, fact="data.last_tokens",
        column="last_tokens",
    )  # fmt: skip


# --- ids and files ----------------------------------------------------------------------------


@detector("tokens.id_beyond_embedding")
def id_beyond_embedding(run: Run) -> Observation:
    """Find a token whose id is not below the number of embedding rows.

    Rows come from the embedding tensor if weights are there, else from config.json beside the
    tokenizer. More rows than tokens are healthy padding.
    """
    rows = _embedding_rows(run)
    if rows is None:
        return unobservable("The number of embedding rows is not known", "config.json or weights")
    largest: tuple[int, Fact] | None = None
    for name in ("tokenizer.vocab_size", "tokenizer.largest_added_id"):
        for fact in run.facts.get(name, ()):
            number = int(fact.value) - (name.endswith("vocab_size"))
            if _beside(fact, rows) and (largest is None or number > largest[0]):
                largest = number, fact
    if largest is None:
        return unobservable("The largest token id is not known", TOKENIZER)
    number, fact = largest
    text = f"The largest token id is {number:,}, the embedding has {rows.value:,} rows"
    if number >= int(rows.value):
        return present(text, fact, rows)
    return absent(text, fact, rows)


def _embedding_rows(run: Run) -> Fact | None:
    import polars as pl

    if run.tensors.height:
        found = run.tensors.filter(
            pl.col("name").str.contains(r"(?:embed_tokens|wte|tok_embeddings|embed_in)\.weight$")
        )
        for row in found.head(1).iter_rows(named=True):
            from ftdoctor.model import Where

            return Fact(
                "model.embedding_rows", row["shape"][0], Where(row["file"], tensor=row["name"])
            )
    fact = run.fact("model.vocab_size")
    return fact if fact is not None and isinstance(fact.value, int) else None


def _beside(fact: Fact, rows: Fact) -> bool:
    """Say whether tokenizer and model lie in one folder: only then do they belong together."""
    return fact.where.path.rpartition("/")[0] == rows.where.path.rpartition("/")[0]


@detector("tokens.stop_ids_disagree", of_text=True)
def stop_ids_disagree(run: Run) -> Observation:
    """Find that tokenizer and generation_config.json of one folder name different end tokens.

    Only the tokenizer's EOS missing from the list counts: more ids than one are healthy. Every
    folder that holds both is looked at, for an export may say something else than a checkpoint.
    """
    named = [f for f in run.facts.get("generation.eos_token_id", ()) if f.value is not None]
    number = run.fact("tokenizer.eos_id")
    eos = run.fact("tokenizer.eos_token")
    if not named:
        return unobservable("generation_config.json names no end token", GENERATION)
    if number is None or eos is None:
        return unobservable("The id of the tokenizer's end token is not known", TOKENIZER)
    if not may_be_causal(run):
        return absent("The model is no causal language model")
    judged = [f for f in named if _ids(f) and _with_tokenizer(run, number, f)]
    if not judged:
        return unobservable("Tokenizer and generation_config.json lie apart", GENERATION)
    odd = [f for f in judged if number.value not in _ids(f)]
    if not odd:
        return absent(f"Both stop at `{eos.value}` ({number.value})", judged[0], eos)
    ids = _ids(odd[0])
    known = _known_pair(run, ids, number.value)
    if known:
        return absent(known, odd[0], eos)
    said = f"The tokenizer's end token is `{eos.value}` ({number.value}), generation stops at {ids}"
    return present(f"{said} ({odd[0].where})", odd[0], eos)


def _with_tokenizer(run: Run, number: Fact, stated: Fact) -> bool:
    """Say whether the folder's tokenizer has that end token: by its fact, or as the only one.

    Facts that say the same again are not kept, so a folder's tokenizer may have none of its own.
    """
    if _beside(number, stated):
        return True
    folder = stated.where.path.rpartition("/")[0]
    files = {a.path for a in run.artifacts}
    own = any(f"{folder}/{name}" in files for name in ("tokenizer_config.json", "tokenizer.json"))
    values = {str(f.value) for f in run.facts.get("tokenizer.eos_token", ())}
    size = run.fact("tokenizer.vocab_size")
    # Ids beyond the vocabulary belong to another tokenizer than the one that was read.
    fits = size is not None and max(_ids(stated)) < size.value
    return bool(folder) and own and fits and len(values) == 1


def _known_pair(run: Run, ids: list[Any], eos: int) -> str:
    """Return why a difference is how the family ships it (Yi chat: 2 and 7), or nothing."""
    own = family_of(run)
    if own is not None and set(ids) <= {*own.stop_ids} and eos == own.eos[1] and own.stop_ids:
        return f"{own.id} ships with these ids"
    return ""


@detector("tokens.token_untrained")
def token_untrained(run: Run) -> Observation:
    """Find tokens that were added for training while embeddings stayed frozen under LoRA."""
    adapter = run.setting("lora.target_modules") or run.setting("lora.r")
    if adapter is None:
        return unobservable("No adapter settings were found", "adapter_config.json")
    added = run.fact("script.train.added_tokens") or run.fact("script.train.extends_vocabulary")
    new = _beyond_family(run)
    if added is None and new is None:
        if run.fact("tokenizer.added_tokens") is None:
            return unobservable("Whether tokens were added is not known", TOKENIZER)
        return absent("No tokens beyond the family's own were added")
    saved = run.setting("lora.modules_to_save")
    listed = saved.value if saved is not None and isinstance(saved.value, list) else []
    targets = adapter.value if isinstance(adapter.value, list) else [adapter.value]
    index = run.known("adapter.trainable_token_indices")
    trained = any("embed" in str(m) or "lm_head" in str(m) for m in (*listed, *targets))
    if trained or (index is not None and index.value):
        return absent("Embeddings are trained with the adapter", *([saved] if saved else []))
    fact = new or added
    assert fact is not None
    return present(f"Tokens were added{_added(fact)}, but embeddings stay frozen", fact, adapter)


@detector("tokens.added_in_rows", of_text=True)
def added_in_rows(run: Run, *, above: float) -> Observation:
    """Find added tokens in more than a share of the training answers, or of whole rows."""
    import polars as pl

    new = _beyond_family(run)
    added = [*tokens_added(run), *(new.value if new is not None else ())]
    if not added:
        return unobservable("Which tokens were added is not known", "training script")
    rows = run.rows_of("train")
    if not rows.height:
        return no_rows("train")
    texts = rows.select(pl.coalesce("response", "rendered", "record")).to_series()
    hits = rows.filter(texts.fill_null("").str.contains_any(added))
    return share_of(
        rows, hits, f"hold an added token ({shown(added)})", above=above,
        fact="data.record", column="record",
    )  # fmt: skip


def tokens_added(run: Run) -> list[str]:
    """Return the texts of the tokens that the training script adds."""
    return [t for f in run.facts.get("script.train.added_tokens", ()) for t in _token_texts(f)]


def _token_texts(fact: Fact) -> list[str]:
    given = list(fact.value.values()) if isinstance(fact.value, dict) else [fact.value]
    texts = [t for part in given for t in (part if isinstance(part, list) else [part])]
    return [t for t in texts if isinstance(t, str)]


def _added(fact: Fact) -> str:
    """Return which tokens a script adds, as ` (`<order>`, `</order>`)`, if they can be told."""
    plain = _token_texts(fact)
    return f" ({shown(plain)})" if plain else ""


def _beyond_family(run: Run) -> Fact | None:
    """Return added tokens whose ids lie beyond the family's vocabulary and its spare rows."""
    own = family_of(run)
    if own is None or not own.embedding_rows:
        return None
    for fact in run.facts.get("tokenizer.added_tokens", ()):
        new = [
            t["content"]
            for number, t in fact.value.items()
            if number.isdigit() and int(number) >= max(own.embedding_rows)
        ]
        if new:
            return Fact("tokenizer.new_tokens", new[:10], fact.where)
    return None


# Class defaults of eos_token_id (transformers: configuration_phi.py, configuration_gpt_neox.py,
# configuration_llama4.py).
CLASS_EOS = {"phi": 2, "gpt_neox": 2, "llama4_text": 2}


@detector("tokens.class_default_end", of_text=True)
def class_default_end(run: Run) -> Observation:
    """Find a config.json without end token whose class then takes another than the tokenizer's."""
    kind, own = run.fact("model.type"), run.fact("tokenizer.eos_id")
    if kind is None or own is None or not isinstance(own.value, int):
        return unobservable("Model type and end token are not both known", "config.json", TOKENIZER)
    stated = run.fact("model.eos_token_id") or run.fact("generation.eos_token_id")
    if stated is not None and stated.value is not None:
        return absent("The model's files name an end token", stated)
    default = CLASS_EOS.get(str(kind.value))
    if default is None or default == own.value:
        return absent(f"The class of `{kind.value}` brings no other end token", kind)
    said = f"No file names an end token: `{kind.value}` takes {default}, not {own.value}"
    return present(said, kind, own)
