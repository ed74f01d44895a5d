"""Python tracebacks out of interleaved log lines: one chain per process, the user's frame named."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ftdoctor.read.logtext import Fragment

_HEADER = "Traceback (most recent call last)"
_EXCEPTION = re.compile(
    r"^(?P<type>[A-Za-z_][\w.]*?(?:Error|Exception|Interrupt|Exit|Warning|Failure|Timeout|Abort"
    r"|StopIteration|Killed|OutOfMemory\w*|[a-z_]\w*\.[A-Z]\w*))(?::\s?(?P<message>.*))?$"
)
# A class of somebody's own, `LeaseRevoked: ticket 7`: taken for one right below a stack only.
_OWN = re.compile(r"^(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]+[a-z0-9]+[A-Z]\w*)(?::\s(?P<message>.*))?$")
# Any name with a message, `mypkg.errors.gone: no lease`: taken if nothing better follows a stack.
_NAMED = re.compile(r"^(?P<type>(?:[A-Za-z_]\w*\.)+\w+|[A-Z]\w+)(?::\s(?P<message>.*))?$")
_IN_GROUP = re.compile(r"^\s*\|(?:\s*\|)*\s")  # what stands before the lines of an ExceptionGroup
UNNAMED = ("Traceback", "the log ends before the exception is named")
_PLAIN_FRAME = re.compile(
    r'^\s*(?:[|+]\s*)*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<name>.+))?'
)
# IPython: `File /x/y.py:12, in f(a)`, `Cell In[5], line 3`, `/x/y.py in f(a)`
_NOTEBOOK_FRAME = re.compile(
    r"^(?:File )?(?P<file>[^\s:]+\.py|<ipython-input[^>]*>):(?P<line>\d+)"
    r"(?:, in (?P<name>[\w.<>]+))?"
    r"|^(?:Input )?(?P<cell>Cell In\s?\[\d+\]), line (?P<cell_line>\d+)"
)
_RICH_FRAME = re.compile(r"^[│|]\s+(?P<file>\S+\.py):(?P<line>\d+) in (?P<name>\S+)")
_NOTEBOOK_HEADER = re.compile(rf"^(?P<type>[A-Za-z_][\w.]*)\s+{re.escape(_HEADER)}")
_DURING = "During handling of the above exception, another exception occurred"
_DIRECT = "The above exception was the direct cause of the following exception"
_FOREIGN = re.compile(
    r"[/\\](?:site|dist)-packages[/\\]|^<frozen|^<string>$|[/\\]lib(?:64)?[/\\]python\d"
    r"|[/\\]conda[^/]*[/\\]lib"
)
# Raised by the launcher, never the cause: the failed worker's own traceback is.
LAUNCHER = ("ChildFailedError", "torch.multiprocessing.spawn.ProcessRaisedException")
FRAME_LIMIT = 2000  # lines of one traceback
FRAMES_SHOWN = 40
MESSAGE_LIMIT = 8  # lines of an error message
NOISE_LIMIT = 3  # lines of others within a traceback
WIDTH = 600


@dataclass(frozen=True, slots=True)
class Frame:
    """One level of a stack: where, in which function, and the source line if it was printed."""

    file: str
    line: int
    name: str
    code: str = ""

    @property
    def foreign(self) -> bool:
        """Say whether it lies in an installed package or the interpreter."""
        return bool(_FOREIGN.search(self.file))


@dataclass(frozen=True, slots=True)
class Raised:
    """One exception with its stack, outermost frame first; `line` is that of its message."""

    type: str
    message: str
    frames: tuple[Frame, ...]
    line: int

    @property
    def title(self) -> str:
        """Return `Type: message`."""
        return f"{self.type}: {self.message}" if self.message else self.type

    def place(self) -> Frame | None:
        """Return the deepest frame outside of installed packages, else the deepest of all."""
        own = [frame for frame in self.frames if not frame.foreign]
        return own[-1] if own else (self.frames[-1] if self.frames else None)


@dataclass(frozen=True, slots=True)
class Trace:
    """A chain of exceptions in the order of their occurrence: the first is the root."""

    chain: tuple[Raised, ...]
    rank: int | None = None

    @property
    def last(self) -> Raised:
        """Return the exception that ended the chain."""
        return self.chain[-1]

    @property
    def from_launcher(self) -> bool:
        """Say whether it only reports that another process failed."""
        return any(self.last.type.endswith(name) for name in LAUNCHER)

    def text(self) -> str:
        """Return the final `Type: message`, the user's innermost frame, then the others.

        Frames keep Python's form, so that what is searched for in a log is found here too.
        """
        lines = [self.last.title[:WIDTH]]
        own = self.last.place()
        rest = [frame for frame in self.last.frames[-FRAMES_SHOWN:] if frame is not own]
        for frame in ([own] if own else []) + rest[::-1]:
            lines.append(f'  File "{frame.file}", line {frame.line}, in {frame.name}'[:WIDTH])
            if frame.code:
                lines.append(f"    {frame.code}"[:WIDTH])
        for raised in self.chain[-2::-1]:
            at = raised.place()
            where = f' (File "{at.file}", line {at.line}, in {at.name})' if at else ""
            lines.append(f"  after {raised.title}{where}"[:WIDTH])
        return "\n".join(lines)


@dataclass(slots=True)
class _Open:
    """A traceback being read in one process's output."""

    chain: list[Raised] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    awaits: str = ""
    message: list[str] | None = None
    type: str = ""
    line: int = 0
    noise: int = 0
    maybe: Raised | None = None
    chained: bool = False
    rank: int | None = None


