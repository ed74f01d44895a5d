"""Start-up stays light: what is imported, not how long it takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "polars",
    "numpy",
    "scipy",
    "matplotlib",
    "transformers",
    "tokenizers",
    "gguf",
    "torch",
    "jinja2",
)


@pytest.mark.parametrize("arguments", [["--help"], ["diagnose", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from ftdoctor.cli import app\n"
        f"try:\n    app({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print('loaded', sorted(m for m in {HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("loaded []"), done.stdout


def test_listing_signatures_imports_no_frames_nor_plots() -> None:
    code = (
        "import sys\n"
        "from ftdoctor.library import load\nload()\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
