"""Columns of texts and classes in tables of unknown names, and tables that hold none."""

from __future__ import annotations

from typing import Any

import pytest

from ftdoctor.kinds import classify
from ftdoctor.read.class_columns import class_columns
from ftdoctor.read.data import read_csv
from ftdoctor.read.source import memory_source

QUEUES = ("shipping", "billing", "account")


def rows(**columns: Any) -> list[dict[str, Any]]:
    """Return 40 rows; a column is a function of the row's number."""
    return [{name: of(i) for name, of in columns.items()} for i in range(40)]


def text(i: int) -> str:
    return f"Where is my order {i} of today"


def queue(i: int) -> str:
    return QUEUES[i % 3]


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (rows(nachricht=text, abteilung=queue), ("nachricht", "abteilung")),
        (rows(no=str, mail=text, team=queue, on=lambda i: f"2024-05-{i:02}"), ("mail", "team")),
        (rows(mail=text, team=lambda i: i % 2), ("mail", "team")),
        # what else holds words may be what is learnt
        (rows(mail=text, team=queue, headline=lambda i: f"Order {i} missing"), None),
        (rows(mail=text, reply=lambda i: f"Your order {i} will arrive soon", team=queue), None),
        (rows(mail=text, code=lambda i: f"C{i}"), None),
        (rows(mail=text, source=queue), None),
        (rows(msg=text, level=queue), None),
        (rows(mail=text, predicted_team=queue), None),
        (rows(mail=text, team=lambda i: "billing"), None),
        (rows(mail=text, team=lambda i: queue(i) if i else ""), None),
        (rows(mail=text, team=queue)[:10], None),
        ([], None),
    ],
)
def test_columns_are_told_by_what_is_in_them(
    table: list[dict[str, Any]], found: tuple[str, str] | None
) -> None:
    assert class_columns(table) == found


def table(header: str, line: str) -> bytes:
    lines = [line.format(i=i, team=queue(i)) for i in range(40)]
    return "\n".join([header, *lines, ""]).encode()


def test_a_table_of_unknown_columns_is_read_as_classes() -> None:
    source = memory_source("labels.csv", table("message,queue", "Where is order {i} now?,{team}"))
    kind = classify(source)
    assert kind is not None
    assert kind.id == "data-csv"
    fact = next(f for f in read_csv(source).facts if f.name == "data.file")
    assert fact.value["classed"] == ("message", "queue")
    assert fact.value["labels"] == {"shipping": 14, "billing": 13, "account": 13}


def test_a_table_of_numbers_stays_unknown() -> None:
    assert classify(memory_source("sizes.csv", table("size,price", "{i},{i}.5"))) is None
