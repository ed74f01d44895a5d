"""Detectors on console text: literal messages, tracebacks and the frames they passed through.

All patterns of all symptoms are compiled into one RE2 set and run over the text once per run
(`prepare`); a detector then only looks its hits up. RE2 is linear in the text, so no pattern of a
stranger's signature and no line of a stranger's log can make it slow.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.once import once_per_run
from ftdoctor.model import Call, Fact, Observation, Run, Where

QUOTE = 200  # characters of a line that a finding quotes
LONGEST = 8000  # characters of a line that are searched; of a longer one both ends
SET_MEMORY = 64 << 20  # bytes for the automaton; RE2's 8 MB are too few for 300 patterns
NEAR = 400  # lines above an exception in which its frames are looked for
HEADER = "Traceback (most recent call last)"
DURING = "During handling of the above exception, another exception occurred"
PARALLEL = re.compile(r"(?i)rank|worker|proc|gpu|node|host|local|task|attempt")
LOG = "stdout log"

# Events that show that training went on or began anew; a message before one of them was survived,
# or belongs to an earlier start whose log was appended to.
PROGRESS = ("started", "checkpoint-saved", "evaluation", "finished")

# Last line of a traceback: `torch.cuda.OutOfMemoryError: ...`, `KeyError: 'text'`, `SystemExit`.
# A quoted mail, a container or a logger puts words in front; one that tells of an error may name
# it in a sentence.
EXCEPTION = re.compile(
    r"^\s{0,8}(?:(?:> ?)+|(?:\[[\w .:,/+-]{1,40}\] ?)+(?:- )?|[\w.-]+ +\| "
    r"|\d{4}-\d\d-\d\d[T ][\d:.,]+Z? (?:std(?:out|err) [FP] )?(?:(?:- )?\[?[A-Z]+\]? )?(?:- )?"
    r"|.{0,60}?\b(?:ERROR|CRITICAL|FATAL)\b[^'\"`]{0,80}?[\s:])?"
    r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Failure|NotFound|Mismatch)\b(?::|$)"
)

# `repr()` of an exception within a sentence: some code caught it and told of it.
TOLD = re.compile(r"\b[A-Z]\w*(?:Error|Exception)\(")

# Packages that watch a run from a thread of their own: what is raised there ends no training. The
# standard library's frames between theirs say nothing.
WATCHERS = re.compile(
    r"(?:site|dist)-packages[/\\](?:wandb|mlflow|comet_ml|neptune|clearml|swanlab|tensorboard\w*"
    r"|litlogger|aim|trackio|sentry_sdk|opentelemetry|prometheus_client|codecarbon)[/\\]"
)
STANDARD = re.compile(r"[/\\]python3?\.?\d*[/\\](?!site-packages|dist-packages)|<frozen ")
FRAME = re.compile(r'File "([^"]+)", line \d+')

# A window of this many columns breaks a message into lines (judgement); what begins one, and what
# is the beginning of something else.
WRAPPED = range(60, 241)
WRAPPED_LINES = 12
_BEGINS = re.compile(
    r"(?i)error|exception|warning|\bwarn\b|fatal|cancelled|fail|kill|mismatch|did not|received"
)
_NEW = re.compile(
    r"^\W*(?:File \"|Traceback|During handling|The above exception|\w*Warning: )"
    r"|^\s*(?:[{$|+=*#]|\[(?!\d+\])|>>>|-{3}|\d{4}-\d\d-\d\d|\d+%)|\d+%\|"
)
_QUOTED = re.compile(r"^(?:> ?)+|^\s+")

# Messages that only hand on what happened elsewhere: a launcher, another rank, a wrapper.
CONSEQUENCES = (
    r"ChildFailedError",
    r"CalledProcessError",
    r"DistBackendError: (?:NCCL|\[?\d)",
    r"BrokenPipeError",
    r"ConnectionResetError",
    r"SignalException",
    r"DatasetGenerationError",
    r"Caught \w+ in (?:DataLoader worker|pin memory thread|replica)",
    r"^SystemExit",
    r"^EOFError$",
    r"RayTaskError",
    r"ActorDiedError",
    r"multiprocess(?:ing)?\.\w*\.?RemoteError",
    r"ProcessRaisedException|ProcessExitedException",
    r"failed \(exitcode: 1\)|exits with return code = 1\b|exitcode\s+: 1 \(pid",
    r"srun: error: \S+: tasks? [0-9,\-\[\]]+: Exited with exit code",
    r"mpirun .{0,60}non-zero status",
)


@dataclass(frozen=True, slots=True)
class Text:
    """One line of console text and its place; `event` marks the lines of a traceback.

    `wrapped` is the message that it begins, if a narrow window broke it into several lines.
    """

    path: str
    line: int
    rank: int | None
    text: str
    count: int
    event: int = 0
    wrapped: str = ""

    @property
    def fact(self) -> Fact:
        """Return the line as evidence."""
        return Fact("log.line", self.text[:QUOTE], Where(self.path, line=self.line or None))


@dataclass(frozen=True)
class Traceback:
    """One traceback: the exception line, and every line of its body."""

    exception: Text
    body: tuple[str, ...]

    @property
    def has_frames(self) -> bool:
        """Say whether the frames are there, or only the exception was kept."""
        return any('File "' in line for line in self.body)

    @property
    def of_watcher(self) -> bool:
        """Say whether it passed only through a tracker's own code, and none that trains."""
        frames = [found.group(1) for line in self.body if (found := FRAME.search(line))]
        ours = [frame for frame in frames if not STANDARD.search(frame)]
        return bool(ours) and all(WATCHERS.search(frame) for frame in ours)


