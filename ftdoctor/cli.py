"""The command `ftdoctor`; everything heavy is imported inside the commands."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftdoctor.cli_triage import (
    FailOnOption,
    bytes_of,
    new_signature,
    seconds_of,
    status_of,
    triage,
)
from ftdoctor.errors import FtdoctorError, SignatureError

if TYPE_CHECKING:
    from ftdoctor.limits import Deadline

app = typer.Typer(
    name="ftdoctor",
    help="Find out why an LLM fine-tuning run failed: ranked root causes with evidence, "
    "from the files that the run left behind. Nothing in them is ever executed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
signatures_app = typer.Typer(
    help="List and check the library of failure signatures.", no_args_is_help=True
)
app.add_typer(signatures_app, name="signatures")
app.command()(triage)
signatures_app.command("new")(new_signature)

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Run folder, archive or single log; `-` reads a log.")
]
SignaturesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--signatures",
        metavar="DIR",
        exists=True,
        help="Further signature files or folders; may be given more than once.",
    ),
]
ChooseOption = Annotated[
    str, typer.Option("--run", metavar="NAME", help="Which run, if the place holds several.")
]
LIMITS = "Limits"
TimeoutOption = Annotated[
    str,
    typer.Option(
        "--timeout",
        metavar="TIME",
        rich_help_panel=LIMITS,
        help="After this the result is made of what was read until then.",
    ),
]
MemoryOption = Annotated[
    str,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        rich_help_panel=LIMITS,
        help="A file that needs more is not read, and the result says so (Linux).",
    ),
]
TIMEOUT, MAX_MEMORY = "300s", "2GiB"


def _bounded(timeout: str, max_memory: str) -> Deadline:
    """Limit the memory from now on and return the deadline."""
    from ftdoctor.limits import LEAST_MEMORY, Deadline, limit_memory

    deadline = Deadline.after(seconds_of(timeout))
    memory = bytes_of(max_memory)
    if memory < LEAST_MEMORY:
        raise typer.BadParameter("400MiB is the least", param_hint="--max-memory")
    limit_memory(memory)
    return deadline


def _added_file(name: str, text: str, metavar: str = "FILE") -> Any:
    """Return an option that takes a file from outside the run."""
    return typer.Option(
        name, metavar=metavar, exists=True, dir_okay=False, help=text, rich_help_panel=ADDED
    )


ADDED = "Evidence from outside the run"
REPORT = "The report"


def main() -> None:
    """Run the command; our own errors become one clear line and their exit status."""
    # A run is read into some 100,000 objects that stay; going over them again and again to find
    # cycles, of which there are few, takes a tenth of the time.
    gc.set_threshold(50_000, 20, 100)
    try:
        app()
    except SignatureError as error:
        typer.echo(f"{error}\n{len(error.problems)} problems in signature files", err=True)
        raise SystemExit(error.exit_status) from None
    except FtdoctorError as error:
        from ftdoctor.render.text import clean

        typer.echo(clean(f"ftdoctor: {error}"), err=True)
        raise SystemExit(error.exit_status) from None
    except MemoryError:
        typer.echo("ftdoctor: needs more memory than the limit allows (--max-memory)", err=True)
        raise SystemExit(3) from None
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); say nothing more, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        typer.echo(f"ftdoctor: the output cannot be written: {error.strerror}", err=True)
        raise SystemExit(2) from None
    finally:
        gc.freeze()  # Python's own end would look for cycles among all of them once more


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from ftdoctor import __version__

        typer.echo(f"ftdoctor {__version__}")
        raise typer.Exit


@app.command()
def diagnose(
    run: RunArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="PATH", help="Report file, or a folder for it. [default: .]"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the diagnosis as JSON and write no report.")
    ] = False,
    ticket: Annotated[
        bool, typer.Option("--ticket", help="Print Markdown for a bug ticket; write no report.")
    ] = False,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="LIST",
            rich_help_panel=REPORT,
            help="What to write: html, md (ticket), json, sarif, separated by commas.",
        ),
    ] = "html",
    zipped: Annotated[
        bool,
        typer.Option(
            "--zip",
            rich_help_panel=REPORT,
            help="Put the reports into one archive, which every ticket system takes.",
        ),
    ] = False,
    opened: Annotated[
        bool, typer.Option("--open", rich_help_panel=REPORT, help="Open the report when written.")
    ] = False,
    no_quotes: Annotated[
        bool,
        typer.Option(
            "--no-quotes",
            rich_help_panel=REPORT,
            help="Leave out all text of the run: data rows, log lines, code.",
        ),
    ] = False,
    redact_names: Annotated[
        bool,
        typer.Option(
            "--redact-names",
            rich_help_panel=REPORT,
            help="Replace the names of run, project and data sets, the same name everywhere.",
        ),
    ] = False,
    signatures: SignaturesOption = None,
    choose: ChooseOption = "",
    production: Annotated[
        Path | None,
        _added_file("--production-sample", "Requests as they come in production (JSONL, CSV)."),
    ] = None,
    baseline: Annotated[
        Path | None,
        _added_file("--baseline", "Scores of the base model on the same rows.", "EVAL.json"),
    ] = None,
    benchmark: Annotated[
        Path | None,
        _added_file("--benchmark", "Items of a benchmark, to look for in the training rows."),
    ] = None,
    gold: Annotated[
        Path | None,
        _added_file("--ground-truth", "True labels for some inputs of the training rows."),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(
            "--price-per-device-hour",
            metavar="X",
            min=0,
            rich_help_panel=ADDED,
            help="Your price of one device for one hour, to put a cost on the run.",
        ),
    ] = None,
    observed: Annotated[
        list[str] | None,
        typer.Option(
            "--observed",
            metavar="ID",
            rich_help_panel=ADDED,
            help="An outcome that you know of, as never-stops or not:never-stops; may be given "
            "more than once. `ftdoctor explain --observations` lists them.",
        ),
    ] = None,
    good: Annotated[
        str,
        typer.Option(
            "--good",
            metavar="RUN",
            rich_help_panel=ADDED,
            help="A run that worked, or an earlier checkpoint: what differs becomes evidence.",
        ),
    ] = "",
    timeout: TimeoutOption = TIMEOUT,
    max_memory: MemoryOption = MAX_MEMORY,
    fail_on: FailOnOption = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Name the root causes of a failed run and write one HTML report.

    `ftdoctor limits` lists how much is read of each kind of file.
    Exit status: 0 nothing found, 1 root cause found, 2 wrong usage, 3 nothing readable.
    """
    import time
    from functools import cache, partial
    from importlib import import_module

    from ftdoctor.aside import begin, second_process, while_waiting
    from ftdoctor.output import parse_formats, render, write_reports
    from ftdoctor.render import prepare_plots

    asked = parse_formats(formats)
    deadline = _bounded(timeout, max_memory)
    with second_process(), _working(f"Reading {run}"):
        if "html" in asked and not (as_json or ticket):
            begin(prepare_plots)

        # Imported while the second process imports what draws.
        from ftdoctor.detect.engine import warm
        from ftdoctor.diagnose import Options, diagnose_run, gather_with
        from ftdoctor.library import load
        from ftdoctor.observations import observations as known_outcomes
        from ftdoctor.pseudonyms import hide_names, names_of
        from ftdoctor.render.terminal import print_summary

        library = cache(partial(load, tuple(signatures or ()), examples=False))
        while_waiting(partial(import_module, "polars"))
        while_waiting(library)
        while_waiting(lambda: warm(library()))
        files = {
            "production": production, "baseline": baseline, "benchmark": benchmark, "gold": gold
        }  # fmt: skip
        options = Options(
            signatures=tuple(signatures or ()),
            choose=choose,
            now=time.time(),
            added=tuple((role, path) for role, path in files.items() if path is not None),
            observed=tuple(observed or ()),
            price=price,
            good=good,
            deadline=deadline,
        )
        # A mistake in what the user wrote is told before the run is read.
        told = known_outcomes(options.observed, library()) if observed or signatures else ()
        evidence = gather_with(run, options, told)
        diagnosis = diagnose_run(evidence, library(), options.deadline)
        if redact_names:
            diagnosis = hide_names(diagnosis, names_of(evidence))
        if as_json or ticket:
            typer.echo(
                render(diagnosis, "json" if as_json else "md", quotes=not no_quotes), nl=False
            )
            raise typer.Exit(status_of(diagnosis, fail_on))
        written = write_reports(diagnosis, output, asked, quotes=not no_quotes, zipped=zipped)
    if not quiet:
        print_summary(diagnosis, *written)
    if opened and not _opened(written):
        typer.echo(
            "No browser could be started; set BROWSER, or open the report yourself.", err=True
        )
    raise typer.Exit(status_of(diagnosis, fail_on))


