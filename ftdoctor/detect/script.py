"""Detectors on scripts: prompt formats of training against testing, labels, paths, imports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.wording import place_of, shown
from ftdoctor.families import Family, family, find_family
from ftdoctor.model import Fact, Observation, Run, Where
from ftdoctor.read.prompts import STOP_TEXTS, TOKEN_FORMATS, formats_of

Side = Literal["train", "probe", "test"]
TEMPLATE = "chat template"  # stands for the formats of a template that is not at hand
_TRAIN_SCRIPT = "training script"
_TEST_SCRIPT = "test or inference script"
_MASKED = {
    "masked", "completion-only", "responses-only", "assistant-only", "train-on-responses-only",
}  # fmt: skip
_LM_COLLATOR = "DataCollatorForLanguageModeling"
_INSTRUCTION_LAYOUTS = {"messages", "sharegpt", "alpaca", "prompt-completion"}
_TOKEN_FORMAT_IDS = {f.id for f in TOKEN_FORMATS}
# Families whose own template leaves the user's turn open (GLM and OLMo go straight to the answer).
_OPEN_TURNS = ("glm", "chatglm", "olmo", "granite", "mistral", "mixtral", "llama-2", "deepseek")
# Installed apart from requirements (wheels by CUDA version), or part of a hosted notebook.
_APART = {
    "torch", "torchvision", "torchaudio", "google", "IPython", "apex", "kaggle_secrets", "xformers",
    "flash_attn", "triton", "pkg_resources", "setuptools", "dbutils", "torch_xla", "__main__",
}  # fmt: skip


def facts_named(run: Run, *names: str) -> tuple[Fact, ...]:
    """Return all facts of the names, in order."""
    return tuple(fact for name in names for fact in run.facts.get(name, ()))


def family_of(run: Run) -> Family | None:
    """Return the model's family by the fact, else by name and config.json."""
    known = run.fact("model.family")
    if known is not None and (found := family(str(known.value))):
        return found
    names = (run.setting("lora.base_model"), run.setting("model_name_or_path"))
    kind, size = run.fact("model.type"), run.fact("model.vocab_size")
    for name in (*names, run.fact("script.train.model_path")):
        found = find_family(
            str(name.value) if name else "",
            str(kind.value) if kind else "",
            size.value if size and isinstance(size.value, int) else None,
        )
        if found is not None:
            return found
    return None


# --- formats ----------------------------------------------------------------------------------


def _formats(run: Run, side: Side) -> tuple[set[str], tuple[Fact, ...]]:
    """Return the prompt formats of one side, and the facts that show them.

    Where a chat template is applied, words like "Question:" are content, so only the template's
    own format counts.
    """
    applied = facts_named(run, f"script.{side}.applies_chat_template")
    sources = facts_named(run, f"script.{side}.chat_template")
    prompts = facts_named(run, f"script.{side}.prompt")
    tokens = [p for p in prompts if set(p.value["formats"]) & _TOKEN_FORMAT_IDS]
    if applied or sources:
        own = {f for s in sources for f in formats_of(str(s.value))}
        found = own or _template_formats(run)
        return found | {f for p in tokens for f in p.value["formats"]}, (
            *applied,
            *sources,
            *tokens,
        )
    if side == "train":
        answered = [p for p in prompts if (p.value["answer"] or "").strip()]
        prompts = tuple(answered) or prompts
    if prompts:
        return {f for p in prompts for f in p.value["formats"]}, tuple(prompts)
    return _row_formats(run) if side == "train" else (set(), ())


def _template_formats(run: Run) -> set[str]:
    """Return the format of the model's own chat template, TEMPLATE if it is not at hand."""
    template = run.fact("tokenizer.chat_template")
    found = set(formats_of(str(template.value))) if template else set()
    if not found and (known := family_of(run)):
        found = set(known.formats[:1])
    return found or {TEMPLATE}


