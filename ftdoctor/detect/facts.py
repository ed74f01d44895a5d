"""Detectors on single values: settings that were asked for and facts that were observed.

A parameter `fact` names a setting or a fact by its canonical name (`read/names.py`); a setting
wins when both exist. A value that no file gives is unobservable, unless `known_if` says which file
would have given it: then its default holds, or it is missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.points import number as amount_of
from ftdoctor.detect.wording import ITEMS, named, said, shown
from ftdoctor.model import Fact, Observation, Run, Where
from ftdoctor.render.text import listed

_HOMES = (
    ("tokenizer.", "tokenizer files"),
    ("model.", "config.json"),
    ("generation.", "generation_config.json"),
    ("lora.", "adapter_config.json or the training configuration"),
    ("adapter.", "adapter_config.json"),
    ("quantization.", "training configuration"),
    ("gguf.", "GGUF file"),
    ("weights.", "weight files"),
    ("checkpoint.", "checkpoint folders"),
    ("data.eval", "evaluation data"),
    ("data.", "training data"),
    ("progress.", "trainer_state.json or the stdout log"),
    ("state.", "trainer_state.json"),
    ("summary.", "stdout log"),
    ("log.", "stdout log"),
    ("environment.package", "requirements or pip freeze"),
    ("environment.", "stdout log"),
    ("requirements.", "requirements.txt"),
    ("script.test", "test or inference script"),
    ("script.inference", "test or inference script"),
    ("script.", "training script"),
    ("shell.", "launch script"),
)


def home_of(fact: str) -> str:
    """Return in plain words the file that would hold a value of that name."""
    for prefix, home in _HOMES:
        if fact.startswith(prefix):
            return home
    return "training configuration"


def number(value: Any) -> float | None:
    """Return a value as a number; "2e-5" counts (YAML 1.1 leaves it text), bools do not."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value.strip().rstrip(",").replace("_", ""))
        except ValueError:
            return None
    return None


def same(left: Any, right: Any) -> bool:
    """Say whether two values mean the same: case, "1e-4" against 0.0001, and order are ignored."""
    if isinstance(left, bool) or isinstance(right, bool):
        return _truth(left) is not None and _truth(left) == _truth(right)
    numbers = number(left), number(right)
    if numbers[0] is not None and numbers[1] is not None:
        return math.isclose(numbers[0], numbers[1], rel_tol=1e-9)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return sorted(map(_folded, left)) == sorted(map(_folded, right))
    return _folded(left) == _folded(right)


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return bool(value) if value in (0, 1) else None
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return words.get(_folded(value))


def _folded(value: Any) -> str:
    """Return text in one case; enum-like names lose their class (`IntervalStrategy.NO` is `no`)."""
    text = str(value).strip().casefold()
    return re.sub(r"^[a-z]*strategy\.", "", text)


def _facts(run: Run, name: str, *, anywhere: bool) -> tuple[Fact, ...]:
    """Return the value in force, or with `anywhere` every place that gives one."""
    if anywhere:
        return tuple(run.settings.get(name, ())) + tuple(run.facts.get(name, ()))
    known = run.known(name)
    return (known,) if known else ()


def witness(run: Run, condition: str) -> Where | None:
    """Return where an artifact kind, a fact, a setting or a prefix (`lora.*`) was observed."""
    if condition.endswith("*"):
        prefix = condition[:-1]
        names = (n for n in (*run.settings, *run.facts) if n.startswith(prefix))
        condition = next(names, "")
    known = run.known(condition)
    if known is not None:
        return known.where
    artifacts = (a for a in run.artifacts if a.kind == condition and run.has(condition))
    return next((Where(a.path) for a in artifacts), None)


def _default(run: Run, fact: str, default: Any, known_if: Sequence[str]) -> tuple[Fact, ...]:
    """Return the trainer's default as a fact when the file that could override it was read."""
    if default is None:
        return ()
    places = (witness(run, c) for c in known_if)
    where = next((p for p in places if p is not None), None)
    return (Fact(fact, default, where),) if where else ()


def _judge(
    fact: str, values: Iterable[Fact], fits: Callable[[Any], bool], claim: str = "", other: str = ""
) -> Observation:
    """Answer present with the facts that fit.

    `claim` says what fits if the value alone does not, `other` what the value of the rest is not.
    """
    found = tuple(values)
    if not found:
        return unobservable(f"No file gives {named(fact)}", home_of(fact))
    hits = tuple(f for f in found if fits(f.value))
    if hits:
        return present(said(hits[0]) + (claim and f", {claim}"), *hits)
    return absent(said(found[0]) + (other and f", {other}"), *found)


