"""Detectors on chat templates: missing, of another family, or losing what the rows hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import MIN_ROWS, facts_of, lines_of, no_rows, of_split, share_of
from ftdoctor.detect.tokens import CHATS, CLOSE_ANSWERS, TOKENIZER, family_of, may_be_causal
from ftdoctor.detect.wording import shown
from ftdoctor.families import family, is_base_model, templates_of_other_families
from ftdoctor.model import Fact, Observation, Run
from ftdoctor.render.text import plural

if TYPE_CHECKING:
    import polars as pl

TEMPLATE = "chat_template.jinja or tokenizer_config.json"
# Formats that are written with words: they work on any model, so no model family owns them.
WORD_FORMATS = (
    "alpaca", "hash-roles", "vicuna", "human-assistant", "human-bot-tags", "instruct-output",
    "question-answer",
)  # fmt: skip


def template_of(run: Run) -> Fact | None:
    """Return the chat template in force, from the tokenizer files, the script or the GGUF."""
    for name in ("tokenizer.chat_template", "script.train.chat_template"):
        fact = run.fact(name)
        if fact is not None:
            return fact
    return None


@detector("template.missing", of_text=True)
def missing(run: Run) -> Observation:
    """Find a tokenizer whose files hold no chat template anywhere (.jinja, JSON, named ones)."""
    found = template_of(run) or run.fact("tokenizer.named_templates")
    if found is not None:
        return absent(f"A chat template is in {found.where}", found)
    read = run.fact("tokenizer.class") or run.fact("tokenizer.eos_token")
    if read is None or not read.where.path.endswith("tokenizer_config.json"):
        return unobservable("No tokenizer_config.json was found", TOKENIZER)
    if not may_be_causal(run):
        return absent("The model is no causal language model", read)
    gguf = run.fact("gguf.chat_template")
    beside = "; the GGUF has one" if gguf is not None and gguf.value else ""
    return present(f"{read.where.path} and its folder hold no chat template{beside}", read)


@detector("template.needed", of_text=True)
def needed(run: Run, *, rendered: bool = False) -> Observation:
    """Find that this run needs the tokenizer's chat template: its rows are conversations.

    Trainers with renderers of their own (axolotl, LLaMA-Factory, torchtune, services) do without.
    Rows that are rendered already need it at serving only: they count with `rendered`.
    """
    trainer = run.fact("run.trainer")
    if trainer is not None and trainer.value in CLOSE_ANSWERS:
        return absent(f"{trainer.value} renders conversations itself", trainer)
    call = run.fact("script.train.applies_chat_template")
    if call is not None:
        return present(f"The training script calls apply_chat_template ({call.where})", call)
    layout = run.fact("data.layout")
    if layout is not None:
        script = run.fact("script.train.prompt")
        if layout.value in CHATS and script is None:
            return present(f"The training rows are conversations ({layout.value})", layout)
        if layout.value in CHATS and script is not None:
            return absent(f"The training script writes the prompt itself ({script.where})", script)
        formats = of_split(run, "train")["format"].drop_nulls().to_list()
        tagged = [f for f in formats if f.split(",")[0] not in WORD_FORMATS]
        if len(tagged) >= MIN_ROWS and len(tagged) > len(formats) / 2:
            said = f"The training rows are rendered conversations (format {tagged[0]})"
            return present(said, layout) if rendered else unobservable(said, "serving script")
        return absent(f"The training rows are no conversations (layout {layout.value})", layout)
    setting = run.setting("assistant_only_loss") or run.setting("data_strategy")
    if setting is not None and setting.value in (True, "chat", "chat_template", "messages"):
        return present(f"`{setting.name}` asks for conversations", setting)
    return unobservable("Whether the rows are conversations is not known", "training data")


@detector("template.problem")
def problem(run: Run) -> Observation:
    """Find a template that does not compile, or that fails on a plain conversation."""
    found = run.fact("template.problem")
    if found is not None:
        return present(f"The chat template fails: {str(found.value)[:120]}", found)
    fact = template_of(run)
    if fact is None:
        return unobservable("No chat template was found", TEMPLATE)
    return absent(f"The template in {fact.where} compiles and renders", fact)


@detector("template.refuses_rows")
def refuses_rows(run: Run, *, above: float) -> Observation:
    """Find that the template raises on more than a share of the training rows."""
    import polars as pl

    rows = of_split(run, "train").filter(
        (pl.col("rendered_by") == "template") | pl.col("problem").is_not_null()
    )
    if not rows.height:
        return unobservable("No rows were rendered by a chat template", "training data", TEMPLATE)
    hits = rows.filter(pl.col("problem").is_not_null())
    said = f": “{str(hits['problem'][0])[:90]}”" if hits.height else ""
    return share_of(
        rows, hits, f"are refused by the chat template{said}", above=above,
        fact="data.problem", column="problem",
    )  # fmt: skip


@detector("template.conflict")
def conflict(run: Run) -> Observation:
    """Find two homes with different templates: readers of different age take different ones."""
    fact = run.fact("tokenizer.chat_template_conflict")
    if fact is None:
        return unobservable("No chat template was found", TEMPLATE)
    home = run.fact("tokenizer.chat_template_home")
    if fact.value is True:
        first = home.value if home else "one file"
        return present(f"{first} and {fact.where.path} hold different chat templates", fact)
    return absent("Only one chat template is in the tokenizer's folder", fact)


@detector("template.drops")
def drops(run: Run, *, what: str) -> Observation:
    """Find that the template loses what the training rows hold.

    `what` is system (dropped or refused), tools (calls), or thinking (of earlier turns).
    """
    fact = run.fact(f"template.{what}")
    if fact is None:
        return unobservable("No chat template could be probed", TEMPLATE)
    if fact.value == "kept":
        return absent(f"The template keeps {_WORDS[what]}", fact)
    trainer = run.fact("run.trainer")
    if trainer is not None and trainer.value in CLOSE_ANSWERS:
        return unobservable(f"{trainer.value} renders by a template of its own", "rendered rows")
    rows = _rows_with(run, what)
    if rows is None:
        return no_rows("train")
    if not rows.height:
        return absent(f"The template has {_WORDS[what]} {fact.value}, but no row has any", fact)
    lost = rows.filter(_is_lost(what))
    if what != "thinking" and not lost.height:
        return absent(f"{_WORDS[what].capitalize()} survive rendering", fact)
    some = plural(rows.height, "sampled row")
    said = f"The template has {_WORDS[what]} {fact.value}; some are in {some}"
    return present(f"{said}, e.g. {lines_of(rows)}", fact, *facts_of(rows, "data.roles", "roles"))


_WORDS = {"system": "system messages", "tools": "tool calls", "thinking": "earlier reasoning"}


def _rows_with(run: Run, what: str) -> pl.DataFrame | None:
    import polars as pl

    rows = of_split(run, "train").filter(pl.col("layout").is_in([*CHATS]))
    if not rows.height:
        return None
    if what == "system":
        return rows.filter(pl.col("roles").str.starts_with("s"))
    if what == "tools":
        return rows.filter(pl.col("record").str.contains('"tool_calls": [', literal=True))
    several = pl.col("roles").str.count_matches("a") >= 2
    return rows.filter(several & (pl.col("prompt").str.contains("</think>", literal=True)))


def _is_lost(what: str) -> pl.Expr:
    """Say which rows lost it, as far as rendering shows: refused rows, or rows without the name."""
    import polars as pl

    if what == "tools":
        name = pl.col("record").str.extract(r'"function": \{[^}]*"name": "([^"]+)"')
        return pl.col("rendered").is_not_null() & ~pl.col("rendered").str.contains(
            name, literal=True
        )
    return pl.lit(True)


@detector("template.header_at_end", of_text=True)
def header_at_end(run: Run, *, above: float) -> Observation:
    """Find training rows that end with an empty answer header (add_generation_prompt=True).

    The share is that of the worst file: prepared rows often lie beside those they were made of.
    """
    import polars as pl

    rows = of_split(run, "train").filter(
        pl.col("rendered_by").is_in(["text", "template", "script"])
    )
    rows = rows.filter(pl.col("ends_with_header").is_not_null())
    if not rows.height:
        if not of_split(run, "train").height:
            return no_rows("train")
        return unobservable("The rows cannot be rendered as training did", TEMPLATE)
    if run.fact("script.train.opens_answer") is not None:
        # What the script asks the template for is told by `template.opens_after_answer`.
        rows = rows.filter(pl.col("rendered_by") != "template")
        if not rows.height:
            return unobservable("The script renders the rows with an option of its own", TEMPLATE)
    opens = run.fact("template.always_opens_turn")
    if opens is not None and opens.value:
        # The first release of Llama 3's template does so in training and serving alike.
        rows = rows.filter(pl.col("rendered_by") != "template")
        if not rows.height:
            return absent("The official template itself opens a turn at the end", opens)
    hits = rows.filter(pl.col("ends_with_header") & (pl.col("layout") != "prompt-only"))
    if hits.height:
        worst = hits["path"].value_counts(sort=True)["path"][0]
        rows, hits = (found.filter(pl.col("path") == worst) for found in (rows, hits))
    return share_of(
        rows, hits, "end with an empty answer header", above=above, fact="data.last_text",
        column="rendered",
    )  # fmt: skip


@detector("template.opens_after_answer", of_text=True)
def opens_after_answer(run: Run) -> Observation:
    """Find a script that renders whole conversations for training with an open answer behind.

    Rows whose last turn is a question are rendered so on purpose.
    """
    import polars as pl

    calls = run.facts.get("script.train.applies_chat_template", ())
    found = run.facts.get("script.train.opens_answer", ())
    if not calls and not found:
        return unobservable("No script was found that applies a chat template", "training script")
    if not found:
        return absent(f"No conversation gets an open answer ({calls[0].where})", calls[0])
    trainer = run.fact("script.train.trainer")
    if trainer is not None and _PROMPT_TRAINERS.match(str(trainer.value)):
        return absent(f"{trainer.value} trains on answers that it adds itself", trainer)
    rows = of_split(run, "train").filter(pl.col("roles").fill_null("") != "")
    asked = rows.filter(pl.col("roles").str.ends_with("u"))
    if rows.height >= MIN_ROWS and asked.height * 2 > rows.height:
        return absent("The conversations end with a question", found[0])
    said = f"{shown(found[0].value)} is rendered for training with `add_generation_prompt=True`"
    return present(f"{said} ({found[0].where}): another answer opens behind the last", found[0])


_PROMPT_TRAINERS = re.compile(r"(?:GRPO|RLOO|PPO|OnlineDPO|DPO|KTO|ORPO|CPO|Reward|GKD|XPO|Nash)")
_RENAMING = (
    "SFTTrainer",
    "DPOTrainer",
    "UnslothTrainer",
)  # TRL data_utils: maybe_convert_to_chatml
_SHAREGPT_ROLES = ("human", "gpt", "bot", "chatgpt")


@detector("template.sharegpt_roles_kept", of_text=True)
def sharegpt_roles_kept(run: Run) -> Observation:
    """Find ShareGPT rows given to a TRL trainer by a script that converts nothing.

    TRL renames the keys `from` and `value` and leaves the speakers `human` and `gpt`, which chat
    templates write as they are, or leave out.
    """
    import polars as pl

    rows = of_split(run, "train").filter(pl.col("layout") == "sharegpt")
    if not rows.height:
        return unobservable("The training rows are no ShareGPT rows", "training data")
    trainers = run.facts.get("script.train.trainer", ())
    if not any(f.value in _RENAMING for f in trainers):
        return unobservable("No TRL trainer is called in a script", "training script")
    converting = (
        "script.train.formatting", "script.train.applies_chat_template", "script.train.prompt",
        "script.train.chat_template", "script.train.converts_rows",
    )  # fmt: skip
    if made := [f for name in converting for f in run.facts.get(name, ())]:
        return absent(f"The script makes the text itself ({made[0].where})", made[0])
    speakers = rows.filter(
        pl.col("record").str.contains(r'"from": ?"(?:' + "|".join(_SHAREGPT_ROLES) + ')"')
    )
    said = f"{trainers[0].value} ({trainers[0].where}) renames keys only; the rows' speakers are"
    if not speakers.height:
        return absent(f"{said} roles already", trainers[0])
    return present(
        f"{said} {' and '.join(_SHAREGPT_ROLES[:2])}, e.g. {lines_of(speakers)}",
        trainers[0], *facts_of(speakers, "data.record", "record", 1),
    )  # fmt: skip


@detector("template.without_generation_tag")
def without_generation_tag(run: Run) -> Observation:
    """Find loss on assistant turns only, with a template that does not mark them."""
    asked = run.setting("assistant_only_loss")
    call = run.fact("script.train.labels")
    by_script = call is not None and call.value == "assistant-only"
    if not by_script and (asked is None or asked.value is not True):
        return absent("Loss on assistant turns by template marks is not asked for")
    tag = run.fact("tokenizer.generation_tag")
    if tag is None:
        return unobservable("No chat template was found", TEMPLATE)
    fact = asked or call
    assert fact is not None
    if tag.value:
        return absent("The template marks assistant turns", tag, fact)
    trainer = run.fact("run.trainer")
    own = family_of(run)
    if trainer is not None and trainer.value == "trl" and own is not None and own.formats:
        return absent("TRL replaces the template by its training form for this family", fact)
    return present(
        "assistant_only_loss is set, but the template has no generation marks", fact, tag
    )


@detector("template.foreign_name", of_text=True)
def foreign_name(run: Run) -> Observation:
    """Find a template or renderer setting that belongs to another family than the model's."""
    own = family_of(run)
    name = run.setting("template") or run.setting("chat_template")
    renderer = run.setting("renderer_name")
    if renderer is not None and isinstance(renderer.value, str):
        return _foreign_renderer(run, renderer)
    if name is None or not isinstance(name.value, str) or "{" in name.value:
        return unobservable("No setting names a template", "training configuration (template)")
    if own is None:
        return unobservable("The model family is not known", "the model's name or config.json")
    others = templates_of_other_families(name.value, own)
    said = f"`{name.name}: {name.value}` on a model of family {own.id}"
    model = run.setting("model_name_or_path") or run.setting("lora.base_model")
    base = is_base_model(str(model.value)) if model else None
    if not others or not own.templates:
        return absent(said, name)
    shared = {f for o in others if (other := family(o)) for f in other.formats}
    if shared & set(own.formats) and shared == set(own.formats):
        return absent(f"{said}: the same format", name)
    if base and "chatml" in shared:
        return absent(f"{said}: ChatML on a base model is a choice", name)
    facts = [name] + ([model] if model else [])
    return present(f"{said}; it is the format of {others[0]}", *facts)