class Tracebacks:
    """Assembles tracebacks from fragments fed in order, those of each process apart."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def feed(self, fragment: Fragment) -> tuple[list[Trace], bool]:
        """Take one line; return the chains it completed and whether the line belongs to one."""
        stream, text, line = fragment.stream, fragment.text, fragment.line
        state = self._open.get(stream)
        if state is None:
            if _HEADER not in text:
                return [], False
            self._open[stream] = self._begin(_Open(rank=fragment.rank), text)
            return [], True
        done: list[Trace] = []
        if _HEADER in text:
            if state.chain and state.chained:
                self._begin(state, text)
            else:
                done = self._close(stream)
                self._open[stream] = self._begin(_Open(rank=fragment.rank), text)
            return done, True
        if state.message is not None:
            if self._goes_on(state, text):
                return [], True
            return self._close(stream), False
        if self._take(state, text, line):
            return [], True
        state.noise += 1
        if state.noise > NOISE_LIMIT:
            return self._close(stream), False
        return [], False

    def finish(self) -> list[Trace]:
        """Return what is still open at the end of the log."""
        for state in self._open.values():
            if state.frames and not (state.chain or state.message or state.maybe):
                state.maybe = Raised(*UNNAMED, tuple(state.frames), state.line)
        return [trace for stream in list(self._open) for trace in self._close(stream)]

    @property
    def active(self) -> bool:
        """Say whether some traceback is open."""
        return bool(self._open)

    def _begin(self, state: _Open, text: str) -> _Open:
        header = _NOTEBOOK_HEADER.match(text)
        state.awaits = header["type"] if header else ""
        state.frames, state.message, state.noise, state.chained = [], None, 0, False
        state.maybe = None
        return state

    def _take(self, state: _Open, text: str, line: int) -> bool:
        """Take a line of a stack, or the line that names the exception."""
        frame = _frame(text)
        if frame:
            if len(state.frames) < FRAME_LIMIT:
                state.frames.append(frame)
                state.line = line
            return True
        found = _EXCEPTION.match(_IN_GROUP.sub("", text))
        if found is None and state.frames and not state.noise:
            found = _OWN.match(text)
        if found is None and state.frames and (named := _NAMED.match(text)):
            said, frames = (named["message"] or "").strip(), tuple(state.frames)
            state.maybe = state.maybe or Raised(named["type"], said, frames, line)
        if found and (not state.awaits or found["type"].endswith(state.awaits)):
            state.type, state.line = found["type"], line
            state.message = [(found["message"] or "").strip()]
            return True
        if state.awaits or not text.strip() or text[0] in " \t│╭╰|+[":
            self._code(state, text)
            return True
        return False

    def _code(self, state: _Open, text: str) -> None:
        code = text.strip()
        if code and state.frames and not state.frames[-1].code and not set(code) <= set("^~ "):
            last = state.frames[-1]
            state.frames[-1] = Frame(last.file, last.line, last.name, code[:200])

    def _goes_on(self, state: _Open, text: str) -> bool:
        """Take a line after the exception's: more of the message, or the link to the next one."""
        assert state.message is not None
        if text.startswith((_DURING, _DIRECT)):
            self._seal(state)
            state.chained = True
            return True
        if not text.strip():
            return True
        if state.chained:
            return False
        if _IN_GROUP.match(text) or text.lstrip().startswith("+-"):
            return False
        if text[0] in " \t" and len(state.message) < MESSAGE_LIMIT:
            state.message.append(text.strip())
            return True
        if state.message == [""] and len(text) < WIDTH and not set(text) <= set("=-"):
            state.message = [text.strip()]
            return True
        return False

    def _seal(self, state: _Open) -> None:
        if state.message is not None and state.type:
            message = " ".join(part for part in state.message if part)
            state.chain.append(Raised(state.type, message, tuple(state.frames), state.line))
            state.type, state.frames = "", []

    def _close(self, stream: str) -> list[Trace]:
        state = self._open.pop(stream)
        self._seal(state)
        if state.maybe and state.frames:
            state.chain.append(state.maybe)
        return [Trace(tuple(state.chain), state.rank)] if state.chain else []


def _frame(text: str) -> Frame | None:
    found = _PLAIN_FRAME.match(text) or _RICH_FRAME.match(text)
    if found:
        return Frame(found["file"], int(found["line"]), (found["name"] or "").strip())
    found = _NOTEBOOK_FRAME.match(text)
    if not found:
        return None
    if found["cell"]:
        return Frame(found["cell"], int(found["cell_line"]), "<module>")
    return Frame(found["file"], int(found["line"]), found["name"] or "")
