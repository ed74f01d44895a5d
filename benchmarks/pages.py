"""The size of the report of every fixture, in bytes: `python benchmarks/pages.py`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ftdoctor.diagnose import diagnose  # noqa: E402
from ftdoctor.render.html import render_html  # noqa: E402


def main() -> None:
    """Diagnose every fixture and print median, ninth decile and largest of the pages."""
    runs = sorted((ROOT / "fixtures").glob("*/*/run"))
    sizes = sorted((len(render_html(diagnose(run)).encode()), run) for run in runs)
    middle, high = sizes[len(sizes) // 2][0], sizes[len(sizes) * 9 // 10][0]
    largest, run = sizes[-1]
    print(
        f"{len(sizes)} pages: median {middle:,} bytes, ninth decile {high:,}, "
        f"largest {largest:,} ({run.relative_to(ROOT / 'fixtures').parent})"
    )


if __name__ == "__main__":
    main()
