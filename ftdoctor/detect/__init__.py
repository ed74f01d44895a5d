"""Detectors: small pure functions that look at a Run and answer present, absent or unobservable.

A detector is registered under a dotted name whose first part is its module here. Signatures call
it by that name with typed keyword parameters; `detector_named` imports the module on first use.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from functools import cache, wraps
from importlib.metadata import entry_points
from typing import Any

from ftdoctor.model import Fact, Observation, Run, Span, State

Detector = Callable[..., Observation]
_registry: dict[str, Detector] = {}


def detector(name: str, *, of_text: bool = False) -> Callable[[Detector], Detector]:
    """Register a function `(run, *, parameters) -> Observation` under `module.verb`.

    `of_text`: the question makes sense only for a model that writes text; for a classifier the
    answer is unobservable.
    """

    def register(function: Detector) -> Detector:
        _registry[name] = _for_writers(function) if of_text else function
        return _registry[name]

    return register


def _for_writers(function: Detector) -> Detector:
    @wraps(function)
    def asked(run: Run, **parameters: Any) -> Observation:
        kind = run.fact("run.kind")
        if kind is not None and kind.value == "classification":
            return unobservable("A classifier writes no text")
        return function(run, **parameters)

    return asked


@cache
def detector_named(name: str) -> Detector:
    """Return a detector, importing its module here or an entry point of group ftdoctor.detectors.

    KeyError if there is none of that name.
    """
    module = name.split(".", 1)[0]
    if name not in _registry and module.isidentifier():
        try:
            importlib.import_module(f"ftdoctor.detect.{module}")
        except ModuleNotFoundError as error:
            if error.name != f"ftdoctor.detect.{module}":
                raise
    if name not in _registry:
        for entry in entry_points(group="ftdoctor.detectors"):
            if entry.name == name:
                _registry[name] = entry.load()
    return _registry[name]


def parameters_of(function: Detector) -> dict[str, inspect.Parameter]:
    """Return the keyword parameters that a signature may give, with defaults and type hints."""
    signature = inspect.signature(function, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    return {name: p for name, p in signature.parameters.items() if p.kind is keyword}


def present(
    text: str,
    *facts: Fact,
    curves: Iterable[str] = (),
    span: Span | None = None,
) -> Observation:
    """Answer that the symptom is there; `text` is one sentence with the numbers."""
    return Observation(State.PRESENT, text, facts, curves=tuple(curves), span=span)


def absent(text: str, *facts: Fact, curves: Iterable[str] = ()) -> Observation:
    """Answer that it was looked for where it would show, and is not there."""
    return Observation(State.ABSENT, text, facts, curves=tuple(curves))


def unobservable(text: str, *missing: str) -> Observation:
    """Answer that the run holds nothing that could show it; `missing` names files that would."""
    return Observation(State.UNOBSERVABLE, text, missing=missing)


def check_call(name: str, parameters: dict[str, Any]) -> list[str]:
    """Return what is wrong with calling a detector with these parameters (names and types)."""
    import difflib
    import types
    import typing

    try:
        accepted = parameters_of(detector_named(name))
    except KeyError:
        near = difflib.get_close_matches(name, _registry, 1)
        return [f"no detector `{name}`" + (f"; did you mean `{near[0]}`?" if near else "")]
    problems = []
    for key, value in parameters.items():
        if key not in accepted:
            near = difflib.get_close_matches(key, accepted, 1)
            hint = f"; did you mean `{near[0]}`?" if near else f"; it takes {', '.join(accepted)}"
            problems.append(f"`{name}` takes no parameter `{key}`{hint}")
            continue
        hint_type = accepted[key].annotation
        if not _fits(value, hint_type, typing, types):
            wanted = getattr(hint_type, "__name__", str(hint_type))
            problems.append(f"`{name}`: `{key}` must be {wanted}, not {value!r}")
    for key, parameter in accepted.items():
        if parameter.default is inspect.Parameter.empty and key not in parameters:
            problems.append(f"`{name}` needs the parameter `{key}`")
    return problems


def _fits(value: Any, hint: Any, typing: Any, types: Any) -> bool:
    origin = typing.get_origin(hint)
    if hint is Any or hint is inspect.Parameter.empty:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part, typing, types) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin in (list, tuple):
        parts = typing.get_args(hint)
        return isinstance(value, list) and all(
            _fits(item, parts[0], typing, types) for item in value
        )
    if origin is dict:
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is type(None):
        return value is None
    return isinstance(value, hint)
