"""The account of a cause: order, sums, sources, quotes, chain, gaps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftdoctor.model import Fact, Finding, State, Unseen, Weight, Where
from ftdoctor.render import evidence
from tests.render.samples import (
    NAN_CAUSE,
    UNCHECKED,
    chain,
    crash_before_first_step,
    healthy,
    one_cause,
    two_causes,
)


def test_rows_go_for_against_explained_not_seen() -> None:
    d = one_cause()
    assert [r.word for r in evidence.rows(d, d.causes[0])] == [
        "for", "for", "risk", "against", "not seen"]  # fmt: skip
    assert [r.word for r in evidence.rows(d, d.causes[1])] == ["for", "against", "explained"]
    assert "Cause 1 already accounts for" in evidence.rows(d, d.causes[1])[2].text


def test_a_missing_file_is_named_with_what_it_could_change() -> None:
    d = one_cause()
    row = evidence.rows(d, d.causes[0])[-1]
    assert row.need == "pip freeze output or environment.txt"
    assert row.weight == "+3.0 dB or −0.4 dB"


def test_many_findings_are_summed_up() -> None:
    d = one_cause()
    weights = tuple(Weight(f"s{i}", 1.0 + i / 10, "for") for i in range(12))
    unseen = tuple(Unseen(f"u{i}", 1.0, -1.0, ()) for i in range(9))
    rows = evidence.rows(d, replace(NAN_CAUSE, weights=weights, unseen=unseen))
    assert len(rows) == evidence.ROWS + 1 + evidence.UNSEEN_ROWS + 1
    assert rows[evidence.ROWS].text == "4 smaller findings together"
    assert rows[evidence.ROWS].weight == "+4.6 dB"
    assert rows[-1].text == "6 further checks of less weight"


def test_small_and_indirect_shifts() -> None:
    d = one_cause()
    slight = replace(NAN_CAUSE, weights=(Weight("a", 0.1, "explained"),), unseen=())
    assert evidence.rows(d, slight) == []
    more = replace(NAN_CAUSE, weights=(Weight("gradient-norm-nan", 2.0, "explained"),), unseen=())
    (row,) = evidence.rows(d, more)
    assert (row.word, row.text) == (
        "indirect",
        "Made likelier by evidence on other causes: gradient norm is NaN",
    )


def test_what_is_absent_is_not_said_to_be_accounted_for() -> None:
    d = one_cause()
    less = replace(NAN_CAUSE, weights=(Weight("loss-oscillates", -2.0, "explained"),), unseen=())
    (row,) = evidence.rows(d, less)
    assert row.text == "Made less likely by evidence on other causes"


def finding(*values: object) -> Finding:
    facts = tuple(Fact("name", v, Where("f", line=i)) for i, v in enumerate(values, 1))
    return Finding("s", "S", State.PRESENT, "text", facts)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "name=True"),
        (2e-4, "name=2e-4"),
        (12000, "name=12,000"),
        ("bf16", "name=bf16"),
        ("Using device: mps", "Using device: mps"),
        ("x" * 100, ""),
        ([1, 2], ""),
        (None, ""),
        (" ", ""),
    ],
)
def test_short_values_are_shown_beside_their_place(value: object, shown: str) -> None:
    sources, more = evidence.sources_of(finding(value).facts)
    assert sources == (evidence.Source("f:1", shown),)
    assert more == 0


def test_further_sources_are_counted() -> None:
    sources, more = evidence.sources_of(finding(1, 2, 3, 4, 5).facts)
    assert (len(sources), more) == (3, 2)


def test_quotes_put_log_lines_before_settings() -> None:
    quotes = evidence.quotes_of([finding(3, "a traceback\nof two lines")])
    assert [q.text for q in quotes] == ["a traceback\nof two lines", "f:1  name=3"]
    long = "\n".join(f"line {i}" for i in range(500))
    (quote,) = evidence.quotes_of([finding(long)])
    assert quote.text.startswith("…\n")
    assert quote.text.endswith("line 499")
    assert len(quote.text.splitlines()) == evidence.QUOTE_LINES


def test_the_chain_goes_from_root_to_end() -> None:
    links = evidence.chain(chain())
    assert links[0].root
    assert [link.label for link in links] == [
        "root cause", "step 340 to 410", "step 411 on", "step 411 on", "which led to", "step 986",
    ]  # fmt: skip
    assert len(links) <= evidence.CHAIN


def test_too_little_makes_no_chain() -> None:
    assert evidence.chain(healthy()) == []
    d = crash_before_first_step()
    assert evidence.chain(d) == []


def test_second_causes_are_probable_and_independent() -> None:
    second = evidence.second_cause(two_causes())
    assert second is not None
    assert second.id == "eos-not-in-training-data"
    assert evidence.second_cause(chain()) is None
    assert evidence.second_cause(one_cause()) is None


def test_gaps_are_grouped_by_file() -> None:
    gaps = evidence.gaps(UNCHECKED)
    assert [(g.files, len(g.checks), g.causes) for g in gaps] == [
        ("generations.jsonl", 3, 4),
        ("pip freeze output", 1, 1),
    ]