def _row_formats(run: Run) -> tuple[set[str], tuple[Fact, ...]]:
    """Return the formats that most of the training rows' texts are in (column `format`)."""
    if "format" not in run.data.columns:
        return set(), ()
    rows = run.data.head(200).select(["split", "path", "line", "format"])
    counts: dict[str, int] = {}
    first: dict[str, Fact] = {}
    total = 0
    for split, path, line, formats in rows.iter_rows():
        if split != "train" or not formats:
            continue
        total += 1
        for name in formats.split(","):
            counts[name] = counts.get(name, 0) + 1
            first.setdefault(name, Fact("data.format", name, Where(path, line=line)))
    most = {name for name, count in counts.items() if count > total / 2}
    return most, tuple(first[name] for name in sorted(most))


@detector("script.formats_differ", of_text=True)
def formats_differ(run: Run, *, side: Literal["probe", "test"]) -> Observation:
    """Find prompts of the test side in another format than training: no format in common.

    `side` probe means the samples that a training script draws, test a script of its own.
    """
    theirs, their_facts = _formats(run, side)
    ours, our_facts = _formats(run, "train")
    if not ours:
        return unobservable("No prompt format of the training text is known", _TRAIN_SCRIPT)
    if not theirs:
        return unobservable("No prompt of the testing side was found", _needed(side))
    facts = (*their_facts[:2], *our_facts[:2])
    if TEMPLATE in ours | theirs and ours != theirs:
        return unobservable(
            "The chat template that one side applies is not here", "tokenizer files"
        )
    said = f"training writes {_listed(ours)}{_at(our_facts)}, the {_side_name(side)} "
    if ours & theirs:
        return absent(said + "writes it too", *facts)
    return present(said + f"writes {_listed(theirs)}{_at(their_facts)}", *facts)


def _needed(side: str) -> str:
    return _TEST_SCRIPT if side == "test" else _TRAIN_SCRIPT


def _side_name(side: str) -> str:
    return "test script" if side == "test" else "sample drawn during training"


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(names)) + " format"


def _at(facts: tuple[Fact, ...]) -> str:
    return f" ({facts[0].where})" if facts else ""


@detector("script.closers_differ", of_text=True)
def closers_differ(run: Run, *, side: Literal["probe", "test"]) -> Observation:
    """Find that training closes the user's turn with another stop token than the test, or none."""
    ours = _closers(run, "train")
    theirs = _closers(run, side)
    if not ours or not theirs:
        missing = _TRAIN_SCRIPT if not ours else _needed(side)
        return unobservable("No two prompts with a model header can be compared", missing)
    common = {f for p in ours for f in p.value["formats"]} & {
        f for p in theirs for f in p.value["formats"]
    }
    if not common:
        return unobservable("The prompts are in different formats", _needed(side))
    facts = (theirs[0], ours[0])
    left, right = ({_closer(run, p) for p in side_} for side_ in (ours, theirs))
    said = f"before the model's header training writes {_quoted(left)}{_at(ours)}"
    if left & right:
        return absent(f"{said}, and so does the {_side_name(side)}", *facts)
    return present(f"{said}, the {_side_name(side)} writes {_quoted(right)}{_at(theirs)}", *facts)


def _closers(run: Run, side: Side) -> tuple[Fact, ...]:
    return tuple(
        p
        for p in facts_named(run, f"script.{side}.prompt")
        if p.value["closer"] is not None and set(p.value["formats"]) & _TOKEN_FORMAT_IDS
    )


def _closer(run: Run, prompt: Fact) -> str:
    """Return the closer with `{eos_token}` as the tokenizer's text, where that is known."""
    closer = str(prompt.value["closer"])
    eos = run.fact("tokenizer.eos_token")
    known = family_of(run)
    if closer == "{eos_token}":
        return str(eos.value) if eos else (known.eos[0] or closer) if known else closer
    return closer


def _quoted(closers: set[str]) -> str:
    return " or ".join(f"`{c}`" if c else "nothing" for c in sorted(closers))


# --- stop tokens ------------------------------------------------------------------------------


def _stops(run: Run) -> set[str]:
    """Return the texts that may end a turn of this model, each one token; empty if unknown."""
    found: set[str] = set()
    for fact in facts_named(run, "tokenizer.eos_token", "script.train.eos_token"):
        found.add(str(fact.value))
    for fact in facts_named(run, "tokenizer.special_tokens"):
        found |= set(map(str, fact.value)) if isinstance(fact.value, list) else set()
    known = family_of(run)
    if known is not None:
        found |= set(known.stop_texts)
    return found


