"""The process that examines runs, one at a time: a job per line on standard input, answers out."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from dataclasses import asdict
from typing import Any, TextIO

from ftdoctor.fleet.examine import examine
from ftdoctor.fleet.record import Ask, Place, Record

GRACE = 30  # seconds beyond the limit after which a child ends itself, if its parent is gone


def main() -> None:
    """Answer jobs until standard input ends."""
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    limited = False
    for line in sys.stdin:
        job = json.loads(line)
        if not limited:
            _limit_memory(int(job["limits"]["memory"]))
            limited = True
        _limit_time(float(job["limits"]["seconds"]))
        _answer(answers, job)
        _limit_time(None)


def _answer(answers: TextIO, job: dict[str, Any]) -> None:
    place = Place(**{**job["place"], "only": tuple(job["place"]["only"])})
    ask = Ask(**{**job["ask"], "signatures": tuple(job["ask"]["signatures"])})
    record = examine(place, ask, job["known"])
    answers.write(json.dumps(_plain(record)) + "\n")
    answers.flush()


def _plain(record: Record) -> dict[str, Any]:
    return {**asdict(record), "place": None, "limits": None}


def _limit_memory(limit: int) -> None:
    """Let allocation fail beyond the limit; memory-mapped weights do not count (Linux)."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/status", encoding="ascii") as stream:
            data = next(line for line in stream if line.startswith("VmData:"))
        most = int(data.split()[1]) * 1024 + limit
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _limit_time(seconds: float | None) -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(0 if seconds is None else int(seconds) + GRACE)


if __name__ == "__main__":
    main()
