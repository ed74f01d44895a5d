"""Words and numbers that all reports share: percentages, decibans, sizes, times, safe text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ftdoctor.model import RunSummary

PROBABLE, POSSIBLE = 0.70, 0.40  # from here on a cause is spoken of as likely, as possible
LARGEST = 1e200  # of a plotted value
OTHERS = 5  # further runs of a place that are named
SHOWN = 0.05  # causes below this are listed without a card

# Control characters (ANSI sequences among them), direction marks that reorder what is read
# (https://trojansource.codes), zero-width characters, and halves of surrogate pairs.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_SPARKS = "▁▂▃▄▅▆▇█"


def clean(text: str) -> str:
    """Return text with every invisible or reordering character spelled out as an escape."""
    return UNSAFE.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def clip(text: str, limit: int) -> str:
    """Return at most `limit` characters, the cut marked by an ellipsis."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)].rstrip() + "…"


def one_line(text: str, limit: int = 300) -> str:
    """Return text on one line, safe to print, at most `limit` characters long."""
    return clip(clean(" ".join(text[: 4 * limit].split())), limit)


def code_lines(text: str, width: int = 200, most: int = 6) -> list[str]:
    """Return lines of code, indentation kept, safe to print, at most `width` characters each."""
    rows = text[: 4 * most * width].replace("\t", "    ").rstrip().splitlines()
    return [clip(clean(row), width) for row in rows[:most]]


def last_lines(text: str, lines: int, width: int) -> str:
    """Return the end of a text, where a traceback says what went wrong, in lines of `width`."""
    kept = text[-lines * width * 4 :].replace("\r\n", "\n").replace("\t", "    ").rstrip("\n")
    rows = kept.split("\n")
    shown = ["…", *rows[1 - lines :]] if len(rows) > lines or len(kept) < len(text) - 1 else rows
    return "\n".join(clip(clean(row), width) for row in shown[-lines:])


def percent(probability: float) -> str:
    """Return 94%, never 0% or 100%: nothing here is certain."""
    if probability < 0.005:
        return "<1%"
    return ">99%" if probability > 0.995 else f"{probability * 100:.0f}%"


def prior_percent(probability: float) -> str:
    """Return a probability before evidence, with a decimal where it is small."""
    return f"{probability * 100:.2g}%" if probability < 0.1 else percent(probability)


def signed(decibans: float) -> str:
    """Return a weight of evidence: +15.2 dB, −1.9 dB."""
    return f"{'−' if decibans < 0 else '+'}{abs(decibans):.1f} dB"


def log_odds(probability: float) -> float:
    """Return the odds of a probability in decibans."""
    kept = min(max(probability, 1e-6), 1 - 1e-6)
    return 10 * math.log10(kept / (1 - kept))


def number(value: Any) -> str:
    """Return a number as a person would write it: 0.0, 2e-4, 12,000, NaN; other values as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "−Inf"
    if value == 0:
        return "0.0"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def size(count: int) -> str:
    """Return a size in bytes with a decimal unit."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


_NAMES = {
    "hf": "Hugging Face Trainer", "trl": "TRL", "llama-factory": "LLaMA-Factory",
    "unsloth": "Unsloth", "tinker": "Tinker", "mlx": "MLX", "deepspeed": "DeepSpeed",
    "megatron": "Megatron-LM", "nemo": "NeMo", "openrlhf": "OpenRLHF", "lightning": "Lightning",
    "ray": "Ray Train", "openai": "OpenAI", "sft": "SFT", "rl": "reinforcement learning",
    "reward": "reward model", "preference": "preference training", "pretrain": "pre-training",
}  # fmt: skip


def known_as(name: str) -> str:
    """Return a trainer or `LoRA r=8 sft` by the names that people know."""
    return " ".join(_NAMES.get(word, word) for word in name.split(" "))


def short_path(text: str) -> str:
    """Return the last two parts of a long absolute path, other names as they are."""
    parts = [part for part in re.split(r"[/\\]", text) if part]
    whole = len(text) <= 40 or len(parts) < 3 or not re.match(r"[/~]|[A-Za-z]:[/\\]", text)
    return text if whole else f"…/{'/'.join(parts[-2:])}"


def plural(count: int, noun: str) -> str:
    """Return `1 file`, `1,204 lines`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(items: Iterable[str], last: str = "and") -> str:
    """Return `a, b and c`."""
    words = list(items)
    if not words:
        return ""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def of_several(run: RunSummary) -> str:
    """Return which run of a place was diagnosed and how to see the others, "" for a lone run."""
    if not run.others:
        return ""
    shown = [f"`--run {name}`" for name in run.others[:OTHERS]]
    more = len(run.others) - len(shown)
    if more:
        shown.append(f"{more} more")
    return (
        f"This is `{run.chosen}`, one of {len(run.others) + 1} runs in this place; "
        f"the {'others' if len(run.others) > 1 else 'other'}: {listed(shown)}."
    )


def moment(time: float | None, form: str = "%d %b %Y %H:%M UTC") -> str:
    """Return a Unix time in UTC, or nothing if it is unknown or no date."""
    if time is None or not math.isfinite(time):
        return ""
    try:
        return datetime.fromtimestamp(time, UTC).strftime(form).lstrip("0")
    except (ValueError, OverflowError, OSError):
        return ""


def duration(seconds: float) -> str:
    """Return a length of time in the unit that a person would use."""
    if seconds < 9.5:
        return f"{seconds:.1f} seconds"
    if seconds < 90:
        return plural(round(seconds), "second")
    if seconds < 90 * 60:
        return plural(round(seconds / 60), "minute")
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 86400:.1f} days"


def sentence(text: str) -> str:
    """Return the first sentence of a text, with its stop."""
    first = re.split(r"(?<=[.!?])\s", " ".join(text.split()), maxsplit=1)[0]
    return first if not first or first[-1] in ".!?" else f"{first}."


def bounded(value: float) -> float:
    """Return a finite value small enough for a difference of two to be finite; NaN and Inf stay."""
    return min(max(value, -LARGEST), LARGEST) if math.isfinite(value) else value


def sparkline(values: Iterable[float], width: int = 24) -> str:
    """Return a curve in `width` block characters; a bin with nothing finite in it is a `×`."""
    points = [bounded(v) for v in values]
    finite = [v for v in points if math.isfinite(v)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    step = max(len(points) / width, 1.0)
    bins = [
        points[int(i * step) : max(int((i + 1) * step), int(i * step) + 1)] for i in range(width)
    ]
    marks = []
    for part in bins:
        kept = [v for v in part if math.isfinite(v)]
        if part and not kept:
            marks.append("×")
        elif kept:
            height = (sum(kept) / len(kept) - low) / (high - low) if high > low else 0.0
            marks.append(_SPARKS[round(height * (len(_SPARKS) - 1))])
    return "".join(marks)
