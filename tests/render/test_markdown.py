"""The ticket: short enough for every tracker, and quoted text stays text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ftdoctor.model import Edit
from ftdoctor.render.markdown import LIMIT, code, fence, md, render_ticket
from tests.render.hostile import TEXTS, fill
from tests.render.samples import SAMPLES, crash_before_first_step, one_cause, two_causes

EVERY = pytest.mark.parametrize("name", SAMPLES)


@EVERY
def test_tickets_are_short(name: str) -> None:
    ticket = render_ticket(SAMPLES[name]())
    assert len(ticket) < 8_000
    assert ticket.startswith("**")
    assert render_ticket(SAMPLES[name]()) == ticket


def outside_code(ticket: str) -> str:
    without_fences = re.sub(r"^(`{3,})[^`\n]*\n.*?^\1$", "", ticket, flags=re.S | re.M)
    return re.sub(r"(?<![`\\])(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", without_fences)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("name", ["two_causes", "crash_before_first_step", "no_known_cause"])
def test_hostile_text_stays_text(name: str, text: str) -> None:
    ticket = render_ticket(fill(SAMPLES[name](), text))
    assert len(ticket) < LIMIT
    assert not re.search(r"[@#]\w", ticket)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", ticket)
    plain = outside_code(ticket)
    assert set(re.findall(r"<[^>]+>", plain)) <= {
        "<details>", "</details>", "<summary>", "</summary>"}  # fmt: skip
    assert not re.search(r"(?<!\\)!\[|(?<!\\)\]\(", plain)
    assert not re.search(r"^/", plain, re.M)
    assert ticket.count("<details>") == ticket.count("</details>") == 1
    rows = [line for line in plain.splitlines() if line.startswith("| ▲")]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
    ticket.encode("utf-8")


def test_a_megabyte_in_every_field_fits() -> None:
    assert len(render_ticket(fill(two_causes(), "@" * 1_000_000))) < LIMIT


def test_what_the_ticket_says() -> None:
    ticket = render_ticket(two_causes())
    for said in (
        "**Fp16 on Apple MPS turned the gradients into NaN, from step 411 on.**",
        "Root cause: NaN gradients from fp16 on MPS (94%). Second, independent: Training text",
        "**Do this first:** Restart from the checkpoint of step 400",
        "```diff\n--- a/train.py\n+++ b/train.py\n@@ -118,1 +118,1 @@\n-    fp16=True,\n",
        "| ▲ for | `grad_norm` is NaN from step 411 to 986",
        "`trainer_state.json:2471`",
        "add pip freeze output or environment.txt",
        "loss from 2.7 at step 2 to 0.0 at step 986",
        "ftdoctor 0.1.0, signatures `9f3c41d29f3c`, input `5b1e07c95b1e`, 3 secrets removed.",
    ):
        assert said in ticket


def test_tracebacks_are_fenced() -> None:
    ticket = render_ticket(crash_before_first_step())
    assert "```\nTraceback (most recent call last):" in ticket


@pytest.mark.parametrize("text", ["a", "```", "a ```` b", "`a`", "`"])
def test_fences_are_longer_than_what_they_hold(text: str) -> None:
    block = fence(text)
    ticks = block.split("\n", 1)[0]
    assert block.endswith(f"\n{ticks}")
    assert ticks not in text
    assert len(ticks) >= 3
    assert re.fullmatch(r"(`+) ?(.*?[^`]|[^`].*|.*) ?\1", code(text))


def test_a_diff_with_a_fence_in_it() -> None:
    d = one_cause()
    cause = replace(d.causes[0], edit=Edit("a.py", 1, "x = '```'", "x = ''"))
    assert "````diff" in render_ticket(replace(d, causes=(cause,)))


def test_md_escapes_and_keeps_code() -> None:
    assert md("set `fp16` to <b>*x*</b> | @me #12") == (
        "set `fp16` to &lt;b&gt;\\*x\\*&lt;/b&gt; \\| @\u200bme #\u200b12"
    )
