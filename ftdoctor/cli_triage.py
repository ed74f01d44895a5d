"""The commands for many runs: `triage`, and `signatures new`."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ftdoctor.fleet.session import Outcome, Plan
    from ftdoctor.model import Diagnosis

CLUSTER_WINDOW = 2048  # runs handed to a cluster at a time: it may have hundreds of workers
INTERRUPTED = 130  # as a shell tells of SIGINT


class FailOn(StrEnum):
    """The least severity of a likely cause that makes the exit status 1."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"


FailOnOption = Annotated[
    FailOn | None,
    typer.Option(
        "--fail-on", metavar="SEVERITY",
        help="Exit with 1 only for a likely cause of this severity (critical, high, medium) or "
        "above.",
    ),
]  # fmt: skip


def status_of(diagnosis: Diagnosis, fail_on: FailOn | None) -> int:
    """Return the exit status of one diagnosis: its own, but 0 for causes that are not so severe."""
    from ftdoctor.diagnose import POSSIBLE

    if fail_on is None or diagnosis.status != 1:
        return diagnosis.status
    counted = list(FailOn)[: list(FailOn).index(fail_on) + 1]
    likely = [cause.severity.value for cause in diagnosis.causes if cause.probability >= POSSIBLE]
    return int(any(severity in counted for severity in likely))


