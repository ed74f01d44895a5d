"""A run under guard: examined in a process of its own that may be killed without loss of others.

The same function serves a thread of this machine and a thread of a cluster's worker. Processes are
started by `subprocess`, because Dask's workers are daemons, which `multiprocessing` forbids
children, and because a spawned child would import the caller's main module.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ftdoctor.fleet.record import FAILED, Ask, Limits, Place, Record

POLL = 0.05  # seconds between looks at a child's memory
ONE_THREAD = dict.fromkeys(
    ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
     "RAYON_NUM_THREADS"),
    "1",
)  # fmt: skip
_own = threading.local()
_children: set[Child] = set()
_lock = threading.Lock()


def examine_guarded(place: Place, ask: Ask, limits: Limits, known: str = "") -> Record:
    """Examine a run in this thread's own process, within the limits; never raises for the run."""
    started = time.perf_counter()
    child = _child(limits.memory)
    try:
        answer = child.ask(
            {"place": asdict(place), "ask": asdict(ask), "limits": asdict(limits), "known": known},
            limits,
        )
    except ChildError as error:
        child.close()
        spent = time.perf_counter() - started
        return Record(place, FAILED, str(error), spent, lasting=error.lasting, limits=limits)
    if child.memory() > limits.memory // 2:
        child.close()  # what this run left behind must not count against the next
    answer["place"], answer["limits"] = place, limits
    return Record(**{**answer, "absent": tuple(answer["absent"])})


def close_all() -> None:
    """End the processes of this program's threads; runs being examined fail as lost."""
    with _lock:
        children = list(_children)
    for child in children:
        child.close()


class ChildError(Exception):
    """A child did not answer; `lasting` says whether it would not do so again."""

    def __init__(self, message: str, *, lasting: bool = True) -> None:
        super().__init__(message)
        self.lasting = lasting


class Child:
    """A process that examines runs, its answers read by a thread, its last words in a file."""

    def __init__(self, allowed: int = 0) -> None:
        import ftdoctor

        self.allowed = allowed  # bytes for one run; a process cannot raise its own limit
        self._words = tempfile.TemporaryFile()  # noqa: SIM115
        home = str(Path(ftdoctor.__file__).resolve().parents[1])
        paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
        # -P: modules that lie in the current folder, which may be a stranger's run, stay out.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ftdoctor.fleet.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its children
        )
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        assert self._process.stdout is not None
        reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        reader.start()
        self.closed = False

    def _read(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in stream:
                self._answers.put(line)
        self._answers.put(b"")

    def ask(self, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
        """Return the answer to a job; ChildError says why there is none."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        line = self._wait(limits)
        if not line.endswith(b"\n"):
            raise self._died()
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def _wait(self, limits: Limits) -> bytes:
        deadline = time.monotonic() + limits.seconds
        while True:
            try:
                return self._answers.get(timeout=POLL)
            except queue.Empty:
                pass
            if self.memory() > limits.memory:
                raise ChildError(f"needs more than {_size(limits.memory)} of memory (--run-memory)")
            if time.monotonic() > deadline:
                raise ChildError(f"took longer than {limits.seconds:g} s (--run-seconds)")

    def memory(self) -> int:
        """Return the bytes of memory that are the child's own, 0 where that cannot be seen."""
        try:
            with open(f"/proc/{self._process.pid}/status", encoding="ascii") as stream:
                line = next(line for line in stream if line.startswith("RssAnon:"))
            return int(line.split()[1]) * 1024
        except (OSError, StopIteration):
            return 0

    def _died(self) -> ChildError:
        if self.closed:
            return ChildError("stopped before it was done", lasting=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        said = self._last_words()
        if code == -signal.SIGABRT and self.allowed:
            # Native libraries abort where they get no memory, and cannot say so any more.
            how += f", as for want of memory above {_size(self.allowed)} (--run-memory)"
        return ChildError(f"its process ended by {how}" + (f": {said}" if said else ""))

    def _last_words(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            end = self._words.seek(0, os.SEEK_END)
            self._words.seek(max(0, end - 2000))
            lines = self._words.read().decode("utf-8", "replace").strip().splitlines()
            return lines[-1][:200] if lines else ""
        return ""

    def close(self) -> None:
        """Kill the process and free what it holds."""
        self.closed = True
        with _lock:
            _children.discard(self)
        with contextlib.suppress(OSError):
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()


def _child(allowed: int) -> Child:
    child: Child | None = getattr(_own, "child", None)
    if child is not None and child.allowed != allowed:
        child.close()
    if child is None or child.closed:
        child = Child(allowed)
        _own.child = child
        with _lock:
            _children.add(child)
    return child


def _size(count: int) -> str:
    return f"{count / (1 << 30):.3g} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.3g} MiB"


atexit.register(close_all)
