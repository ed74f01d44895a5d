"""Whether a run has solved its task: what speaks against a leak where the losses are next to zero.

A loss near zero is success where held-out answers are right, or where few texts answer everything
and stand in no prompt.
"""

from __future__ import annotations

import re
from collections import Counter

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.classes import COMMONEST, labels_learnt
from ftdoctor.detect.log import has_text, log_of
from ftdoctor.detect.once import once_per_run
from ftdoctor.detect.points import effective, kind_of, number
from ftdoctor.detect.rows import HOMES, of_split
from ftdoctor.model import Observation, Run, State
from ftdoctor.render.text import plural

RIGHT = 0.95  # share of held-out answers that are right from which a task is solved (judgement)
FEWEST_PRINTED = 5  # answers printed beside their references, all of which must be right
FEWEST = 20  # rows or outputs that can tell (judgement)
REPEATED = 8  # rows for each different answer where the answers are few (judgement)
IN_PROMPT = 0.05  # share of answers that may stand in their prompts by chance (judgement)
_WHOLE = re.compile(r"(?i)^(?!.*(?:token|train))(?:.*[/_ -])?(?:exact[-_ ]?match(?:es)?|em)$")
_ACCURACY = re.compile(r"(?i)^(?!.*(?:token|next|train))(?:.*[/_ -])?acc(?:uracy)?$")
_PRINTED = [
    r"(?i)\bexact[- _]?match(?:es)?\b",
    r"(?i)\b(?:test|held-?out|holdout|dev|eval\w*|valid\w*|unseen)\b.{0,40}\b(?:acc(?:uracy)?"
    r"|correct|right)\b",
    r"(?i)\b(?:acc(?:uracy)?|correct|right)\b.{0,30}\b(?:test|held-?out|holdout|dev|eval\w*"
    r"|valid\w*|unseen)\b",
]
_BESIDE = [r"(?i)[|,;\t]\s*(?:ref(?:erence)?|expected|gold|target|truth|label)\b\s*[:=]?\s*\S"]
_SAMPLE = re.compile(
    r"(?i)(?:->|=>|\b(?:pred\w*|outputs?|got|answer|hyp\w*|model|gen\w*)\s*[:=])\s*(?P<made>\S.*?)\s*"
    r"[|,;\t]\s*(?:ref(?:erence)?|expected|gold|target|truth|label)\b\s*[:=]?\s*(?P<due>\S.*)$"
)
_DRESS = re.compile(r"</?s>|<\|[\w ]+\|>|^[\s'\"]+|[\s'\"]+$")
_TRAIN = re.compile(r"(?i)\b(?:train(?:ing)?(?!er)|token)\b")
_COUNTED = re.compile(r"(?<![\d.])(\d{1,7})\s*(?:/|of|out of)\s*(\d{1,7})(?![\d.])")
_SHARE = re.compile(
    r"(?i)\b(?:match(?:es)?|acc(?:uracy)?|correct|right)\b[^\d\n]{0,30}?(\d+(?:\.\d+)?)(\s?%)?"
)


@detector("solved.held_out_right")
def held_out_right(run: Run) -> Observation:
    """Find that nearly all held-out answers are right: by a score, a printed count or the outputs.

    Rows of evaluation that are training rows tell nothing.
    """
    overlap = run.fact("data.overlap.eval")
    if overlap is not None and overlap.value.get("shared", 0) * 10 > overlap.value.get("rows", 0):
        return unobservable("The evaluation rows are training rows", HOMES["eval"])
    for judge in (_scored, _printed, _compared, _beside):
        found = judge(run)
        if found.state is not State.UNOBSERVABLE:
            return found
    return unobservable(
        "No score of whole answers on held-out rows was found",
        "an evaluation that generates answers and counts the right ones",
    )


@detector("solved.answers_open")
def answers_open(run: Run) -> Observation:
    """Find training answers that vary and stand in no prompt, so that neither can leak them."""
    rows = _pairs(run)
    if len(rows) < FEWEST:
        return unobservable("Too few rows with prompt and answer were found", HOMES["train"])
    inside = sum(answer in prompt for prompt, answer in rows)
    commonest = Counter(answer for _, answer in rows).most_common(1)[0][1]
    text = (
        f"{inside} of {len(rows)} sampled answers stand in their prompts; the commonest answer "
        f"has {plural(commonest, 'row')}"
    )
    if inside > IN_PROMPT * len(rows) or commonest > len(rows) / 2:
        return absent(text)
    return present(text, *([fact] if (fact := run.fact("data.train.rows")) else []))


