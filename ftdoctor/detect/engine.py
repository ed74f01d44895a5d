"""Ask every symptom of a library of one run; conditions combine in Kleene's three-valued logic."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType

from ftdoctor.detect import detector_named, unobservable
from ftdoctor.detect.log import learn
from ftdoctor.detect.observed import told
from ftdoctor.library import calls_of
from ftdoctor.limits import NEVER, Deadline, TimeUpError
from ftdoctor.model import Call, Fact, Finding, Library, Observation, Run, State, Status, Symptom

MORE_TIME = "more time (--timeout)"


def detect_all(
    run: Run, library: Library, *, strict: bool = False, deadline: Deadline = NEVER
) -> tuple[Finding, ...]:
    """Return one finding per symptom, in the library's order.

    A detector that fails makes its symptom unobservable with the error as the reason, so that one
    defect never costs the diagnosis; with `strict` (tests) it raises. What is not checked before
    the deadline is unobservable.
    """
    with contextlib.suppress(TimeUpError, MemoryError), deadline.interrupting():
        prepare(run, library.symptoms.values())
    engine = _Engine(run, library.symptoms, strict, deadline)
    engine.learn()
    in_force = (s for s in library.symptoms.values() if s.status is not Status.DEPRECATED)
    return tuple(engine.finding(symptom) for symptom in in_force)


def detect_one(run: Run, library: Library, name: str, *, strict: bool = False) -> Finding:
    """Return the finding of a single symptom; KeyError if the library has none of that id."""
    prepare(run, library.symptoms.values())
    engine = _Engine(run, library.symptoms, strict, NEVER)
    engine.learn()
    return engine.finding(library.symptoms[name])


def prepare(run: Run, symptoms: Iterable[Symptom]) -> None:
    """Let each detector module see all its calls first (`prepare(run, calls)`): one-pass scans."""
    for module, calls in _by_module(symptoms):
        hook = getattr(module, "prepare", None)
        if hook is not None:
            hook(run, calls)


def warm(library: Library) -> None:
    """Import the detectors and make what they make of their calls alone: nothing needs a run."""
    for module, calls in _by_module(library.symptoms.values()):
        hook = getattr(module, "warm", None)
        if hook is not None:
            hook(calls)


def _by_module(symptoms: Iterable[Symptom]) -> Iterator[tuple[ModuleType, list[Call]]]:
    found: dict[str, list[Call]] = {}
    for symptom in symptoms:
        for call in calls_of(symptom.call):
            found.setdefault(call.detector.split(".", 1)[0], []).append(call)
    for name, calls in found.items():
        try:
            module = importlib.import_module(f"ftdoctor.detect.{name}")
        except ModuleNotFoundError:
            continue
        yield module, calls


class _Engine:
    """One pass over one run; equal detector calls are made once."""

    def __init__(
        self, run: Run, symptoms: Mapping[str, Symptom], strict: bool, deadline: Deadline
    ) -> None:
        self.run = run
        self.deadline = deadline
        self.symptoms = symptoms
        self.strict = strict
        self.made: dict[str, Observation] = {}
        self.named: dict[str, Observation] = {}

    def learn(self) -> None:
        """Take messages that say something only together with other signs as known if these are.

        `NoneType` names a fault of the rows if a row lacks its text, and of anything else if not.
        """
        for symptom in self.symptoms.values():
            calls = [c for c in calls_of(symptom.call) if c.part and "patterns" in c.parameters]
            if not calls or self.waits(symptom.call):
                continue
            if self.ask(symptom.call).state is State.PRESENT:
                with contextlib.suppress(TimeUpError, MemoryError), self.deadline.interrupting():
                    learn(self.run, calls)

    def waits(self, call: Call, within: tuple[str, ...] = ()) -> bool:
        """Say whether a condition asks what the others know, and so cannot be asked before."""
        if call.op == "symptom":
            name = call.detector
            return name in within or self.waits(self.symptoms[name].call, (*within, name))
        asks = call.detector == "log.unexplained_exception" or "yields" in call.parameters
        return asks or any(self.waits(part, within) for part in call.parts)

    def finding(self, symptom: Symptom) -> Finding:
        seen = self.symptom(symptom.id)
        return Finding(
            symptom=symptom.id,
            title=symptom.title,
            state=seen.state,
            text=seen.text,
            facts=seen.facts,
            missing=seen.missing,
            curves=seen.curves,
            span=seen.span,
            group=symptom.group,
        )

    def symptom(self, name: str) -> Observation:
        if name not in self.named:
            self.named[name] = unobservable("The condition refers to itself")
            self.named[name] = self.told(self.symptoms[name])
        return self.named[name]

    def told(self, symptom: Symptom) -> Observation:
        """Take the user's word for an outcome before looking for it; ask if all is silent."""
        if not symptom.told:
            return self.ask(symptom.call)
        said = told(self.run, outcome=symptom.told)
        if said.state is not State.UNOBSERVABLE:
            return said
        seen = self.ask(symptom.call)
        if seen.state is not State.UNOBSERVABLE:
            return seen
        return unobservable(seen.text, *dict.fromkeys((*seen.missing, *said.missing)))

    def ask(self, call: Call) -> Observation:
        if call.op == "detect":
            return self.detect(call)
        if call.op == "symptom":
            return self.symptom(call.detector)
        answers = [self.ask(part) for part in call.parts]
        if call.op == "not":
            return _negate(answers[0])
        plain = [part.op != "not" for part in call.parts]
        return _combine(answers, all_of=call.op == "all", plain=plain)

    def detect(self, call: Call) -> Observation:
        key = json.dumps([call.detector, call.parameters], sort_keys=True, default=str)
        if key not in self.made:
            try:
                with self.deadline.interrupting():
                    self.made[key] = detector_named(call.detector)(self.run, **call.parameters)
            except TimeUpError:
                reason = f"Not checked: the time limit of {self.deadline.seconds:g} s was over"
                self.made[key] = unobservable(reason, MORE_TIME)
            except Exception as error:
                if self.strict:
                    raise
                self.made[key] = unobservable(f"The check failed: {type(error).__name__}: {error}")
        return self.made[key]


