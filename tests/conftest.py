"""Places that tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Return the folder of fixture runs."""
    return ROOT / "fixtures"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real public artefacts beside the project; skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the collection of real public artefacts is not beside the project")
    return SHARED
