"""The second process: what a call gives is the same with it, without it, and when it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftdoctor import aside
from ftdoctor.aside import begin, second_process, while_waiting
from ftdoctor.diagnose import Options, diagnose
from ftdoctor.limits import SECOND_MEMORY, Deadline, TimeUpError
from ftdoctor.read import console

pytestmark = [
    pytest.mark.skipif(
        not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
        reason="no second core here",
    ),
    # Other tests have started threads in this process; the command has none yet when it forks.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
ROOT = Path(__file__).parents[1]
HERE = os.getpid()


def where(_: object = None) -> int:
    return os.getpid()


def refuses() -> None:
    raise ValueError(os.getpid())


def only_here() -> int:
    if os.getpid() != HERE:
        raise MemoryError
    return os.getpid()


def ends_there() -> int:
    if os.getpid() != HERE:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def hungry() -> int:
    return len(bytearray(SECOND_MEMORY + (64 << 20)))


def unsendable() -> object:
    return lambda: 0


def stalls() -> None:
    time.sleep(60)


@pytest.fixture
def second() -> Iterator[int]:
    with second_process():
        yield begin(where)()
    assert aside._open == []


def gone(pid: int) -> bool:
    """Say whether a process has ended and is no zombie of ours."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_calls_are_made_there_in_order_and_their_results_taken_in_any(second: int) -> None:
    assert second != HERE
    first, last = begin(abs, -1), begin(where, "x" * 300_000)
    assert (last(), first(), first()) == (second, 1, 1)


def test_chores_are_done_while_an_answer_is_waited_for_and_not_else(second: int) -> None:
    done: list[str] = []
    assert begin(where)() == second
    while_waiting(lambda: done.append("first"))
    while_waiting(refuses)
    while_waiting(lambda: done.append("last"))
    begin(time.sleep, 0.5)()
    assert done == ["first", "last"]
    quick = begin(abs, -1)
    time.sleep(0.2)
    while_waiting(lambda: done.append("needless"))
    assert quick() == 1
    assert done == ["first", "last"]


def test_without_a_second_process_there_is_no_waiting() -> None:
    while_waiting(refuses)
    assert begin(where)() == HERE


def test_without_a_second_process_the_call_is_made_here() -> None:
    assert begin(where)() == HERE


def test_one_core_has_no_second_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with second_process():
        assert begin(where)() == HERE


def test_no_second_process_where_none_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    files = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fork", full)
    with second_process():
        assert begin(where)() == HERE
    assert len(os.listdir("/proc/self/fd")) == files


def test_what_a_call_raises_is_raised_here(second: int) -> None:
    with pytest.raises(ValueError, match=str(HERE)):
        begin(refuses)()
    assert begin(where)() == second


@pytest.mark.parametrize("call", [only_here, unsendable, hungry])
def test_a_call_that_fails_there_is_made_here(second: int, call: object) -> None:
    assert begin(call)() is not None  # type: ignore[arg-type]
    assert begin(where)() == second  # and the process goes on


def test_a_process_that_was_killed_is_done_without(second: int) -> None:
    waiting = begin(ends_there), begin(where)
    assert [wait() for wait in waiting] == [HERE, HERE]
    assert begin(where)() == HERE
    assert gone(second)


def test_a_deadline_ends_a_call_that_stalls_and_the_process_with_it(second: int) -> None:
    stalled = begin(stalls)
    with pytest.raises(TimeUpError), Deadline.after(0.2).interrupting():
        stalled()
    assert gone(second)
    assert begin(where)() == HERE


def test_the_block_ends_a_process_that_stalls() -> None:
    started = time.monotonic()
    with second_process():
        pid = begin(where)()
        begin(stalls)
    assert gone(pid)
    assert time.monotonic() - started < 10


ENDLESS = """
import os, sys, time
from ftdoctor.aside import begin, second_process
with second_process():
    print(begin(os.getpid)(), flush=True)
    begin(time.sleep, 60)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_the_first_process_however_that_ends(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert gone(pid)
    assert told.count("Traceback") == (number == signal.SIGINT)  # the first one's own


# --- a diagnosis ------------------------------------------------------------------------------

KILLING = """
import os, signal, sys
from ftdoctor.cli import main
from ftdoctor.read import console
cores = int(sys.argv.pop(1))
os.sched_getaffinity = lambda _: set(range(cores))
read, first = console.read_console, os.getpid()
def read_console(source):
    if os.getpid() != first and sys.argv[-1] == "--quiet":
        os.kill(os.getpid(), signal.SIGKILL)
    return read(source)
console.read_console = read_console
main()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run whose log is long enough to be read aside, and gives a user's name away."""
    root = tmp_path_factory.mktemp("runs") / "run"
    root.mkdir()
    rows = (
        f"{{'loss': {2 - n / 40_000:.4f}, 'grad_norm': 0.5, 'learning_rate': 1e-05, "
        f"'epoch': {n / 10_000:.4f}}}\n"
        for n in range(1, 20_000)
    )
    (root / "train.log").write_text("saving to /home/friedhelm/out\n" + "".join(rows))
    (root / "notes.log").write_text("ERROR: friedhelm has no permission\n" * 3)
    (root / "config.yaml").write_text("learning_rate: 1e-5\nnum_train_epochs: 2\n")
    return root


def report(run: Path, place: Path, cores: int, *more: str) -> tuple[bytes, bytes]:
    done = subprocess.run(
        [sys.executable, "-c", KILLING, str(cores), "diagnose", str(run), "-o", str(place),
         "--format", "html,json", *more],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""
    written = json.loads((place.parent / f"{place.stem}.json").read_text())
    assert {a["path"]: a["state"] for a in written["artifacts"]}["train.log"] == "read"
    page = (place.parent / f"{place.stem}.html").read_bytes()
    return page, (place.parent / f"{place.stem}.json").read_bytes()


def test_reports_are_equal_to_the_byte(run: Path, tmp_path: Path) -> None:
    alone = report(run, tmp_path / "alone.html", 1)
    assert report(run, tmp_path / "two.html", 2) == alone
    assert report(run, tmp_path / "killed.html", 2, "--quiet") == alone
    assert b"friedhelm" not in alone[0] + alone[1]


def test_a_log_that_stalls_is_passed_over_and_the_rest_is_read(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "read_console", lambda _: time.sleep(60))
    with second_process():
        pid = begin(where)()
        found = diagnose(run, Options(deadline=Deadline.after(8)))
    states = {a.path: (a.state.value, a.reason) for a in found.artifacts}
    assert states["train.log"][1].startswith("not read: its share of the 8 s")
    assert states["config.yaml"] == ("read", "")
    assert gone(pid)


def test_copies_of_a_long_file_are_one(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("learning_rate: 1e-5\n")
    text = "".join(f"{{'loss': {2 - n / 40_000:.4f}, 'epoch': {n / 10_000:.4f}}}\n"
                   for n in range(1, 40_000))  # fmt: skip
    for name in ("b.log", "a.log"):
        (tmp_path / name).write_text(text)
    (tmp_path / "other.log").write_text(text.replace("2", "3"))
    with second_process():
        found = diagnose(tmp_path)
    states = {a.path: (a.state.value, a.taken) for a in found.artifacts}
    assert states["b.log"] == ("read", "same content as a.log")
    assert "metric rows" in states["a.log"][1]
    assert "metric rows" in states["other.log"][1]
