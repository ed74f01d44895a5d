"""What one diagnosis may use, its time and its memory, and the list of all limits on its input."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType

SECONDS = 300.0  # of a diagnosis, unless told otherwise
MEMORY = 2 << 30  # bytes that a diagnosis may allocate, unless told otherwise
SECOND_MEMORY = 256 << 20  # bytes besides, of the second process that `aside` may start
LEAST_MEMORY = 400 << 20  # what the libraries take for themselves, measured
READING_SHARE = 0.6  # of the time; the rest is for putting together and checking what was read
ASSEMBLY_SHARE = 0.2  # of the time, for judging data rows and templates; the rest is for checking
AGAIN = 0.1  # seconds after which an interruption is repeated that came to nothing


class TimeUpError(BaseException):
    """The time is over. No `Exception`: handlers of bad input must not take it for such."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment, by `time.monotonic`, beyond which work is given up; `seconds` was asked for."""

    moment: float
    seconds: float

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """Return the deadline so many seconds from now; None is never."""
        told = float("inf") if seconds is None else seconds
        return cls(time.monotonic() + told, told)

    def earlier(self, share: float) -> Deadline:
        """Return the deadline of a part of the work: so much of the time that was asked for."""
        if self.seconds == float("inf"):
            return self
        return Deadline(self.moment - (1 - share) * self.seconds, self.seconds)

    def later(self, share: float) -> Deadline:
        """Return the deadline of the part that follows: so much more of the time asked for."""
        if self.seconds == float("inf"):
            return self
        return Deadline(self.moment + share * self.seconds, self.seconds)

    def half(self) -> Deadline:
        """Return the deadline of one file: half of what is left, so that others have time too."""
        now = time.monotonic()
        return Deadline(now + (self.moment - now) / 2, self.seconds)

    @property
    def over(self) -> bool:
        """Say whether it has passed."""
        return time.monotonic() >= self.moment

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raise TimeUpError inside the block when the moment comes.

        A read that stalls is interrupted too. Outside the main thread, and where there is no timer
        (Windows), only what looks at `over` notices.
        """
        if self.over:
            raise TimeUpError
        main = threading.current_thread() is threading.main_thread()
        if self.moment == float("inf") or not main or not hasattr(signal, "setitimer"):
            yield
            return
        before = signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, max(1e-3, self.moment - time.monotonic()), AGAIN)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


NEVER = Deadline(float("inf"), float("inf"))


def _ring(_: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return  # a module left half imported would break what comes after; it rings again
        frame = frame.f_back
    raise TimeUpError


def limit_memory(limit: int) -> None:
    """Let allocation fail beyond so many bytes more than now; mapped files do not count (Linux)."""
    with contextlib.suppress(ImportError, OSError, ValueError, StopIteration):
        import resource

        with open("/proc/self/status", encoding="ascii") as stream:
            data = next(line for line in stream if line.startswith("VmData:"))
        most = int(data.split()[1]) * 1024 + limit
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def release_memory() -> None:
    """Lift the limit of `limit_memory`, which a program that is started would inherit."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


# --- the list ---------------------------------------------------------------------------------

CONSTANT = re.compile(
    r"^((?:[A-Z]+_)*(?:LIMIT|MAX_[A-Z]+|BUDGET))(?:: int)? = .*?(?:  # (.*))?$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit by its place (`read.gguf.PAIR_LIMIT`), its value, and what it bounds."""

    name: str
    value: int
    what: str


def every_limit() -> list[Limit]:
    """Return the limits on foreign input, each with the words beside it in the code."""
    home = Path(__file__).parent
    files = [home / "discover.py", home / "places.py", home / "kinds.py"]
    found = []
    for file in [*files, *sorted((home / "read").glob("*.py"))]:
        place = file.relative_to(home).with_suffix("").as_posix().replace("/", ".")
        for match in CONSTANT.finditer(file.read_text(encoding="utf-8")):
            value = getattr(import_module(f"ftdoctor.{place}"), match[1])
            found.append(Limit(f"{place}.{match[1]}", value, match[2] or ""))
    return found


def render_limits() -> str:
    """Return the list as Markdown, which is also plain enough for a terminal."""
    rows = [
        "| limit | value | of what |", "|---|---:|---|",
        f"| `--timeout` | {SECONDS:g} s | the whole of `diagnose`, `show` or `compare`; reading "
        f"ends at {READING_SHARE:.0%} of it, judging data rows {ASSEMBLY_SHARE:.0%} later, and the "
        "result is made of what was read |",
        f"| `--max-memory` | {MEMORY >> 30} GiB | what they allocate (Linux); a file that needs "
        f"more is not read. On two cores `diagnose` has a second process, which may allocate "
        f"{SECOND_MEMORY >> 20} MiB besides; what needs more there is done in the first |",
        "| `triage --run-seconds`, `--run-memory` | | the same for each run of a triage |",
        *(f"| `{limit.name}` | {limit.value:,} | {limit.what} |" for limit in every_limit()),
    ]  # fmt: skip
    return "\n".join(rows)
