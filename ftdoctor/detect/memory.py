"""Detector on the amounts that torch names when the accelerator's memory runs out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.log import LOG, Text, has_text, log_of
from ftdoctor.model import Observation, Run

_OUT_OF_MEMORY = "out of memory"
_AMOUNT = r"([0-9]+(?:\.[0-9]+)?) (bytes|[KMGT]i?B)"
_CAPACITY = re.compile(rf"total capac\w+ of {_AMOUNT}|{_AMOUNT} total capacity")
_FREE = re.compile(rf"of which {_AMOUNT} is free|{_AMOUNT} free\b")
_ASKED = re.compile(rf"[Tt]ried to allocate {_AMOUNT}")
_OTHER = re.compile(rf"Process \d+ has {_AMOUNT} memory in use")
_OWN = re.compile(rf"this process has {_AMOUNT} memory in use")
_ALLOCATED = re.compile(rf"{_AMOUNT} is allocated by PyTorch|{_AMOUNT} already allocated")
_UNUSED = re.compile(rf"{_AMOUNT} is reserved by PyTorch but unallocated|{_AMOUNT} cached")
_RESERVED = re.compile(rf"{_AMOUNT} reserved in total by PyTorch")
_UNITS = {"b": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
GIB = 1 << 30
# A CUDA context, its libraries and NCCL's buffers, which torch does not count (judgement).
CONTEXT = 1.5 * GIB


@dataclass(frozen=True, slots=True)
class _Shares:
    """Bytes of one card: what it has, what is free, asked for, one's own and the others'."""

    capacity: float
    free: float
    asked: float
    own: float
    others: float


@detector("memory.held_by_others")
def held_by_others(run: Run, *, above: float) -> Observation:
    """Find that others held more of the card than this process did, and more than a share of it.

    Where the message does not name them, they are what is left of the card without the free memory,
    PyTorch's own and a context. A request that would not have fitted without them does not count.
    """
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    log = log_of(run)
    checked: list[tuple[Text, _Shares]] = []
    for text in log.texts:
        if _OUT_OF_MEMORY not in text.text.lower() or log.survived(text):
            continue
        if (shares := _shares(text.wrapped or text.text)) is not None:
            checked.append((text, shares))
    if not checked:
        return unobservable("No message names what each process held", LOG)
    for text, found in checked:
        if found.others <= max(found.own, above * found.capacity):
            continue
        if found.asked > found.free + found.others:
            continue
        return present(_told(text, found, "more than"), text.fact)
    text, found = checked[0]
    return absent(_told(text, found, "beside"), text.fact)


def _shares(text: str) -> _Shares | None:
    """Return the amounts of one message, None if it does not tell whose the memory was."""
    capacity, free, asked = _amount(_CAPACITY, text), _amount(_FREE, text), _amount(_ASKED, text)
    if not capacity or free is None:
        return None
    own = _amount(_OWN, text)
    if own is not None:
        named = sum(_bytes(*found) for found in _OTHER.findall(text))
        return _Shares(capacity, free, asked or 0, own, named)
    allocated = _amount(_ALLOCATED, text)
    if allocated is None:
        return None
    own = max(allocated + (_amount(_UNUSED, text) or 0), _amount(_RESERVED, text) or 0)
    others = max(0.0, capacity - free - own - CONTEXT)
    return _Shares(capacity, free, asked or 0, own, others)


def _amount(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.search(text)
    if found is None:
        return None
    number, unit = (group for group in found.groups() if group is not None)
    return _bytes(number, unit)


def _bytes(number: str, unit: str) -> float:
    return float(number) * _UNITS[unit[0]]


def _told(text: Text, found: _Shares, relation: str) -> str:
    others, own, card = (f"{n / GIB:,.2f} GiB" for n in (found.others, found.own, found.capacity))
    whole = f"other processes held {others} of the card's {card}"
    return f"{whole}, {relation} this one's {own} ({text.fact.where})"