@dataclass
class Log:
    """The console text of one run, and which lines each pattern was found in so far.

    `earlier` are logs of starts before the one that trained; the lines of an excerpt with
    omissions are not `ordered`; `known` are the lines by which
    signatures know a message, by pattern; `fatal` the patterns of them that end a run, `specific`
    those whose signature yields to no other. `chained` gives the place of the exception that ended
    a chain by place and words of those that were being handled.
    """

    texts: list[Text]
    tracebacks: list[Traceback]
    progress: dict[str, int]
    earlier: frozenset[str] = frozenset()
    ordered: bool = True
    hits: dict[str, list[int]] = field(default_factory=dict)
    known: dict[str, list[Text]] = field(default_factory=dict)
    fatal: set[str] = field(default_factory=set)
    specific: set[str] = field(default_factory=set)
    chained: Mapping[tuple[str, int, str], tuple[str, int]] = field(default_factory=dict)

    def find(self, patterns: Sequence[str]) -> list[Text]:
        """Return the lines in which one of the patterns occurs, in order."""
        new = [p for p in patterns if p not in self.hits]
        if new:
            self.hits.update(scan(self.texts, new))
        return [self.texts[i] for i in sorted({i for p in patterns for i in self.hits[p]})]

    def replaced(self, text: Text, patterns: Sequence[str]) -> bool:
        """Say whether this exception was handled, and the one that ended its chain is known.

        `patterns` are those of the symptom that asks; what they know is no other message.
        """
        last = self.chained.get((text.path, text.line, _title(text.text)))
        return last is not None and any(
            (known.path, known.line) == last
            for pattern in self.specific - set(patterns)
            for known in self.known[pattern]
        )

    def survived(self, text: Text) -> bool:
        """Say whether training is known to have gone on, or begun anew, after this line."""
        if not self.ordered:
            return False
        return text.path in self.earlier or 0 < text.line < self.progress.get(text.path, 0)


@once_per_run
def log_of(run: Run) -> Log:
    """Return the console text of a run."""
    texts = list(_unwrapped(list(_texts(run))))
    progress = _progress(run)
    earlier = earlier_starts({*progress, *(text.path for text in texts)}, progress)
    ordered = run.fact("run.excerpt") is None or not any(t.text.startswith("...") for t in texts)
    chained = dict(_chained(texts))
    return Log(texts, list(_tracebacks(texts)), progress, earlier, ordered, chained=chained)


