"""The hard rules of the page: safe, self-contained, accessible, small, the same every time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from ftdoctor.codec import decode_diagnosis
from ftdoctor.folders import folder
from ftdoctor.model import Diagnosis, Fact, Finding, Panel, State, Where
from ftdoctor.render.html import BUDGET, render_cell, render_html
from ftdoctor.render.text import SHOWN
from tests.render.hostile import TEXTS, fill
from tests.render.samples import SAMPLES, data_only, healthy, one_cause, two_causes

EVERY = pytest.mark.parametrize("name", SAMPLES)
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use"}
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
    " form-action 'none'"
)


class Page(HTMLParser):
    """The elements of a page, and where start and end tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.broken: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.broken.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open:
            self.words.setdefault(self.open[-1], []).append(data)

    def having(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: render_html(sample()) for name, sample in SAMPLES.items()}


def embedded_in(page: str) -> Diagnosis:
    start = page.index('<script type="application/json" id="ftdoctor-report">')
    data = page[page.index(">", start) + 1 : page.index("</script>", start)]
    return decode_diagnosis(json.loads(data))


# --- safety -------------------------------------------------------------------------------------


def assert_safe(text: str) -> None:
    page = Page(text)
    assert page.broken == []
    assert page.open == []
    scripts = page.having("script")
    assert scripts == [{"type": "application/json", "id": "ftdoctor-report"}]
    assert len(page.having("style")) == 1
    assert [tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "form", "base")] == []
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("href", "src", "xlink:href", "srcset", "action"):
            target = attributes.get(name, "#")
            allowed = ("#", "https://") if tag == "a" else ("#", "data:image/svg+xml,")
            assert target.startswith(allowed), (tag, name, target)
        style = attributes.get("style", "")
        assert "url(" not in style.replace("url(#", "")
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", text
    )
    text.encode("utf-8")


@EVERY
def test_a_page_requests_nothing_and_runs_nothing(name: str, pages: dict[str, str]) -> None:
    assert_safe(pages[name])


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("name", ["two_causes", "data_only", "crash_before_first_step"])
def test_hostile_text_in_every_field_stays_text(name: str, text: str) -> None:
    page = render_html(fill(SAMPLES[name](), text))
    assert_safe(page)
    if text.startswith("{{"):
        assert "{{7*7}}" in page


def test_a_line_of_a_megabyte_in_every_field_fits_the_budget() -> None:
    page = render_html(fill(two_causes(), "<" * 1_000_000))
    assert_safe(page)
    assert len(page.encode()) <= BUDGET


def test_references_are_links_only_if_https(pages: dict[str, str]) -> None:
    links = [a["href"] for a in Page(pages["one_cause"]).having("a")]
    assert "https://github.com/pytorch/pytorch/issues/1" in links
    assert "javascript:alert(1)" in pages["one_cause"]


@EVERY
def test_the_policy_comes_right_after_the_character_set(name: str, pages: dict[str, str]) -> None:
    first, second = Page(pages[name]).having("meta")[:2]
    assert first == {"charset": "utf-8"}
    assert second == {"http-equiv": "Content-Security-Policy", "content": POLICY}


# --- the embedded data --------------------------------------------------------------------------


@EVERY
def test_the_page_carries_its_diagnosis(name: str, pages: dict[str, str]) -> None:
    d, back = SAMPLES[name](), embedded_in(pages[name])
    assert back.verdict == d.verdict
    cards = [c for c in d.causes if c.probability >= SHOWN]
    assert [(c.id, c.probability, c.edit) for c in back.causes] == [
        (c.id, c.probability, c.edit) for c in cards
    ]
    for found, cause in zip(back.causes, cards, strict=True):
        assert [w.symptom for w in found.weights] == [w.symptom for w in cause.weights]
        assert [w.decibans for w in found.weights] == pytest.approx(
            [w.decibans for w in cause.weights], abs=1e-3
        )
    present = {f.symptom: f.text for f in d.findings if f.state is State.PRESENT}
    assert {f.symptom: f.text for f in back.findings} == present


def abridged(d: Diagnosis) -> dict[str, int]:
    page = render_html(d)
    start = page.index('id="ftdoctor-report">') + len('id="ftdoctor-report">')
    counts: dict[str, int] = json.loads(page[start : page.rindex("</script>")])["abridged"]
    return counts


def test_what_the_embedded_data_leave_out_is_counted() -> None:
    d = one_cause()
    silent = Finding("never-weighed", "Something else", State.ABSENT, "Not there", ())
    before, after = abridged(d), abridged(replace(d, findings=(*d.findings, silent)))
    assert after["absent"] == before["absent"] + 1
    assert after["unchecked"] == len(d.unchecked)
    assert after["curves"] == len(d.curves)
    assert after["causes"] == sum(c.probability < SHOWN for c in (*d.causes, *d.advice))
    assert 0 < after["artifacts"] < len(d.artifacts)