@detector("script.foreign_stop", of_text=True)
def foreign_stop(run: Run) -> Observation:
    """Find a stop text in the training text that is no stop token of this model.

    Texts that the script itself adds to the vocabulary are not foreign.
    """
    prompts = [p for p in facts_named(run, "script.train.prompt") if p.value["stops"]]
    if not prompts:
        if ends := facts_named(run, "script.train.answer_end"):
            return _foreign_end(run, ends)
        if run.fact("script.train.prompt"):
            return absent("the training text holds no literal stop text")
        return unobservable("No training text was found in a script", _TRAIN_SCRIPT)
    known = _stops(run)
    if not known:
        return unobservable("The model's stop tokens are not known", "tokenizer files")
    added = str([f.value for f in facts_named(run, "script.train.added_tokens")])
    opaque = bool(run.fact("script.train.extends_vocabulary"))
    for prompt in prompts:
        foreign = [s for s in prompt.value["stops"] if s not in known and s not in added]
        proper = known & set(prompt.value["stops"]) or "{eos_token}" in prompt.value["text"]
        if foreign and not proper and not opaque:
            eos = run.fact("tokenizer.eos_token")
            own = str(eos.value) if eos else ", ".join(sorted(known)[:3])
            text = f"the training text ends turns with `{foreign[0]}`, the model's stop is `{own}`"
            return present(f"{text} ({prompt.where})", prompt, *([eos] if eos else []))
    return absent(f"the model's own stop text: {shown(prompts[0].value['stops'])}", *prompts)


def _foreign_end(run: Run, ends: Sequence[Fact]) -> Observation:
    """Judge the stop texts that a script puts behind the answers, outside of any prompt."""
    known = _stops(run)
    if not known:
        return unobservable("The model's stop tokens are not known", "tokenizer files")
    added = str([f.value for f in facts_named(run, "script.train.added_tokens")])
    own = [f for f in ends if f.value in known or f.value in added]
    if own or run.fact("script.train.extends_vocabulary") is not None:
        return absent(f"the model's own stop text: {shown(ends[0].value)}", *ends)
    eos = run.fact("tokenizer.eos_token")
    stop = str(eos.value) if eos else ", ".join(sorted(known)[:3])
    text = f"answers get {shown(ends[0].value)} at their end, the model's stop is {shown(stop)}"
    return present(f"{text} ({ends[0].where})", ends[0], *([eos] if eos else []))


@detector("script.answer_without_stop", of_text=True)
def answer_without_stop(run: Run) -> Observation:
    """Find training text whose answer ends without any stop text while nothing else appends one.

    Trainers that append the end token themselves (TRL's SFTTrainer since 0.16) are not judged.
    """
    prompts = [
        p
        for p in facts_named(run, "script.train.prompt")
        if (p.value["answer"] or "").strip() and "{" in p.value["answer"]
    ]
    if not prompts:
        return _tokenised_without_stop(run)
    appended = _appending(run)
    if appended:
        return absent("the script appends the end token", *appended)
    stopped = [p for p in prompts if p.value["stops"] or "{eos_token}" in p.value["text"]]
    if stopped:
        return absent("the answer is followed by a stop text", *stopped)
    trainers = facts_named(run, "script.train.trainer")
    if any(f.value != "Trainer" and not str(f.value).startswith("Seq2Seq") for f in trainers):
        return unobservable(
            "The trainer may append the end token itself", "tokenised training data"
        )
    end = prompts[0].value["answer"][-30:]
    return present(f"the training text ends {shown(end)} without a stop token", *prompts)


def _appending(run: Run) -> list[Fact]:
    names = ("script.train.appends_eos", *_module_facts(run, "appends_eos"))
    return [f for f in facts_named(run, *names) if f.value]


def _tokenised_without_stop(run: Run) -> Observation:
    """Judge answers that are tokenised on their own, without special tokens, and put to ids."""
    answers = facts_named(run, "script.train.answer")
    if not answers:
        return _written_without_stop(run)
    if appended := _appending(run):
        return absent("the script appends the end token", *appended)
    if stopped := [a for a in answers if a.value["stops"] or "eos" in a.value["text"].lower()]:
        return absent("the answer is tokenised with a stop text", *stopped)
    if _rows_hold_stop(run):
        return absent("the rows' own answers end with a stop text", *answers)
    text = (
        f"{shown(answers[0].value['text'])} is tokenised without special tokens, and no end token"
    )
    return present(f"{text} is appended ({answers[0].where})", *answers)


