"""Triage: diagnose many runs through any `concurrent.futures.Executor`, one record for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import Any

from ftdoctor.errors import FtdoctorError
from ftdoctor.fleet.guard import close_all, examine_guarded
from ftdoctor.fleet.record import FAILED, Ask, Limits, Place, Record

CONNECT = "10s"  # how long a scheduler may take to answer
WINDOW = 64  # runs handed to the executor at a time, so that neither side holds all of them


def triage(
    places: Iterable[Place],
    executor: Executor,
    ask: Ask | None = None,
    limits: Limits | None = None,
    *,
    known: Callable[[Place], str] = lambda _: "",
    window: int = WINDOW,
) -> Generator[Record, None, None]:
    """Yield one record per run, in the order in which they are done.

    `known` gives the input digest of a run's last record, "" if it is new. A run that fails, hangs
    or needs too much memory is a record with the reason; so is one whose worker was lost twice.
    """
    ask, limits = ask or Ask(), limits or Limits()
    waiting = iter(places)
    pending: dict[Future[Record], Place] = {}
    tried: set[Place] = set()

    def submit(place: Place) -> None:
        pending[executor.submit(examine_guarded, place, ask, limits, known(place))] = place

    try:
        while True:
            for place in islice(waiting, window - len(pending)):
                submit(place)
            if not pending:
                return
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                place = pending.pop(future)
                if _lost(future) and place not in tried:
                    # Dask may lose a result whose worker dies just after it: once more elsewhere.
                    tried.add(place)
                    submit(place)
                else:
                    yield _outcome(future, place)
    finally:
        for future in pending:
            future.cancel()


def _lost(future: Future[Record]) -> bool:
    return not future.cancelled() and isinstance(future.exception(), Exception)


def _outcome(future: Future[Record], place: Place) -> Record:
    try:
        return future.result()
    except Exception as error:  # the executor's own: worker killed, connection lost, cancelled
        reason = f"its worker was lost: {type(error).__name__}: {' '.join(str(error).split())}"
        return Record(place, FAILED, reason[:400], lasting=False)


@contextmanager
def local_pool(workers: int | None = None) -> Iterator[Executor]:
    """Give an executor whose threads each guard a process, by default one per core."""
    executor = ThreadPoolExecutor(workers or usable_cores(), thread_name_prefix="ftdoctor")
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        close_all()
        executor.shutdown(wait=True)


@contextmanager
def cluster_pool(address: str) -> Iterator[Executor]:
    """Give the executor of a running Dask cluster; FtdoctorError if it cannot be reached."""
    try:
        import distributed
    except ImportError:
        raise FtdoctorError(
            "--cluster needs Dask: `pip install 'ftdoctor-forensics[fleet]'`, here and on workers"
        ) from None
    try:
        connect: Any = distributed.Client
        client = connect(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise FtdoctorError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        executor: Executor = client.get_executor(pure=False)
        yield executor
        executor.shutdown(wait=False)


def usable_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