def test_embedded_numbers_keep_what_can_be_read_of_them() -> None:
    d = one_cause()
    fact = Fact("learning_rate", 0.00019999999123, Where("log", line=1))
    finding = replace(d.findings[0], facts=(fact,))
    d = replace(d, findings=(finding, *d.findings[1:]), run=replace(d.run, ended=1767225600.123456))
    back = embedded_in(render_html(d))
    assert back.findings[0].facts[0].value == 0.0002
    assert back.run.ended == 1767225600.1235


def test_the_embedded_data_hold_no_tag() -> None:
    page = render_html(fill(one_cause(), "</script><!--"))
    start = page.index('id="ftdoctor-report">') + len('id="ftdoctor-report">')
    data = page[start:]
    assert data.index("<") == data.index("</script>\n</body>")
    assert embedded_in(page).run.name.endswith("</script><!--")


# --- size and sameness --------------------------------------------------------------------------


@EVERY
def test_pages_are_small(name: str, pages: dict[str, str]) -> None:
    assert len(pages[name].encode()) < 100_000


@EVERY
def test_the_same_diagnosis_gives_the_same_bytes(name: str, pages: dict[str, str]) -> None:
    assert render_html(SAMPLES[name]()) == pages[name]


def test_beyond_the_budget_the_page_says_what_it_leaves_out() -> None:
    d = one_cause()
    many = (replace(d.findings[0], symptom=f"seen-{i}", text="x y " * 900) for i in range(90))
    page = render_html(replace(d, findings=(*many, *d.findings)))
    assert len(page.encode()) <= BUDGET
    assert "it leaves out: the table of plotted data" in page
    assert 'id="data"' not in page
    assert embedded_in(page).verdict == d.verdict


def test_long_and_nested_values_are_not_embedded() -> None:
    d = one_cause()
    values = ("x" * 100, ["a"] * 40, "bf16")
    facts = tuple(Fact("odd", value, Where("log", line=i)) for i, value in enumerate(values, 1))
    back = embedded_in(render_html(replace(d, findings=(replace(d.findings[0], facts=facts),))))
    assert [f.value for f in back.findings[0].facts] == [None, None, "bf16"]
    assert [f.where.line for f in back.findings[0].facts] == [1, 2, 3]


def test_within_the_budget_nothing_is_left_out(pages: dict[str, str]) -> None:
    assert not any("it leaves out" in page for page in pages.values())


# --- structure and words ------------------------------------------------------------------------


@EVERY
def test_structure(name: str, pages: dict[str, str]) -> None:
    page = Page(pages[name])
    assert page.having("html") == [{"lang": "en"}]
    assert len(page.having("h1")) == 1
    assert page.having("a")[0]["class"] == "skip"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for anchor in page.having("a"):
        if anchor["href"].startswith("#"):
            assert anchor["href"][1:] in ids
    for used in re.findall(r"url\(#([\w-]+)\)", pages[name]):
        assert used in ids
    assert {"causes", "next", "timeline", "unchecked", "files", "attach", "repro"} <= set(ids)


@EVERY
def test_each_plot_is_drawn_twice_and_says_what_it_shows(name: str, pages: dict[str, str]) -> None:
    page = Page(pages[name])
    plots = [s["class"] for s in page.having("svg") if "plot" in s.get("class", "")]
    assert len(plots) <= 6
    told = [div["aria-label"] for div in page.having("div") if div.get("role") == "img"]
    assert all(re.search(r"goes from .* to ", label) for label in told)
    assert plots == ["plot wide", "plot narrow"] * len(told)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("one_cause", "Fp16 on Apple MPS turned the gradients into NaN, from step 411 on. (94%)"
                      " · tinyllama-advisor-0917 · ftdoctor"),
        ("crash_before_first_step", "Training never began: the data set data/train.jsonl does not"
                                    " exist. (97%) · tinyllama-advisor-0917 · ftdoctor"),
        ("healthy", "No known failure found; 4 checks could not be made."
                    " · tinyllama-advisor-0917 · ftdoctor"),
    ],
)  # fmt: skip
def test_the_title_is_verdict_probability_and_run(
    name: str, title: str, pages: dict[str, str]
) -> None:
    assert "".join(Page(pages[name]).words["title"]) == title


def test_verdict_fix_and_plot_come_first(pages: dict[str, str]) -> None:
    page = pages["one_cause"]
    places = [page.index(mark) for mark in (
        '<h1 id="verdict">', "94%</strong>", "Do this first", "train.py:118", "<svg class",
        'id="causes"', 'id="chain"', 'id="next"', 'id="timeline"', 'id="unchecked"', 'id="files"',
        'id="attach"', 'id="repro"', 'id="ftdoctor-report"')]  # fmt: skip
    assert places == sorted(places)


def test_a_crash_shows_the_lines_that_prove_it(pages: dict[str, str]) -> None:
    page = pages["crash_before_first_step"]
    assert "<svg class" not in page
    assert "FileNotFoundError: Unable to find" in page
    assert page.index("stdout.log:7") < page.index('id="causes"')


def test_a_crash_in_the_middle_keeps_its_curves_below(pages: dict[str, str]) -> None:
    page = pages["crash_in_the_middle"]
    assert page.index("torch.OutOfMemoryError") < page.index('id="figures"')
    assert page.index('id="figures"') < page.index("<svg class")


