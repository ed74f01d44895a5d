"""Read the Arrow streams of `datasets`: token ids and labels of a prepared data set."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.arrow_stream import MAGIC, index_problem, whole_messages
from ftdoctor.read.data import SAMPLE, Census, Row
from ftdoctor.read.reading import Reading, Record
from ftdoctor.read.source import Source

if TYPE_CHECKING:
    import polars as pl

LIMIT = 1 << 30  # bytes of one stream that are read into memory
MASKED = -100  # torch's CrossEntropyLoss ignore_index


def read_arrow(source: Source) -> Reading:
    """Read a `data-*.arrow` or `cache-*.arrow` file: an IPC stream, or an IPC file.

    Facts: `data.file` like the other data readers, and for label columns `data.supervised`: rows,
    rows without any supervised token, labels that are not masked, all labels.
    """
    if source.size > LIMIT:
        return Reading(
            ArtifactState.SKIPPED, f"larger than {LIMIT >> 30} GB: only its name is used"
        )
    frame, problem = _frame(source)
    if frame is None:
        return Reading(ArtifactState.DAMAGED, problem)
    where = Where(source.path)
    census = Census()
    records = []
    step = max(1, -(-frame.height // SAMPLE))
    for number, row in enumerate(frame.gather_every(step).iter_rows(named=True)):
        kept = {k: v for k, v in row.items() if v is not None}
        census.add(Row(number * step + 1, kept))
        records.append(Record(kept, number * step + 1))
    summary = {"kind": "data-arrow", **census.summary(), "rows": frame.height}
    facts = [Fact("data.file", summary, where)]
    if "labels" in frame.columns:
        facts.append(Fact("data.supervised", supervised(frame), where))
    return Reading(
        ArtifactState.PARTIAL if problem else ArtifactState.READ,
        problem,
        taken=f"{frame.height:,} rows, columns {', '.join(frame.columns[:6])}",
        facts=tuple(facts),
        records=tuple(records),
        record_count=frame.height,
    )


def _frame(source: Source) -> tuple[pl.DataFrame | None, str]:
    """Return the rows; a stream that was cut is read up to its last whole batch."""
    import polars as pl

    data = source.data(LIMIT)
    file = data.startswith(MAGIC)
    end, problem = (len(data), index_problem(data)) if file else whole_messages(data)
    try:
        if file:
            return (None, problem) if problem else (pl.read_ipc(io.BytesIO(data)), "")
        return pl.read_ipc_stream(io.BytesIO(data[:end])), problem
    except Exception as error:
        said = problem or " ".join(str(error).split())[:160]
        return None, f"is no whole Arrow stream: {said}"


def supervised(frame: pl.DataFrame) -> dict[str, Any]:
    """Count labels that are learned: rows, rows with none, labels not masked, labels in all."""
    import polars as pl

    labels = frame.select(pl.col("labels").cast(pl.List(pl.Int64)))
    counted = labels.select(
        pl.col("labels").list.eval(pl.element() != MASKED).list.sum().alias("kept"),
        pl.col("labels").list.len().alias("all"),
    )
    return {
        "rows": counted.height,
        "rows_without": int((counted["kept"] == 0).sum()),
        "kept": int(counted["kept"].sum() or 0),
        "all": int(counted["all"].sum() or 0),
    }