def _written_without_stop(run: Run) -> Observation:
    """Judge a text of free headings and columns, in a script that names no end token."""
    texts = facts_named(run, "script.train.written_row")
    if not texts:
        return unobservable("No training text with an answer was found", _TRAIN_SCRIPT)
    if appended := _appending(run):
        return absent("the script appends the end token", *appended)
    added = [f for n in _TOKENIZER_ENDS if (f := run.fact(n)) is not None and f.value]
    if added:
        return absent("the tokenizer appends the end token", *added)
    if _rows_hold_stop(run):
        return absent("the rows' own answers end with a stop text", *texts)
    trainers = facts_named(run, "script.train.trainer")
    if any(f.value != "Trainer" for f in trainers):
        return unobservable("The trainer may append the end token itself", _TRAIN_SCRIPT)
    end = str(texts[0].value)[-30:]
    return present(f"the training text ends {shown(end)}, and no end token is put to it", *texts)


_TOKENIZER_ENDS = ("tokenizer.add_eos_token", "tokenizer.adds_after")


def _rows_hold_stop(run: Run) -> bool:
    """Say whether most of the sampled training answers end with a stop text of the model."""
    if "response" not in run.data.columns:
        return False
    stops = tuple(_stops(run)) or STOP_TEXTS
    rows = run.data.head(200).select(["split", "response"]).iter_rows()
    texts = [r.rstrip() for split, r in rows if split == "train" and isinstance(r, str) and r]
    return bool(texts) and sum(t.endswith(tuple(stops)) for t in texts) > len(texts) / 2


@detector("script.unclosed_turn", of_text=True)
def unclosed_turn(run: Run) -> Observation:
    """Find training text in the model's own format whose user turn has no closing token."""
    prompts = _closers(run, "train")
    if not prompts:
        return unobservable("No training text with a model header was found", _TRAIN_SCRIPT)
    known = family_of(run)
    if known is None or known.id.startswith(_OPEN_TURNS):
        return unobservable(
            "Whether this family closes the user's turn is not known", "tokenizer files"
        )
    own = [p for p in prompts if set(p.value["formats"]) & set(known.formats)]
    if not own:
        return unobservable("The training text is not in the model's own format", _TRAIN_SCRIPT)
    unclosed = [p for p in own if p.value["closer"] == ""]
    closing = known.stop_texts[0] if known.stop_texts else "a stop token"
    if unclosed:
        text = f"the user's turn runs into the model's header without `{closing}`"
        return present(f"{text} ({unclosed[0].where})", *unclosed)
    return absent("the user's turn is closed", *own)


# --- labels -----------------------------------------------------------------------------------


@detector("script.labels_unmasked", of_text=True)
def labels_unmasked(run: Run, *, made_by: Literal["script", "collator"]) -> Observation:
    """Find labels that are the input ids, prompts included, on data that has prompts.

    `made_by` tells labels copied in the script from those of DataCollatorForLanguageModeling.
    Text without an instruction and an answer (continued pre-training) has nothing to mask.
    """
    labels = facts_named(run, "script.train.labels", *_module_facts(run, "labels"))
    masked = [f for f in labels if f.value in _MASKED]
    if masked and not _asks_for_prompts(run):
        return absent(f"the script masks labels ({masked[0].value}, {masked[0].where})", *masked)
    if made_by == "script":
        found = [f for f in labels if f.value == "copied"]
        how = "a copy of input_ids"
    else:
        found = [f for f in facts_named(run, "script.train.collator") if f.value == _LM_COLLATOR]
        how = f"made by {_LM_COLLATOR}"
    if not found:
        return unobservable(f"No labels {how} were found in a script", _TRAIN_SCRIPT)
    if not _has_prompts(run):
        return unobservable("Whether the text has prompts to mask is not known", "training data")
    return present(f"labels are {how} ({found[0].where}) and nothing masks the prompt", *found)


