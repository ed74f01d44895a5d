"""ftdoctor: post-hoc forensics for LLM fine-tuning runs.

>>> import ftdoctor
>>> diagnosis = ftdoctor.diagnose("runs/xyz")  # doctest: +SKIP
>>> diagnosis.causes[0].title, diagnosis.causes[0].probability  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftdoctor.diagnose import diagnose

__version__ = "0.1.0"
__all__ = ["__version__", "diagnose"]


def __getattr__(name: str) -> Any:
    """Import `diagnose` on first use, so that `import ftdoctor` stays cheap."""
    if name == "diagnose":
        from ftdoctor.diagnose import diagnose

        return diagnose
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
