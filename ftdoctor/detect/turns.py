"""Detector of conversations of which a script teaches the end of the last answer alone."""

from __future__ import annotations

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import of_split
from ftdoctor.model import Observation, Run

ANSWER = "a"  # of the initials of roles in the column `roles`
FACTS = ("script.train.turn_ends", "script.data.turn_ends", "script.other.turn_ends")


@detector("turns.last_alone_ends", of_text=True)
def last_alone_ends(run: Run, *, above: float) -> Observation:
    """Find a script that ends each conversation once, where rows have several answers."""
    import polars as pl

    if not run.has("script") and not any(run.fact(name) for name in FACTS):
        return unobservable("No script was found", "training script")
    found = next((fact for name in FACTS if (fact := run.fact(name))), None)
    if found is None:
        return unobservable("No loop of a script joins the turns of conversations by hand")
    rows = of_split(run, "train").filter(pl.col("roles") != "")
    several = rows.filter(pl.col("roles").str.count_matches(ANSWER) > 1).height
    if not rows.height:
        return unobservable("No conversations were found", "training data")
    said = f"the loop at {found.where} teaches no end of an answer; the end token comes once behind"
    said = f"{said} it, and {several:,} of {rows.height:,} sampled rows have several answers"
    return (present if several > above * rows.height else absent)(said, found)
