"""Detectors on samples printed into the log: answers that go on after their stop, or open anew."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.log import LOG, Text, has_text, log_of
from ftdoctor.detect.rows import of_split
from ftdoctor.detect.tokens import eos_of, family_of
from ftdoctor.detect.wording import shown
from ftdoctor.model import Observation, Run

NEXT_LINES = 40  # lines of one sample that are looked at (judgement)
SAMPLES = "stdout log with sampled answers, special tokens shown"

# `A: text`, `Output> text`, `[3] text`: a new sample, or another part of the same report.
_LABEL = re.compile(r"^\s*(?:[\w .()#-]{1,30}[:=>]+(?:\s|$)|\[\d+\]|>>>|-{3,}|={3,}|\*{3,})")
_RULE = re.compile(r"^\s*(?:-{3,}|={3,}|\*{3,}|#{3,})\s*$")
_WORDS = re.compile(r"[^\W\d_]{2,}")
_HEADER = re.compile(
    r"<\|im_start\|>(\w+)|<\|start_header_id\|>(\w+)|<start_of_turn>(\w+)"
    r"|<\|(user|assistant|system|tool|prompter)\|>"
)
_TURN_END = re.compile(r"(?:<\|im_end\|>|<\|eot_id\|>|<end_of_turn>|<\|end\|>|</s>)\s*$")
_ANSWERS = ("assistant", "model")


@detector("samples.stop_passed")
def stop_passed(run: Run, *, patterns: list[str]) -> Observation:
    """Find a printed answer that holds the stop text of training and goes on after it.

    The lines up to the next label, or below a rule, are one answer; the stop text must come again
    in them, so that it is the model's text and not a line of the log. A stop text that is the
    model's own end token is left out.
    """
    stops = _taught(run)
    if not stops:
        return unobservable("The stop text of the training rows is not known", "training script")
    held = [t for t in log_of(run).find(patterns) if any(s in t.text for s in stops)]
    if not held:
        return unobservable("No printed answer holds the stop text of training", SAMPLES)
    own = {eos_of(run), *(family.stop_texts if (family := family_of(run)) else ())}
    foreign = [s for s in stops if s not in own]
    if not foreign:
        return absent(f"{shown(stops[0])} is the model's own end token", held[0].fact)
    texts = log_of(run).texts
    places = {id(text): number for number, text in enumerate(texts)}
    for text in held:
        stop = next((s for s in foreign if s in text.text), "")
        place = places[id(text)]
        before, after = texts[max(0, place - NEXT_LINES) : place], texts[place + 1 :]
        if stop and (_goes_on(text, stop, after[:NEXT_LINES]) or _comes_again(text, stop, before)):
            said = f"the answer printed at {text.fact.where} goes on after {shown(stop)}"
            return present(f"{said}, the stop text of training", text.fact)
    return absent("Every printed answer ends at its stop text", held[0].fact)


def _taught(run: Run) -> list[str]:
    """Return the stop texts that end the answers of training: by the script, then by the rows."""
    found: dict[str, None] = {}
    for fact in run.facts.get("script.train.prompt", ()):
        found.update(dict.fromkeys(fact.value["stops"]))
    found.update(dict.fromkeys(f.value for f in run.facts.get("script.train.answer_end", ())))
    if not found:
        rows = of_split(run, "train")["stop_text"].drop_nulls().unique().to_list()
        found.update(dict.fromkeys(sorted(text for text in rows if text)))
    return list(found)


def _goes_on(text: Text, stop: str, after: Sequence[Text]) -> bool:
    before, _, rest = text.text.partition(stop)
    if not _LABEL.match(before) or not _WORDS.search(before):
        return False
    if _WORDS.search(_unmarked(rest)) and not _HEADER.search(rest):
        return True
    said = False
    for line in after:
        if line.path != text.path or _LABEL.match(line.text) or _HEADER.search(line.text):
            return False
        said = said or bool(_WORDS.search(_unmarked(line.text)))
        if said and stop in line.text:
            return True
    return False


def _comes_again(text: Text, stop: str, before: Sequence[Text]) -> bool:
    """Say whether a line below a rule holds the stop text twice, with something in between."""
    ruled = any(line.path == text.path and _RULE.match(line.text) for line in before)
    parts = text.text.split(stop)
    return ruled and any(_WORDS.search(_unmarked(part)) for part in parts[1:-1])


def _unmarked(text: str) -> str:
    return re.sub(r"<[^<>]{1,30}>", " ", text)


@detector("samples.answer_reopened")
def answer_reopened(run: Run, *, patterns: list[str]) -> Observation:
    """Find printed rows or answers in which an answer's header follows an answer's end."""
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    headers = list(_headers(run, patterns))
    roles = [role for _, role, _ in headers]
    if not any(role in _ANSWERS for role in roles):
        return unobservable("No conversation with turn marks was printed", SAMPLES)
    for (_, role, _), (text, then, ended) in pairwise(headers):
        if role in _ANSWERS and then in _ANSWERS and ended:
            said = f"at {text.fact.where} another answer opens right behind the end of one"
            return present(said, text.fact)
    return absent("Between two printed answers there is always another turn", headers[0][0].fact)


def _headers(run: Run, patterns: Sequence[str]) -> Iterator[tuple[Text, str, bool]]:
    """Yield (line, role, whether a turn's end stands right before) of the printed headers."""
    texts = log_of(run).texts
    marked = {id(text) for text in log_of(run).find(patterns)}
    for number, text in enumerate(texts):
        if id(text) not in marked or text.event:
            continue
        for found in _HEADER.finditer(text.text[:4000]):
            before = text.text[: found.start()]
            if not before.strip() and number and texts[number - 1].path == text.path:
                before = texts[number - 1].text
            role = next(group for group in found.groups() if group)
            yield text, role, bool(_TURN_END.search(before))
