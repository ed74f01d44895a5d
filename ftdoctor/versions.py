"""Versions of packages: ranges like `transformers>=4.31,<4.46` against what a run tells of itself.

A small comparison of the release numbers of PEP 440; `packaging` is not among the dependencies.
A pre-release counts as its release: 4.46.0.dev0 has the code of 4.46.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from ftdoctor.model import Run

Version = tuple[int, ...]

_ONE = r"(?:[<>]=?|==|!=)\s*[\w.+]+"
_RANGE = re.compile(rf"([A-Za-z0-9][\w.-]*?)\s*({_ONE}(?:\s*,\s*{_ONE})*)")
_BOUND = re.compile(r"([<>]=?|==|!=)\s*([\w.+]+)")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
# What else tells a package's version. config.json keeps that of whoever wrote it, which for a base
# model is its maker; a run's own output folder holds the run's.
_ALSO = {"transformers": ("model.transformers_version",)}


def version(text: str) -> Version | None:
    """Return the release numbers of a version ("4.46.0.dev0+cu121" is (4, 46)), or None."""
    match = re.match(r"\s*v?(\d+(?:\.\d+)*)", text)
    if match is None:
        return None
    numbers = [int(part) for part in match[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def is_range(text: str) -> bool:
    """Say whether the text is a package with bounds, as `affects:` of a signature takes."""
    match = _RANGE.fullmatch(text.strip())
    return match is not None and all(version(v) for _, v in _BOUND.findall(match[2]))


def within(found: Version, text: str) -> bool:
    """Say whether a version fulfils every bound of a range."""
    match = _RANGE.fullmatch(text.strip())
    bounds = _BOUND.findall(match[2]) if match else []
    return all(_COMPARE[sign](found, version(limit)) for sign, limit in bounds)


def version_in(run: Run, package: str) -> Version | None:
    """Return the version of a package in the run's environment, or None if no file tells it."""
    return next(iter(versions_in(run, package)), None)


def versions_in(run: Run, package: str) -> list[Version]:
    """Return the versions of a package that files tell, the one that counts first."""
    names = (f"environment.package.{package.lower()}", *_ALSO.get(package.lower(), ()))
    found = (version(str(fact.value)) for name in names for fact in run.facts.get(name, ()))
    return [one for one in found if one is not None]


def affected(run: Run, ranges: Sequence[str]) -> bool:
    """Say whether a run may have one of the versions; an unknown version may be any.

    Of several that files or a ticket tell ("before 2.4, now 2.6"), one is enough.
    """
    if not ranges:
        return True
    for text in ranges:
        match = _RANGE.fullmatch(text.strip())
        found = versions_in(run, match[1]) if match else []
        if not found or any(within(one, text) for one in found):
            return True
    return False
