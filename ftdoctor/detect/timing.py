"""Detectors on clock times: how long a run was silent, measured in its own usual steps."""

from __future__ import annotations

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.log import LOG
from ftdoctor.model import Observation, Run
from ftdoctor.render.text import duration

ENOUGH = 6  # distances between log rows from which their median means something


@detector("timing.silence")
def silence(run: Run, *, factor: float, minutes: float) -> Observation:
    """Find a log that goes on for long after its last training row.

    Long is more than `factor` times the median distance of training rows and more than `minutes`.
    """
    import numpy as np

    rows = run.metrics.filter(run.metrics["split"] == "train")["time"].drop_nulls()
    times = np.unique(rows.to_numpy()) if len(rows) else np.array([])
    later = run.lines["time"].drop_nulls()
    if len(times) <= ENOUGH or later.is_empty():
        return unobservable("Log rows carry no clock times", LOG)
    usual = float(np.median(np.diff(times)))
    last = float(later.max())  # type: ignore[arg-type]
    gap = last - float(times[-1])
    said = f"{duration(gap)} after the last training row, rows usually {usual:.0f} s apart"
    if gap > factor * usual and gap > 60 * minutes:
        return present(f"The last line came {said}")
    return absent(f"The last line came {duration(max(gap, 0.0))} after the last training row")