def _foreign_renderer(run: Run, renderer: Fact) -> Observation:
    own = family_of(run)
    if own is None or not own.renderers:
        return unobservable("The renderers of this model are not known", "the model's name")
    model = run.setting("model_name_or_path") or run.setting("lora.base_model")
    name = str(renderer.value)
    said = f"renderer `{name}` on a model of family {own.id}"
    if name == "role_colon":
        return absent(f"{said}: it suits any base model", renderer)
    stems = {r.split("_disable")[0].split("_instruct")[0].split("_no_")[0] for r in own.renderers}
    if name in own.renderers or any(name == s or name.startswith(f"{s}_") for s in stems):
        vision = "_vl" in name and "vl" not in own.id
        if not vision:
            return absent(said, renderer)
    facts = [renderer] + ([model] if model else [])
    return present(f"{said}; recommended: {', '.join(own.renderers)}", *facts)


@detector("template.format_foreign", of_text=True)
def format_foreign(run: Run, *, above: float) -> Observation:
    """Find rows in the token format of another family, whose markers are plain text here.

    Formats of words (Alpaca, Vicuna) belong to nobody; a marker that was added as a token is fine.
    """
    import polars as pl

    own = family_of(run)
    rows = of_split(run, "train").filter(pl.col("format").is_not_null())
    if not rows.height:
        if not of_split(run, "train").height:
            return no_rows("train")
        return absent("The rows are in no format of a model family")
    if own is None or not own.formats:
        return unobservable(
            "The model's own format is not known", "the model's name or config.json"
        )
    foreign = pl.col("format").str.split(",").list.first()
    hits = rows.filter(~foreign.is_in([*own.formats, *WORD_FORMATS]))
    if hits.height:
        marker = MARKERS.get(hits["format"][0].split(",")[0], "")
        added = {
            t["content"]
            for fact in run.facts.get("tokenizer.added_tokens", ())
            for t in fact.value.values()
        }
        if marker in added:
            return absent(f"`{marker}` is a token of this tokenizer")
        if not added and not hits.height / rows.height > 0.5:
            return unobservable("Which markers are tokens is not known", TOKENIZER)
    name = hits["format"][0].split(",")[0] if hits.height else ""
    return share_of(
        rows, hits, f"are in {name or 'another format'}; {own.id} uses {', '.join(own.formats)}",
        above=above, fact="data.first_text", column="rendered",
    )  # fmt: skip


