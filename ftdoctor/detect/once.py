"""Keep what is worked out of a run, so that whoever asks again gets the same."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from ftdoctor.model import Run

T = TypeVar("T")
KEPT = 4  # runs of which a result is kept; a diagnosis asks one run at a time


def once_per_run(function: Callable[[Run], T]) -> Callable[[Run], T]:
    """Return a function of a run that is called once for each of the last runs."""
    kept: OrderedDict[int, tuple[weakref.ref[Run], T]] = OrderedDict()

    @wraps(function)
    def asked(run: Run) -> T:
        known = kept.get(id(run))
        if known is not None and known[0]() is run:
            return known[1]
        made = function(run)
        kept[id(run)] = (weakref.ref(run), made)
        while len(kept) > KEPT:
            kept.popitem(last=False)
        return made

    return asked
