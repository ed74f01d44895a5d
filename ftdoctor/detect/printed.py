"""Detectors on the one training example that a trainer prints into its log."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.log import shorten
from ftdoctor.model import Fact, Observation, Run
from ftdoctor.read.printed import NAME

EXAMPLE = "stdout log with a printed training example"
SHOWN = 70  # characters of the example that a finding quotes
# The header of a turn in templates that name the role in it; [INST] and plain words name none.
_ROLE = re.compile(
    r"<\|(?:im_start|start_header_id|start|turn|role_start)\|?>\s?(?P<a>[a-z_]+)"
    r"|<start_of_turn>(?P<b>[a-z_]+)|<\|(?P<c>user|assistant|system|observation|tool|human)\|>"
)
_QUESTION = re.compile(
    r"(?m)\[INST\]|^(?:USER|Human|User|Question|问)\s?[:：]|^#+ ?(?:Instruction|Input|User|Human)\b"
    r"|<[|\uff5c]User[|\uff5c]>"
)
_ASIDE = frozenset({"system", "assistant", "model", "bot", "developer"})
# A text that ends like this ends in a token of the template: `<|im_end|>`, `</s>`, `[/INST]`.
_MARK_AT_END = re.compile(r"(?:<[^<>\s]{1,40}>|\[/?[A-Z_]{2,20}\]|<\uff5c[^<>]{1,60}\uff5c>)\s*$")


def _example(run: Run) -> tuple[Fact, dict[str, Any]] | None:
    """Return the example's place with the beginning of its text, and all that is known of it."""
    fact = run.fact(NAME)
    if fact is None or not isinstance(fact.value, dict):
        return None
    return replace(fact, value=shorten(fact.value["input"], SHOWN)), fact.value


def _roles(text: str) -> set[str]:
    return {role for found in _ROLE.finditer(text) for role in found.groups() if role}


def _has_question(text: str) -> bool:
    return bool(_QUESTION.search(text) or _roles(text) - _ASIDE)


@detector("printed.no_question")
def no_question(run: Run) -> Observation:
    """Find that the printed example holds an answer to learn and no turn of the user.

    Unobservable if its template does not name roles.
    """
    shown = _example(run)
    if shown is None:
        return unobservable("No training example was printed", EXAMPLE)
    fact, value = shown
    text = value["input"]
    if not _roles(text) or not value["labels"]:
        return unobservable("The printed example names no roles", EXAMPLE)
    if _has_question(text):
        return absent("The printed training example holds the user's turn", fact)
    before = text.partition(value["labels"])[0] or text
    limit = run.setting("max_length")
    said = f"; it has {value['tokens']} tokens, the limit is {limit.value}" if limit else ""
    quoted = f"“{shorten(before[-2 * SHOWN :], SHOWN)}”"
    text = f"{fact.where}: before the answer stands only {quoted}, no user turn{said}"
    return present(text, fact, *([limit] if limit else []))


@detector("printed.cut")
def cut(run: Run) -> Observation:
    """Find that the printed example is as long as the limit allows, to the token."""
    shown = _example(run)
    limit = run.setting("max_length")
    if shown is None or limit is None or not isinstance(limit.value, int):
        return unobservable("No printed training example, or no length limit", EXAMPLE)
    fact, value = shown
    packing = run.known("packing")
    if packing is not None and packing.value is True:
        return absent("Packed rows fill the limit", packing)
    said = f"The printed training example has {value['tokens']} tokens; the limit is {limit.value}"
    if not value["tokens"]:
        return unobservable("The tokens of the example were not printed", EXAMPLE)
    # LLaMA-Factory shares the limit out between prompt and answer, rounding down.
    if limit.value - 1 <= value["tokens"] <= limit.value:
        return present(said, fact, limit)
    return absent(said, fact, limit)


@detector("printed.nothing_learnt")
def nothing_learnt(run: Run) -> Observation:
    """Find that every label of the printed example is -100."""
    shown = _example(run)
    if shown is None or shown[1]["learnt"] is None:
        return unobservable("No training example was printed with its labels", EXAMPLE)
    fact, value = shown
    said = f"{value['learnt']} of {value['tokens']} labels are learnt"
    text = f"{fact.where}: of the printed training example {said}"
    return (absent if value["learnt"] else present)(text, fact)


@detector("printed.question_learnt")
def question_learnt(run: Run) -> Observation:
    """Find that the labels of the printed example hold the user's turn."""
    shown = _example(run)
    if shown is None or not shown[1]["labels"] or not _has_question(shown[1]["input"]):
        return unobservable("No training example with roles was printed", EXAMPLE)
    fact, value = shown
    if not _has_question(value["labels"]):
        return absent("The labels of the printed training example hold no prompt", fact)
    quoted = f"“{shorten(value['labels'], SHOWN)}”"
    return present(f"{fact.where}: the labels hold the prompt: {quoted}", fact)


@detector("printed.no_end")
def no_end(run: Run, *, masked: bool) -> Observation:
    """Find that what is learnt of the printed example ends without a token that ends a turn.

    With `masked` the example itself ends in one, so that only its label is masked; without, it
    has none.
    """
    shown = _example(run)
    if shown is None or not shown[1]["learnt"]:
        return unobservable("No training example was printed with its labels", EXAMPLE)
    fact, value = shown
    limit = run.setting("max_length")
    if limit is not None and isinstance(limit.value, int) and value["tokens"] >= limit.value - 1:
        return unobservable("The printed example is cut at the length limit", EXAMPLE)
    ends = {f.value for f in run.facts.get("tokenizer.eos_id", ())}
    if _MARK_AT_END.search(value["labels"]) or value["last"] in ends:
        return absent("The labels of the printed example end in an end token", fact)
    if bool(_MARK_AT_END.search(value["input"])) is not masked:
        where = "is masked" if not masked else "is missing in the text"
        return absent(f"The end token of the printed example {where}", fact)
    end = f"“{shorten(value['labels'][-SHOWN:], SHOWN)}”"
    return present(f"{fact.where}: what is learnt ends in {end}, without an end token", fact)