MARKERS = {
    "chatml": "<|im_start|>",
    "llama-3": "<|start_header_id|>",
    "llama-4": "<|header_start|>",
    "gemma": "<start_of_turn>",
    "deepseek": "<｜User｜>",
    "glm": "[gMASK]",
    "command-r": "<|START_OF_TURN_TOKEN|>",
    "llama-2-inst": "[INST]",
    "pipe-roles": "<|user|>",
}


HARDLY = 0.1  # of the training rows, in the format of most held-out rows (judgement)


@detector("template.eval_format_differs", of_text=True)
def eval_format_differs(run: Run, *, other: str) -> Observation:
    """Find that another split is mostly written in a format that the training rows hardly have."""
    import polars as pl

    def formats_of(split: str) -> tuple[dict[str, float], pl.DataFrame]:
        rows = of_split(run, split).filter(pl.col("format").is_not_null())
        if rows.height < MIN_ROWS:
            return {}, rows
        first = rows["format"].str.split(",").list.first()
        counts = first.value_counts(sort=True).iter_rows()
        return {str(name): count / rows.height for name, count in counts}, rows

    train, rows = formats_of("train")
    others, tests = formats_of(other)
    if not train:
        return unobservable("The format of the training rows is not known", "training data")
    if not others:
        return unobservable(f"The format of the {other} rows is not known", f"{other} data")
    trained, tested = next(iter(train)), next(iter(others))
    if train.get(tested, 0.0) >= HARDLY:
        return absent(f"{train[tested]:.0%} of the training rows are in the format {tested}, too")
    said = f"Training rows are in the format {trained}, {other} rows in {tested}"
    return present(
        said, *facts_of(rows, "data.first_text", "rendered", 1),
        *facts_of(tests, "data.first_text", "rendered", 1),
    )  # fmt: skip
