"""Time and memory of a diagnosis hold, and what they keep from being read is not called healthy."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftdoctor.detect.engine import MORE_TIME
from ftdoctor.diagnose import Options, diagnose
from ftdoctor.errors import UnreadableRunError
from ftdoctor.limits import AGAIN, Deadline, TimeUpError, every_limit, render_limits

ROOT = Path(__file__).parents[2]
CURVE = "".join(f'{{"step": {n}, "loss": {2 - n / 40}}}\n' for n in range(1, 31))


def run_folder(root: Path) -> Path:
    root.mkdir()
    (root / "metrics.jsonl").write_text(CURVE)
    return root


def command(
    *arguments: str, kilobytes: int = 0, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run ftdoctor, under `ulimit -v` if an amount is given."""
    shell = f'ulimit -v {kilobytes}; exec "$@"' if kilobytes else 'exec "$@"'
    return subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-m", "ftdoctor", *arguments],
        capture_output=True, text=True, timeout=seconds, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def states(diagnosis: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {a["path"]: (a["state"], a.get("reason", "")) for a in diagnosis["artifacts"]}


# --- memory -----------------------------------------------------------------------------------


def empty_objects(root: Path) -> None:
    (root / "trainer_state.json").write_text(
        '{"global_step": 5, "log_history": [' + ",".join(["{}"] * 9_000_000) + "]}"
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA is Linux's")
def test_memory_holds_under_ulimit(tmp_path: Path) -> None:
    root = run_folder(tmp_path / "run")
    empty_objects(root)
    # Polars, SciPy and matplotlib reserve some 1.4 GB of addresses that are no memory.
    done = command(
        "diagnose", str(root), "--json", "--max-memory", "400MiB", kilobytes=2_000_000
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    diagnosis = json.loads(done.stdout)
    state, reason = states(diagnosis)["trainer_state.json"]
    assert (state, "--max-memory" in reason) == ("skipped", True)
    assert states(diagnosis)["metrics.jsonl"][0] == "read"
    assert diagnosis["verdict"]["kind"] == "unknown"
    assert "until a limit was reached" in diagnosis["verdict"]["text"]


# --- time -------------------------------------------------------------------------------------


def test_a_deadline_interrupts_and_never_within_an_import() -> None:
    started = time.monotonic()
    with pytest.raises(TimeUpError), Deadline.after(0.2).interrupting():
        time.sleep(10)
    assert time.monotonic() - started < 5
    with Deadline.after(None).interrupting():
        pass
    with pytest.raises(TimeUpError), Deadline.after(0).interrupting():
        pass


def test_an_import_is_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.5)\nDONE = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TimeUpError):  # noqa: PT012, SIM117
        with Deadline.after(0.1).interrupting():
            import slow_to_import  # type: ignore[import-not-found]

            time.sleep(10 * AGAIN)
    assert slow_to_import.DONE


def test_what_was_not_read_in_time_is_not_called_healthy(tmp_path: Path) -> None:
    root = run_folder(tmp_path / "run")
    whole = diagnose(root)
    assert whole.verdict.kind == "healthy"
    late = Deadline(time.monotonic() - 1, 5.0)
    with pytest.raises(UnreadableRunError, match="5 s"):
        diagnose(root, Options(deadline=late))


def test_checks_that_were_not_made_in_time_are_unobservable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftdoctor.diagnose import diagnose_run, gather
    from ftdoctor.library import load

    library = load()
    run = gather(run_folder(tmp_path / "run"), Options(), library)
    found = diagnose_run(run, library, Deadline(time.monotonic() - 1, 5.0))
    assert all(f.state.value == "unobservable" for f in found.findings)
    assert any(MORE_TIME in f.missing for f in found.findings)
    assert found.verdict.kind == "unknown"


@pytest.fixture
def stalling() -> Iterator[str]:
    """Serve, on loopback, a listing and then nothing: connections stay open without an answer."""
    pytest.importorskip("aiohttp")
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            held.append(connection)

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/runs/one"
    listener.close()
    for connection in held:
        connection.close()


def test_storage_that_stalls_ends_at_the_time_limit(stalling: str) -> None:
    started = time.monotonic()
    done = command("diagnose", stalling, "--timeout", "3s", seconds=40)
    assert time.monotonic() - started < 30
    assert done.returncode == 3
    assert "within 3 s" in done.stderr or "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_file_that_stalls_is_passed_over_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file becomes a FIFO after it was listed: opening it waits for ever."""
    from ftdoctor.read import items

    root = run_folder(tmp_path / "run")
    stalled = root / "a.log"
    stalled.write_text("{'loss': 1.0, 'learning_rate': 1e-5}\n" * 9)
    digest = items._digest

    def swapping(source: Any) -> str:
        if source.path == "a.log":
            stalled.unlink()
            os.mkfifo(stalled)
        return digest(source)

    monkeypatch.setattr(items, "_digest", swapping)
    found = diagnose(root, Options(deadline=Deadline.after(8)))
    by_path = {a.path: a for a in found.artifacts}
    assert by_path["a.log"].reason.startswith("not read: its share of the 8 s")
    assert by_path["metrics.jsonl"].state.value == "read"
    assert found.verdict.kind == "unknown"


def test_rows_that_cannot_be_judged_in_time_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftdoctor.read import assemble

    root = run_folder(tmp_path / "run")
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (root / "train.jsonl").write_text((json.dumps(row) + "\n") * 30)
    monkeypatch.setattr(assemble, "derive", lambda _: time.sleep(60))
    found = diagnose(root, Options(deadline=Deadline.after(4)))
    by_path = {a.path: a for a in found.artifacts}
    assert by_path["train.jsonl"].state.value == "partial"
    assert "judging rows took all of 4 s" in by_path["train.jsonl"].reason
    assert by_path["metrics.jsonl"].state.value == "read"
    assert found.verdict.kind == "unknown"


def test_show_and_compare_take_the_limits(tmp_path: Path) -> None:
    root = run_folder(tmp_path / "run")
    shown = command("show", str(root), "--json", "--timeout", "60s", "--max-memory", "1GiB")
    assert shown.returncode == 0, shown.stderr
    compared = command("compare", str(root), str(root), "--json", "--timeout", "60s")
    assert compared.returncode == 0, compared.stderr
    for arguments in (("show", str(root)), ("compare", str(root), str(root))):
        late = command(*arguments, "--timeout", "0.001s")
        assert late.returncode == 3
        assert "--timeout" in late.stderr


# --- the list ---------------------------------------------------------------------------------


def test_every_limit_says_what_it_bounds() -> None:
    assert [limit.name for limit in every_limit() if len(limit.what) < 4] == []
    assert len(every_limit()) > 50


def test_the_page_of_limits_is_current() -> None:
    page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    assert page.partition("\n\n|")[2] == render_limits().removeprefix("|") + "\n"


def test_the_limits_are_listed_by_a_command_and_named_in_help() -> None:
    assert command("limits").stdout.strip() == render_limits()
    shown = re.sub(r"\s+", " ", command("diagnose", "--help").stdout)
    for word in ("--timeout", "--max-memory", "ftdoctor limits"):
        assert word in shown


@pytest.mark.parametrize(
    "option",
    [
        ("--timeout", "soon"),
        ("--max-memory", "much"),
        ("--timeout", "-1"),
        ("--max-memory", "9MiB"),
    ],
)
def test_wrong_amounts_are_refused(option: tuple[str, str], tmp_path: Path) -> None:
    done = command("diagnose", str(run_folder(tmp_path / "run")), *option)
    assert done.returncode == 2