@detector("facts.given")
def given(run: Run, *, fact: str, known_if: tuple[str, ...] = ()) -> Observation:
    """Find that a value is given at all; absent only if a file that could give it was read."""
    found = run.known(fact)
    if found is not None and found.value not in (None, "", [], {}):
        return present(said(found), found)
    if found is not None or any(witness(run, c) for c in known_if):
        return absent(f"Not found: {named(fact)}", *([found] if found else []))
    return unobservable(f"No file gives {named(fact)}", home_of(fact))


@detector("facts.missing")
def missing(
    run: Run, *, fact: str, known_if: list[str], alternatives: tuple[str, ...] = ()
) -> Observation:
    """Find that a value is given nowhere although a file that should give it was read.

    `known_if` lists artifact kinds, facts, settings or prefixes (`lora.*`), one of which suffices;
    `alternatives` are names that serve as well.
    """
    for name in (fact, *alternatives):
        found = run.known(name)
        if found is not None and found.value not in (None, "", [], {}):
            return absent(said(found), found)
    if (pasted := run.fact("run.pasted")) is not None:
        return unobservable(f"{pasted.where} need not show {named(fact)}", home_of(fact))
    witnesses = [c for c in known_if if witness(run, c)]
    if not witnesses:
        return unobservable(f"No file was found that should give {named(fact)}", home_of(fact))
    empty = run.known(fact)
    facts = [empty] if empty else [f for c in witnesses if (f := run.known(c))][:1]
    known = listed(map(named, witnesses[:3]))
    return present(f"{named(fact)} is given nowhere, though {known} is", *facts)


@detector("facts.equals")
def equals(
    run: Run,
    *,
    fact: str,
    value: str | int | float | bool | list[Any],
    default: Any = None,
    known_if: tuple[str, ...] = (),
    anywhere: bool = False,
) -> Observation:
    """Find a setting or fact of one value (lists compare as sets; `default` holds if unset)."""
    found = _facts(run, fact, anywhere=anywhere) or _default(run, fact, default, known_if)
    other = "" if isinstance(value, bool) else f"not {shown(value)}"
    return _judge(fact, found, lambda v: same(v, value), other=other)


@detector("facts.one_of")
def one_of(
    run: Run,
    *,
    fact: str,
    values: list[Any],
    default: Any = None,
    known_if: tuple[str, ...] = (),
    anywhere: bool = False,
) -> Observation:
    """Find a setting or fact that is one of several values."""
    found = _facts(run, fact, anywhere=anywhere) or _default(run, fact, default, known_if)
    other = f"not {listed(map(shown, values[:ITEMS]), 'or')}"
    return _judge(fact, found, lambda v: any(same(v, w) for w in values), other=other)


@detector("facts.matches")
def matches(run: Run, *, fact: str, pattern: str, anywhere: bool = False) -> Observation:
    """Find text that a regular expression finds (searched, case ignored; lists item by item)."""
    import re2

    options = re2.Options()
    options.case_sensitive = False
    compiled = re2.compile(pattern, options)

    def fits(value: Any) -> bool:
        items = value if isinstance(value, list | tuple) else [value]
        return any(compiled.search(str(item)) for item in items[:1000])

    return _judge(fact, _facts(run, fact, anywhere=anywhere), fits)


@detector("facts.contains")
def contains(run: Run, *, fact: str, any_of: list[Any], anywhere: bool = False) -> Observation:
    """Find a list (or text) that holds at least one of the given items."""

    def fits(value: Any) -> bool:
        items = value if isinstance(value, list | tuple) else [value]
        return any(same(item, wanted) for item in items for wanted in any_of)

    other = f"without {listed(map(shown, any_of[:ITEMS]), 'or')}"
    return _judge(fact, _facts(run, fact, anywhere=anywhere), fits, other=other)


@detector("facts.above")
def above(
    run: Run,
    *,
    fact: str,
    limit: float | str,
    or_equal: bool = False,
    anywhere: bool = False,
) -> Observation:
    """Find a number above a limit, which is a number or the name of another setting or fact."""
    return _compare(run, fact, limit, "above", or_equal=or_equal, anywhere=anywhere)