@app.command()
def show(
    run: RunArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    choose: ChooseOption = "",
    timeout: TimeoutOption = TIMEOUT,
    max_memory: MemoryOption = MAX_MEMORY,
) -> None:
    """Show what was read from a run, without a diagnosis: files, settings, series, facts."""
    from ftdoctor.read import Options, read_run
    from ftdoctor.render.text import clean
    from ftdoctor.show import describe, render_show

    deadline = _bounded(timeout, max_memory)
    with _working(f"Reading {run}"):
        evidence = read_run(run, options=Options(choose=choose or None, deadline=deadline))
    if as_json:
        typer.echo(json.dumps(describe(evidence), ensure_ascii=False, default=str))
    else:
        typer.echo(clean(render_show(evidence)))


@app.command()
def limits() -> None:
    """List what bounds a diagnosis: time, memory, and how much is read of each kind of file."""
    from ftdoctor.limits import render_limits

    typer.echo(render_limits())


@app.command()
def compare(
    good: Annotated[
        str, typer.Argument(metavar="GOOD", help="A run that worked, or a good checkpoint.")
    ],
    bad: Annotated[
        str, typer.Argument(metavar="BAD", help="The run that failed, or a bad checkpoint.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="PATH", help="Page, or a folder. [default: .]"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print as JSON and write no page.")
    ] = False,
    signatures: SignaturesOption = None,
    timeout: TimeoutOption = TIMEOUT,
    max_memory: MemoryOption = MAX_MEMORY,
) -> None:
    """Say what differs between a good run and a failed one, what explains the failure first.

    Exit status as for diagnose: 0 nothing found, 1 root cause found, 3 nothing readable.
    """
    import time

    from ftdoctor.compare.explain import explaining, to_json
    from ftdoctor.diagnose import Options, diagnose_pair

    deadline = _bounded(timeout, max_memory)
    extra = tuple(signatures or ())
    options = Options(signatures=extra, now=time.time(), good=good, deadline=deadline)
    with _working(f"Reading {good} and {bad}"):
        comparison, diagnosis = diagnose_pair(bad, options)
    ranked = explaining(comparison, diagnosis)
    if as_json:
        typer.echo(json.dumps(to_json(comparison, diagnosis, ranked), ensure_ascii=False))
        raise typer.Exit(diagnosis.status)
    from ftdoctor.output import file_stem, write_whole
    from ftdoctor.render.compare import render_comparison, render_comparison_text

    name = f"ftdoctor-compare-{file_stem(diagnosis.run.name)}.html"
    path = Path(name) if output is None else output
    path = path / name if path.is_dir() else path
    write_whole(path, render_comparison(comparison, diagnosis, ranked))
    typer.echo(render_comparison_text(comparison, diagnosis, ranked))
    typer.echo(f"\nPage: {path}")
    raise typer.Exit(diagnosis.status)


