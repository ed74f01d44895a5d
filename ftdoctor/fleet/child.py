"""The process that examines runs, one at a time: a job per line on standard input, answers out."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from typing import Any, TextIO

from ftdoctor.fleet.examine import examine
from ftdoctor.fleet.record import Ask, Place, Record
from ftdoctor.limits import limit_memory

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
            limit_memory(int(job["limits"]["memory"]))
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


def _limit_time(seconds: float | None) -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(0 if seconds is None else int(seconds) + GRACE)


if __name__ == "__main__":
    main()
