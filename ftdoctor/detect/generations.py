"""Detectors on sampled outputs of the model: what they do wrong, in at least 20 outputs."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import HOMES, facts_of, lines_of, of_split, share_of
from ftdoctor.model import Observation, Run

if TYPE_CHECKING:
    import polars as pl

ENOUGH = 20  # outputs; a share of 30 % then has a 95 % half-width of 20 points
FEWEST = 5  # outputs that can suffice where nearly every one shows the same
_HEADER = re.compile(
    r"<\|im_start\|>\s*user|<\|start_header_id\|>user|<start_of_turn>user|<\|user\|>|\[INST\]"
    r"|<｜User｜>|\n(?:User|Human|Question|### (?:Instruction|Human|User)) ?:"
)
_OPENING = re.compile(
    r"\s*(?:<\|im_start\|>)?(?:assistant|model)\s*\n|\s*<\|(?:assistant|start_header_id)\|>"
)
_SPECIAL = re.compile(
    r"<\|[a-z_0-9]+\|>|<reserved_|</?s>|<(?:start|end)_of_turn>|<｜[^｜]{2,30}｜>"
)
_THINK_EMPTY = re.compile(r"\s*<think>\s*</think>")


def _outputs(run: Run) -> pl.DataFrame:
    import polars as pl

    return of_split(run, "generations").filter(pl.col("response").is_not_null())


def _few(rows: pl.DataFrame) -> Observation:
    if not rows.height:
        return unobservable("No sampled outputs were found", HOMES["generations"])
    return unobservable(f"{rows.height} outputs are too few", HOMES["generations"])


@detector("generations.matches")
def matches(run: Run, *, what: str, above: float) -> Observation:
    """Find that more than a share of the outputs shows a fault.

    `what` is empty, user-turn (goes on with the user's turn), header (begins with a role header),
    special-tokens, repeats (a sentence three times, or text that zlib shrinks below a quarter),
    one-symbol, or empty-thinking.
    """
    import polars as pl

    rows = _outputs(run)
    if rows.height < ENOUGH:
        return _few(rows)
    flags = [_TESTS[what][0](text) for text in rows["response"]]
    hits = rows.filter(pl.Series(flags))
    return share_of(rows, hits, _TESTS[what][1], above=above, fact="generation", column="response")


def _repeats(text: str) -> bool:
    pieces = [p.strip() for p in re.split(r"[\n.!?]", text) if len(p.strip()) >= 20]
    if any(pieces.count(p) >= 3 for p in set(pieces)):
        return True
    data = text.encode()
    return len(data) > 400 and len(zlib.compress(data)) < 0.25 * len(data)


def _one_symbol(text: str) -> bool:
    stripped = text.strip()
    return len(stripped) >= 10 and stripped.count(stripped[0]) > 0.5 * len(stripped)


_TESTS: dict[str, tuple[Callable[[str], bool], str]] = {
    "empty": (lambda t: not _SPECIAL.sub("", t).strip(), "are empty"),
    "user-turn": (lambda t: bool(_HEADER.search(t, 20)), "go on with a turn of the user"),
    "header": (lambda t: bool(_OPENING.match(t)), "begin with a role header"),
    "special-tokens": (lambda t: bool(_SPECIAL.search(t)), "hold special tokens as text"),
    "repeats": (_repeats, "repeat themselves"),
    "one-symbol": (_one_symbol, "are one symbol over and over"),
    "empty-thinking": (lambda t: bool(_THINK_EMPTY.match(t)), "begin with an empty think block"),
}


@detector("generations.at_limit")
def at_limit(run: Run, *, above: float) -> Observation:
    """Find outputs that were stopped by the token limit and not by a stop token.

    A finish reason `length` counts; without reasons, outputs within 2 tokens of the longest count
    if at least two share that length. Of fewer than 20 outputs only a number is told that is
    rarer than 1 in 100 where the share is just `above`: all of 5, or 6 of 7, at 30 %.
    """
    import polars as pl

    rows = _outputs(run)
    if rows.height < FEWEST:
        return _few(rows)
    reasons = rows["stop_reason"].drop_nulls()
    if reasons.len() == rows.height:
        hits = rows.filter(pl.col("stop_reason").is_in(["length", "max_tokens", "max_length"]))
    elif rows["n_tokens"].drop_nulls().len() == rows.height:
        longest = int(rows["n_tokens"].max() or 0)  # type: ignore[arg-type]
        hits = rows.filter(pl.col("n_tokens") >= longest - 2)
        if hits.height < 2 or longest < 32:
            hits = hits.clear()
    else:
        return unobservable("No finish reasons or token counts", HOMES["generations"])
    if rows.height < ENOUGH and _chance(hits.height, rows.height, above) > 0.01:
        return _few(rows)
    return share_of(
        rows, hits, "were stopped by the token limit", above=above, fact="generation",
        column="response",
    )  # fmt: skip


def _chance(hits: int, rows: int, share: float) -> float:
    """Return the binomial probability of that many hits or more."""
    return sum(
        math.comb(rows, k) * share**k * (1 - share) ** (rows - k) for k in range(hits, rows + 1)
    )


@detector("generations.constant")
def constant(run: Run, *, above: float, reference_below: float) -> Observation:
    """Find that one answer makes up nearly all outputs while the references vary.

    References of which nearly all are one label cannot tell a constant answer from a right one. An
    answer that no reference holds (one symbol, nothing, gibberish) is no label that won.
    """
    import polars as pl

    rows = _outputs(run)
    if rows.height < ENOUGH:
        return _few(rows)
    answers = rows["response"].str.strip_chars().str.to_lowercase().value_counts(sort=True)
    top, count = str(answers.row(0)[0]), int(answers.row(0)[1])
    share = count / rows.height
    references = rows["reference"].drop_nulls().str.strip_chars().str.to_lowercase()
    text = f"{count:,} of {rows.height:,} outputs ({share:.0%}) are {top[:40]!r}"
    if share < above:
        return absent(text)
    if references.len() < ENOUGH:
        return unobservable(f"{text}; no references to compare", "reference answers")
    gold = references.value_counts(sort=True)
    most = int(gold.row(0)[1]) / references.len()
    if not any(_same_label(top, str(label)) for label in gold.to_series(0)):
        return absent(f"{text}, which no reference says")
    hits = rows.filter(pl.col("response").str.strip_chars().str.to_lowercase() == top)
    said = f"{text}; the commonest reference has {most:.0%}"
    if most < reference_below:
        return present(said, *facts_of(hits, "generation", "response"))
    return unobservable(said, "predictions on rows of all labels alike")


def _same_label(answer: str, label: str) -> bool:
    """Say whether an answer gives a label, alone or in words around it."""
    whole = rf"(?<!\w){re.escape(label)}(?!\w)"
    return answer == label or (bool(label) and re.search(whole, answer) is not None)


@detector("generations.minority_missed")
def minority_missed(run: Run, *, at_most: float = 0.1, fewest: int = 3) -> Observation:
    """Find labels that are rare among the references and are hardly ever predicted where due.

    Judged if the references are labels of which one has more than half; `fewest` rows of the others
    are needed.
    """
    import polars as pl

    rows = _outputs(run).filter(pl.col("reference").is_not_null())
    if rows.height < ENOUGH:
        return _few(rows)
    gold = rows["reference"].str.strip_chars().str.to_lowercase()
    named = rows["response"].str.strip_chars().str.to_lowercase()
    counts = gold.value_counts(sort=True)
    most, share = str(counts.row(0)[0]), int(counts.row(0)[1]) / rows.height
    if counts.height < 2 or counts.height > rows.height // 4 or share < 0.5:
        return unobservable("The references are no labels of which one dominates", "predictions")
    rare = gold != most
    if int(rare.sum()) < fewest:
        return unobservable("The references hold too few rare labels", "more predictions")
    total, hit = int(rare.sum()), int((rare & (gold == named)).sum())
    text = f"{hit} of {total} rows of the rare labels are predicted so ({most!r} has {share:.0%})"
    missed = rows.filter(rare & (gold != named))
    if hit <= at_most * total:
        return present(text, *facts_of(missed, "generation", "response"))
    return absent(text)


@detector("generations.echo")
def echo(run: Run, *, above: float) -> Observation:
    """Find outputs that mostly repeat their prompt."""
    import polars as pl

    rows = _outputs(run).filter(pl.col("prompt").is_not_null())
    if rows.height < ENOUGH:
        return _few(rows)
    flags = [
        len(response.strip()) >= 20
        and response.strip()[: max(20, int(0.6 * len(response)))] in prompt
        for prompt, response in rows.select("prompt", "response").iter_rows()
    ]
    return share_of(
        rows, rows.filter(pl.Series(flags)), "repeat their prompt", above=above,
        fact="generation", column="response",
    )  # fmt: skip


@detector("generations.short_of_reference")
def short_of_reference(run: Run, *, below: float) -> Observation:
    """Find that outputs are much shorter than their references in the median."""
    import polars as pl

    rows = _outputs(run).filter(pl.col("reference").is_not_null())
    if rows.height < ENOUGH:
        return _few(rows)
    own = rows["response"].str.len_chars().median()
    gold = rows["reference"].str.len_chars().median()
    if not isinstance(own, int | float) or not isinstance(gold, int | float) or gold < 40:
        return absent("The references are short")
    text = f"Outputs have {own:,.0f} characters in the median, references {gold:,.0f}"
    if own < below * gold:
        return present(f"{text}, e.g. {lines_of(rows)}", *facts_of(rows, "generation", "response"))
    return absent(text)
