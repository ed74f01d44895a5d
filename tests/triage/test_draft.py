"""Drafts of signatures: valid at once, resting on what the runs share and others lack."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ftdoctor.errors import FtdoctorError
from ftdoctor.fleet.draft import draft
from ftdoctor.library import load
from ftdoctor.lint import lint
from ftdoctor.model import Library
from ftdoctor.rank import NOTABLE_LEAK
from ftdoctor.selftest import results
from tests.triage.conftest import MakeRun

FAULT = (
    "step {n}\nINFO loading shard {n} of the data set\n"
    "RuntimeError: the frobnicator of node {n} is out of order in /data/{n}/x.bin\n"
)
HEALTHY = (
    "INFO loading shard 3 of the data set\n{'loss': 1.0, 'epoch': 0.1}\n"
    "Warning: the cache was not found\n"
)


def problems(library: Library, path: Path) -> list[str]:
    """Return what is wrong with the examples of one file."""
    own = [item for item in library.items() if item.file == str(path)]
    assert own
    return [problem for item in own for problem in results(library, item) if problem]


def test_a_shared_message_becomes_a_symptom_that_finds_further_runs(
    tmp_path: Path, make_run: MakeRun
) -> None:
    bad = [str(make_run(f"bad-{n}", log=FAULT.format(n=n))) for n in (3, 17, 40)]
    good = [str(make_run(f"good-{n}", log=HEALTHY)) for n in range(2)]
    made = draft(bad, good, "frobnicator-broken", load())
    path = tmp_path / "draft.yaml"
    path.write_text(made.text)
    library = load((path,), check_calls=True)
    assert problems(library, path) == []
    assert "frobnicator" in made.text
    assert "loading shard" not in made.text.partition("examples:")[0]

    from ftdoctor.diagnose import Options, diagnose

    options = Options(signatures=(path,))
    fresh = diagnose(make_run("bad-99", log=FAULT.format(n=99)), options)
    assert fresh.causes[0].id == "frobnicator-broken"
    assert all(c.id != "frobnicator-broken" for c in diagnose(good[0], options).causes)


def test_a_long_message_makes_a_title_that_the_check_accepts(
    tmp_path: Path, make_run: MakeRun
) -> None:
    log = f"step {{n}}\nRuntimeError: the frobnicator is {'very ' * 30}much out of order!\n"
    bad = [str(make_run(f"bad-{n}", log=log.format(n=n))) for n in range(2)]
    path = tmp_path / "draft.yaml"
    path.write_text(draft(bad, [], "frobnicator-broken", load()).text)
    library = load((path,), check_calls=True)
    assert [fault for fault in lint(library) if fault.startswith(str(path))] == []
    assert problems(library, path) == []


def test_what_healthy_runs_often_show_is_not_drafted_from_few(make_run: MakeRun) -> None:
    library = load()
    bad = [str(make_run(f"bad-{n}", log=FAULT.format(n=n))) for n in range(2)]
    shows = yaml.safe_load(draft(bad, [], "x", library).text.split("---")[1])["shows"]
    assert "x-message" in shows
    assert all(library.symptoms[s].leak <= NOTABLE_LEAK for s in shows if s != "x-message")


def test_shared_known_symptoms_alone_make_a_cause(tmp_path: Path, make_run: MakeRun) -> None:
    bad = [str(make_run(f"bad-{n}", dead=True)) for n in range(3)]
    good = [str(make_run(f"good-{n}")) for n in range(3)]
    made = draft(bad, good, "all-is-zero", load())
    path = tmp_path / "draft.yaml"
    path.write_text(made.text)
    library = load((path,), check_calls=True)
    assert "loss-collapse-to-zero" in library.causes["all-is-zero"].shows
    assert problems(library, path) == []


def test_the_command_takes_several_runs_after_from(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from ftdoctor.cli import app

    bad = [str(make_run(f"bad-{n}", log=FAULT.format(n=n))) for n in (3, 17)]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["signatures", "new", "--from", *bad, "--id", "frobnicator"])
    assert done.exit_code == 0, done.output
    assert "2 runs share" in done.output
    draft_file = tmp_path / "frobnicator.yaml"
    assert problems(load((draft_file,), check_calls=True), draft_file) == []


def test_runs_that_share_nothing_are_refused(make_run: MakeRun) -> None:
    runs = [str(make_run("a"))]
    with pytest.raises(FtdoctorError, match="in common"):
        draft(runs, [str(make_run("b"))], "nothing", load())


def test_a_name_that_exists_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(FtdoctorError, match="--id"):
        draft([str(make_run("a"))], [], "lr-too-high", load())