def prepare(run: Run, calls: Iterable[Call]) -> None:
    """Search the patterns of all calls in one pass over the text (called before detection).

    Messages of calls that decide by themselves are known ones from then on.
    """
    calls = list(calls)
    log_of(run).find(patterns_of(calls))
    learn(run, (call for call in calls if not call.part))


def warm(calls: Iterable[Call]) -> None:
    """Make what `prepare` of the same calls will need, without a run."""
    _compiled(patterns_of(calls))


def patterns_of(calls: Iterable[Call]) -> tuple[str, ...]:
    """Return all patterns that the calls look for, each once."""
    keys = ("patterns", "unless", "ends_with")
    found = (p for call in calls for key in keys for p in _patterns(call.parameters, key))
    return tuple(dict.fromkeys(found))


def learn(run: Run, calls: Iterable[Call]) -> None:
    """Take the messages that the calls look for as known, but for those that they excuse."""
    log = log_of(run)
    for call in calls:
        excused = {id(t) for t in log.find(_patterns(call.parameters, "unless"))}
        patterns = _patterns(call.parameters, "patterns")
        for pattern in patterns:
            found = (t for t in log.find([pattern]) if id(t) not in excused)
            log.known.setdefault(pattern, []).extend(found)
        if call.parameters.get("fatal"):
            log.fatal.update(patterns)
        if not call.parameters.get("yields"):
            log.specific.update(patterns)


def _patterns(parameters: Mapping[str, Any], key: str) -> list[str]:
    value = parameters.get(key, [])
    return [p for p in value if isinstance(p, str)] if isinstance(value, list) else []


def scan(texts: Sequence[Text], patterns: Sequence[str]) -> dict[str, list[int]]:
    """Return, per pattern, the indices of the lines in which it occurs.

    ValueError if a pattern is not RE2 syntax.
    """
    together = _compiled(tuple(patterns))
    found: dict[str, list[int]] = {p: [] for p in patterns}
    for index, text in enumerate(texts):
        for which in together.Match(_searched(text.wrapped or text.text)) or ():
            found[patterns[which]].append(index)
    return found


@lru_cache(maxsize=16)
def _compiled(patterns: tuple[str, ...]) -> Any:
    """Return the patterns as one RE2 set: the same for every run, and dear to make."""
    import re2

    options = re2.Options()
    options.max_mem = SET_MEMORY
    options.log_errors = False
    together = re2.Set.SearchSet(options)
    for pattern in patterns:
        try:
            together.Add(pattern)
        except re2.error as error:
            raise ValueError(f"not a pattern that RE2 takes: {pattern!r}: {error}") from error
    together.Compile()
    return together