def _module_facts(run: Run, name: str) -> tuple[str, ...]:
    """Return the names under which modules beside the training script say the same."""
    return (f"script.data.{name}", f"script.other.{name}") if run.fact("script.train.file") else ()


def _asks_for_prompts(run: Run) -> bool:
    """Say whether a setting turns off the masking that the script could do."""
    asked = run.setting("train_on_inputs")
    return asked is not None and asked.value is True


def _has_prompts(run: Run) -> bool:
    layout = run.fact("data.layout")
    prompts = facts_named(run, "script.train.prompt", "script.train.applies_chat_template")
    return bool(prompts) or (layout is not None and layout.value in _INSTRUCTION_LAYOUTS)


@detector("script.masks_overwritten")
def masks_overwritten(run: Run) -> Observation:
    """Find hand-masked labels that DataCollatorForLanguageModeling then replaces by input ids."""
    masked = [f for f in facts_named(run, "script.train.labels") if f.value == "masked"]
    collators = facts_named(run, "script.train.collator")
    if not masked or not collators:
        return unobservable("No masking by hand with a collator was found", _TRAIN_SCRIPT)
    plain = [f for f in collators if f.value == _LM_COLLATOR]
    if plain and len(plain) == len(collators):
        text = f"labels are masked at {masked[0].where}, but {_LM_COLLATOR} makes them anew"
        return present(f"{text} ({plain[0].where})", masked[0], plain[0])
    return absent(f"the collator {collators[0].value} keeps the labels", *collators)


@detector("script.pads_with_eos", of_text=True)
def pads_with_eos(run: Run) -> Observation:
    """Find pad = EOS together with a collator or a line that takes the label of every pad."""
    pads = facts_named(run, "script.train.pad_token")
    collators = facts_named(run, "script.train.collator")
    if not pads:
        return unobservable("Which token pads is not visible in a script", _TRAIN_SCRIPT)
    equal = [f for f in pads if f.value == "eos_token"]
    labels = facts_named(run, "script.train.labels")
    ignoring = [f for f in collators if f.value == _LM_COLLATOR]
    ignoring += [f for f in labels if f.value == "pad-masked"]
    if equal and ignoring:
        text = f"pad is EOS ({equal[0].where}) and pad positions get no label"
        return present(f"{text} ({ignoring[0].where})", equal[0], ignoring[0])
    if equal and not collators:
        return unobservable("Which collator makes the labels is not visible", _TRAIN_SCRIPT)
    return absent(f"pad is {pads[0].value}, and no label is lost by it", pads[0], *collators[:1])


@detector("script.tokens_added_without_resize")
def tokens_added_without_resize(run: Run) -> Observation:
    """Find tokens added to the tokenizer while the embedding keeps its size."""
    added = facts_named(run, "script.train.added_tokens")
    if not run.fact("script.train.file"):
        return unobservable("No training script was found", _TRAIN_SCRIPT)
    if not added:
        return absent("no token is added")
    resized = facts_named(run, "script.train.resizes_embeddings", "script.train.extends_vocabulary")
    if resized:
        return absent("the embedding is resized", *added, *resized)
    if run.fact("run.pasted"):
        return unobservable("What was pasted may not be all of the script", _TRAIN_SCRIPT)
    return present(f"tokens are added at {added[0].where}, and no embedding is resized", *added)


# --- paths ------------------------------------------------------------------------------------


@detector("script.foreign_adapter")
def foreign_adapter(run: Run) -> Observation:
    """Find a test script that loads an adapter or model from elsewhere than training wrote it.

    Only local paths are compared; names of the hub are not, nor the base under an own adapter. A
    path inside the run, or below an output folder of training, is this run's own.
    """
    written = _written(run)
    loaded = [
        f
        for f in facts_named(run, "script.test.adapter_path", "script.test.model_path")
        if "://" not in str(f.value)
        and (
            is_local(str(f.value), adapter=f.name.endswith("adapter_path"))
            or _home(str(f.value), written) is not None
        )
    ]
    if not loaded:
        return unobservable("No local model path was found in a test script", _TEST_SCRIPT)
    own = [
        f
        for f in loaded
        if _belongs(run, str(f.value), written) and not _superseded(run, str(f.value), written)
    ]
    foreign = [f for f in loaded if f not in own]
    if any(f.name.endswith("adapter_path") for f in own):
        foreign = [f for f in foreign if f.name.endswith("adapter_path")]  # the rest is the base
    if not foreign:
        return absent(f"{shown(own[0].value)} ({own[0].where}) is this run's own", *own)
    if not written and not _holds_models(run):
        return unobservable("Where training wrote its model is not known", "training script")
    text = f"the test loads {shown(foreign[0].value)} ({foreign[0].where})"
    if written:
        wrote = _superseded(run, str(foreign[0].value), written) or written[0]
        return present(
            f"{text}, training wrote {shown(wrote.value)} ({wrote.where})", foreign[0], wrote
        )
    return present(f"{text}, which is not in this run", *foreign)


