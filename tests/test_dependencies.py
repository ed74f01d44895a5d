"""Every dependency is used, and its page tells of each."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("made", ROOT / "docs" / "make_dependencies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_is_imported_somewhere(made: ModuleType) -> None:
    unused = [n for n, _, _ in made.declared() if made.IMPORTS.get(n, n) and not made.importing(n)]
    assert unused == []


def test_the_page_is_current_and_names_every_licence(made: ModuleType) -> None:
    def cells(page: str) -> list[list[str]]:
        return [
            [c.strip() for c in line.split("|")[1:6]] for line in page.splitlines() if "|" in line
        ]

    written, now = cells(made.PAGE.read_text(encoding="utf-8")), cells(made.page())
    assert [row[:4] for row in written] == [row[:4] for row in now]
    assert all(row[4] for row in written)