def _searched(text: str) -> str:
    """Return what is searched of a line: messages are glued to either end of long ones."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2]} {text[-LONGEST // 2 :]}"


def has_text(run: Run) -> bool:
    """Say whether the run left any console text at all."""
    return run.has("console") or not (run.lines.is_empty() and run.events.is_empty())


# --- the text ---------------------------------------------------------------------------------


def _texts(run: Run) -> Iterator[Text]:
    """Yield log lines and the lines of tracebacks, ordered by file and line."""
    rows: list[tuple[str, int, int, Text]] = []
    lines = run.lines.select("path", "line", "rank", "text", "count")
    for path, line, rank, text, count in lines.iter_rows():
        rows.append((path, line or 0, 0, Text(path, line or 0, rank, text, count or 1)))
    seen = {(path, line, text.text) for path, line, _, text in rows}
    events = run.events.select("kind", "path", "line", "rank", "text")
    for number, (kind, path, line, rank, said) in enumerate(events.iter_rows(), start=1):
        mark = number if kind == "traceback" else 0
        for offset, text in enumerate((said or "").splitlines()):
            if mark or (path, line, text) not in seen:
                rows.append((path, line or 0, offset, Text(path, line or 0, rank, text, 1, mark)))
    rows.sort(key=lambda row: row[:3])
    yield from (text for *_, text in rows)


def _unwrapped(texts: Sequence[Text]) -> Iterator[Text]:
    """Yield the lines, those that begin a wrapped message with all of it.

    It is joined with blanks, as at the end of words, and without, as at a column.
    """
    for index, text in enumerate(texts):
        parts = [text]
        if len(text.text) in WRAPPED and _BEGINS.search(text.text):
            for after in texts[index + 1 : index + WRAPPED_LINES]:
                last = parts[-1]
                if len(last.text) not in WRAPPED or not _continues(last, after):
                    break
                parts.append(after)
        if len(parts) == 1:
            yield text
            continue
        said = [text.text, *(_QUOTED.sub("", part.text) for part in parts[1:])]
        yield replace(text, wrapped=f"{' '.join(said)}\n{''.join(said)}")


def _continues(text: Text, after: Text) -> bool:
    """Say whether a line may be the rest of the one before."""
    same = (text.path, text.rank) == (after.path, after.rank)
    next_to = after.line == text.line + 1 or (text.event and text.event == after.event)
    return bool(same and next_to) and not (_NEW.search(after.text) or EXCEPTION.match(after.text))


def _tracebacks(texts: Sequence[Text]) -> Iterator[Traceback]:
    """Yield tracebacks: readers' events, and exception lines, each with the lines above it."""
    events: dict[int, list[Text]] = {}
    by_stream: dict[tuple[str, int | None], list[Text]] = {}
    for text in texts:
        if text.event:
            events.setdefault(text.event, []).append(text)
        else:
            by_stream.setdefault((text.path, text.rank), []).append(text)
    made: set[tuple[str, int]] = set()
    for parts in events.values():
        first = parts[0]
        made.add((first.path, first.line))
        above = _above(by_stream.get((first.path, first.rank), []), first.line)
        yield Traceback(first, (*above, *(part.text for part in parts)))
    for stream in by_stream.values():
        for text in stream:
            if EXCEPTION.match(text.text) and (text.path, text.line) not in made:
                yield Traceback(text, (*_above(stream, text.line), text.text))


def _above(stream: Sequence[Text], line: int) -> list[str]:
    """Return the frames above an exception: up to its header, or to the exception before."""
    end = bisect_left(stream, line, key=lambda text: text.line)
    body: list[str] = []
    for text in reversed(stream[max(0, end - NEAR) : end]):
        if EXCEPTION.match(text.text):
            break
        body.append(text.text)
        if HEADER in text.text:
            break
    return body[::-1]


def _chained(texts: Sequence[Text]) -> Iterator[tuple[tuple[str, int, str], tuple[str, int]]]:
    """Yield handled exceptions, each with the place of the one that ended its chain.

    Python prints the words of `DURING` between the two. In the event of a traceback the line of a
    handled one bears the place of the last.
    """
    by_stream: dict[tuple[str, int | None], list[Text]] = {}
    for text in texts:
        if not text.event:
            by_stream.setdefault((text.path, text.rank), []).append(text)
    for stream in by_stream.values():
        before: Text | None = None
        handled: list[Text] = []
        for text in stream:
            if DURING in text.text and before is not None:
                handled.append(before)
                before = None
            elif EXCEPTION.match(text.text):
                last = text.path, text.line
                for one in handled if before is None else ():
                    yield (one.path, one.line, _title(one.text)), last
                    yield (*last, _title(one.text)), last
                before = text
            elif handled and before is not None and HEADER in text.text:
                handled = []


def _title(text: str) -> str:
    """Return the words of an exception, without what an event puts around them."""
    return text.strip().removeprefix("after ").partition(" (File ")[0][:QUOTE]


