"""The terminal: ten lines, any width, any code page, no escape sequence of the run."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from ftdoctor.render.terminal import _cells, print_summary, render_terminal, wants_color
from tests.render.hostile import TEXTS, fill
from tests.render.samples import SAMPLES, healthy, one_cause, two_causes

EVERY = pytest.mark.parametrize("name", SAMPLES)


@EVERY
def test_about_ten_lines(name: str) -> None:
    lines = render_terminal(SAMPLES[name](), report="report.html").splitlines()
    assert len(lines) <= 14
    assert lines[-1] == "Report: report.html"
    assert max(map(len, lines)) <= 80


@EVERY
@pytest.mark.parametrize("width", [1, 20, 39, 60, 80, 400])
def test_lines_fit_the_width(name: str, width: int) -> None:
    text = render_terminal(SAMPLES[name](), width=width)
    assert max(_cells(line) for line in text.splitlines()) <= max(width, 20)


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252", "latin-1", "no such code page"])
def test_text_fits_the_code_page(encoding: str) -> None:
    text = render_terminal(fill(two_causes(), " 漢字 →"), encoding=encoding)
    text.encode("ascii" if encoding.startswith("no") else encoding)
    assert "94%" in text
    assert "#" in text or "█" in text


def test_what_it_says() -> None:
    text = render_terminal(one_cause(), report="out/report.html")
    assert text.startswith("Fp16 on Apple MPS turned the gradients into NaN")
    assert " 94%  ███████████░  NaN gradients from fp16 on MPS" in text
    assert "Do this first: Restart from the checkpoint of step 400" in text
    assert "  train.py:118\n  -     fp16=True,\n  +     fp16=False,\n" in text
    assert "214 checks were made" in render_terminal(healthy())


def test_colour_changes_nothing_but_colour() -> None:
    plain = render_terminal(one_cause())
    colored = render_terminal(one_cause(), color=True)
    assert "\x1b[" not in plain
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == plain


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_no_control_character_of_the_run_gets_through(text: str) -> None:
    shown = render_terminal(fill(two_causes(), text), report=f"a{text}")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e]", shown)
    shown.encode("utf-8")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_only_on_a_terminal_and_without_no_color() -> None:
    assert wants_color(Terminal(), {})
    assert wants_color(Terminal(), {"NO_COLOR": ""})
    assert not wants_color(Terminal(), {"NO_COLOR": "1"})
    assert not wants_color(Terminal(), {"TERM": "dumb"})
    assert not wants_color(io.StringIO(), {})


def test_print_summary_writes_to_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = io.StringIO()
    print_summary(one_cause(), Path("report.html"), stream=stream)
    lines = stream.getvalue().splitlines()
    assert lines[-1] == "Report: report.html"
    assert max(map(len, lines)) <= 60