@once_per_run
def success(run: Run) -> str:
    """Say in a clause why a loss near zero is success in a run, "" if nothing tells."""
    if labels := labels_learnt(run):
        return labels
    rows = _pairs(run)
    counts = Counter(answer for _, answer in rows)
    if len(rows) >= FEWEST and counts.most_common(1)[0][1] >= COMMONEST * len(rows):
        return ""
    if answers := _few_answers(rows, counts):
        return answers
    right = held_out_right(run)
    return right.text if right.state is State.PRESENT else ""


def _pairs(run: Run) -> list[tuple[str, str]]:
    """Return prompts and answers of the sampled training rows, lower-cased."""
    import polars as pl

    rows = of_split(run, "train").filter(
        pl.col("prompt").is_not_null() & pl.col("response").is_not_null()
    )
    pairs = zip(rows["prompt"].to_list(), rows["response"].to_list(), strict=True)
    made = ((str(p).casefold(), str(a).strip().casefold()) for p, a in pairs)
    return [(prompt, answer) for prompt, answer in made if prompt.strip() and answer]


def _few_answers(rows: list[tuple[str, str]], counts: Counter[str]) -> str:
    """Say that few texts answer all prompts, without being told in them."""
    if len(rows) < FEWEST or not 2 <= len(counts) <= len(rows) / REPEATED:
        return ""
    inside = sum(answer in prompt for prompt, answer in rows)
    return "" if inside > IN_PROMPT * len(rows) else f"{len(counts)} texts answer all prompts"


def _scored(run: Run) -> Observation:
    """Judge by the last value of a logged score of whole answers."""
    for name, split in run.series_names():
        whole = _WHOLE.match(name) or (_ACCURACY.match(name) and not _of_tokens(run))
        if split not in ("eval", "test") or not whole:
            continue
        series = run.series(name, split)
        found = effective(series).finite if series is not None else None
        if found is None or not len(found):
            continue
        last = float(found.values[-1])
        most = 100.0 if float(found.values.max()) > 1.5 else 1.0
        text = f"{found.label} ends at {number(last)}"
        if RIGHT * most <= last <= most:
            return present(text, found.fact(-1))
        return absent(text, found.fact(-1))
    return unobservable("No score was logged")


def _of_tokens(run: Run) -> bool:
    """Say whether an accuracy may count tokens, as trainers of language models do."""
    return kind_of(run) not in ("", "classification") and run.fact("run.trainer") is not None


def _printed(run: Run) -> Observation:
    """Judge by the last count or share that a line of the console tells."""
    if not has_text(run):
        return unobservable("No console text was found")
    for text in reversed(log_of(run).find(_PRINTED)):
        if _TRAIN.search(text.text) or (share := _share(text.text)) is None:
            continue
        said = f"“{text.text.strip()[:80]}” tells of {share:.0%} right answers"
        return present(said, text.fact) if share >= RIGHT else absent(said, text.fact)
    return unobservable("No score was printed")


def _share(text: str) -> float | None:
    if (counted := _COUNTED.search(text)) and int(counted[2]) >= FEWEST:
        right = int(counted[1]) / int(counted[2])
        return right if right <= 1 else None
    if counted or not (told := _SHARE.search(text)):
        return None
    value = float(told[1])
    share = value / 100 if told[2] or value > 1 else value
    # A whole number without a sign of percent is a count of something.
    return share if share <= 1 and (told[2] or "." in told[1]) else None


def _compared(run: Run) -> Observation:
    """Judge by outputs that stand beside their references."""
    import polars as pl

    rows = of_split(run, "generations").filter(
        pl.col("response").is_not_null() & pl.col("reference").is_not_null()
    )
    if rows.height < FEWEST:
        return unobservable("No outputs stand beside references")
    pairs = zip(rows["response"].to_list(), rows["reference"].to_list(), strict=True)
    right = sum(str(a).strip() == str(b).strip() for a, b in pairs)
    text = f"{right} of {rows.height} sampled outputs equal their references"
    fact = run.fact("data.generations.rows")
    facts = [fact] if fact else []
    return present(text, *facts) if right >= RIGHT * rows.height else absent(text, *facts)


def _beside(run: Run) -> Observation:
    """Judge by answers that the console shows beside their references, line by line."""
    if not has_text(run):
        return unobservable("No console text was found")
    found = [(_SAMPLE.search(text.text), text) for text in log_of(run).find(_BESIDE)]
    pairs = [(match, text) for match, text in found if match]
    if len(pairs) < FEWEST_PRINTED:
        return unobservable("No answers are printed beside references")
    right = sum(_bare(match["made"]) == _bare(match["due"]) for match, _ in pairs)
    said = f"{right} of {len(pairs)} printed answers equal their references"
    first = pairs[0][1].fact
    return present(said, first) if right >= RIGHT * len(pairs) else absent(said, first)


def _bare(text: str) -> str:
    """Return an answer without end tokens, quotes and blanks around it."""
    return _DRESS.sub("", _DRESS.sub("", text)).strip()