def _progress(run: Run) -> dict[str, int]:
    """Return, per file, the last line that shows training going on."""
    import polars as pl

    last: dict[str, int] = {}
    frames = (
        run.metrics.select("path", "line"),
        run.events.filter(pl.col("kind").is_in(PROGRESS)).select("path", "line"),
    )
    for frame in frames:
        for path, line in frame.group_by("path").agg(pl.col("line").max()).iter_rows():
            last[path] = max(last.get(path, 0), line or 0)
    for name in ("progress.global_step", "progress.finished"):
        for fact in run.facts.get(name, ()):
            if fact.value and fact.where.line:
                last[fact.where.path] = max(last.get(fact.where.path, 0), fact.where.line)
    return last


def earlier_starts(paths: Iterable[str], progress: Mapping[str, int]) -> frozenset[str]:
    """Return logs that are named like a later one in which training is seen.

    `slurm-101.out` is earlier than `slurm-102.out`; logs of parallel processes are not.
    """
    alike: dict[str, list[tuple[list[int], str]]] = {}
    for path in paths:
        if not PARALLEL.search(path):
            numbers = [int(n) for n in re.findall(r"\d+", path)]
            alike.setdefault(re.sub(r"\d+", "#", path), []).append((numbers, path))
    found: set[str] = set()
    for group in alike.values():
        ordered = [path for _, path in sorted(group)]
        last = max((i for i, path in enumerate(ordered) if path in progress), default=0)
        found.update(ordered[:last])
    return frozenset(found)


# --- detectors --------------------------------------------------------------------------------


@detector("log.matches")
def matches(
    run: Run,
    *,
    patterns: list[str],
    unless: list[str] | None = None,
    fatal: bool = False,
    before_end: bool = False,
    yields: bool = False,
    fallback: bool = False,
    uncaught: bool = False,
    at_least: int = 1,
) -> Observation:
    """Find lines in which one of the patterns occurs and none of `unless`.

    With `before_end`, lines after the end of training do not count. With `yields`, the patterns
    name a whole class of errors: a line that another symptom knows more closely does not count.
    With `fallback`, what is looked for is often tried first and done without: an exception does
    not count if another one, raised while it was handled, is known by another symptom.
    With `uncaught`, an exception that a script caught and printed while it went on does not count.

    With `fatal`, a line after which the same file shows training going on does not count: the
    error was handled, or belongs to an earlier start whose log was appended to.
    """
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    log = log_of(run)
    found = log.find(patterns)
    if unless and found:
        excused = {id(t) for t in log.find(unless)}
        found = [t for t in found if id(t) not in excused]
    if yields and found:
        closer = {id(t) for p in log.specific - set(patterns) for t in log.known[p]}
        found = [t for t in found if id(t) not in closer]
    if fallback:
        found = [t for t in found if not log.replaced(t, patterns)]
    if uncaught and found:
        told = _told(run, found)
        found = [t for t in found if id(t) not in told]
    if before_end:
        ends = {f.where.path: f.where.line for f in run.facts.get("progress.finished", ())}
        found = [t for t in found if not 0 < (ends.get(t.path) or 0) < t.line]
    survived = [t for t in found if fatal and log.survived(t)]
    if survived:
        found = [t for t in found if not log.survived(t)]
    total = sum(t.count for t in found)
    if total >= at_least and found:
        return present(_quoted(found, total), *(t.fact for t in found[:3]))
    if survived:
        return absent(f"Training went on after {_quoted(survived, len(survived))}")
    if run.fact("run.pasted"):
        return unobservable("What was pasted holds no such message", LOG)
    return absent("No such message in the console output")


def _told(run: Run, found: Sequence[Text]) -> set[int]:
    """Return the lines by which a script tells of exceptions that it caught.

    They are part of no traceback, and stand behind the end of training, where a model's outputs
    are checked, or quote the exception's `repr()` in several lines of a file: it went on.
    """
    ends = {f.where.path: f.where.line or 0 for f in run.facts.get("progress.finished", ())}
    plain = [t for t in found if not t.event and not EXCEPTION.match(t.text)]
    quoting = Counter(t.path for t in plain if TOLD.search(t.text) for _ in range(t.count))
    return {
        id(t)
        for t in plain
        if 0 < ends.get(t.path, 0) < t.line or (TOLD.search(t.text) and quoting[t.path] > 1)
    }


