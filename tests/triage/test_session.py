"""The command `triage`: what it writes, goes on with, repeats, and how it ends."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ftdoctor.errors import FtdoctorError
from ftdoctor.fleet.record import Place, Record
from ftdoctor.fleet.store import LOG, Store
from tests.triage.conftest import MakeRun, write_state

ERROR = "step 1\nRuntimeError: the frobnicator of node 17 is out of order\n"


def command(
    environment: dict[str, str], *arguments: object, expect: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "ftdoctor", *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == expect, done.stderr + done.stdout
    return done


def summary(environment: dict[str, str], *arguments: object, expect: int = 0) -> dict[str, Any]:
    made = json.loads(command(environment, "triage", "--json", *arguments, expect=expect).stdout)
    assert isinstance(made, dict)
    return made


def test_first_pass_repeat_change_and_new(
    tmp_path: Path, make_run: MakeRun, environment: dict[str, str]
) -> None:
    runs = [make_run(f"r{i}", dead=i == 0) for i in range(3)]
    root, out = tmp_path / "runs", tmp_path / "out"
    first = summary(environment, root, "-o", out)
    assert (first["runs"], first["diagnosed"], first["unchanged"]) == (3, 3, 0)
    assert first["failed"] == 1
    assert first["healthy"] == 2

    rows = list(csv.DictReader((out / "ftdoctor-triage.csv").open()))
    assert [row["run"] for row in rows] == ["r0", "r1", "r2"]
    assert rows[0]["kind"] in ("cause", "unknown")
    import polars as pl

    assert pl.read_parquet(out / "ftdoctor-triage.parquet").height == 3
    page = (out / "ftdoctor-triage.html").read_text()
    assert "<script" not in page
    assert "1 of 3 runs failed" in page
    log = (out / LOG).read_text()

    again = summary(environment, root, "-o", out)
    assert (again["diagnosed"], again["unchanged"]) == (0, 3)
    assert (out / LOG).read_text() == log

    write_state(runs[1], [2.0, *[0.0] * 40])
    make_run("r3")
    os.utime(runs[2] / "trainer_state.json", (1, 1))  # touched, not changed
    third = summary(environment, root, "-o", out)
    assert (third["runs"], third["diagnosed"], third["unchanged"]) == (4, 3, 1)
    lines = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    assert len(lines) == 4
    assert summary(environment, root, "-o", out)["unchanged"] == 4


def test_other_signatures_diagnose_anew(
    tmp_path: Path, make_run: MakeRun, environment: dict[str, str]
) -> None:
    make_run("a", log=ERROR)
    extra = tmp_path / "own.yaml"
    extra.write_text(
        'symptom: frobnicator-broken\ntitle: "x"\ndetect: log.matches\n'
        "with: {patterns: [frobnicator]}\nleak: 0.001\n---\n"
        "cause: frobnicator\ntitle: The frobnicator broke\nstage: infrastructure\n"
        "severity: critical\nprior: 0.01\nshows: {frobnicator-broken: 0.95}\n"
        "mechanism: x\nfix: Repair it.\n"
    )
    root, out = tmp_path / "runs", tmp_path / "out"
    assert summary(environment, root, "-o", out)["diagnosed"] == 1
    made = summary(environment, root, "-o", out, "--signatures", extra, "--fail-on", "critical",
                   expect=1)  # fmt: skip
    assert made["diagnosed"] == 1
    assert made["clusters"][0]["cause"] == "frobnicator"
    quiet = command(environment, "triage", root, "-o", out, "--signatures", extra, "-q")
    assert quiet.stdout == quiet.stderr == ""


def test_fail_on_looks_at_severity(
    tmp_path: Path, make_run: MakeRun, environment: dict[str, str]
) -> None:
    run = make_run("healthy")
    for least in ("critical", "medium"):
        command(environment, "triage", run, "-o", tmp_path, "--fail-on", least)
        command(environment, "diagnose", run, "-o", tmp_path, "-q", "--fail-on", least)


def test_reports_are_linked(tmp_path: Path, make_run: MakeRun, environment: dict[str, str]) -> None:
    make_run("bad", dead=True, log=ERROR)
    command(environment, "triage", tmp_path / "runs", "-o", tmp_path / "out")
    made = summary(environment, tmp_path / "runs", "-o", tmp_path / "out", "--reports")
    assert made["diagnosed"] == 1
    [report] = (tmp_path / "out" / "ftdoctor-reports").iterdir()
    assert (
        f'href="ftdoctor-reports/{report.name}"'
        in (tmp_path / "out" / "ftdoctor-triage.html").read_text()
    )
    assert (
        summary(environment, tmp_path / "runs", "-o", tmp_path / "out", "--reports")["unchanged"]
        == 1
    )


def test_nothing_readable_exits_with_3(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "none-yet.txt").write_text("# failed jobs\n")
    none = summary(environment, f"@{tmp_path / 'none-yet.txt'}", "-o", tmp_path / "none")
    assert none["runs"] == 0
    (tmp_path / "empty").mkdir()
    made = summary(environment, tmp_path / "empty", "-o", tmp_path, expect=3)
    assert made["not_diagnosed"] == 1


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_triage_keeps_what_is_done_and_goes_on(
    tmp_path: Path, make_run: MakeRun, environment: dict[str, str], sign: signal.Signals
) -> None:
    for index in range(40):
        make_run(f"r{index}")
    root, out = tmp_path / "runs", tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "ftdoctor", "triage", str(root), "-o", str(out), "--workers", "1"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    log = out / LOG
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(sign)
    told, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    done = len(log.read_text().splitlines())
    assert 1 <= done < 40
    assert "Interrupted" in told
    assert "Not finished" in (out / "ftdoctor-triage.html").read_text()
    assert len(list(csv.DictReader((out / "ftdoctor-triage.csv").open()))) == done
    made = summary(environment, root, "-o", out)
    assert (made["diagnosed"], made["unchanged"]) == (40 - done, done)


def test_watch_does_it_again(
    tmp_path: Path, make_run: MakeRun, environment: dict[str, str]
) -> None:
    make_run("a")
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "ftdoctor", "triage", str(tmp_path / "runs"), "-o", str(out),
         "--json", "--watch", "0.2s"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["runs"] == 1
    make_run("b")
    seen = 1
    for _ in range(50):
        seen = json.loads(process.stdout.readline())["runs"]
        if seen == 2:
            break
    assert seen == 2
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode in (0, 130)


def paths(store: Store) -> list[str]:
    return [kept.row.path for kept in store.kept.values()]


def test_a_line_that_a_crash_cut_is_dropped(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add(Record(Place("/a", stamp="1"), "healthy"))
    whole = (tmp_path / LOG).read_bytes()
    (tmp_path / LOG).write_bytes(whole + whole[:40])
    with Store(tmp_path) as store:
        assert paths(store) == ["/a"]
        store.add(Record(Place("/b", stamp="1"), "healthy"))
    with Store(tmp_path) as store:
        assert paths(store) == ["/a", "/b"]
        store.settle([Place("/b").id])
        assert paths(store) == ["/b"]


def test_a_second_triage_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(FtdoctorError, match="another triage"):
        Store(tmp_path)


def test_a_key_in_a_path_is_written_nowhere_and_the_run_is_known_again(
    tmp_path: Path, make_run: MakeRun, environment: dict[str, str]
) -> None:
    key = "hf_" + "Ab1" * 10
    make_run(f"one-{key}")
    make_run(f"one-{key[:-1]}9", dead=True)  # the same name once the key is taken out
    for stream, text in (("out", "{'loss': 1.0}\n{'loss': 0.9}\n"), ("err", "a warning\n")):
        for job in (key, "job-17"):
            (tmp_path / "runs" / "logs").mkdir(exist_ok=True)
            (tmp_path / "runs" / "logs" / f"{job}.{stream}").write_text(text)
    root, out = tmp_path / "runs", tmp_path / "out"
    assert summary(environment, root, "-o", out, "--reports")["runs"] == 4
    for path in out.rglob("*"):
        assert key[:-1] not in path.name
        assert path.is_dir() or key[:-1].encode() not in path.read_bytes(), path
    again = summary(environment, root, "-o", out, "--reports")
    assert (again["diagnosed"], again["unchanged"]) == (0, 4)


def test_a_name_that_is_no_text_is_a_row(
    tmp_path: Path, make_run: MakeRun, environment: dict[str, str]
) -> None:
    run = os.fsencode(make_run("a", log=ERROR))
    try:
        os.rename(run, run + b"-\xff")
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    os.rename(run + b"-\xff/train.log", run + b"-\xff/train-\xfe.log")
    root, out = tmp_path / "runs", tmp_path / "out"
    assert summary(environment, root, "-o", out, "--reports")["runs"] == 1
    [row] = csv.DictReader((out / "ftdoctor-triage.csv").open(encoding="utf-8"))
    assert row["run"] == r"a-\udcff"
    assert summary(environment, root, "-o", out, "--reports")["unchanged"] == 1


def test_a_name_that_a_spreadsheet_would_run_is_text(
    tmp_path: Path, make_run: MakeRun, environment: dict[str, str]
) -> None:
    for name in ("=cmd|' /C calc'!A0", "@SUM(1)", "-2+3", "+1", "plain"):
        make_run(name)
    command(environment, "triage", tmp_path / "runs", "-o", tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "ftdoctor-triage.csv").open()))
    assert len(rows) == 5
    assert not [value for row in rows for value in row.values() if value[:1] in tuple("=+-@\t\r")]
