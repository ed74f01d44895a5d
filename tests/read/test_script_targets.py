"""Targets that scripts encode apart from their inputs: their limit, their column, their words."""

from __future__ import annotations

import pytest

from ftdoctor.read.code import parse
from ftdoctor.read.script_labels import labels_of
from ftdoctor.read.script_targets import targets_of

ENCODED = (
    "p.add_argument('--most', type=int, default=8)\na = p.parse_args()\n"
    "def prep(b):\n"
    "    x = tok([s for s in b['mail']], max_length=128, truncation=True)\n"
    "    y = tok(text_target=b['answer'], max_length=a.most, truncation=True)\n"
    "    x['labels'] = y['input_ids']\n    return x\n"
)


def told(text: str) -> dict[str, object]:
    code, problem = parse(text)
    assert code is not None, problem
    return {name: value for name, value, _ in targets_of(code)}


def test_the_limit_of_the_targets_is_found_behind_an_argument() -> None:
    assert told(ENCODED) == {"target_limit": 8}


def test_a_limit_without_truncation_cuts_nothing() -> None:
    assert told("y = tok(text_target=b['answer'], max_length=8)\n") == {}


def test_labels_of_an_encoding_of_their_own_are_no_copy_of_the_inputs() -> None:
    code, _ = parse(ENCODED)
    assert code is not None
    assert not list(labels_of(code))


def test_labels_of_the_same_encoding_are_a_copy() -> None:
    text = "def prep(b):\n    x = tok(b['text'])\n    x['labels'] = x['input_ids'].copy()\n"
    code, _ = parse(text)
    assert code is not None
    assert [value for _, value, _ in labels_of(code)] == ["copied"]


@pytest.mark.parametrize(
    "text",
    [
        ENCODED.replace("'mail'", "'answer'"),
        "rows = [{'prompt': 'Say: ' + r['a'], 'completion': r['a']} for r in data]\n",
    ],
)
def test_one_column_for_both_sides_is_told(text: str) -> None:
    assert "target_is_input" in told(text)


@pytest.mark.parametrize(
    "row",
    [
        "{'prompt': r['q'], 'completion': r['a'], 'input': r['a']}",
        "{'prompt': r['messages'][:-1], 'completion': r['messages'][-1:]}",
        "{'prompt': r['turns'][0]['content'], 'completion': r['turns'][1]['content']}",
    ],
)
def test_two_columns_or_two_parts_of_one_are_in_order(row: str) -> None:
    assert told(f"row = {row}\n") == {}


@pytest.mark.parametrize(
    ("aligning", "expected"),
    [("b['tags']", "unaligned"), ("[b['tags'][i] for i in x.word_ids()]", "aligned")],
)
def test_labels_of_words_need_the_words_of_their_pieces(aligning: str, expected: str) -> None:
    text = f"def prep(b):\n    x = tok(b['tokens'], is_split_into_words=True)\n    x['labels'] = {aligning}\n"
    assert told(text) == {"word_labels": expected}


@pytest.mark.parametrize(
    ("given", "copied"),
    [
        ("tok(text_target=b['de'], truncation=True)", False),
        ("tok(b['de'], truncation=True)", False),
        ("tok(b['en'])", True),
    ],
)
def test_ids_taken_from_a_call_are_a_copy_if_the_text_is_the_same(given: str, copied: bool) -> None:
    code, problem = parse(
        f"def f(b):\n    x = tok(b['en'])\n    x['labels'] = {given}['input_ids']\n    return x\n"
    )
    assert code is not None, problem
    assert [value for _, value, _ in labels_of(code)] == (["copied"] if copied else [])
