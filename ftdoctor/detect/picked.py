"""Detector on checkpoints that a script picks by name where names and numbers differ in order."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.log import log_of
from ftdoctor.detect.wording import shown
from ftdoctor.model import ArtifactState, Fact, Observation, Run

_ROLES = ("test", "other", "export", "train", "data")
_NUMBER = re.compile(r"\d+")


@detector("picked.not_the_newest")
def not_the_newest(run: Run) -> Observation:
    """Find a script that takes the first or last of several checkpoints by name, not the newest.

    The newest is the one with the highest numbers in its path, folder by folder.
    """
    found = [f for role in _ROLES for f in run.facts.get(f"script.{role}.picks_checkpoint", ())]
    if not found:
        return unobservable("No script picks one of several checkpoints by name", "scripts")
    for fact in found:
        if (told := _wrong(run, fact)) is not None:
            return present(told, fact)
    if any(len(_matches(run, fact)) > 1 for fact in found):
        return absent("The checkpoint that is picked by name is the newest", found[0])
    return unobservable("The checkpoints that the script looks for are not here", "checkpoints")


def _wrong(run: Run, fact: Fact) -> str | None:
    """Say which checkpoint is picked and which is newer, None if it is the newest."""
    paths = [*_matches(run, fact), *_of_other_runs(run, fact)]
    depth = min((path.count("/") for path in paths), default=0)
    paths = sorted({"/".join(path.split("/")[: depth + 1]) for path in paths})
    numbers = [_numbers(path) for path in paths]
    if len(paths) < 2 or len({len(n) for n in numbers}) != 1 or len(set(numbers)) < 2:
        return None
    picked = sorted(paths)[0 if fact.value[1] == "first" else -1]
    newest = max(paths, key=_numbers)
    if picked == newest:
        return None
    said = f"{fact.where} takes the {fact.value[1]} by name, {shown(picked)}"
    return f"{said}, while {shown(newest)} is newer"


def _matches(run: Run, fact: Fact) -> list[str]:
    """Return files, or folders of files, that the pattern names."""
    pattern = str(fact.value[0]).replace("\\", "/").removeprefix("./").strip("/")
    depth = pattern.count("/") + 1
    found: set[str] = set()
    for artifact in run.artifacts:
        parts = artifact.path.split("/")
        for start in range(len(parts) - depth + 1):
            piece = parts[start : start + depth]
            if all(map(fnmatchcase, piece, pattern.split("/"))):
                found.add("/".join(parts[: start + depth]))
                break
    return sorted(found)


def _of_other_runs(run: Run, fact: Fact) -> list[str]:
    """Return folders of other runs that the pattern goes into, and that the console names."""
    parts = str(fact.value[0]).replace("\\", "/").removeprefix("./").strip("/").split("/")
    found = []
    for artifact in run.artifacts:
        names = artifact.path.split("/")
        if artifact.state is not ArtifactState.SKIPPED or len(names) >= len(parts):
            continue
        if not all(map(fnmatchcase, names, parts)) or "*" not in "".join(parts[: len(names)]):
            continue
        if any(f"{artifact.path}/" in text.text for text in log_of(run).texts):
            found.append(artifact.path)
    return found


def _numbers(path: str) -> tuple[int, ...]:
    return tuple(int(number) for number in _NUMBER.findall(path))
