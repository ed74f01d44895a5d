"""The run's tokenizer counts the same in a second process as in the first, and is loaded once."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftdoctor.aside import second_process
from ftdoctor.read import tokens
from ftdoctor.read.source import Source, local_source
from tests.read.test_derive import small_tokenizer

TEXTS = ["river owl </s>", "", "a bird \udc80"]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "tokenizer.json").write_text(small_tokenizer())
    return local_source(tmp_path, tmp_path / "tokenizer.json")


def place(_: Any) -> int:
    return os.getpid()


def test_a_second_process_counts_the_same(source: Source) -> None:
    here = tokens.ask(tokens.count, source, TEXTS, 2)()
    assert [number for number, _ in here] == [3, 0, 3]
    assert here[0][1] == [3, 1]
    with second_process():
        assert tokens.ask(place, source)() != os.getpid()
        assert tokens.ask(tokens.count, source, TEXTS, 2)() == here


def test_a_file_of_an_archive_is_read_here(source: Source) -> None:
    content = source.data()
    packed = replace(source, local=None, opener=lambda: io.BytesIO(content))
    with second_process():
        assert tokens.ask(place, packed)() == os.getpid()
        assert tokens.ask(tokens.loads, packed)()


def test_what_is_no_tokenizer_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    source = local_source(tmp_path, tmp_path / "tokenizer.json")
    assert not tokens.ask(tokens.loads, source)()
    assert tokens.ask(tokens.count, source, TEXTS, 2)() == []


def test_one_tokenizer_is_kept_and_a_changed_file_is_read_anew(
    source: Source, tmp_path: Path
) -> None:
    assert tokens.load(source) is tokens.load(source)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert tokens.load(local_source(tmp_path, tmp_path / "tokenizer.json")) is None
    assert len(tokens._loaded) == 1