def _quoted(found: Sequence[Text], total: int) -> str:
    """Return the first line found, its place, and how often and on which ranks it came."""
    first = found[0]
    ranks = sorted({t.rank for t in found if t.rank is not None})
    tail = ""
    if ranks:
        shown = ", ".join(str(r) for r in ranks[:4]) + (", …" if len(ranks) > 4 else "")
        tail += f" (rank {shown})" if len(ranks) == 1 else f" (ranks {shown})"
    if total > 1:
        tail += f", {total} times"
    where = str(first.fact.where)
    room = max(40, QUOTE - len(where) - len(tail) - 4)
    return f"{where}: “{shorten(first.text, room)}”{tail}"


def shorten(text: str, room: int) -> str:
    """Return the text on one line, with its middle left out if it does not fit."""
    text = " ".join(text.split())
    if len(text) <= room:
        return text
    return f"{text[: room * 3 // 4].rstrip()} … {text[-(room // 4 - 3) :].lstrip()}"


@detector("log.traceback")
def traceback(
    run: Run,
    *,
    ends_with: list[str],
    through: list[str],
    not_through: list[str] | None = None,
) -> Observation:
    """Find an exception that matches `ends_with` and passed through one of the frames.

    Unobservable if such an exception was printed without its frames.
    """
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    log = log_of(run)
    wanted = {(t.path, t.line, t.text) for t in log.find(ends_with)}
    met = [
        t
        for t in log.tracebacks
        if (t.exception.path, t.exception.line, t.exception.text) in wanted
        and not log.survived(t.exception)
    ]
    if not met:
        if any(not log.survived(t) for t in log.find(ends_with)):
            return unobservable("The error was printed without its traceback", "full traceback")
        return absent("No such exception in the console output")
    for trace in met:
        frame = _passing(trace.body, through)
        if frame and not (not_through and _passing(trace.body, not_through)):
            place = trace.exception.fact
            said = f"“{shorten(trace.exception.text, 90)}” through “{shorten(frame, 60)}”"
            return present(f"{place.where}: {said}", place)
    if not any(t.has_frames for t in met):
        return unobservable("The error was printed without its frames", "full traceback")
    return absent(f"The exception at {met[0].exception.fact.where} came from elsewhere")


def _passing(body: Iterable[str], patterns: Sequence[str]) -> str:
    """Return the last line of a traceback in which one of the patterns occurs, or nothing."""
    import re2

    compiled = [re2.compile(p) for p in patterns]
    passing = [line for line in body if any(p.search(_searched(line)) for p in compiled)]
    return passing[-1].strip() if passing else ""


@detector("log.unexplained_exception")
def unexplained_exception(
    run: Run, *, ends_with: list[str] | None = None, through: list[str] | None = None
) -> Observation:
    """Find an exception that ended the run and that no pattern of the library knows.

    With `ends_with`, one of those that match such a pattern; with `through`, one of those that
    passed through such a frame.
    """
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    log = log_of(run)
    known = {(t.path, t.line) for lines in log.known.values() for t in lines}
    wrappers = {id(t) for t in log.find(CONSEQUENCES)}
    unknown = []
    for trace in log.tracebacks:
        text = trace.exception
        if log.survived(text) or id(text) in wrappers or trace.of_watcher:
            continue
        if (text.path, text.line) in known:
            return absent("The exception at the end of the log is a known one", text.fact)
        unknown.append(trace)
    if not unknown:
        return absent("No exception ended the run")
    fatal = (t for p in log.fatal for t in log.known[p] if id(t) not in wrappers)
    if any(not log.survived(t) for t in fatal):
        return absent("A known message accounts for the end of the run", unknown[0].exception.fact)
    if ends_with:
        meant = {id(t) for t in log.find(ends_with)}
        unknown = [trace for trace in unknown if id(trace.exception) in meant]
    if through:
        unknown = [trace for trace in unknown if _passing(trace.body, through)]
    if not unknown:
        return absent("The exception that ended the run is of another kind")
    said = [trace.exception for trace in unknown[:3]]
    return present(_quoted(said[:1], 1), *(t.fact for t in said))


