"""Every run becomes a record, whatever it does: local processes, and a real Dask cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from ftdoctor.fleet.examine import examine
from ftdoctor.fleet.find import find_runs
from ftdoctor.fleet.guard import Child, ChildError, close_all
from ftdoctor.fleet.record import Ask, Limits, Place, Record
from ftdoctor.triage import cluster_pool, local_pool, triage
from tests.triage.conftest import MakeRun


def records(places: list[Place], executor: Executor, **more: Any) -> dict[str, Record]:
    return {r.place.path.rpartition("/")[2]: r for r in triage(places, executor, **more)}


# --- a process of its own for each run ----------------------------------------------------------


def hang(place: Place, limits: Limits) -> ChildError:
    """Return what is told of a child that is stopped before it answers."""
    child = Child()
    try:
        os.kill(child._process.pid, signal.SIGSTOP)
        with pytest.raises(ChildError) as caught:
            child.ask({"limits": {"seconds": 1, "memory": 1}}, limits)
        return caught.value
    finally:
        child.close()


def test_a_hanging_child_is_given_up_after_its_time() -> None:
    started = time.monotonic()
    error = hang(Place("x"), Limits(seconds=0.5))
    assert "longer than 0.5 s" in str(error)
    assert error.lasting
    assert time.monotonic() - started < 10


def test_a_killed_child_names_the_signal() -> None:
    child = Child()
    threading.Timer(0.3, os.kill, (child._process.pid, signal.SIGKILL)).start()
    os.kill(child._process.pid, signal.SIGSTOP)
    with pytest.raises(ChildError, match="signal 9"):
        child.ask({}, Limits(seconds=30))
    child.close()


def test_too_much_memory_is_a_row_and_the_rest_goes_on(make_run: MakeRun) -> None:
    places = list(find_runs([str(make_run(f"r{i}")) for i in range(2)]))
    with local_pool(1) as executor:
        tight = records(places[:1], executor, limits=Limits(memory=20 << 20))
        assert tight["r0"].kind == "failed"
        assert "memory" in tight["r0"].reason
        # In the same thread, after a run of another limit: a process cannot give itself more.
        assert records(places, executor)["r1"].kind == "healthy"
        again = records(places[:1], executor, limits=Limits(memory=20 << 20))
        assert "memory" in again["r0"].reason


def hanging(folder: Path) -> Place:
    """Return a log that hangs its reader, as a dead network drive does: a pipe without a writer."""
    os.mkfifo(folder / "hanging.log")
    return Place(str(folder / "hanging.log"))


def test_a_run_that_hangs_is_a_row_and_nothing_else_is_lost(
    make_run: MakeRun, tmp_path: Path
) -> None:
    places = list(find_runs([str(make_run(f"r{i}")) for i in range(3)]))
    with local_pool(2) as executor:
        found = records([hanging(tmp_path), *places], executor, limits=Limits(seconds=8))
    assert found["hanging.log"].kind == "failed"
    assert "longer than 8 s" in found["hanging.log"].reason
    assert {found[f"r{i}"].kind for i in range(3)} == {"healthy"}


def test_what_is_no_run_is_unreadable_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with local_pool(1) as executor:
        found = records([Place(str(tmp_path / "empty")), Place(str(tmp_path / "gone"))], executor)
    assert found["empty"].kind == found["gone"].kind == "unreadable"
    assert "no such file" in found["gone"].reason


def test_a_touched_run_is_known_by_its_content(make_run: MakeRun) -> None:
    folder = make_run("a", log="{'loss': 1.0}\n")
    (folder / ".git").mkdir()  # passed over, and part of the digest
    [place] = find_runs([str(folder)])
    first = examine(place, Ask())
    assert examine(place, Ask(), first.input_digest).reuse
    (folder / "train.log").write_text("{'loss': 2.0}\n")
    assert not examine(place, Ask(), first.input_digest).reuse


def test_a_remote_prefix_is_diagnosed_through_fsspec(make_run: MakeRun) -> None:
    pytest.importorskip("fsspec")
    roots = [f"file://{make_run('a').parent}"]
    make_run("b")
    places = list(find_runs(roots))
    assert all(place.path.startswith("file://") for place in places)
    with local_pool(1) as executor:
        found = records(places, executor)
    assert {name: r.kind for name, r in found.items()} == {"a": "healthy", "b": "healthy"}


def test_a_worker_with_other_signatures_refuses(make_run: MakeRun) -> None:
    place = Place(str(make_run("a")))
    with local_pool(1) as executor:
        [record] = triage([place], executor, Ask(digest="0" * 64))
    assert "other signatures" in record.reason
    assert not record.lasting


class Broken(Executor):
    """An executor whose workers are lost."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(RuntimeError("KilledWorker"))
        return future


