"""A second process, on a second core, that makes calls while the first goes on with its own work.

`begin(f, x)` begins a call where `second_process()` is open, and returns what gives its result. If
there is no second process, if the call fails there, or if that process ends, the same call is made
in this one when its result is asked for: what it gives or raises is the same in any case.
`while_waiting(f)` is for work of the first process that can be done early, or never.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, BinaryIO, TypeVar

from ftdoctor.limits import SECOND_MEMORY, limit_memory

T = TypeVar("T")


def begin(function: Callable[..., T], *arguments: Any) -> Callable[[], T]:
    """Begin a call elsewhere if that can be, and return what waits for its result.

    The function has a name in a module and does nothing but return a value; it, its arguments and
    its value can be pickled.
    """
    second = _open[-1] if _open else None
    number = second.ask(function, arguments) if second else None

    @cache
    def result() -> T:
        if second is not None and number is not None:
            with contextlib.suppress(_NoAnswerError):
                answer: T = second.answer(number)
                return answer
        return function(*arguments)

    return result


def while_waiting(chore: Callable[[], object]) -> None:
    """Let this process do something while it would only wait for the second one.

    It may come to nothing: whoever needs what it does must do it again, and meets its errors then.
    """
    if _open:
        _open[-1].chores.append(chore)


@contextlib.contextmanager
def second_process() -> Iterator[None]:
    """Keep a second process inside the block, where Linux allows two cores.

    To be opened before there are threads, which a fork would leave in no known state. It ends with
    the block, and with the first process however that ends.
    """
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        yield
        return
    try:
        second = _fork()
    except OSError:  # no more processes, files or memory are to be had
        yield
        return
    _open.append(second)
    try:
        yield
    finally:
        _open.remove(second)
        second.end()


# --- the first process ------------------------------------------------------------------------


class _NoAnswerError(Exception):
    """The call is to be made here."""


@dataclass
class _Second:
    """The other end of the pipes; answers come in the order of the questions."""

    pid: int
    questions: BinaryIO
    answers: BinaryIO
    asked: int = 0
    got: list[tuple[bool, Any]] = field(default_factory=list)
    chores: list[Callable[[], object]] = field(default_factory=list)

    def ask(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> int | None:
        """Send a call and return its number, None if nobody is there to take it."""
        question = pickle.dumps((function, arguments))
        try:
            self.questions.write(question)
            self.questions.flush()
        except (OSError, ValueError):
            self.end()
            return None
        except BaseException:  # half a question was sent
            self.end()
            raise
        self.asked += 1
        return self.asked - 1

    def answer(self, number: int) -> Any:
        """Wait for the answer of a call; _NoAnswerError if there is none."""
        while self.chores and len(self.got) <= number and self._is_silent():
            with contextlib.suppress(Exception):
                self.chores.pop(0)()
        try:
            while len(self.got) <= number:
                self.got.append(pickle.load(self.answers))
        except (OSError, ValueError, EOFError, pickle.UnpicklingError, MemoryError):
            self.end()
            raise _NoAnswerError from None
        except BaseException:  # the time is over, or Ctrl-C: half an answer was read
            self.end()
            raise
        made, value = self.got[number]
        self.got[number] = (False, None)
        if not made:
            raise _NoAnswerError
        return value

    def _is_silent(self) -> bool:
        """Say whether nothing has come that was not looked at."""
        import select

        return self.pid != 0 and not select.select([self.answers], [], [], 0)[0]

    def end(self) -> None:
        """End the process, if that was not done, and leave no zombie."""
        for stream in (self.questions, self.answers):
            with contextlib.suppress(OSError):
                stream.close()
        if self.pid:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        self.pid = 0


_open: list[_Second] = []


def _fork() -> _Second:
    asked_from, asked = os.pipe()
    answered, answered_to = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        for end in (asked_from, asked, answered, answered_to):
            os.close(end)
        raise
    if pid == 0:
        try:
            os.close(asked)
            os.close(answered)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process
            os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one a core would take all of the memory
            limit_memory(SECOND_MEMORY)
            with open(asked_from, "rb") as questions, open(answered_to, "wb") as answers:
                _serve(questions, answers)
        finally:
            os._exit(0)  # nothing of what the first process does at its end
    os.close(asked_from)
    os.close(answered_to)
    return _Second(pid, open(asked, "wb"), open(answered, "rb"))


# --- the second process -----------------------------------------------------------------------


def _serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer calls in their order for as long as the first process is there.

    It is listened to in a thread, so that its end ends a call that would never return, and answered
    in another, since it takes an answer only when it needs it.
    """
    import queue
    import threading

    heard: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.SimpleQueue()
    told: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        while True:
            heard.put(pickle.load(questions))

    def tell() -> None:
        while True:
            answers.write(told.get())
            answers.flush()

    def until_the_end(work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            os._exit(0)

    for work in (listen, tell):
        threading.Thread(target=until_the_end, args=(work,), daemon=True).start()
    _open.clear()  # a call that is made here begins no further ones
    while True:
        function, arguments = heard.get()
        try:
            answer = pickle.dumps((True, function(*arguments)))
        except BaseException:  # the first process makes the call and meets the same
            answer = pickle.dumps((False, None))
        told.put(answer)