@detector("facts.below")
def below(
    run: Run,
    *,
    fact: str,
    limit: float | str,
    or_equal: bool = False,
    anywhere: bool = False,
) -> Observation:
    """Find a number below a limit, which is a number or the name of another setting or fact."""
    return _compare(run, fact, limit, "below", or_equal=or_equal, anywhere=anywhere)


def _compare(
    run: Run,
    fact: str,
    limit: float | str,
    side: Literal["above", "below"],
    *,
    or_equal: bool,
    anywhere: bool,
) -> Observation:
    bound = _bound(run, limit)
    if bound is None:
        return unobservable(f"No file gives {named(str(limit))}", home_of(str(limit)))
    values = [f for f in _facts(run, fact, anywhere=anywhere) if number(f.value) is not None]
    claim = f"{'at or ' if or_equal else ''}{side} {amount_of(bound)}"
    claim += f", {named(limit)}" if isinstance(limit, str) else ""

    def fits(value: Any) -> bool:
        amount = number(value)
        if amount is None or math.isnan(amount):
            return False
        beyond = amount > bound if side == "above" else amount < bound
        return beyond or (or_equal and amount == bound)

    given = claim if bound else ""  # that a rank is above 0 says nothing
    return _judge(fact, values, fits, given, f"not {claim}")


def _bound(run: Run, limit: float | str) -> float | None:
    if isinstance(limit, str):
        known = run.known(limit)
        return number(known.value) if known else None
    return float(limit)


@detector("facts.between")
def between(run: Run, *, fact: str, low: float, high: float, outside: bool = False) -> Observation:
    """Find a number from `low` to `high`, both included; with `outside`, one beyond them."""
    values = [f for f in _facts(run, fact, anywhere=False) if number(f.value) is not None]

    def fits(value: Any) -> bool:
        amount = number(value)
        return amount is not None and (low <= amount <= high) is not outside

    claim = f"{'outside' if outside else 'within'} {amount_of(low)} to {amount_of(high)}"
    return _judge(fact, values, fits, claim, f"not {claim}")


@detector("facts.disagree")
def disagree(
    run: Run,
    *,
    fact: str,
    other: str | None = None,
    tolerance: float = 0.0,
) -> Observation:
    """Find two sources that differ: two places that give `fact`, or `fact` against `other`.

    Numbers may differ by `tolerance`, as a share of the larger.
    """
    left = _facts(run, fact, anywhere=True)
    right = left if other is None else _facts(run, other, anywhere=True)
    if not left or not right:
        name = fact if not left else str(other)
        return unobservable(f"No file gives {named(name)}", home_of(name))
    if other is None and len({f.where.path for f in left}) < 2:
        return unobservable(
            f"Only one file gives {named(fact)}", f"a second source of {named(fact)}"
        )
    pairs = [(left[0], f) for f in right if f is not left[0]]
    for first, second in pairs:
        if not _near(first.value, second.value, tolerance):
            return present(f"{said(first)}, but {said(second)}", first, second)
    return absent(f"{said(left[0])}, and {pairs[0][1].where} agrees", left[0], pairs[0][1])


def _near(left: Any, right: Any, tolerance: float) -> bool:
    if same(left, right):
        return True
    first, second = number(left), number(right)
    if first is None or second is None:
        return False
    return abs(first - second) <= tolerance * max(abs(first), abs(second))


@detector("facts.ratio")
def ratio(
    run: Run,
    *,
    fact: str,
    to: float | str,
    above: float | None = None,
    below: float | None = None,
) -> Observation:
    """Find that one number divided by another (a number or a name) is beyond a limit."""
    known, divisor = run.known(fact), _bound(run, to)
    amount = number(known.value) if known else None
    if known is None or amount is None:
        return unobservable(f"No file gives {named(fact)}", home_of(fact))
    if divisor is None:
        return unobservable(f"No file gives {named(str(to))}", home_of(str(to)))
    if divisor == 0:
        return unobservable(f"{named(str(to))} is zero, so no ratio exists", home_of(str(to)))
    share = amount / divisor
    facts = [known] + ([other] if isinstance(to, str) and (other := run.known(to)) else [])
    by = f"{named(to)} ({amount_of(divisor)})" if isinstance(to, str) else amount_of(divisor)
    text = f"{named(fact)} ({amount_of(amount)}) divided by {by} is {amount_of(share)}"
    if above is not None and share > above:
        return present(f"{text}, above {amount_of(above)}", *facts)
    if below is not None and share < below:
        return present(f"{text}, below {amount_of(below)}", *facts)
    return absent(text, *facts)
