"""ftdoctor: post-hoc forensics for LLM fine-tuning runs.

>>> import ftdoctor
>>> diagnosis = ftdoctor.diagnose("runs/xyz")  # doctest: +SKIP
>>> diagnosis.causes[0].title, diagnosis.causes[0].probability  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftdoctor.diagnose import diagnose
    from ftdoctor.triage import triage

__version__ = "0.1.0"
__all__ = ["__version__", "diagnose", "triage"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import ftdoctor` stays cheap."""
    if name == "diagnose":
        from ftdoctor.diagnose import diagnose

        return diagnose
    if name == "triage":
        from ftdoctor.triage import triage

        return triage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