def _negate(answer: Observation) -> Observation:
    flipped = {State.PRESENT: State.ABSENT, State.ABSENT: State.PRESENT}
    return Observation(
        flipped.get(answer.state, State.UNOBSERVABLE),
        answer.text,
        answer.facts,
        answer.missing,
        answer.curves,
        answer.span,
    )


def _combine(answers: list[Observation], *, all_of: bool, plain: list[bool]) -> Observation:
    """Join answers: `all` is decided by one absence, `any` by one presence.

    What was asked for with `not` is told only if nothing `plain` can be.
    """
    deciding = State.ABSENT if all_of else State.PRESENT
    decided = [a for a in answers if a.state is deciding]
    if decided and all_of:
        return decided[0]
    unknown = [a for a in answers if a.state is State.UNOBSERVABLE]
    if unknown and not decided:
        missing = tuple(dict.fromkeys(m for a in unknown for m in a.missing))
        return Observation(State.UNOBSERVABLE, unknown[0].text, missing=missing)
    telling = decided or answers
    said = [a for a, asked in zip(answers, plain, strict=True) if asked and a in telling]
    return Observation(
        state=telling[0].state,
        text="; ".join(dict.fromkeys(a.text for a in said or telling)),
        facts=_joined(telling),
        curves=tuple(dict.fromkeys(c for a in telling for c in a.curves)),
        span=next((a.span for a in telling if a.span), None),
    )


def _joined(answers: list[Observation]) -> tuple[Fact, ...]:
    """Return the facts of all answers, each once (values may be unhashable)."""
    facts: list[Fact] = []
    for answer in answers:
        facts += [fact for fact in answer.facts if fact not in facts]
    return tuple(facts)