@app.command()
def evaluate(
    labels: Annotated[
        Path,
        typer.Argument(exists=True, help="Labels (JSONL), or a folder with expected.json files."),
    ],
    runs: Annotated[
        Path | None, typer.Argument(exists=True, help="Folder of the runs. [default: the labels']")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write an HTML page as well.")
    ] = None,
    signatures: SignaturesOption = None,
) -> None:
    """Score diagnoses against labelled runs: hit rates, false alarms, calibration."""
    from ftdoctor import evaluate as evaluation
    from ftdoctor.library import load

    library = load(tuple(signatures or ()))
    with _working(f"Diagnosing the runs of {labels}"):
        results = list(evaluation.outcomes(evaluation.load_labels(labels, runs), library))
    scores = evaluation.score(results)
    if html is not None:
        from ftdoctor.output import write_whole
        from ftdoctor.render.evaluate import render_evaluation

        write_whole(html, render_evaluation(scores, results, labels.name))
    if as_json:
        typer.echo(json.dumps(evaluation.to_json(scores, results), ensure_ascii=False))
    else:
        typer.echo(evaluation.render_text(scores, results))


@app.command()
def explain(
    name: Annotated[str, typer.Argument(metavar="[ID]", help="A cause or symptom.")] = "",
    observations: Annotated[
        bool, typer.Option("--observations", help="List the outcomes that --observed takes.")
    ] = False,
    family: Annotated[
        str,
        typer.Option("--family", metavar="MODEL", help="Show what is known of a model's family."),
    ] = "",
    signatures: SignaturesOption = None,
) -> None:
    """Explain a cause or symptom: how it shows, why, and what to do."""
    from ftdoctor.explain import explain as explain_entry
    from ftdoctor.explain import explain_family
    from ftdoctor.library import load
    from ftdoctor.observations import render_outcomes

    library = load(tuple(signatures or ()))
    if observations:
        typer.echo(render_outcomes(library))
    elif family:
        typer.echo(explain_family(family))
    elif name:
        typer.echo(explain_entry(library, name))
    else:
        raise typer.BadParameter("give an ID, --family or --observations", param_hint="ID")