_UNITS = {"": 1, "B": 1, "BYTES": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@detector("log.proportion")
def proportion(run: Run, *, pattern: str, above: float) -> Observation:
    """Compare two amounts that one message names: groups `part` and `whole`, each with its unit.

    Units are bytes, KiB, MB and the like. Absent if the share is at most `above`; unobservable if
    no line matches.
    """
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    import re2

    log = log_of(run)
    found = log.find([pattern])
    if not found:
        return unobservable("No message names these amounts", LOG)
    compiled = re2.compile(pattern)
    for text in found:
        groups = compiled.search(_searched(text.text)).groupdict()
        part, whole = _amount(groups["part"]), _amount(groups["whole"])
        if whole and part / whole > above and not log.survived(text):
            said = f"{text.fact.where}: {groups['part']} against {groups['whole']}"
            return present(f"{said} ({part / whole:.0%}, limit {above:.0%})", text.fact)
    return absent(f"The amounts stay below {above:.0%} of each other", found[0].fact)


def _amount(text: str) -> float:
    """Return bytes of `7.71 GiB`, `375.40 MB`, `304 bytes`."""
    number, _, unit = text.strip().partition(" ")
    return float(number) * _UNITS.get(unit[:1].upper() if unit.upper() != "BYTES" else "", 1)


@detector("log.differs")
def differs(run: Run, *, pattern: str, by: str) -> Observation:
    """Find a message whose group `value` differs between those whose group `by` (of `by`) differs.

    Absent if it is the same for all, or was printed by one only.
    """
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    import re2

    value, owner = re2.compile(pattern), re2.compile(by)
    first: dict[str, tuple[str, Text]] = {}
    for text in log_of(run).find([pattern]):
        who = owner.search(text.text)
        if who and who.group("by") not in first:
            first[who.group("by")] = (value.search(text.text).group("value"), text)
    kinds = {said for said, _ in first.values()}
    if len(kinds) < 2:
        return absent("All that printed the message printed the same")
    shown = "; ".join(f"{who}: {said}" for who, (said, _) in list(first.items())[:3])
    return present(shorten(shown, QUOTE), *(text.fact for _, text in list(first.values())[:3]))


@detector("log.no_own_error")
def no_own_error(run: Run) -> Observation:
    """Find a log that holds no error of a worker: no exception but wrappers, no known message."""
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    log = log_of(run)
    wrappers = {id(t) for t in log.find(CONSEQUENCES)}
    for trace in log.tracebacks:
        if id(trace.exception) not in wrappers and not log.survived(trace.exception):
            return absent("A worker printed an exception", trace.exception.fact)
    return present("No worker printed an exception of its own")


# --- the table of transformers 5 about a model that was loaded ---------------------------------

_REPORT = re.compile(r"(\w+) LOAD REPORT\b")
_REPORTED = re.compile(r"\s*(\S.*?)\s*\|\s*(MISSING|UNEXPECTED|MISMATCH)\b")
REPORT_LINES = 500


@detector("log.load_report")
def load_report(run: Run, *, status: str, keys: str, classes: str) -> Observation:
    """Find weights that a load report names with a status, in a model of one of the classes.

    `keys` and `classes` are patterns; the report is that of transformers 5, a table of `key |
    status` below `<class> LOAD REPORT`.
    """
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    wanted, models = re.compile(keys), re.compile(classes)
    model, left = "", 0
    for text in log_of(run).texts:
        if begun := _REPORT.search(text.text):
            model, left = begun[1], REPORT_LINES
        row = _REPORTED.match(text.text) if left > 0 else None
        left -= 1
        if row and row[2] == status and models.search(model) and wanted.search(row[1]):
            return present(f"the load report of {model} has `{row[1]}` as {status}", text.fact)
    return absent("No load report names such weights")


# --- a folder that the Hub was asked for ------------------------------------------------------

_ASKED_OF_HUB = (
    r"https?://(?:huggingface\.co|hf\.co|hf-mirror\.com)/(?:api/models/)?"
    r"(?P<path>[\w.-]+/[\w.-]+)/(?:resolve|tree|revision)/",
    r"Can't find '?adapter_config\.json'? at '(?P<path>[^']{1,300})'",
    r"(?P<path>\S{1,300}) is not a local folder and is not a valid model identifier",
    r"Incorrect path_or_model_id: '(?P<path>[^']{1,300})'",
    r"Repo id must .{1,120}: '(?P<path>[^']{1,300})'",
)


@detector("log.folder_sought_on_hub")
def folder_sought_on_hub(run: Run) -> Observation:
    """Find that a loader took the path of an output folder, which is not there, for a Hub name.

    `PeftModel.from_pretrained("outputs/adapter")` asks the Hub if there is no such folder; what
    fails then speaks of a connection, a token or a repository.
    """
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    import re2

    from ftdoctor.detect.script import is_local

    log = log_of(run)
    for pattern in _ASKED_OF_HUB:
        compiled = re2.compile(pattern)
        for text in log.find([pattern]):
            path = compiled.search(_searched(text.text)).group("path")
            if is_local(path, adapter=False) and not log.survived(text):
                said = f"`{path}` was sought on the Hub, as no such folder was found"
                return present(f"{text.fact.where}: {said}", text.fact)
    return absent("No path of a folder was sought on the Hub")


# --- LoRA matrices that do not fit ------------------------------------------------------------

_SHAPE = r"(?:torch\.Size\()?[\[(][1-9]\d*, [1-9]\d*[\])]"
_LORA_MISMATCHES = (
    r"size mismatch for [\w.]*lora_(?:A|B|embedding_A|embedding_B)\S*: copying a param with shape "
    rf"{_SHAPE}\)? from checkpoint, the shape in current model is {_SHAPE}",
    rf"[\w.]*lora_[ab]: adapter shape {_SHAPE} does not match model parameter shape {_SHAPE}",
    rf"Expected shape {_SHAPE} but received shape {_SHAPE} for parameter [\w.]*lora_[ab]\b",
)
_LORA_NAME = re.compile(r"lora_(?:embedding_)?([ABab])\b")
_SIZES = re.compile(r"[\[(](\d+), (\d+)[\])]")


@detector("log.lora_mismatch")
def lora_mismatch(run: Run, *, in_rank: bool) -> Observation:
    """Find adapter matrices that did not fit on loading: in their rank, or in the layers' width.

    PEFT stores lora_A as rank x inputs and lora_B as outputs x rank, MLX lora_a and lora_b the
    other way round.
    """
    if not has_text(run):
        return unobservable("There is no console output", LOG)
    log = log_of(run)
    found = [t for t in log.find(list(_LORA_MISMATCHES)) if not log.survived(t)]
    for text in found:
        line = _searched(text.wrapped or text.text)
        said = next((m.group() for p in _LORA_MISMATCHES if (m := re.search(p, line))), "")
        named, shapes = _LORA_NAME.search(said), _SIZES.findall(said)
        if named is None or len(shapes) != 2:
            continue
        kept, made = ([int(side) for side in shape] for shape in shapes)
        if said.startswith("Expected"):
            kept, made = made, kept
        rank = 0 if named[1] in "Ab" else 1
        if (kept[rank] != made[rank]) is in_rank:
            what = "rank" if in_rank else "width"
            sizes = f"{kept} in the file, {made} in the model"
            return present(f"{text.path}:{text.line}: the {what} does not fit: {sizes}", text.fact)
    return absent("No adapter matrix failed to fit in this way", *(t.fact for t in found[:1]))