def _amount(text: str, units: dict[str, float], what: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in units or float(match[1]) <= 0:
        shown = ", ".join(unit for unit in units if unit)
        raise typer.BadParameter(f"{text!r} is no {what}: a number with one of {shown}")
    return float(match[1]) * units[match[2]]


def seconds_of(text: str) -> float:
    """Return the seconds of `90`, `10m` or `1h`."""
    return _amount(text, {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}, "length of time")


def bytes_of(text: str) -> int:
    """Return the bytes of `500MB` or `2GiB`."""
    units = {"": 1.0, "b": 1, "mb": 1e6, "mib": 1 << 20, "gb": 1e9, "gib": 1 << 30,
             "m": 1 << 20, "g": 1 << 30}  # fmt: skip
    return int(_amount(text, units, "amount of memory"))


def triage(
    roots: Annotated[
        list[str],
        typer.Argument(
            metavar="ROOT...",
            help="Folders with runs beneath them, single logs or archives, globs, s3:// and other "
            "addresses, or a text file with one of these per line (`@FILE`).",
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", file_okay=False, help="Where to write.")
    ] = Path(),
    reports: Annotated[
        bool, typer.Option("--reports", help="Write each run's own report too, and link it.")
    ] = False,
    cluster: Annotated[
        str, typer.Option("--cluster", metavar="ADDRESS", help="Scheduler of a Dask cluster.")
    ] = "",
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes on this machine. [default: cores]")
    ] = 0,
    run_seconds: Annotated[
        str, typer.Option("--run-seconds", metavar="TIME", help="Time limit for one run.")
    ] = "300s",
    run_memory: Annotated[
        str, typer.Option("--run-memory", metavar="SIZE", help="Memory limit for one run (Linux).")
    ] = "2GiB",
    watch: Annotated[
        str, typer.Option("--watch", metavar="TIME", help="Do it again at this interval: 10m, 1h.")
    ] = "",
    fail_on: FailOnOption = None,
    price: Annotated[
        float | None,
        typer.Option("--price-per-device-hour", metavar="X", min=0, help="Put a cost on the loss."),
    ] = None,
    signatures: Annotated[
        list[Path] | None,
        typer.Option("--signatures", metavar="DIR", exists=True, help="Further signatures."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Diagnose every run beneath some places: what kills runs, what it costs, which fix saves most.

    Writes ftdoctor-triage.html, .csv, .parquet and .jsonl. Done again, it diagnoses only what is
    new or changed, and goes on where it was interrupted. Exit status: 0 done, 1 with --fail-on,
    2 wrong usage, 3 nothing readable, 130 interrupted.
    """
    from ftdoctor.fleet.record import Ask, Limits
    from ftdoctor.fleet.session import Plan
    from ftdoctor.library import load
    from ftdoctor.triage import WINDOW, cluster_pool, local_pool

    library = load(tuple(signatures or ()))
    folders = tuple(str(path.absolute()) for path in signatures or ())
    plan = Plan(
        roots=tuple(roots),
        folder=output,
        ask=Ask(folders, library.digest, price, reports, time.time()),
        limits=Limits(seconds_of(run_seconds), bytes_of(run_memory)),
        pool=partial(cluster_pool, cluster) if cluster else partial(local_pool, workers or None),
        causes=len(library.causes),
        command=shlex.join(["ftdoctor", *sys.argv[1:]]),
        window=CLUSTER_WINDOW if cluster else WINDOW,
    )
    interval = seconds_of(watch) if watch else 0.0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's end is Ctrl-C too
    while True:
        outcome = _pass(plan, quiet=quiet)
        _tell(outcome, as_json=as_json, quiet=quiet)
        if not interval or outcome.interrupted:
            raise typer.Exit(_status(outcome, fail_on))
        try:
            time.sleep(interval)
        except KeyboardInterrupt:
            raise typer.Exit(_status(outcome, fail_on)) from None


def _pass(plan: Plan, *, quiet: bool) -> Outcome:
    from dataclasses import replace

    from ftdoctor.fleet.session import run_once

    plan = replace(plan, ask=replace(plan.ask, now=time.time()))
    with _progress(quiet) as told:
        return run_once(replace(plan, told=told))


def _tell(outcome: Outcome, *, as_json: bool, quiet: bool) -> None:
    from ftdoctor.fleet.session import summary_lines
    from ftdoctor.render.text import duration, plural

    if as_json:
        typer.echo(json.dumps(outcome.to_json(), ensure_ascii=False, allow_nan=False))
    elif not quiet:
        typer.echo("\n".join(summary_lines(outcome)))
    if not quiet and not sys.stderr.isatty():
        rate = outcome.diagnosed / outcome.seconds if outcome.seconds else 0.0
        typer.echo(
            f"{plural(outcome.found, 'run')} found, {outcome.diagnosed:,} diagnosed, "
            f"{outcome.unchanged:,} unchanged, in {duration(outcome.seconds)} ({rate:.1f}/s)",
            err=True,
        )


def _status(outcome: Outcome, fail_on: FailOn | None) -> int:
    if outcome.interrupted:
        return INTERRUPTED
    rows = outcome.fleet.rows
    if rows and all(row.kind in ("unreadable", "failed") for row in rows):
        return 3
    return int(fail_on is not None and outcome.reaches(fail_on.value))


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows (done, to do) with rate and time left, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _todo: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=120) as bar:
        task = bar.add_task("Finding runs", total=None)

        def told(done: int, todo: int) -> None:
            bar.update(task, description="Diagnosing", completed=done, total=todo)

        yield told


def new_signature(
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]", help="Id of the new cause, for a file to fill in."),
    ] = None,
    first: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="RUN...", help="Runs that share an unknown fault."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="RUN",
            help="Runs without the fault, or a folder of them; may be given more than once.",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--id", metavar="ID", help="Id of the new cause: words joined by `-`.")
    ] = "new-cause",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", dir_okay=False)
    ] = None,
    signatures: Annotated[
        list[Path] | None,
        typer.Option("--signatures", metavar="DIR", exists=True, help="Further signatures."),
    ] = None,
) -> None:
    """Draft a signature, empty or from runs that share a fault, for a person to finish.

    With --from, the draft holds what the runs share and the others lack, and their reduced
    evidence as examples; `ftdoctor signatures check FILE` accepts it.
    """
    from ftdoctor.fleet.draft import draft
    from ftdoctor.library import load
    from ftdoctor.output import write_whole
    from ftdoctor.skeleton import skeleton

    library = load(tuple(signatures or ()))
    if not first:
        name = more[0] if more else name
        path = output or Path(f"{name}.yaml")
        write_whole(path, skeleton(name, library))
        typer.echo(f"{path}: one symptom and one cause to fill in")
        typer.echo(f"Then: ftdoctor signatures check {shlex.quote(str(path))}")
        return
    made = draft([*first, *(more or ())], against or [], name, library)
    path = output or Path(f"{name}.yaml")
    write_whole(path, made.text)
    typer.echo(f"{path}: {made.told}")
    typer.echo(f"Finish it by hand, then: ftdoctor signatures check {shlex.quote(str(path))}")
