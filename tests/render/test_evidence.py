"""The account of a cause: order, sums, sources, quotes, chain, gaps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftdoctor.model import Fact, Finding, Moment, State, Unchecked, Unseen, Weight, Where
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


def told_by(outcome: str) -> tuple[str, ...]:
    return (f"your own test (tell it: --observed {outcome})",)


def test_what_only_a_person_can_see_shares_one_row() -> None:
    d = one_cause()
    unseen = (
        Unseen("u0", 16.0, -7.0, told_by("gguf-broken")),
        Unseen("u1", 12.0, -7.0, told_by("merged-broken")),
        Unseen("u2", 9.0, -7.0, ("sampled outputs", *told_by("never-stops"))),
    )
    rows = [r for r in evidence.rows(d, replace(NAN_CAUSE, unseen=unseen)) if r.word == "not seen"]
    assert [r.text for r in rows] == ["u2", "What you have seen yourself: u0, and 1 more"]
    assert rows[1].need == "your word: `--observed gguf-broken`, `merged-broken`"


def test_checks_that_only_a_person_can_make_are_one_gap() -> None:
    unchecked = [
        Unchecked("u0", "The GGUF answers badly", told_by("gguf-broken"), ("a", "b")),
        Unchecked("u1", "The merge answers badly", told_by("merged-broken"), ("b",)),
        Unchecked("u2", "Versions differ", ("pip freeze",), ("c",)),
    ]
    first, second = evidence.gaps(unchecked)
    assert first.files == "what you have seen yourself: `--observed` gguf-broken or merged-broken"
    assert (len(first.checks), first.causes) == (2, 2)
    assert second.files == "pip freeze"


def test_a_file_or_ones_own_eyes_are_one_gap() -> None:
    unchecked = [
        Unchecked("u0", "Outputs are empty", ("outputs", *told_by("empty-answers")), ("a", "b")),
        Unchecked("u1", "Outputs repeat", ("outputs", *told_by("repeats-itself")), ("c",)),
    ]
    (gap,) = evidence.gaps(unchecked)
    own = "what you have seen yourself: `--observed` empty-answers or repeats-itself"
    assert (gap.files, gap.causes) == (f"outputs, or {own}", 3)


def test_what_does_not_arise_in_this_kind_of_run_comes_last() -> None:
    unchecked = [
        Unchecked("u0", "Entropy collapses", (), ("a", "b")),
        Unchecked("u1", "Versions differ", ("pip freeze",), ("c",)),
    ]
    assert [g.files for g in evidence.gaps(unchecked)] == ["pip freeze", evidence.NO_FILE]


def test_messages_that_are_not_there_share_one_row() -> None:
    d = one_cause()
    silent = [Finding(f"m{i}", f"Message {i}", State.ABSENT, evidence.NO_MESSAGE) for i in range(3)]
    weights = tuple(Weight(f.symptom, -1.0, "against") for f in silent)
    cause = replace(NAN_CAUSE, weights=weights, unseen=())
    (row,) = evidence.rows(replace(d, findings=(*d.findings, *silent)), cause)
    assert row.text == "None of 3 messages that it would leave in the console output"
    assert row.weight == "−3.0 dB"


def test_the_users_own_frame_stands_above_the_exception() -> None:
    raised = 'IndexError: out of range\n  File "train.py", line 51, in <module>\n    train()'
    moment = Moment(None, None, raised, Where("log", line=9), "traceback")
    quote = evidence.Quote("log:9", "IndexError: out of range")
    shown = evidence.with_frame(quote, [moment]).text.splitlines()
    assert shown[0].strip() == 'File "train.py", line 51, in <module>'
    assert shown[-1] == "IndexError: out of range"
    assert evidence.with_frame(replace(quote, place="log:8"), [moment]).text == quote.text


def test_a_source_does_not_repeat_what_the_sentence_says() -> None:
    sources = (
        evidence.Source("a.log:3", "it broke"),
        evidence.Source("a.log:9", "it broke again"),
        evidence.Source("b.py:1"),
        evidence.Source("c.py:2", "lr=3"),
    )
    row = evidence.Row("▲", "for", "bad", "a.log:3: “it broke”, b.py:1", "", sources)
    assert row.unsaid == (evidence.Source("a.log:9", "it broke again"), sources[3])


def test_names_of_observations_are_not_shown_beside_a_place() -> None:
    facts = [
        Fact("weights.lfs_pointer", "model.safetensors", Where("model.safetensors", line=1)),
        Fact("data.train.rows", 48, Where("train.jsonl")),
        Fact("tokenizer.eos_token", "</s>", Where("tokenizer.json")),
        Fact("learning_rate", 2e-5, Where("train.py", line=3)),
        Fact("export.missing_files", "x", Where(".")),
    ]
    sources, _ = evidence.sources_of(facts[:3])
    assert [s.quote for s in sources] == ["", "", "</s>"]
    assert evidence.sources_of(facts[3:]) == (
        (evidence.Source("train.py:3", "learning_rate=2e-5"),),
        0,
    )
