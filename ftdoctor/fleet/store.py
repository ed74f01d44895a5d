"""The file of results: appended as they come, read back to go on, and put in order at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from ftdoctor.errors import FtdoctorError
from ftdoctor.fleet.record import Ask, Limits, Place, Record
from ftdoctor.fleet.rows import Row, row_of

LOG = "ftdoctor-triage.jsonl"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is remembered of a line: its row, where it stands, and what it was made from."""

    row: Row
    offset: int
    stamp: str
    input_digest: str
    made_by: tuple[str, str]
    lasting: bool
    limits: Limits | None


class Store:
    """The results of one output folder; one triage at a time, lines are whole or cut off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / LOG
        self.kept: dict[str, Kept] = {}
        self.superseded = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder)
            self._stream: IO[bytes] = self.path.open("ab")
        except OSError as error:
            raise FtdoctorError(
                f"{folder} cannot hold the results: {error.strerror}; choose a folder with -o"
            ) from error
        self._load()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        if self._lock >= 0:
            os.close(self._lock)

    def _load(self) -> None:
        """Take the lines of an earlier triage; one that is no record is cut off or passed over."""
        self.kept.clear()
        self.superseded = 0
        end = 0
        with self.path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    self._take(line, end)
                    end += len(line)
        if end < self.path.stat().st_size:  # the write that a crash interrupted
            os.truncate(self.path, end)

    def _take(self, line: bytes, offset: int) -> None:
        try:
            data = json.loads(line)
            record = Record.from_json(data)
        except (ValueError, KeyError, TypeError):
            self.superseded += 1
            return
        self._remember(record, offset)

    def _remember(self, record: Record, offset: int) -> None:
        key = record.place.id
        self.superseded += key in self.kept
        self.kept[key] = Kept(
            row=row_of(record),
            offset=offset,
            stamp=record.place.stamp,
            input_digest=record.input_digest,
            made_by=_made_by(record.diagnosis),
            lasting=record.lasting,
            limits=record.limits,
        )

    def is_current(self, place: Place, ask: Ask, version: str, limits: Limits) -> bool:
        """Say whether the record of a run holds: same files, signatures, version, and no more room.

        A run that failed at a limit is tried again under a wider one.
        """
        kept = self.kept.get(place.id)
        if kept is None or not kept.lasting or not place.stamp or kept.stamp != place.stamp:
            return False
        if kept.row.kind == "failed" and kept.limits is not None:
            return kept.limits.seconds >= limits.seconds and kept.limits.memory >= limits.memory
        if ask.report and not (kept.row.report and (self.folder / kept.row.report).is_file()):
            return kept.row.kind in ("unreadable", "failed")
        return not kept.made_by[0] or kept.made_by == (ask.digest, version)

    def known(self, place: Place, ask: Ask, version: str) -> str:
        """Return the input digest by which a touched run may turn out to be unchanged."""
        kept = self.kept.get(place.id)
        if kept is None or ask.report or kept.made_by != (ask.digest, version):
            return ""
        return kept.input_digest

    def add(self, record: Record) -> Row:
        """Append one result and return its row."""
        if record.reuse:
            record = replace(self._read(self.kept[record.place.id].offset), place=record.place)
        offset = self._stream.tell()
        try:
            self._stream.write(json.dumps(record.to_json()).encode() + b"\n")
            self._stream.flush()
        except OSError as error:
            raise FtdoctorError(f"{self.path} cannot be written: {error.strerror}") from error
        self._remember(record, offset)
        return self.kept[record.place.id].row

    def _read(self, offset: int) -> Record:
        with self.path.open("rb") as stream:
            stream.seek(offset)
            return Record.from_json(json.loads(stream.readline()))

    def records(self, keys: Iterator[str]) -> Iterator[Record]:
        """Yield the records of some runs."""
        return (self._read(self.kept[key].offset) for key in keys)

    def settle(self, keys: list[str]) -> None:
        """Write the file anew with one line for each of the runs, in their order, if it differs."""
        wanted = [self.kept[key] for key in keys if key in self.kept]
        offsets = [kept.offset for kept in wanted]
        if not self.superseded and len(wanted) == len(self.kept) and offsets == sorted(offsets):
            return
        temporary = self.path.with_suffix(".jsonl.part")
        try:
            with self.path.open("rb") as old, temporary.open("wb") as new:
                for kept in wanted:
                    old.seek(kept.offset)
                    new.write(old.readline())
                new.flush()
                os.fsync(new.fileno())
            self._stream.close()
            os.replace(temporary, self.path)
            self._stream = self.path.open("ab")
        except OSError as error:
            raise FtdoctorError(f"{self.path} cannot be written: {error.strerror}") from error
        self._load()

    def reread(self) -> None:
        """Take the file for what holds, after an interruption at any point."""
        self._stream.close()
        self._load()
        self._stream = self.path.open("ab")


def _made_by(diagnosis: Mapping[str, Any]) -> tuple[str, str]:
    versions = diagnosis.get("versions") or {}
    return str(diagnosis.get("signature_digest", "")), str(versions.get("ftdoctor", ""))


def _locked(folder: Path) -> int:
    """Return a handle of the folder that holds its lock until it is closed.

    The folder itself is locked: a lock file would be one more output, and unlinking it is a race.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        return -1
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise FtdoctorError(
            f"another triage writes into {folder}; wait for it, or choose a folder with -o"
        ) from None
    return handle