def test_a_lost_worker_is_a_row_that_may_be_tried_again() -> None:
    [record] = triage([Place("x")], Broken())
    assert "KilledWorker" in record.reason
    assert not record.lasting


def test_no_more_is_handed_out_than_the_window() -> None:
    class Counting(Executor):
        handed: list[Future[Any]] = []  # noqa: RUF012

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            self.handed.append(future)
            return future

    pool = Counting()

    def feed() -> None:
        while len(pool.handed) < 3:
            time.sleep(0.01)
        pool.handed[0].set_result(Record(Place("a"), "healthy"))

    threading.Thread(target=feed, daemon=True).start()
    results = triage([Place(str(i)) for i in range(100)], pool, window=3)
    next(results)
    assert len(pool.handed) == 3
    results.close()
    assert all(f.cancelled() for f in pool.handed[1:])


def test_records_carry_what_a_fleet_needs(make_run: MakeRun) -> None:
    with local_pool(1) as executor:
        [record] = triage([Place(str(make_run("a", dead=True)))], executor)
    from ftdoctor.model import Diagnosis

    diagnosis = Diagnosis.from_json(record.to_json())
    assert diagnosis.findings
    assert all(f.state == "present" for f in diagnosis.findings)
    assert record.absent
    assert Record.from_json(record.to_json()).place == record.place


# --- Dask ---------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path, environment: dict[str, str]) -> Iterator[tuple[str, list[Any]]]:
    """Start a scheduler and two workers on loopback; yield its address and the workers."""
    pytest.importorskip("distributed")
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    place = address.removeprefix("tcp://")
    host, _, port = place.partition(":")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"dask-{len(started)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            env=environment, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    start("scheduler", "--host", host, "--port", port, "--no-dashboard")
    workers = [
        start("worker", address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard",
              "--host", host, "--local-directory", str(tmp_path / f"w{i}"))
        for i in range(2)
    ]  # fmt: skip
    try:
        _wait_for(address, 2)
        yield address, workers
    finally:
        for process in reversed(started):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _wait_for(address: str, workers: int) -> None:
    from distributed import Client

    with Client(address, timeout="60s", set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=60)


def test_dask_workers_do_the_runs_even_if_one_is_killed(
    cluster: tuple[str, list[Any]], make_run: MakeRun
) -> None:
    address, workers = cluster
    places = list(find_runs([str(make_run(f"r{i}", dead=i == 0)) for i in range(8)]))
    done: dict[str, Record] = {}
    with cluster_pool(address) as executor:
        for record in triage(places, executor, limits=Limits(seconds=60)):
            if not done:
                os.killpg(workers[0].pid, signal.SIGKILL)
            done[record.place.id] = record
    assert len(done) == len(places)
    assert [r.reason for r in done.values() if r.kind == "failed"] == []
    close_all()


def test_dask_keeps_going_past_a_run_that_hangs_or_needs_too_much(
    cluster: tuple[str, list[Any]], make_run: MakeRun, tmp_path: Path
) -> None:
    places = list(find_runs([str(make_run(f"r{i}")) for i in range(2)]))
    with cluster_pool(cluster[0]) as executor:
        found = records([hanging(tmp_path), *places], executor, limits=Limits(seconds=10))
        tight = records(places[:1], executor, limits=Limits(memory=20 << 20))
    assert "longer than 10 s" in found["hanging.log"].reason
    assert {found["r0"].kind, found["r1"].kind} == {"healthy"}
    assert "memory" in tight["r0"].reason


def test_no_scheduler_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("ftdoctor.triage.CONNECT", "1s")
    from ftdoctor.errors import FtdoctorError

    with pytest.raises(FtdoctorError, match="no Dask scheduler"), cluster_pool("tcp://127.0.0.1:9"):
        pass