@signatures_app.command("list")
def list_signatures(
    signatures: SignaturesOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List every cause, by stage, and every symptom."""
    from ftdoctor.library import load

    library = load(tuple(signatures or ()))
    causes = sorted(library.causes.values(), key=lambda c: (c.stage, c.id))
    if as_json:
        rows = [
            {"id": c.id, "kind": "cause", "title": c.title, "stage": c.stage,
             "severity": c.severity.value, "status": c.status.value, "rows": list(c.rows)}
            for c in causes
        ]  # fmt: skip
        rows += [
            {"id": s.id, "kind": "symptom", "title": s.title, "status": s.status.value}
            for s in library.symptoms.values()
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    width = max(len(n) for n in (*library.causes, *library.symptoms))
    typer.echo(f"{len(causes)} causes")
    for cause in causes:
        typer.echo(f"  {cause.id:<{width}}  {cause.stage}, {cause.severity.value}: {cause.title}")
    typer.echo(f"{len(library.symptoms)} symptoms")
    for symptom in library.symptoms.values():
        typer.echo(f"  {symptom.id:<{width}}  {symptom.title}")


@signatures_app.command("calibrate")
def calibrate_signatures(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="LABELS...", exists=True, help="Labels (JSONL) or folders, as for evaluate."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="[default: print it]")
    ] = None,
) -> None:
    """Count on labelled runs what the signatures state, and write signatures/calibration.md."""
    from ftdoctor.calibrate import render_calibration
    from ftdoctor.evaluate import load_labels, outcomes
    from ftdoctor.library import load
    from ftdoctor.output import write_whole

    library = load()
    parts = {}
    for place in places:
        with _working(f"Diagnosing the runs of {place}"):
            parts[place.stem] = list(outcomes(load_labels(place), library))
    text = render_calibration(parts, library)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_whole(output, text)


@signatures_app.command("check")
def check_signatures(
    places: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIR]...", exists=True, help="Further signatures to check."),
    ] = None,
) -> None:
    """Check the signatures: form, names, detector parameters, and every embedded example."""
    from ftdoctor.library import load
    from ftdoctor.lint import lint
    from ftdoctor.selftest import failures

    library = load(tuple(places or ()), check_calls=True)
    wrong = lint(library) + failures(library)
    if wrong:
        raise SignatureError(tuple(wrong))
    count = sum(len(s.examples) for s in library.symptoms.values())
    count += sum(len(c.examples) for c in library.causes.values())
    typer.echo(
        f"{len(library.causes)} causes and {len(library.symptoms)} symptoms are in order; "
        f"{count} examples pass"
    )


@signatures_app.command("test")
def run_examples(
    places: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", exists=True, help="Your signature files or folders."),
    ],
) -> None:
    """Run the examples of your own signatures, and print the result of each.

    Exit status: 0 all hold, 2 one does not, or a signature is wrong.
    """
    from ftdoctor.library import load
    from ftdoctor.selftest import results

    packaged = load()
    library = load(tuple(places), check_calls=True)
    known = {item.file for item in packaged.items()}
    failed = 0
    for item in library.items():
        if item.file in known:
            continue
        if not item.examples:
            typer.echo(f"{item.id}: no examples")
        for index, problem in enumerate(results(library, item)):
            failed += bool(problem)
            typer.echo(f"{item.id}[{index}]: {problem or 'holds'}")
    raise typer.Exit(2 if failed else 0)


def _opened(written: Sequence[Path]) -> bool:
    """Show the page, or the one file of another format, in the browser; False if there is none."""
    import webbrowser

    from ftdoctor.limits import release_memory

    release_memory()  # a browser inherits the limit, and would not start below it
    shown = next((path for path in written if path.suffix == ".html"), written[0])
    try:
        return webbrowser.open(shown.resolve().as_uri())
    except (webbrowser.Error, OSError):  # what BROWSER names is no program
        return False


@contextlib.contextmanager
def _working(text: str) -> Iterator[None]:
    """Show a progress line on standard error while it lasts, if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
