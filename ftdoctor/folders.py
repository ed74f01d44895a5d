"""Find the data folders `signatures/` and `reports/`, in a wheel and in a checkout alike."""

from __future__ import annotations

from pathlib import Path


def folder(name: str) -> Path:
    """Return a data folder: inside the package in a wheel, beside it in a checkout.

    An editable install does not apply hatchling's force-include
    (https://github.com/pypa/setuptools/issues/4943 describes the same trap), hence the two places.
    """
    packaged = Path(__file__).parent / name
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / name
