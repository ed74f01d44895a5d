"""Detectors on preference rows: the same answer liked and disliked, and pairs the wrong way."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from typing import TYPE_CHECKING

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.points import points_of_kind
from ftdoctor.detect.rows import no_rows, of_split, share_of, where_of
from ftdoctor.detect.words import rarity, shared_bits
from ftdoctor.model import Fact, Observation, Run

if TYPE_CHECKING:
    import polars as pl

MIN_PAIRS = 20  # a share of a half then has a 95 % half-width of 22 points
WORDS = 400  # words of an answer that are compared


@detector("preferences.contradict")
def contradict(run: Run, *, above: float) -> Observation:
    """Find that more than a share of the rows says the opposite of an earlier row.

    A KTO row does if prompt and completion were there with the other label, a pair if the same two
    answers were there the other way round.
    """
    import polars as pl

    rows = of_split(run, "train")
    if not rows.height:
        return no_rows("train")
    judged = rows.filter(pl.col("layout").is_in(["kto", "preference"]))
    if judged.height < MIN_PAIRS:
        return unobservable("The training rows are no preferences", "preference data")
    seen: dict[tuple[str, ...], int] = {}
    against: list[bool] = []
    for key, side in (_judgement(row) for row in judged.iter_rows(named=True)):
        against.append(side * seen.get(key, 0) < 0)
        seen.setdefault(key, side)
    if len(seen) == len(against):
        return unobservable("No row judges what another judges", "preference data with repeats")
    return share_of(
        judged, judged.filter(pl.Series(against)), "say the opposite of an earlier row",
        above=above, fact="data.record", column="record",
    )  # fmt: skip


def _judgement(row: dict[str, object]) -> tuple[tuple[str, ...], int]:
    """Return what a row judges, and 1 or -1 for which way; 0 if it says neither."""
    asked, answer = str(row["prompt"] or ""), str(row["response"] or "")
    if row["layout"] == "kto":
        try:
            label = json.loads(str(row["record"])).get("label")
        except (ValueError, AttributeError):
            label = None
        return (asked, answer), (0 if not isinstance(label, bool) else 1 if label else -1)
    other = str(row["rejected"] or "")
    if answer == other:
        return (asked, answer, other), 0
    first, second = sorted((answer, other))
    return (asked, first, second), 1 if answer == first else -1


@detector("preferences.split_by_direction")
def split_by_direction(
    run: Run, *, often: float = 0.25, clear: float = 0.85, mixed: float = 0.65
) -> Observation:
    """Find words that tell chosen from rejected in the evaluation pairs, not in the training pairs.

    A word is looked at if in at least `often` of the pairs of both splits one side alone has it.
    Evaluation must have it on the same side in `clear` of these, training in at most `mixed`.
    """
    train, judged = (_sides(of_split(run, split)) for split in ("train", "eval"))
    if len(train) < MIN_PAIRS or len(judged) < MIN_PAIRS:
        return unobservable("No pairs of both training and evaluation", "preference data")
    ours, theirs = _directions(train), _directions(judged)
    telling = [
        word
        for word, (chosen, rejected) in theirs.items()
        if (total := chosen + rejected) >= often * len(judged)
        and max(chosen, rejected) >= clear * total
        and sum(ours.get(word, (0, 0))) >= often * len(train)
    ]
    if not telling:
        return unobservable("No word tells chosen from rejected in the evaluation pairs")
    odd = [w for w in telling if max(ours[w]) <= mixed * sum(ours[w])]
    word = max(odd or telling, key=lambda w: sum(theirs[w]))
    said = (
        f"“{word}” is on the chosen side alone in {theirs[word][0]} and on the rejected in "
        f"{theirs[word][1]} evaluation pairs, in training {ours[word][0]} and {ours[word][1]}"
    )
    if len(odd) > len(telling) / 2:
        return present(said, *_against(run, word, liked=theirs[word][0] < theirs[word][1]))
    return absent(said)


@detector("preferences.style_on_both_sides")
def style_on_both_sides(
    run: Run, *, often: float = 0.8, balance: float = 0.35, words: int = 3, minimum: int = 40
) -> Observation:
    """Find two styles of answer, one on each side of nearly every pair, each as often chosen.

    A style is `words` words that are on one side alone in `often` of the pairs, and are chosen in
    between `balance` and 1 - `balance` of these. Pairs of two labels differ in fewer words.
    """
    pairs = _sides(of_split(run, "train"))
    if len(pairs) < minimum:
        return unobservable(f"{len(pairs)} training pairs; {minimum} are needed", "preference data")
    marking = {
        word: (chosen, rejected)
        for word, (chosen, rejected) in _directions(pairs).items()
        if chosen + rejected >= often * len(pairs)
    }
    mixed = {w: c for w, c in marking.items() if min(c) >= balance * sum(c)}
    if len(mixed) < words or len(mixed) < len(marking) / 2:
        return absent(f"{len(mixed)} words mark either side of the pairs as often as the other")
    word = max(mixed, key=lambda w: (sum(mixed[w]), w))
    chosen, rejected = mixed[word]
    said = (
        f"“{word}” and {len(mixed) - 1} other words are on the chosen side alone in {chosen} and "
        f"on the rejected alone in {rejected} of {len(pairs)} pairs"
    )
    return present(said, *_against(run, word, liked=chosen < rejected))


def _against(run: Run, word: str, *, liked: bool) -> tuple[Fact, ...]:
    """Return the first training pairs whose other side has the word (`liked`: the chosen one)."""
    rows = of_split(run, "train").filter(layout="preference").iter_rows(named=True)
    found = (
        row
        for row in rows
        if (word in _words(row["response"] or "")) == liked
        and (word in _words(row["rejected"] or "")) != liked
    )
    return tuple(
        Fact("data.pair", str(row["response"] if liked else row["rejected"])[:120], where_of(row))
        for row in itertools.islice(found, 3)
    )


def _sides(rows: pl.DataFrame) -> list[tuple[set[str], set[str]]]:
    """Return the words of chosen and rejected of each pair."""
    import polars as pl

    pairs = rows.filter((pl.col("layout") == "preference") & pl.col("rejected").is_not_null())
    return [
        (_words(chosen), _words(rejected))
        for chosen, rejected in pairs.select("response", "rejected").iter_rows()
        if chosen and rejected and chosen != rejected
    ]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower())[:WORDS])


def _directions(pairs: list[tuple[set[str], set[str]]]) -> dict[str, tuple[int, int]]:
    """Return per word in how many pairs the chosen side alone has it, and the rejected alone."""
    chosen: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for liked, disliked in pairs:
        chosen.update(liked - disliked)
        rejected.update(disliked - liked)
    return {word: (chosen[word], rejected[word]) for word in {*chosen, *rejected}}


@detector("preferences.better_in_evaluation")
def better_in_evaluation(run: Run, *, by: float, below: float) -> Observation:
    """Find that evaluation pairs are told apart better than the training pairs.

    Both in the median of the last half; training must stay `below` and be `by` behind.
    """
    found = [
        points_of_kind(run, "rewards/accuracies", split, kinds=["preference"])
        for split in ("train", "eval")
    ]
    levels = []
    for points, least in zip(found, (8, 3), strict=True):
        if isinstance(points, Observation):
            return points
        values = sorted(points.finite.values[len(points.finite.values) // 2 :])
        if len(points.finite.values) < least:
            return unobservable("Too few rows of preference accuracy", "trainer_state.json")
        levels.append(float(values[len(values) // 2]))
    said = f"rewards/accuracies end at {levels[0]:.2f} in training, {levels[1]:.2f} in evaluation"
    curves = ("rewards/accuracies", "eval/rewards/accuracies")
    if levels[0] < below and levels[1] - levels[0] >= by:
        return present(said, curves=curves)
    return absent(said)


LN2 = 0.6931  # the loss of a model that prefers nothing


@detector("preferences.learnt_by_heart")
def learnt_by_heart(run: Run, *, falls_to: float, share: float, accuracy: float) -> Observation:
    """Find that training pairs are learnt, and evaluation pairs are judged as without training.

    The training loss must end below `falls_to`, the evaluation loss never be below ln 2, and the
    evaluation margin stay within `share` of the training margin at the end. An evaluation accuracy
    above `accuracy` at the end tells that something holds for other pairs.
    """
    names = (("loss", "train", 8), ("rewards/margins", "train", 8), ("loss", "eval", 2),
             ("rewards/margins", "eval", 2), ("rewards/accuracies", "eval", 2))  # fmt: skip
    values = []
    for name, split, least in names:
        found = points_of_kind(run, name, split, kinds=["preference"])
        if isinstance(found, Observation):
            return found
        if len(found.finite.values) < least:
            return unobservable(f"Too few rows of {split} {name}", "trainer_state.json")
        values.append(found.finite.values)
    loss, margin = (sum(v[-(len(v) // 4) :]) / (len(v) // 4) for v in values[:2])
    lowest, far, hits = float(values[2].min()), float(values[3][-1]), float(values[4][-1])
    said = (
        f"loss ends at {loss:.3f} with margins of {margin:.2f} in training; in evaluation it is "
        f"{lowest:.3f} at best (ln 2 is {LN2:.3f}), margin {far:.2f}, accuracy {hits:.2f}"
    )
    learnt = loss < falls_to and margin > 0
    lost = lowest >= LN2 - 0.002 and abs(far) <= share * margin and hits <= accuracy
    curves = ("loss", "eval/loss")
    return (present if learnt and lost else absent)(said, curves=curves)


@detector("preferences.fit_on_both_sides")
def fit_on_both_sides(
    run: Run, *, bits: float, often: float, balance: float, minimum: int = 60
) -> Observation:
    """Find that the answer which takes up its prompt far better is chosen or rejected alike.

    An answer takes up a prompt by the rare words that it repeats: by `bits` more than the other
    one in `often` of the pairs, the better being chosen in `balance` to 1 - `balance` of these.
    """
    import polars as pl

    rows = of_split(run, "train").filter(pl.col("layout") == "preference")
    rows = rows.select("prompt", "response", "rejected").drop_nulls().head(1000)
    if rows.height < minimum:
        return unobservable(
            f"{rows.height} training pairs; {minimum} are needed", "preference data"
        )
    texts = [tuple(_words(text) for text in row) for row in rows.iter_rows()]
    rare = rarity([asked for asked, _, _ in texts])
    leads = [
        shared_bits(asked, liked, rare) - shared_bits(asked, other, rare)
        for asked, liked, other in texts
    ]
    clear = [lead for lead in leads if abs(lead) >= bits]
    right = sum(lead > 0 for lead in clear)
    said = (
        f"one answer repeats far more of its prompt in {len(clear)} of {rows.height} pairs; it is "
        f"chosen in {right} and rejected in {len(clear) - right}"
    )
    mixed = balance * len(clear) <= right <= (1 - balance) * len(clear)
    return (present if len(clear) >= often * rows.height and mixed else absent)(said)
