"""Near copies are found among texts, and texts that only share phrases are not."""

from __future__ import annotations

import random

from ftdoctor.detect.nearcopies import near_copies

CHANCE = random.Random(5)
WORDS = ["".join(CHANCE.choices("abcdefghijklmnop", k=6)) for _ in range(500)]


def text(words: int = 120) -> str:
    return " ".join(CHANCE.choices(WORDS, k=words))


def one_word_changed(source: str) -> str:
    words = source.split()
    words[len(words) // 2] = "other"
    return " ".join(words)


def test_later_near_copies_are_found_once_each() -> None:
    first, second = text(), text()
    texts = [
        first,
        text(),
        second,
        one_word_changed(first),
        text(),
        second,
        one_word_changed(second),
    ]
    assert list(near_copies(texts)) == [3, 5, 6]


def test_asked_texts_are_compared_with_known_ones_only() -> None:
    known = [text(), text()]
    twice = text()
    assert list(near_copies(known, [twice, twice, one_word_changed(known[1])])) == [2]


def test_a_common_beginning_is_no_copy() -> None:
    prompt = text(80)
    assert list(near_copies([f"{prompt} {text(80)}" for _ in range(30)])) == []


def test_short_texts_are_not_compared() -> None:
    assert list(near_copies(["a b c d"] * 5)) == []
