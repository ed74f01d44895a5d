"""From a Diagnosis to what people see; each renderer is a pure function of the diagnosis."""

from __future__ import annotations


def prepare_plots() -> None:
    """Import what draws; a call to begin early in a second process, so nothing is imported here."""
    from ftdoctor.render.plots import prepare

    prepare()
