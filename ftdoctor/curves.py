"""Turn the long metrics frame into series, and thin series for plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftdoctor.model import Curve, Series

if TYPE_CHECKING:
    import polars as pl

PLOT_POINTS = 1000  # above this, minimum and maximum per bin are kept, so that no spike is lost


def build_series(metrics: pl.DataFrame) -> dict[tuple[str, str], Series]:
    """Split the frame by metric and split, keeping the order of occurrence."""
    import numpy as np

    found: dict[tuple[str, str], Series] = {}
    if metrics.is_empty():
        return found
    for (name, split), part in metrics.group_by("name", "split", maintain_order=True):
        found[str(name), str(split)] = Series(
            name=str(name),
            split=str(split),
            steps=part["step"].to_numpy().astype(np.int64),
            values=part["value"].to_numpy().astype(np.float64),
            epochs=part["epoch"].cast(float).fill_null(float("nan")).to_numpy(),
            times=part["time"].cast(float).fill_null(float("nan")).to_numpy(),
            lines=part["line"].fill_null(0).to_numpy().astype(np.int64),
            segments=part["segment"].to_numpy().astype(np.int64),
            path=str(part["path"][0]),
        )
    return found


def thin(series: Series, limit: int = PLOT_POINTS) -> Curve:
    """Return about `limit` points: per bin the minimum, the maximum and any non-finite one."""
    import numpy as np

    total = len(series)
    if total <= limit:
        keep = np.arange(total)
    else:
        bins = np.array_split(np.arange(total), limit // 2)
        chosen: set[int] = {0, total - 1}
        for part in bins:
            values = series.values[part]
            finite = np.isfinite(values)
            if finite.any():
                chosen.add(int(part[np.where(finite, values, np.inf).argmin()]))
                chosen.add(int(part[np.where(finite, values, -np.inf).argmax()]))
            if not finite.all():
                chosen.add(int(part[(~finite).argmax()]))
        keep = np.array(sorted(chosen))
    return Curve(
        name=series.name,
        split=series.split,
        steps=tuple(int(s) for s in series.steps[keep]),
        values=tuple(float(v) for v in series.values[keep]),
        path=series.path,
        total=total,
    )
