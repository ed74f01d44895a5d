"""Detectors of scripts that read keys of turns and rows that the training data do not have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.columns import ANSWERS
from ftdoctor.detect.rows import HOMES, MIN_ROWS, of_split, text_list
from ftdoctor.model import Observation, Run

LOOKED_AT = 200  # rows
_ROLES = ("train", "data", "other")


@detector("keys.turns_read_by_other_names", of_text=True)
def turns_read_by_other_names(run: Run) -> Observation:
    """Find a script that takes from a row's turns keys that no turn has, by `.get`.

    Absent if a script names any key of the turns, or converts them: one branch may be for them.
    """
    found = [f for role in _ROLES for f in run.facts.get(f"script.{role}.turn_keys", ())]
    if not found:
        return unobservable("No script reads the turns of a row one by one", "training script")
    records = list(_records(run))
    if len(records) < MIN_ROWS:
        return unobservable("No training rows were found", HOMES["train"])
    if converts := run.fact("script.train.converts_rows"):
        return absent(f"`{converts.value}` converts the turns", converts)
    for fact in found:
        held = _turn_keys(records, fact.value["of"])
        if not held or not fact.value["quiet"]:
            continue
        if held & set(fact.value["keys"]) or any(_is_named(run, key) for key in held):
            return absent("The script reads keys that the turns have", fact)
        read, has = text_list(fact.value["keys"]), text_list(sorted(held))
        said = f"the turns are read by {read}, and they have {has}: every text is empty"
        return present(f"{fact.where}: {said}", fact)
    return absent("Turns are read by keys that they have, or not by `.get`", found[0])


@detector("keys.answer_read_by_other_name", of_text=True)
def answer_read_by_other_name(run: Run) -> Observation:
    """Find a script that takes the answer from a row by `.get` under a name that no row has.

    Absent if any script names a column that holds answers: the rows may be renamed before.
    """
    found = [f for role in _ROLES for f in run.facts.get(f"script.{role}.row_keys", ())]
    if not found:
        return unobservable("No script reads a row by `.get`", "training script")
    records = list(_records(run))
    if len(records) < MIN_ROWS:
        return unobservable("No training rows were found", HOMES["train"])
    held = {key for record in records for key in record}
    answers = [key for key in sorted(held) if key.casefold() in ANSWERS]
    for fact in found:
        keys = set(fact.value["keys"])
        asked = [key for key in fact.value["quiet"] if key.casefold() in ANSWERS]
        unread = [key for key in answers if not _is_named(run, key)]
        if asked and unread and keys & held and not keys & set(answers):
            said = f"the answer is read from `{asked[0]}`, and the rows hold it in `{unread[0]}`"
            return present(f"{fact.where}: {said}", fact)
    return absent("The answers are read from a column that the rows have", found[0])


def _records(run: Run) -> Iterator[Mapping[str, Any]]:
    for text in of_split(run, "train")["record"].head(LOOKED_AT):
        record = json.loads(text) if text else None
        if isinstance(record, dict):
            yield record


def _turn_keys(records: list[Mapping[str, Any]], column: str) -> set[str]:
    """Return the keys of all turns in a column, empty if it holds none."""
    turns = (t for r in records if isinstance(r.get(column), list) for t in r[column])
    return {key for turn in turns if isinstance(turn, dict) for key in turn}


def _is_named(run: Run, key: str) -> bool:
    """Say whether a file of code or settings names a key: between quotes, or in YAML."""
    quoted = re.compile(rf"(['\"]){re.escape(key)}\1|(?m:^\s*[\w.-]+:\s*{re.escape(key)}\s*$)")
    return any(quoted.search(text) for text in run.texts.values())
