"""Detector on rows that are too long for the limit whatever the tokenizer: by their words."""

from __future__ import annotations

import re

from ftdoctor.detect import absent, detector, present
from ftdoctor.detect.rows import MIN_ROWS, lines_of, no_rows, of_split
from ftdoctor.model import Fact, Observation, Run, Where

# Tokenizers split at blanks first, so a word is a token or more, in any language that has blanks.
_WORD = re.compile(r"\w+")


@detector("toolong.by_words")
def by_words(run: Run, *, above: float) -> Observation:
    """Find that more than a share of the training rows has more words than the limit has tokens.

    Where no row does, the rows may still be too long: an absence here is worth nothing alone.
    """
    import polars as pl

    rows = of_split(run, "train")
    if rows.height < MIN_ROWS:
        return no_rows("train")
    limit = run.setting("max_length")
    if limit is None or not isinstance(limit.value, int) or limit.value <= 0:
        return absent("No limit is set that the words of a row could exceed")
    packing = run.known("packing")
    if packing is not None and packing.value is True:
        return absent("Packed rows are split, not cut", packing)
    texts = rows.select(
        pl.coalesce("rendered", pl.concat_str("prompt", "response", separator="\n"))
    )
    words = [len(_WORD.findall(text or "")) for text in texts.to_series()]
    hits = rows.filter(pl.Series([n > limit.value for n in words]))
    if hits.height <= above * rows.height:
        return absent(f"The longest of {rows.height:,} rows has {max(words):,} words", limit)
    share = hits.height / rows.height
    text = f"{hits.height:,} of {rows.height:,} rows ({share:.1%}) have more words than"
    first = hits.row(0, named=True)
    longest = Fact("data.words", max(words), Where(first["path"], line=first["line"]))
    return present(f"{text} {limit.value:,} tokens, e.g. {lines_of(hits)}", limit, longest)