def is_local(path: str, *, adapter: bool) -> bool:
    """Say whether a text names a folder rather than a model of the hub (`owner/name`, `gpt2`)."""
    if path.startswith(("./", "../", "/", "~")) or "\\" in path or "checkpoint-" in path:
        return True
    parts = PurePosixPath(path).parts
    words = {
        "output", "outputs", "out", "results", "result", "checkpoints", "ckpt", "models", "model",
        "saved_models", "saves", "adapters", "runs", "logs", "exp", "experiments", "trained",
    }  # fmt: skip
    if len(parts) != 2:
        return adapter or len(parts) > 2
    return parts[0].lower() in words


def _written(run: Run) -> list[Fact]:
    """Return where training writes: by the settings, then by what scripts save."""
    found = list(run.settings.get("output_dir", ()))
    found += facts_named(run, "script.train.output_path", "script.convert.output_path")
    return [f for f in found if isinstance(f.value, str) and f.value.strip("./")]


def _belongs(run: Run, path: str, written: list[Fact]) -> bool:
    parts = _parts(path)
    if not parts:
        return True
    if parts[-1] == run.name or any(_is_below(parts, _parts(str(f.value))) for f in written):
        return True
    inside = (PurePosixPath(a.path).parts[:-1] for a in run.artifacts)
    return any(_contains(folder, parts) for folder in inside)


_VERSION = re.compile(
    r"(?i)(?<![a-z])(?:v|ver|version|run|try|attempt|round|rev)[-_.]?(\d{1,3})(?!\d)"
)


def _home(path: str, written: list[Fact]) -> Fact | None:
    """Return the output folder of training that a path lies in."""
    return next((f for f in written if _is_below(_parts(path), _parts(str(f.value)))), None)


def _superseded(run: Run, path: str, written: list[Fact]) -> Fact | None:
    """Return the output folder of a later version than the one a path lies in, if models are there.

    `out_v1` is an earlier version of `out_v2`; other numbers (seeds, ranks, sizes) are no versions.
    """
    home = _home(path, written)
    old = _VERSION.search(str(home.value)) if home else None
    if home is None or old is None:
        return None
    later: list[tuple[int, Fact]] = []
    for fact in written:
        new = _VERSION.search(str(fact.value))
        if new is None or int(new[1]) <= int(old[1]):
            continue
        same = _VERSION.sub("#", str(fact.value)) == _VERSION.sub("#", str(home.value))
        if same and any(_is_below(_parts(a.path), _parts(str(fact.value))) for a in run.artifacts):
            later.append((int(new[1]), fact))
    return max(later, key=lambda pair: pair[0])[1] if later else None


def _parts(path: str) -> tuple[str, ...]:
    cleaned = path.replace("\\", "/")
    return tuple(p for p in PurePosixPath(cleaned).parts if p not in (".", "..", "/", "~"))


def _is_below(path: tuple[str, ...], folder: tuple[str, ...]) -> bool:
    """Say whether a path lies in a folder; either may be absolute, so their ends are compared."""
    if not folder:
        return False
    return any(
        path[i : i + len(tail)] == tail
        for tail in (folder, folder[-1:])
        for i in range(len(path) - len(tail) + 1)
    )