def test_tokens_prove_a_missing_end_of_text(pages: dict[str, str]) -> None:
    page = pages["data_only"]
    assert page.index('class="tokens mono"') < page.index('id="causes"')
    assert page.count('<span class="special') == 3 + 1  # and the key
    assert "solid line: trained on" in page


def test_unknown_panels_become_tables() -> None:
    d = replace(data_only(), panels=(Panel("lengths", "Odd", {"edges": "no", "counts": 3}),))
    assert '<tr><th scope="row">edges</th><td>no</td></tr>' in render_html(d)


def test_a_healthy_run_is_not_called_all_good(pages: dict[str, str]) -> None:
    page = pages["healthy"]
    assert "No known cause reaches 5%." in page
    assert "Do this first" not in page
    assert 'class="cause top"' not in page


def test_what_could_not_be_checked_is_never_left_out(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert "What could not be checked" in page
    assert "Every check could be made." in pages["nothing_readable"]
    assert "generations.jsonl" in pages["one_cause"]


def test_damaged_files_come_first(pages: dict[str, str]) -> None:
    page = pages["one_cause"][pages["one_cause"].index('id="files"') :]
    assert page.index("optimizer.pt") < page.index("notes.bin") < page.index("stdout.log")
    assert "1 damaged, 1 not recognised, 1 read in part" in page


def test_evidence_reads_without_colour(pages: dict[str, str]) -> None:
    for mark in ("▲ for", "▲ risk", "▼ against", "▼ explained", "○ not seen", "= together"):
        assert mark in pages["one_cause"]


def test_a_second_independent_cause_gets_its_line(pages: dict[str, str]) -> None:
    assert "A second, independent fault is likely too" in pages["two_causes"]
    assert "A second, independent fault" not in pages["chain"]
    assert "follows from <a" in pages["chain"]


def test_a_report_without_quotes_holds_no_text_of_the_run() -> None:
    d = SAMPLES["crash_before_first_step"]()
    page = render_html(d, quotes=False)
    assert "FileNotFoundError: Unable" not in page
    assert "It was written without quotes" in page
    assert "stdout.log:7" in page
    page = render_html(data_only(), quotes=False)
    for text in ("broken", "&lt;|endoftext|&gt;", "<|endoftext|>", "refund"):
        assert text not in page
    assert_safe(page)


def test_secrets_removed_are_counted(pages: dict[str, str]) -> None:
    assert "Removed: 2 × Hugging Face token, 1 × W&amp;B key." in pages["one_cause"]
    assert "No secrets were found" in pages["healthy"]


def test_a_notebook_cell_shows_verdict_and_plot() -> None:
    cell = render_cell(one_cause())
    assert "Fp16 on Apple MPS" in cell
    assert cell.count("<svg") == 1
    assert "<script" not in render_cell(fill(one_cause(), "<script>"))
    assert one_cause()._repr_html_() == cell


# --- colours ------------------------------------------------------------------------------------


def palettes() -> Iterator[tuple[str, dict[str, str]]]:
    css = folder("reports").joinpath("base.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    for name, block in zip(("light", "dark", "print"), blocks, strict=True):
        yield name, dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", block))


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(c * 2 for c in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


TEXT_ON = {
    "ink": ("bg", "panel", "code", "ok-wash", "warn-wash", "bad-wash"),
    "muted": ("bg", "panel", "code", "ok-wash"),
    "link": ("bg", "ok-wash"),
    "bad": ("bg", "bad-wash"),
    "ok": ("bg", "ok-wash"),
    "warn": ("bg",),
    "series": ("bg",),
}
MARKS_ON = {"series": ("bg", "bad-wash"), "rule-strong": ("bg",), "bad": ("bg",), "ok": ("bg",)}


@pytest.mark.parametrize(("name", "palette"), list(palettes()))
def test_contrast(name: str, palette: dict[str, str]) -> None:
    for least, pairs in ((4.5, TEXT_ON), (3.0, MARKS_ON)):
        for color, grounds in pairs.items():
            for ground in grounds:
                measured = contrast(palette[color], palette[ground])
                assert measured >= least, (name, color, ground, round(measured, 2))


def test_each_palette_sets_the_same_colours() -> None:
    sets = [set(palette) for _, palette in palettes()]
    assert sets[0] == sets[1] == sets[2]


def test_healthy_has_an_evaluation_plot() -> None:
    assert "train loss and evaluation loss" in render_html(healthy())


def test_the_panel_of_the_strongest_symptom_stands_beside_an_unknown_verdict() -> None:
    d = SAMPLES["no_known_cause"]()
    labels = Fact("data.labels", {"ok": 426, "spam": 24}, Where("train.csv"))
    seen = Finding("labels-nearly-all-one", "One label", State.PRESENT, "Labels", (labels,))
    panel = Panel("labels", "Answers in the training data", {"counts": {"ok": 426, "spam": 24}})
    d = replace(d, findings=(seen,), unexplained=(seen.symptom,), panels=(panel,))
    hero = render_html(d).partition('<nav class="toc"')[0]
    assert "Answers in the training data" in hero
    assert "<svg class=" not in hero
