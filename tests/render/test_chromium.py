"""Open every page in Chromium: no request, no script error, no accessibility violation, it prints.

Needs Chromium, Playwright for Python and axe-core (`FTDOCTOR_AXE` is the path of `axe.min.js`);
a machine without them skips these tests with the reason, CI fails instead.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ftdoctor.render.html import render_cell, render_html
from tests.render.hostile import TEXTS, fill
from tests.render.samples import SAMPLES, one_cause

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(os.environ.get("FTDOCTOR_AXE", "node_modules/axe-core/axe.min.js"))
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
         "--disable-component-update", "--disable-sync", "--disable-quic"]  # fmt: skip
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def absent() -> str:
    """Return what this machine lacks for these tests."""
    lacking = [] if CHROMIUM else ["Chromium"]
    lacking += [] if importlib.util.find_spec("playwright") else ["Playwright for Python"]
    lacking += [] if AXE.is_file() else ["axe-core (FTDOCTOR_AXE)"]
    return ", ".join(lacking)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if absent() and os.environ.get("CI"):
        pytest.fail(f"CI must open the pages, and lacks {absent()}")
    if absent():
        pytest.skip(f"this machine lacks {absent()}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    # The content security policy forbids the script of axe as it forbids all others.
    yield context.new_page()
    context.close()


def show(page: Page, folder: Path, html: str) -> tuple[list[str], list[str]]:
    """Open a page from disk; return its requests besides the file, and what it complained of."""
    file = folder / "report.html"
    file.write_text(html, encoding="utf-8")
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda r: requests.append(r.url))
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.on("console", lambda m: complaints.append(m.text))
    page.on("dialog", lambda d: (complaints.append(d.message), d.dismiss()))
    page.goto(file.as_uri(), wait_until="networkidle")
    own = {file.as_uri()}
    return [url for url in requests if url not in own and not url.startswith("data:")], complaints


EVERY = pytest.mark.parametrize("name", SAMPLES)


@EVERY
def test_a_page_makes_no_request_and_no_complaint(name: str, page: Page, tmp_path: Path) -> None:
    requests, complaints = show(page, tmp_path, render_html(SAMPLES[name]()))
    assert requests == []
    assert complaints == []


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_hostile_text_runs_nothing(text: str, page: Page, tmp_path: Path) -> None:
    requests, complaints = show(page, tmp_path, render_html(fill(one_cause(), text)))
    assert requests == []
    assert complaints == []
    assert page.locator("script:not([type='application/json']), img, iframe, form").count() == 0


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
@EVERY
def test_axe_finds_nothing(
    name: str, width: int, scheme: Any, browser: Browser, tmp_path: Path
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    show(page, tmp_path, render_html(SAMPLES[name]()))
    for details in page.locator("details").all():
        details.evaluate("element => { element.open = true }")
    page.add_script_tag(path=AXE)
    result = page.evaluate(
        "tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", WCAG
    )
    found = [
        (v["id"], node["target"], node.get("failureSummary", ""))
        for v in result["violations"]
        for node in v["nodes"][:3]
    ]
    context.close()
    assert found == []


@pytest.mark.parametrize("width", [400, 768])
@EVERY
def test_a_narrow_page_does_not_scroll_sideways(
    name: str, width: int, browser: Browser, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    show(page, tmp_path, render_html(SAMPLES[name]()))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


@pytest.mark.parametrize("name", ["one_cause", "two_causes", "healthy"])
def test_verdict_fix_and_plot_print_on_page_one(name: str, page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, render_html(SAMPLES[name]()))
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 971})  # A4 less margins of 14 mm, at 96 dpi
    bottom = page.evaluate(
        "Math.max(...[...document.querySelectorAll('.hero h1, .hero .fix, .hero figure')]"
        ".map(e => e.getBoundingClientRect().bottom))"
    )
    assert 0 < bottom <= 971
    assert page.evaluate("getComputedStyle(document.querySelector('nav.toc')).display") == "none"
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_a_notebook_cell_makes_no_request(page: Page, tmp_path: Path) -> None:
    requests, complaints = show(page, tmp_path, render_cell(one_cause()))
    assert (requests, complaints) == ([], [])