def _contains(folder: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Say whether the last parts of a path are a folder of the run."""
    return any(folder[i : i + len(path)] == path for i in range(len(folder) - len(path) + 1))


def _holds_models(run: Run) -> bool:
    return run.has("adapter-config", "safetensors", "torch-weights", "gguf")


# --- imports and devices ----------------------------------------------------------------------


@detector("script.undeclared_imports")
def undeclared_imports(run: Run) -> Observation:
    """Find modules that scripts import and no requirements file, lock or install command names."""
    from ftdoctor.read.imports import is_standard, provided

    declared_in = facts_named(run, "requirements.declared")
    if not declared_in:
        return unobservable("No list of packages was found", "requirements.txt")
    imports = facts_named(run, "script.imports")
    if not imports:
        return unobservable("No script was found", _TRAIN_SCRIPT)
    listed = (*declared_in, *facts_named(run, "requirements.installed"))
    declared = frozenset(name for fact in listed for name in fact.value)
    local = _local_modules(run)
    missing: dict[str, Fact] = {}
    for fact in imports:
        for module in fact.value:
            known = is_standard(module) or module in local or module in _APART
            if not known and not provided(module, declared):
                missing.setdefault(module, fact)
    if not missing:
        return absent(f"all imports are declared in {declared_in[0].where}", declared_in[0])
    names = ", ".join(f"`{m}`" for m in sorted(missing)[:4])
    places = ", ".join(sorted({str(f.where) for f in missing.values()})[:2])
    text = f"{places} imports {names}, which {declared_in[0].where} does not name"
    return present(text, *missing.values(), declared_in[0])


def _local_modules(run: Run) -> set[str]:
    """Return every file's stem and folder name: what a script may import from its own project."""
    names: set[str] = set()
    for artifact in run.artifacts:
        path = PurePosixPath(artifact.path)
        names |= set(path.parts[:-1])
        if path.suffix == ".py":
            names.add(path.stem)
    return names


@detector("script.device")
def device(run: Run, *, values: list[str]) -> Observation:
    """Find a device of the given kinds written into a script or asked for in the settings."""
    found = [
        f
        for f in facts_named(run, "script.train.device", "script.test.device")
        if str(f.value).split(":")[0] in values
    ]
    found += list(_asked_devices(run, values))
    if found:
        said = f"`{found[0].value}`" if isinstance(found[0].value, str) else f"`{found[0].name}`"
        return present(f"{said} is fixed in {place_of(found[0])}", *found)
    scripts = facts_named(run, "script.train.file", "script.test.file")
    if scripts:
        return absent(f"{scripts[0].where} fixes no such device", *scripts[:2])
    return unobservable("No script was found", _TRAIN_SCRIPT)


def _asked_devices(run: Run, values: list[str]) -> Iterator[Fact]:
    asks: dict[str, tuple[str, Any]] = {
        "use_cpu": ("cpu", True),
        "no_cuda": ("cpu", True),
        "use_mps_device": ("mps", True),
    }
    for name, (kind, value) in asks.items():
        fact = run.setting(name)
        if fact is not None and kind in values and fact.value is value:
            yield fact
    fact = run.setting("device")
    if fact is not None and str(fact.value).split(":")[0] in values:
        yield fact


@detector("script.freezes_everything")
def freezes_everything(run: Run) -> Observation:
    """Find a training script that freezes every weight, adds no adapter and gives none back."""
    if run.fact("script.train.file") is None:
        return unobservable("No training script was found", _TRAIN_SCRIPT)
    fact = run.fact("script.train.freezes_everything")
    if fact is None:
        return absent("No loop of the training script freezes all weights for good")
    if any(name.startswith(("lora.", "adapter.")) for name in (*run.settings, *run.facts)):
        return absent("The script freezes all weights, but an adapter is trained", fact)
    return present(f"All weights are frozen in {fact.where}, and none is freed later", fact)


@detector("script.reference_differs", of_text=True)
def reference_differs(run: Run) -> Observation:
    """Find a preference trainer whose reference is loaded from elsewhere than the model itself."""
    policy = run.fact("script.train.policy_model")
    reference = run.fact("script.train.reference_model")
    if policy is None or reference is None:
        return unobservable("No script loads both the model and a reference", _TRAIN_SCRIPT)
    text = f"training starts from {shown(policy.value)}, the reference is {shown(reference.value)}"
    same = str(policy.value).rstrip("/") == str(reference.value).rstrip("/")
    return (absent if same else present)(f"{text} ({policy.where})", policy, reference)
