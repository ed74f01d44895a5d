"""What the detectors on training rows share: choosing rows, counting shares, naming places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ftdoctor.detect import absent, present, unobservable
from ftdoctor.model import ArtifactState, Fact, Observation, Run, Where

if TYPE_CHECKING:
    import polars as pl

HOMES = {
    "train": "training data (JSONL, CSV or Parquet)",
    "eval": "evaluation data",
    "test": "test data",
    "production": "a sample of production requests (--production-sample FILE)",
    "benchmark": "the benchmark's items (--benchmark FILE)",
    "generations": "sampled outputs of the model (generations.jsonl, predictions)",
    "gold": "ground-truth labels for a subset (--ground-truth FILE)",
}
MIN_ROWS = 3  # fewer rows say nothing about a data set


def of_split(run: Run, split: str) -> pl.DataFrame:
    """Return the sampled rows of a split."""
    return run.rows_of(split)


def no_rows(split: str) -> Observation:
    """Answer that there are no rows of a split."""
    return unobservable(f"No {split} rows were found", HOMES.get(split, f"{split} data"))


def broken(run: Run, split: str) -> Observation | None:
    """Answer that a file of the split is cut or damaged, so that its rows cannot be counted."""
    paths = set(of_split(run, split)["path"].unique().to_list())
    states = (ArtifactState.PARTIAL, ArtifactState.DAMAGED)
    for artifact in run.artifacts:
        if artifact.path in paths and artifact.state in states:
            text = f"`{artifact.path}` is not whole ({artifact.reason})"
            return unobservable(text, f"the whole of `{artifact.path}`")
    return None


def where_of(row: dict[str, Any]) -> Where:
    """Return the place of a row."""
    return Where(row["path"], line=row["line"])


def facts_of(rows: pl.DataFrame, name: str, column: str, limit: int = 3) -> tuple[Fact, ...]:
    """Return the first rows as facts, with what the column holds (text cut at 120 characters)."""
    return tuple(
        Fact(name, _short(row[column]), where_of(row))
        for row in rows.head(limit).iter_rows(named=True)
    )


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > 120:
        return value[:50] + " … " + value[-60:]
    return value


def lines_of(rows: pl.DataFrame, limit: int = 3) -> str:
    """Return the first places as text: `train.jsonl:3, :17, :90`."""
    found: list[str] = []
    last = ""
    for path, line in rows.select("path", "line").head(limit).iter_rows():
        found.append(f":{line}" if path == last else f"{path}:{line}")
        last = path
    return ", ".join(found)


def share_of(
    rows: pl.DataFrame,
    hits: pl.DataFrame,
    claim: str,
    *,
    above: float,
    fact: str,
    column: str,
    at_least: int = 1,
) -> Observation:
    """Answer by the share of rows that are hits; `claim` completes "37 of 200 rows (18 %) …"."""
    share = hits.height / rows.height
    text = f"{hits.height:,} of {rows.height:,} sampled rows ({share:.3g}) {claim}"
    text = text.replace(f"({share:.3g})", f"({share:.1%})")
    if share > above and hits.height >= at_least:
        return present(f"{text}, e.g. {lines_of(hits)}", *facts_of(hits, fact, column))
    return absent(text)


def text_list(items: Sequence[str], limit: int = 4) -> str:
    """Return items quoted and joined, cut at `limit`."""
    shown = ", ".join(f"`{item}`" for item in items[:limit])
    return shown + (f" and {len(items) - limit} more" if len(items) > limit else "")
