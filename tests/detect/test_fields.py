"""Target objects whose fields change their type, and fields that may be of two."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ftdoctor.detect.fields import drift
from ftdoctor.examples import run_from_example
from ftdoctor.model import State


def state(target: Callable[[int], dict[str, Any]], *, written: bool = True) -> State:
    rows = [
        {"prompt": f"Read {i}", "completion": json.dumps(target(i))}
        if written
        else {"text": f"Read {i}", "order": target(i)}
        for i in range(40)
    ]
    files = {"train.jsonl": "".join(json.dumps(row) + "\n" for row in rows)}
    return drift(run_from_example({"files": files})).state


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (lambda i: {"n": i if i % 3 else f"{i} pcs"}, State.PRESENT),
        (lambda i: {"paid": True if i % 3 else "yes"}, State.PRESENT),
        (lambda i: {"item": "lamp" if i % 3 else ["lamp"]}, State.PRESENT),
        (
            lambda i: {
                "item": "lamp" if i % 3 else {"name": "lamp"},
                "on": i,
            },
            State.ABSENT,
        ),
        (lambda i: {"n": i if i % 3 else None, "item": "lamp"}, State.ABSENT),
        (lambda i: {"n": i if i % 3 else i + 0.5}, State.ABSENT),
        (lambda i: {"item": "lamp" if i % 3 else ["lamp", "tent"]}, State.ABSENT),
        (lambda i: {"field": "age", "value": i if i % 2 else "Bob Lee"}, State.ABSENT),
        (lambda i: {f"key{i}": i}, State.UNOBSERVABLE),
    ],
)
def test_types_of_a_field(
    target: Callable[[int], dict[str, Any]], expected: State, written: bool
) -> None:
    assert state(target, written=written) is expected


def test_two_fields_of_text_and_object_are_drift() -> None:
    def target(i: int) -> dict[str, Any]:
        return {"a": "x" if i % 2 else {"b": "x"}, "c": "y" if i % 3 else {"d": "y"}}

    assert state(target) is State.PRESENT
