"""Detector of benchmark items in the training rows: the same question, or 13 words in a row."""

from __future__ import annotations

from collections.abc import Iterator

from ftdoctor.detect import absent, detector, present
from ftdoctor.detect.rows import no_rows, of_split
from ftdoctor.model import Fact, Observation, Run, Where
from ftdoctor.read.data import hash_of, normalised

MOST_RUNS = 3_000_000  # word runs of training text that are held: about 300 MB at the most
ROW_WORDS = 2000


@detector("contamination.items")
def items(run: Run, *, split: str, words: int, above: float) -> Observation:
    """Find that more than a share of the items shares a run of words with the training rows.

    An item shorter than `words` words counts if its whole question is a training prompt.
    """
    asked, trained = of_split(run, split), of_split(run, "train")
    if not asked.height or not trained.height:
        return no_rows(split if not asked.height else "train")
    homes: dict[int, Where] = {}
    for where, texts in _texts(run, "train"):
        for key in _runs(texts, words):
            if len(homes) < MOST_RUNS:
                homes.setdefault(key, where)
    hits = [
        (where, home)
        for where, texts in _texts(run, split)
        if (home := next((homes[k] for k in _runs(texts, words) if k in homes), None)) is not None
    ]
    share = len(hits) / asked.height
    text = (
        f"{len(hits):,} of {asked.height:,} {split} items ({share:.1%}) are in {trained.height:,} "
        f"training rows, by their question or by {words} words in a row"
    )
    if share <= above:
        return absent(text)
    facts = [Fact("data.overlap", str(home), where) for where, home in hits[:3]]
    return present(f"{text}, e.g. {hits[0][0]} = {hits[0][1]}", *facts)


def _texts(run: Run, split: str) -> Iterator[tuple[Where, list[str]]]:
    """Yield each row's place with its texts: the question, and the question with its answer."""
    rows = of_split(run, split).select("path", "line", "prompt", "response", "rendered", "record")
    for path, line, prompt, response, rendered, record in rows.iter_rows():
        whole = f"{prompt or ''} {response or ''}" if prompt or response else rendered or record
        yield Where(path, line=line), [normalised(prompt or ""), normalised(whole)]


def _runs(texts: list[str], words: int) -> Iterator[int]:
    question, whole = (text.split()[:ROW_WORDS] for text in texts)
    if 3 <= len(question) < words:
        yield hash_of(" ".join(question))
    for start in range(len(whole) - words + 1):
        yield hash_of(" ".join(whole[start : start + words]))
