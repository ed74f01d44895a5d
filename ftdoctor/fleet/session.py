"""One pass of a triage: find, diagnose what is new or changed, and write page, tables and log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from ftdoctor.fleet.clusters import Fleet, fleet_of
from ftdoctor.fleet.find import find_runs
from ftdoctor.fleet.record import Ask, Limits, Place, Record
from ftdoctor.fleet.rows import CSV, PARQUET, Row, write_tables
from ftdoctor.fleet.store import LOG, Store
from ftdoctor.output import file_stem, write_whole
from ftdoctor.redact import Redactor
from ftdoctor.triage import triage

PAGE = "ftdoctor-triage.html"
REPORTS = "ftdoctor-reports"
SEVERITIES = ("medium", "high", "critical")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to triage, into which folder, with which executor, and the words for the page.

    `pool` gives the executor; `told` is called with (done, to do) as results come.
    """

    roots: tuple[str, ...]
    folder: Path
    ask: Ask
    limits: Limits
    pool: Callable[[], AbstractContextManager[Executor]]
    causes: int
    command: str
    told: Callable[[int, int], None] = lambda _done, _todo: None
    window: int = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass did: the fleet, runs found, diagnosed now and kept from before, seconds."""

    fleet: Fleet
    folder: Path
    found: int
    diagnosed: int
    unchanged: int
    seconds: float
    interrupted: bool

    @property
    def missing(self) -> int:
        """Return the number of runs that an interruption left to do."""
        return self.found - len(self.fleet.rows)

    def reaches(self, severity: str) -> bool:
        """Say whether a run has a likely cause of that severity or above."""
        least = SEVERITIES.index(severity)
        return any(s in SEVERITIES[least:] for row in self.fleet.rows for s in row.severities)

    def to_json(self) -> dict[str, Any]:
        """Return the summary for scripts."""
        fleet = self.fleet
        return {
            "runs": self.found,
            "diagnosed": self.diagnosed,
            "unchanged": self.unchanged,
            "seconds": round(self.seconds, 1),
            "interrupted": self.interrupted,
            "failed": fleet.failed,
            "healthy": fleet.count("healthy"),
            "no_known_cause": fleet.count("unknown"),
            "not_diagnosed": fleet.count("unreadable") + fleet.count("failed"),
            "device_hours_lost": round(fleet.hours, 3),
            "device_hours_known_for": fleet.hours_known,
            "cost_lost": fleet.cost,
            "clusters": [
                {
                    "cause": c.id,
                    "title": c.title,
                    "severity": c.rows[0].severity,
                    "runs": len(c.rows),
                    "device_hours_lost": round(c.hours, 3),
                    "median_probability": c.probability,
                    "first_seen": c.trend.first,
                    "trend": c.trend.word,
                    "fix": c.fix,
                    "in_common": [
                        {"factor": m.factor, "value": m.value, "with": m.inside,
                         "known": m.inside_known, "elsewhere": m.outside,
                         "elsewhere_known": m.outside_known, "odds_ratio": m.odds,
                         "interval": [m.low, m.high], "p": m.p, "q": m.q}
                        for m in c.markers
                    ],
                }
                for c in fleet.clusters
            ],
            "worth_a_signature": [
                {
                    "symptoms": list(g.symptoms),
                    "titles": list(g.titles),
                    "runs": [row.path for row in g.rows],
                }
                for g in fleet.unknown
            ],
            "files": [str(self.folder / name) for name in (PAGE, CSV, PARQUET, LOG)],
        }  # fmt: skip


def run_once(plan: Plan) -> Outcome:
    """Make one pass; an interruption (Ctrl-C, SIGTERM) ends it with all that is done written."""
    from ftdoctor import __version__

    started = time.monotonic()
    places = list(find_runs(plan.roots))
    with Store(plan.folder) as store:
        todo = [p for p in places if not store.is_current(p, plan.ask, __version__, plan.limits)]
        plan.told(0, len(todo))
        done = 0
        interrupted = False
        try:
            if todo:
                with plan.pool() as executor:
                    results = triage(
                        todo, executor, plan.ask, plan.limits, window=plan.window,
                        known=lambda place: store.known(place, plan.ask, __version__),
                    )  # fmt: skip
                    with contextlib.closing(results):
                        for record in results:
                            store.add(_with_report(record.without_keys(), plan.folder))
                            done += 1
                            plan.told(done, len(todo))
        except KeyboardInterrupt:
            interrupted = True
            store.reread()  # it may have struck between writing a line and remembering it
        keys = [place.id for place in places]
        if not interrupted:
            store.settle(keys)
        rows = named([store.kept[key].row for key in keys if key in store.kept])
    outcome = Outcome(
        fleet=fleet_of(rows),
        folder=plan.folder,
        found=len(places),
        diagnosed=done,
        unchanged=len(places) - len(todo),
        seconds=time.monotonic() - started,
        interrupted=interrupted,
    )
    _write(outcome, plan)
    return outcome


def named(rows: Sequence[Row]) -> list[Row]:
    """Name each run by its path below the folder that holds all: `run` alone says little."""
    folders = [row.path.rstrip("/").split("/") for row in rows]
    above = zip(*(parts[:-1] for parts in folders), strict=False)
    shared = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, above))
    found = []
    for row, parts in zip(rows, folders, strict=True):
        part = f" · {row.part}" if row.part else ""
        found.append(replace(row, run="/".join(parts[shared:]) + part))
    return found


def _with_report(record: Record, folder: Path) -> Record:
    """Write a run's own report beside the page and put its name into the record."""
    if not record.html:
        return record
    name = _report_name(record.place)
    write_whole(folder / REPORTS / name, record.html)
    return replace(record, report=f"{REPORTS}/{name}", html="")


