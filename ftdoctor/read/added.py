"""Evidence that lies outside the run and that the caller adds: which role a file plays.

An added file becomes one more source of the run; its path begins with the role in brackets, so that
no file of the run can be taken for one and every place in the report says where a row came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftdoctor.errors import FtdoctorError
from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import Source

if TYPE_CHECKING:
    from ftdoctor.kinds import Found

# Role to the words that a path and a report show; the role of rows is also their split.
ROLES = {
    "production": "production sample",
    "benchmark": "benchmark",
    "gold": "ground truth",
    "baseline": "baseline",
}
SCORES = 500  # scores taken of a baseline file; harnesses write some dozens a task
DEPTH = 6  # levels of nesting of a baseline file that are followed


def added_source(role: str, path: Path) -> Found:
    """Return a caller's file as a file of the run; FtdoctorError if there is no such file."""
    from ftdoctor.kinds import Found, Kind

    if not path.is_file():
        raise FtdoctorError(f"{path}: no such file, so there is no {ROLES[role]} to compare with")
    stat = path.stat()
    source = Source(
        f"({ROLES[role]}) {path.name}", stat.st_size, stat.st_mtime, lambda: path.open("rb"), path
    )
    reader = _reader(role, path.suffix.lower())
    return Found(source, Kind(*reader, evidence=False))


def _reader(role: str, suffix: str) -> tuple[str, str]:
    """Return kind and reader: the caller has said what the file is, so only its form is open."""
    if role == "baseline":
        return "baseline", "added:read_baseline"
    return {
        ".csv": ("data-csv", "data:read_csv"),
        ".tsv": ("data-csv", "data:read_csv"),
        ".parquet": ("data-parquet", "data:read_parquet"),
        ".txt": ("data-text", "data:read_text"),
    }.get(suffix, ("data-json", "data:read_json"))


def role_of(path: str) -> str:
    """Return the role of an added file by its path, "" for a file of the run itself."""
    return next((role for role, words in ROLES.items() if path.startswith(f"({words}) ")), "")


def read_baseline(source: Source) -> Reading:
    """Read the base model's scores: any JSON of numbers, as evaluation harnesses write them.

    Facts `baseline.<name>`; the name is the last key, without `eval_` and a filter (`acc,none`).
    """
    from ftdoctor.read.jsontext import loads

    try:
        content = loads(source.text())
    except ValueError as error:
        return Reading(ArtifactState.DAMAGED, f"not valid JSON ({error}): export the scores again")
    facts = list(_scores(content, source.path, "", DEPTH))[:SCORES]
    if not facts:
        return Reading(ArtifactState.DAMAGED, "holds no numbers: give the base model's scores")
    return Reading(taken=f"{len(facts)} scores of the base model", facts=tuple(facts))


def _scores(content: Any, path: str, pointer: str, depth: int) -> list[Fact]:
    if not isinstance(content, Mapping) or depth == 0:
        return []
    found: list[Fact] = []
    for key, value in list(content.items())[:SCORES]:
        place = f"{pointer}/{key}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            name = str(key).partition(",")[0].removeprefix("eval_").lower()
            found.append(Fact(f"baseline.{name}", float(value), Where(path, pointer=place)))
        else:
            found += _scores(value, path, place, depth - 1)
    return found
