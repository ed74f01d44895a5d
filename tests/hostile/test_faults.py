"""Faults while working: the output is whole or absent, the message clear, nothing else lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ftdoctor.diagnose import diagnose
from ftdoctor.errors import FtdoctorError
from ftdoctor.model import ArtifactState
from ftdoctor.output import write_whole

ROOT = Path(__file__).parents[2]
CURVE = "".join(f'{{"step": {n}, "loss": {2 - n / 40}}}\n' for n in range(1, 31))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


def run_folder(root: Path) -> Path:
    root.mkdir(parents=True)
    (root / "metrics.jsonl").write_text(CURVE)
    return root


def start(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ftdoctor", *arguments], env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
    )  # fmt: skip


def small_files() -> None:
    """Let no file of the process grow beyond a page, as a full disk would."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


# --- the disk is full -------------------------------------------------------------------------


@posix
def test_a_full_disk_leaves_the_old_report_and_no_part_of_a_new_one(tmp_path: Path) -> None:
    run, output = run_folder(tmp_path / "run"), tmp_path / "out"
    output.mkdir()
    (output / "report.html").write_text("the old one")
    process = start(
        "diagnose", str(run), "-o", str(output / "report.html"), preexec_fn=small_files
    )  # fmt: skip
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "report.html could not be written: File too large" in err
    assert "choose another place with -o" in err
    assert "Traceback" not in err
    assert {p.name: p.read_text() for p in output.iterdir()} == {"report.html": "the old one"}


@pytest.mark.skipif(
    shutil.which("mount") is None or os.name != "posix" or os.geteuid() != 0, reason="needs root"
)
def test_a_full_file_system_is_named(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], capture_output=True,
        check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("this machine does not let its root mount")
    try:
        with pytest.raises(FtdoctorError, match="No space left on device; choose another place"):
            write_whole(small / "report.html", "x" * 100_000)
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@posix
def test_output_that_nobody_takes_is_no_traceback(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ftdoctor", "diagnose", str(run), "--json"], env=ENVIRONMENT,
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


# --- the run changes while it is read ---------------------------------------------------------


def test_a_run_that_vanishes_while_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftdoctor.read import items

    run = run_folder(tmp_path / "run")
    (run / "train.log").write_text("{'loss': 1.0, 'learning_rate': 1e-5, 'epoch': 0.1}\n" * 9)
    (run / "config.yaml").write_text("learning_rate: 1e-4\nnum_train_epochs: 3\n")
    read_one = items.read_one

    def vanishing(found: Any, *begun: Any) -> Any:
        if found.source.path == "metrics.jsonl":
            shutil.rmtree(run)
        return read_one(found, *begun)

    monkeypatch.setattr(items, "read_one", vanishing)
    states = {a.path: a for a in diagnose(run).artifacts}
    assert states["config.yaml"].state is ArtifactState.READ
    for name in ("metrics.jsonl", "train.log"):
        assert states[name].state is ArtifactState.DAMAGED
        assert "No such file" in states[name].reason


def test_a_log_that_is_written_and_cut_while_read(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    log = run / "train.log"
    line = "{'loss': 1.0, 'learning_rate': 1e-5, 'epoch': 0.1}\n"
    log.write_text(line * 20_000)
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            with log.open("a") as stream:
                stream.write(line * 500)
            os.truncate(log, 100_000)

    writer = threading.Thread(target=change)
    writer.start()
    try:
        for _ in range(5):
            states = {a.path: a.state for a in diagnose(run).artifacts}
            assert states["metrics.jsonl"] is ArtifactState.READ
            assert states["train.log"] in (ArtifactState.READ, ArtifactState.PARTIAL)
    finally:
        done.set()
        writer.join()


def test_weights_that_shrink_while_read_are_damaged(tmp_path: Path) -> None:
    import struct

    from ftdoctor.kinds import Found, classify
    from ftdoctor.read.items import read_one
    from ftdoctor.read.source import local_source

    header = json.dumps(
        {"a": {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 4 << 20]}}
    ).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * (4 << 20))
    source = local_source(tmp_path, path)
    found = Found(source, classify(source))
    os.truncate(path, 2 << 20)
    reading = read_one(found)
    assert reading.state is ArtifactState.DAMAGED
    assert "shorter while it was read" in reading.reason


# --- permission -------------------------------------------------------------------------------


AS_NOBODY = """
import json, os, sys
from ftdoctor.diagnose import diagnose
diagnose(sys.argv[1])  # imports what is imported late, while it may
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(json.dumps(diagnose(sys.argv[2]).to_json()))
"""


@posix
def test_parts_without_permission_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if os.stat(folder).st_uid == os.geteuid():
            folder.chmod(0o755)
    run = run_folder(tmp_path / "run")
    (run / "train.log").write_text("{'loss': 1.0}\n")
    (run / "train.log").chmod(0)
    (run / "checkpoint-1").mkdir()
    (run / "checkpoint-1" / "trainer_state.json").write_text("{}")
    (run / "checkpoint-1").chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(run_folder(tmp_path / "warm")), str(run)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    (run / "checkpoint-1").chmod(0o755)
    assert done.returncode == 0, done.stderr
    reasons = {a["path"]: a.get("reason", "") for a in json.loads(done.stdout)["artifacts"]}
    assert "no permission to read" in reasons["train.log"]
    assert "no permission to list" in reasons["checkpoint-1"]
    assert reasons["metrics.jsonl"] == ""


# --- two at once, and the end of a process ----------------------------------------------------


def test_two_processes_on_one_report_leave_one_whole_report(tmp_path: Path) -> None:
    run, output = run_folder(tmp_path / "run"), tmp_path / "out"
    output.mkdir()
    both = [start("diagnose", str(run), "-o", str(output / "r.html")) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    [written] = output.iterdir()
    assert written.name == "r.html"
    assert written.read_text().rstrip().endswith("</html>")


@posix
def test_kill_9_while_reporting_leaves_no_half_report(tmp_path: Path) -> None:
    """Killed at any moment, what has the report's name is whole."""
    run, output = run_folder(tmp_path / "run"), tmp_path / "out"
    output.mkdir()
    code = (
        "import os, signal, sys\nfrom ftdoctor import output\n"
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from ftdoctor.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "diagnose", str(run), "-o", str(output / "r.html")],
        env=ENVIRONMENT, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert not (output / "r.html").exists()


@posix
def test_kill_9_in_a_triage_loses_nothing_that_was_done(tmp_path: Path) -> None:
    runs, output = tmp_path / "runs", tmp_path / "out"
    for number in range(12):
        run_folder(runs / f"run-{number}")
    process = start(
        "triage", str(runs), "-o", str(output), "--workers", "1", "-q", start_new_session=True
    )  # fmt: skip
    log = output / "ftdoctor-triage.jsonl"
    end = time.monotonic() + 60
    while time.monotonic() < end and not (log.exists() and log.read_bytes().count(b"\n") >= 2):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    kept = [line for line in log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    assert len(kept) >= 2
    assert all(json.loads(line) for line in kept)
    again = start("triage", str(runs), "-o", str(output), "--workers", "1", "--json")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert len(log.read_bytes().splitlines()) == 12
    assert log.read_bytes().startswith(kept[0])
    assert (output / "ftdoctor-triage.html").read_text().rstrip().endswith("</html>")
    assert [p.name for p in output.iterdir() if p.name.endswith((".part", ".tmp"))] == []
    assert out.strip()