def _report_name(place: Place) -> str:
    stem = file_stem(place.part or place.path.rstrip("/").rpartition("/")[2])
    return f"{stem}-{place.id[:8]}.html"


def _write(outcome: Outcome, plan: Plan) -> None:
    from ftdoctor import __version__
    from ftdoctor.render.fleet import Told, render_fleet

    clean = Redactor().clean  # a root may be an address with a password in it
    told = Told(
        roots=tuple(clean(root) for root in plan.roots),
        command=clean(plan.command),
        versions={"ftdoctor": __version__},
        signature_digest=plan.ask.digest[:12],
        causes=plan.causes,
        took=_took(outcome),
        missing=outcome.missing,
        interrupted=outcome.interrupted,
    )
    write_whole(plan.folder / PAGE, render_fleet(outcome.fleet, told))
    write_tables(outcome.fleet.rows, plan.folder)


def _took(outcome: Outcome) -> str:
    from ftdoctor.render.text import duration, plural

    told = f"{duration(outcome.seconds)} for {plural(outcome.diagnosed, 'run')}"
    return told + (f", {outcome.unchanged:,} unchanged since before" if outcome.unchanged else "")


def summary_lines(outcome: Outcome, clusters: int = 8) -> Sequence[str]:
    """Return the result for a terminal or a log."""
    from ftdoctor.render import text as words
    from ftdoctor.render.fleet import headline, hours, lever

    fleet = outcome.fleet
    lines = [headline(fleet)]
    for cluster in fleet.clusters[:clusters]:
        told = f"{len(cluster.rows):>7,}  {words.one_line(cluster.title, 70)}"
        if cluster.hours_known:
            told += f", {hours(cluster.hours)} device hours"
        lines.append(told)
    if len(fleet.clusters) > clusters:
        rest = sum(len(c.rows) for c in fleet.clusters[clusters:])
        lines.append(f"{rest:>7,}  in {len(fleet.clusters) - clusters} smaller clusters")
    if unknown := fleet.count("unknown"):
        lines.append(f"{unknown:>7,}  no known cause")
    if lost := fleet.count("unreadable") + fleet.count("failed"):
        lines.append(f"{lost:>7,}  not diagnosed; the reasons are in the table")
    if best := lever(fleet):
        lines.append(f"First: {words.one_line(best[0].fix, 200)} It {best[1]}.")
    if outcome.interrupted:
        lines.append(f"Interrupted: {outcome.missing:,} runs to do; the same command goes on.")
    lines.append(f"Page: {outcome.folder / PAGE}")
    return lines
