"""Extra content of a report, as plain data: lengths, one tokenised example, labels, cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdoctor.model import Panel, Run, Span

BINS = 16
LONGEST_LABEL = 40  # characters; longer answers are text, not labels
MOST_LABELS = 50  # more different answers than this are no classification (judgement)


def panels(run: Run, onset: Span | None) -> tuple[Panel, ...]:
    """Return the panels that this run's evidence allows; `onset` splits the cost in two."""
    made = (_example(run), _lengths(run), _labels(run), cost(run, onset))
    return tuple(panel for panel in made if panel is not None)


def _example(run: Run) -> Panel | None:
    fact = run.fact("data.example")
    if fact is None or not isinstance(fact.value, dict) or not fact.value.get("tokens"):
        return None
    data = {**fact.value, "source": str(fact.where)}
    return Panel("tokens", "One training example, token by token", data)


def _lengths(run: Run) -> Panel | None:
    import numpy as np
    import polars as pl

    if run.data.is_empty() or "n_tokens" not in run.data.columns:
        return None
    lengths = run.data.filter(pl.col("split") == "train")["n_tokens"].drop_nulls().to_numpy()
    if len(lengths) < 2:
        return None
    limit = run.setting("max_length")
    cut = limit.value if limit and isinstance(limit.value, int | float) else None
    low, high = int(lengths.min()), int(lengths.max())
    width = -(-(high - low + 1) // BINS)
    counts, edges = np.histogram(lengths, bins=range(low, high + 1 + width, width))
    return Panel(
        "lengths",
        f"Length of {len(lengths):,} training examples in tokens",
        {
            "edges": [int(e) for e in edges],  # the last length of a bin is below the next edge
            "counts": [int(c) for c in counts],
            "limit": cut,
        },
    )


def _labels(run: Run) -> Panel | None:
    import polars as pl

    if run.data.is_empty():
        return None
    answers = run.data.filter(pl.col("split") == "train")["response"].drop_nulls()
    counts = answers.str.strip_chars().value_counts(sort=True)
    few = 2 <= counts.height <= min(MOST_LABELS, len(answers) // 5)
    if not few or int(answers.str.len_chars().max() or 0) > LONGEST_LABEL:  # type: ignore[arg-type]
        return None
    rows = counts.iter_rows()
    return Panel("labels", "Answers in the training data", {"counts": dict(rows)})


def cost(run: Run, onset: Span | None) -> Panel | None:
    """Return tokens, device hours, money if a price was given, and what came after the onset.

    None without a duration. Money is in the currency of the price (`run.price`, per device hour).
    """
    figures = dict(_cost_figures(run, onset))
    return Panel("cost", "What the run used", figures) if "hours" in figures else None


def _cost_figures(run: Run, onset: Span | None) -> Iterator[tuple[str, Any]]:
    seconds = _duration(run)
    if seconds is None:
        return
    devices = run.fact("environment.gpu_count") or run.fact("environment.world_size")
    count = int(devices.value) if devices and isinstance(devices.value, int | float) else 1
    yield "hours", round(seconds / 3600, 6)
    yield "devices", count
    price = run.fact("run.price")
    hours = seconds / 3600 * count
    yield "device_hours", round(hours, 6)
    if price is not None:
        yield "cost", round(hours * float(price.value), 2)
    tokens = run.series("num_tokens")
    if tokens is not None and len(tokens):
        yield "tokens", int(tokens.values[-1])
    elif estimate := _estimated_tokens(run):
        yield "tokens_estimated", estimate
    steps = run.fact("progress.global_step")
    if onset is not None and steps and isinstance(steps.value, int | float) and steps.value > 0:
        after = max(0.0, 1 - onset.step / float(steps.value))
        yield "share_after_onset", round(after, 3)
        yield "device_hours_after_onset", round(hours * after, 3)
        if price is not None:
            yield "cost_after_onset", round(hours * after * float(price.value), 2)


def _estimated_tokens(run: Run) -> int | None:
    """Return tokens of the sampled training rows, times all rows, times epochs done."""
    import polars as pl

    rows, epochs = run.fact("data.train.rows"), run.fact("progress.epoch")
    if rows is None or epochs is None or "n_tokens" not in run.data.columns:
        return None
    mean = run.data.filter(pl.col("split") == "train")["n_tokens"].mean()
    if not isinstance(mean, int | float) or not isinstance(epochs.value, int | float):
        return None
    return round(mean * int(rows.value) * float(epochs.value))


def _duration(run: Run) -> float | None:
    """Return seconds of training: the summary's, else from the first to the last dated row."""
    said = run.fact("summary.train_runtime")
    if said and isinstance(said.value, int | float) and said.value > 0:
        return float(said.value)
    times = run.metrics["time"].drop_nulls()
    span = float(times.max()) - float(times.min()) if len(times) > 1 else 0.0  # type: ignore[arg-type]
    return span if span > 0 else None
