"""One printed line to one metric row: the HF Trainer's dictionaries, others' `key value` rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ftdoctor.read.numeric import NUMBER, parse_number


@dataclass(frozen=True, slots=True)
class Row:
    """A parsed row. `planned` and `epochs` are the totals printed after a slash.

    `within_epoch`: `step` counts inside the epoch. `loose`: nothing tells the position, so that one
    such line alone could be prose. `final`: aggregates of the whole run, no curve point.
    """

    values: dict[str, float]
    step: int | None = None
    planned: int | None = None
    epoch: float | None = None
    epochs: int | None = None
    split: str = ""
    within_epoch: bool = False
    loose: bool = False
    final: bool = False


@dataclass(slots=True)
class _Position:
    step: int | None = None
    planned: int | None = None
    epoch: float | None = None
    epochs: int | None = None
    within_epoch: bool = False
    rank: int = field(default=0)


# A quantity that is watched in training; a row must hold one, else any listing would be a row.
_WATCHED = (
    r"(?:loss(?:es)?|nll|bpb|ppl|perplexity|rewards?|acc(?:uracy|uracies)?"
    r"|(?:grad|gradient)[_ ]?norm|gnorm|kl|entropy|f1|bleu|rouge\w*|wer)"
)
WATCHED = re.compile(
    rf"(?i)(?:^|[^a-z]){_WATCHED}(?:$|[^a-z])|^(?:train|val|valid|test)?{_WATCHED}$"
)

# --- dictionaries -----------------------------------------------------------------------------

_DICT = re.compile(r"\{\s*['\"][^{}]*\}")
# The log was cut within the row, or someone quoted a part of it: `'loss': 0.0, 'grad_norm': nan`.
_CUT_DICT = re.compile(r"(?:\{\s*|^\W*)['\"][^'\"{}:]+['\"]\s*:[^{}]*$")
_ITEM = re.compile(
    r"['\"]([^'\"]+)['\"]\s*:\s*(?:'([^']*)'|\"([^\"]*)\"|([^,{}\[\]()]+(?:\([^()]*\))?))"
)
_PAIR_KEY = "global_step/max_steps"  # ms-swift
_STEP_KEYS = ("global_step", "step", "current_steps", "iteration", "iter")
_PLANNED_KEYS = ("max_steps", "total_steps")
_QUOTED = re.compile(r"\W*['\"]\w[^'\"]*['\"]\s*:")
FINAL = "train_runtime"


def dict_row(text: str) -> Row | None:
    """Parse `{'loss': 1.2, ..., 'epoch': 0.5}` as transformers 4.x and 5.x (quoted) print it.

    A row whose end was cut off counts; one whose beginning is gone too is loose.
    """
    found = _DICT.search(text) or _CUT_DICT.search(text)
    if not found:
        return None
    cut = found.group().startswith("{") and not found.group().endswith("}")
    raw = {m[1]: next(part for part in m.groups()[1:] if part is not None)
           for m in _ITEM.finditer(found.group())
           if not (cut and m.end() == len(found.group()))}  # fmt: skip
    values = {key: value for key, item in raw.items() if (value := _number(item)) is not None}
    if not any(key == FINAL or key.startswith("eval_") or WATCHED.search(key) for key in values):
        return None
    if len(values) < max(1, len(raw) // 2):
        return None
    place = _position(text[: found.start()]) or _Position()
    if _PAIR_KEY in raw and (pair := re.fullmatch(r"\s*(\d+)/(\d+)\s*", raw[_PAIR_KEY])):
        place.step, place.planned = int(pair[1]), int(pair[2])
    place.step = _take_whole(values, _STEP_KEYS, place.step)
    place.planned = _take_whole(values, _PLANNED_KEYS, place.planned)
    epoch = values.pop("epoch", None)
    return Row(
        values=values,
        step=place.step,
        planned=place.planned,
        epoch=epoch if epoch is not None else place.epoch,
        epochs=place.epochs,
        loose="{" not in text and place.step is None and epoch is None,
        final=FINAL in values,
    )


def _number(item: str) -> float | None:
    """Parse the value of an item; words may follow it where the end of the row is gone."""
    value = parse_number(item)
    return parse_number(item.split(maxsplit=1)[0]) if value is None and item.strip() else value


def _take_whole(values: dict[str, float], keys: tuple[str, ...], other: int | None) -> int | None:
    for key in keys:
        if key in values and values[key] == values[key] and abs(values[key]) < 1e12:
            return int(values.pop(key))
    return other


# --- key-value rows ---------------------------------------------------------------------------

_TAG = re.compile(
    r"^\s*\[(?![^\]]*\d\s*/\s*\d)(?![^\]]*(?i:epoch|step|iter)[\s:=#-]*\d)[^\]]{0,80}\]\s*[:-]?\s*"
)
_NOTHING = re.compile(r"[\w/]+\s*[:=]\s*(?:n/a|N/A|None)\b")
_LEVEL = re.compile(r"^.{0,120}?(?:\b(?:INFO|DEBUG|WARNING|NOTICE|PROGRESS)\b[\]:|\s>-]*|>> )")
_STAMP = re.compile(  # `DLL ... PARAMETER` is NVIDIA's DLLogger
    r"^\s*(?:DLL )?\[?\d{4}-\d\d-\d\d[T _]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?Z?\]?\s*[:|-]?\s*"
    r"(?:PARAMETER )?"
)
_COUNTER = re.compile(
    r"(?P<pre>^|[|,;\[\](){}:>—\t/-]|\s\s|(?<=\d)\s|\b(?:at|after|for|of)\s)\s*"
    r"(?:(?i:train|training|global|current|optimi[sz]er)\s+)*"
    r"(?P<key>(?i:(?:train/)?global[_ ]?step|steps?|iter(?:ation)?s?|it|batch|update|epochs?|ep))"
    r"\s*(?:[:=#]\s*|\s+|(?=\[))[\[(]?\s*(?P<at>\d+(?:\.\d+)?)(?![\w.]|:\d|%)"
    r"(?:\s*\])?(?:\s*(?:/|\bof\b)\s*(?P<of>\d+))?[\])]?"
)
_LEADING = re.compile(r"^\W{0,3}(?P<at>\d+)\s*/\s*(?P<of>\d+)\b(?!\s*/|\.\d)\W")
_METER = re.compile(r"\s*\[\s*(?P<at>\d+)\s*/\s*(?P<of>\d+)\s*\]")
# Megatron: "number of nan iterations: 0" holds no value nan.
_VALUE = (
    r"(?!nan iter)(?>(?:(?:np|numpy|torch)\.)?(?:float\d*|[tT]ensor)"
    rf"\(\s*{NUMBER}[^)]*\)|{NUMBER})"
)
_PAIR = re.compile(
    r"(?P<key>[A-Za-z_][\w./@%+#-]*(?: \(?[A-Za-z_][\w./@%+#()-]*| \([^()]{1,24}\)){0,5}?)"
    rf"(?:\s*[:=]\s*|\s+)\[?(?P<value>{_VALUE})(?P<percent>\s?%)?(?!:\d|\d|-\d)\]?"
    r"(?:[a-zA-Z/]{1,8}\b)?"
)
_VALUES = re.compile(r"(?i)\d+|nan|inf")
_WORD = re.compile(r"[^\W\d_]{2,}")
_EVAL_WORD = re.compile(r"(?i)\b(?:eval\w*|valid\w*|val|test(?:ing)?)\b")
# `eval step 50 loss 1.9`: the word belongs to the row, not to the counter.
_EVAL_FIRST = re.compile(
    r"(?i)^\W*(?:eval\w*|valid\w*|val|test(?:ing)?|dev)\b[\s:|,-]+(?=(?:at\s+)?"
    r"(?:global[_ ]?step|steps?|iter(?:ation)?s?|epochs?|ep)\b)"
)
_ACCURACY = re.compile(r"(?i)acc")
_LOSS = re.compile(r"(?i)loss|nll|bpb|ppl|perplexity|entropy")
_TRAIN_ONLY = re.compile(r"(?i)(?:train(?:ing)?|trn)")
_EVAL_ONLY = re.compile(r"(?i)(?:eval(?:uation)?|val(?:id(?:ation)?)?|dev|held-?out|holdout)")
# Words that a row may hold beside its pairs when it tells its position, and when it does not.
RESIDUE, LOOSE_RESIDUE = 3, 0
_RANKS = {"epoch": 0, "batch": 1, "step": 2, "global": 3}
LONGEST = 4000  # characters of a row; longer lines are data or listings (judgement)


def pair_row(text: str) -> Row | None:
    """Parse `Step 10/100 | loss=…`, `Epoch 0, Loss: …`, `step:1 - a/b:0.3`, Megatron's, MLX's."""
    if len(text) > LONGEST:
        return None
    body = _body(text)
    if _is_prose(body):
        return None
    named = _EVAL_FIRST.match(body)
    body = body[named.end() :] if named else body
    spans: list[tuple[int, int]] = []
    place = _position(body, spans)
    rest = _without(body, spans)
    values: dict[str, float] = {}
    used: list[tuple[int, int]] = []
    for key, value, span in _pairs(rest):
        values.setdefault(key, value)
        used.append(span)
    values = _named_by_split(values) if place else values
    if not any(WATCHED.search(key) for key in values):
        return None
    residue = _without(rest, used)
    words = len(_WORD.findall(residue))
    if words > (RESIDUE if place else LOOSE_RESIDUE):
        return None
    split = "eval" if named or _EVAL_WORD.search(residue) else ""
    if place is None:
        return Row(values, split=split, loose=True)
    return Row(
        values,
        place.step,
        place.planned,
        place.epoch,
        place.epochs,
        split,
        place.within_epoch,
    )


def _named_by_split(values: dict[str, float]) -> dict[str, float]:
    """Name the parts of `train 0.48 valid 0.44 acc 0.9`: losses, and scores of the evaluation.

    Only beside a score, and where no loss is named: else the two may be anything.
    """
    heldout = next((key for key in values if _EVAL_ONLY.fullmatch(key)), None)
    trained = next((key for key in values if _TRAIN_ONLY.fullmatch(key)), None)
    scores = {key for key in values if WATCHED.search(key) and not _LOSS.search(key)}
    if not heldout or not trained or not scores or any(map(_LOSS.search, values)):
        return values
    # The mean over an epoch that lies behind; the losses of its batches may be logged too.
    names = {trained: "mean train loss", heldout: "eval_loss"}
    names |= {key: f"eval_{key}" for key in scores}
    return {names.get(key, key): value for key, value in values.items()}


def _is_prose(body: str) -> bool:
    """Say whether more words are left than numbers can have before them: see `_PAIR`, `_COUNTER`.

    Such a text is no row, and looking for pairs in it takes long.
    """
    words = sum([word.isalpha() and len(word) > 1 for word in body.split()])
    return words > RESIDUE and words > RESIDUE + 8 * len(_VALUES.findall(body))


def _body(text: str) -> str:
    """Cut time stamps, levels and tags off the front."""
    body = _STAMP.sub("", text)
    level = _LEVEL.match(body)
    if level:
        body = body[level.end() :]
    for _ in range(4):
        shorter = _TAG.sub("", body, count=1)
        if shorter == body:
            break
        body = shorter
    return _NOTHING.sub("", body)


def _position(body: str, spans: list[tuple[int, int]] | None = None) -> _Position | None:
    """Find the step and the epoch; the spans of what was taken are appended to `spans`."""
    place = _Position(rank=-1)
    spans = [] if spans is None else spans
    at = 0
    while found := _COUNTER.search(body, at):
        # The separator before a counter may be the end of the counter before it.
        at = max(found.end() - 1, found.start("at") + 1)
        start = found.end("pre")
        spans.append((start, found.end()))
        key = found["key"].lower()
        if key.startswith("ep"):
            place.epoch = float(found["at"])
            place.epochs = int(found["of"]) if found["of"] else place.epochs
            place.rank = max(place.rank, _RANKS["epoch"])
            meter = _METER.match(body, found.end())
            if meter:  # `Epoch: [0][10/100]`
                _set_step(place, "step", meter["at"], meter["of"])
                spans.append(meter.span())
            continue
        if "." in found["at"]:
            continue
        _set_step(place, key, found["at"], found["of"])
    if place.step is None:
        leading = _LEADING.match(body + " ")
        if leading:
            _set_step(place, "step", leading["at"], leading["of"])
            spans.append((leading.start(), min(leading.end(), len(body))))
    if place.rank < 0:
        return None
    place.within_epoch = (
        place.step is not None and place.epoch is not None and place.rank < _RANKS["global"]
    )
    return place


def _set_step(place: _Position, key: str, at: str, of: str | None) -> None:
    rank = _RANKS["global" if "global" in key else "batch" if key == "batch" else "step"]
    if rank >= place.rank or place.step is None:
        place.step, place.rank = int(at), max(rank, place.rank)
        place.planned = int(of) if of else None


def _pairs(text: str) -> Iterator[tuple[str, float, tuple[int, int]]]:
    for found in _PAIR.finditer(text):
        value = parse_number(found["value"])
        if value is None:
            continue
        if found["percent"] and _ACCURACY.search(found["key"]):
            value /= 100
        yield found["key"], value, found.span()


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    for start, end in sorted(spans, reverse=True):
        text = f"{text[:start]} | {text[end:]}"
    return text


# --- rows that fit no general form ------------------------------------------------------------

_DEEPSPEED = re.compile(r"\bstep=(\d+), skipped=(\d+), lr=\[([^\]]*)\], mom=")
_DEEPSPEED_SPEED = re.compile(
    r"epoch=\d+/micro_step=\d+/global_step=(\d+), RunningAvgSamplesPerSec=([\d.]+), "
    r"CurrSamplesPerSec=([\d.]+)(?:, MemAllocated=([\d.]+)GB, MaxMemAllocated=([\d.]+)GB)?"
)
_SPEED_NAMES = ("RunningAvgSamplesPerSec", "CurrSamplesPerSec", "MemAllocated", "MaxMemAllocated")
# DeepSpeed's ZeRO and its fused optimizer: the last number is the scale from now on.
_LOSS_SCALE = re.compile(
    r"[Aa]ttempted loss scale: ([\d.e+-]+), (?:but hysteresis|reducing to ([\d.e+-]+))"
    r"|Reducing dynamic loss scale from ([\d.e+-]+) to ([\d.e+-]+)"
)
# mlx-lm since bdb77dae (2026-06-06): `  10    1.945 ▼   301   5.0k`, `   1    val 2.391    5.21s`
_ARROWS = "↓↑→▼▲="
_MLX_VAL = re.compile(rf"\s*(\d+)\s+val\s+({NUMBER})(?:\s*[{_ARROWS}])?\s+[\d.]+s\s*")
_MLX_TRAIN = re.compile(
    rf"\s*(\d+)\s+({NUMBER})\s*([{_ARROWS}]?)\s+([\d,.]+)\s+([\d,.]+)([kMB]?)\s*"
)
_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}


def special_row(text: str) -> Row | None:
    """Parse DeepSpeed's step, speed and loss-scale lines and the table of newer mlx-lm."""
    if "step=" in text:
        found = _DEEPSPEED.search(text)
        if found:
            values = {"skipped_steps": float(found[2])}
            rate = parse_number(found[3].split(",")[0])
            if rate is not None:
                values["learning_rate"] = rate
            return Row(values, step=int(found[1]))
        found = _DEEPSPEED_SPEED.search(text)
        if found:
            given = zip(_SPEED_NAMES, found.groups()[1:], strict=True)
            return Row({n: float(v) for n, v in given if v}, step=int(found[1]))
    found = _LOSS_SCALE.search(text)
    if found:
        scale = parse_number(found[4] or found[2] or found[1])
        return Row({"loss_scale": scale}) if scale is not None else None
    return _mlx_table(text)


def _mlx_table(text: str) -> Row | None:
    found = _MLX_VAL.fullmatch(text)
    if found:
        loss = parse_number(found[2])
        return Row({"val_loss": loss}, step=int(found[1])) if loss is not None else None
    found = _MLX_TRAIN.fullmatch(text)
    if not found or not (found[3] or found[6]):
        return None
    loss, speed, tokens = (parse_number(found[i]) for i in (2, 4, 5))
    if loss is None or speed is None or tokens is None:
        return None
    values = {"loss": loss, "Tokens/sec": speed, "Trained Tokens": tokens * _UNITS[found[6]]}
    return Row(values, step=int(found[1]))


def parse_row(text: str) -> Row | None:
    """Return the metric row that a cleaned line of text holds, None if it holds none."""
    if "{" in text:
        return dict_row(text)
    return special_row(text) or pair_row(text) or (dict_row(text) if _QUOTED.match(text) else None)


def postfix_values(text: str) -> dict[str, float]:
    """Return the metrics after a progress bar (`loss=0.69, acc=0.5`) or in its description."""
    return {key: value for key, value, _ in _pairs(text)}
