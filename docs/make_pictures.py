"""Write the reports of five shipped runs to docs/gallery, and the README's pictures of them.

Run `python docs/make_pictures.py` from the repository; needs the extra `dev` and Chromium. The
same repository gives the same reports, byte by byte.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from ftdoctor.diagnose import diagnose
from ftdoctor.output import write_reports
from ftdoctor.render.text import percent

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs" / "gallery"
RUNS = {
    "diverged": "nan-weights-one-bad-batch/empty-answer",
    "never-stops": "eos-absent-from-training-text/formatting",
    "overfitted": "overfit-too-many-epochs/forty-epochs",
    "rewards-flat": "grpo-zero-reward-variance/format",
    "crashed": "dataset-file-not-found/moved",
}
TOP = "overfitted"  # the picture on the first page of the README
SIZE = {"width": 1280, "height": 800}


def main() -> None:
    """Write reports, pictures, and the page that lists them."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("Chromium is needed to take the pictures: apt-get install chromium")
    GALLERY.mkdir(exist_ok=True)
    rows = [
        "# Five reports",
        "",
        "Written by `python docs/make_pictures.py` from runs in [`fixtures/`](../fixtures).",
        "Each picture is the first screen; the report is one HTML file beside it.",
        "",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, place in RUNS.items():
            diagnosis = diagnose(ROOT / "fixtures" / place / "run")
            report = GALLERY / f"{name}.html"
            write_reports(diagnosis, report)
            picture(browser, report, GALLERY / f"{name}.png", "light")
            top = f" ({percent(diagnosis.causes[0].probability)})" if diagnosis.causes else ""
            rows += [f"## {diagnosis.verdict.text}{top}", "",
                     f"[`{place}`](../fixtures/{place}), [report](gallery/{name}.html)", "",
                     f"![{diagnosis.verdict.text}](gallery/{name}.png)", ""]  # fmt: skip
        for scheme, suffix in (("light", ""), ("dark", "-dark")):
            picture(browser, GALLERY / f"{TOP}.html", ROOT / "docs" / f"report{suffix}.png", scheme)
        browser.close()
    (ROOT / "docs" / "gallery.md").write_text("\n".join(rows), encoding="utf-8")


def picture(browser: Browser, report: Path, target: Path, scheme: str) -> None:
    """Photograph the first screen of a report in the light or dark palette."""
    context = browser.new_context(viewport=SIZE, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(report.as_uri())
    page.screenshot(path=target)
    context.close()


if __name__ == "__main__":
    main()
