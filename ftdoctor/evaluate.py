"""Score diagnoses against labelled runs: hit rates, false alarms, calibration, confusion, time.

A label is a JSON object: `id`; `path` of the run, relative to the runs folder (default: the id);
`healthy` true, false or "unclear"; `causes`, the acceptable first causes (equivalent ones count);
`also`, further causes that are present; `given`, what the caller adds (files by role, relative to
the label's folder; `good`, a run that worked; `observed`, `price`, `now`). Unclear runs count for
false alarms of high confidence only. See docs/evaluation.md.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ftdoctor.errors import FtdoctorError
from ftdoctor.model import Diagnosis, Library, State

if TYPE_CHECKING:
    from ftdoctor.diagnose import Options

ALARM = 0.25  # a cause of severity medium or above beyond this, on a healthy run, is a false alarm
BINS = 10
Z95 = 1.959964  # two-sided 95 % of the normal distribution
RESAMPLED = 500  # bootstrap samples of the runs, for figures that are no shares
Interval = tuple[float, float]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Label:
    """What is known of a run; `healthy` is None if it is unclear."""

    id: str
    path: Path
    healthy: bool | None
    causes: tuple[str, ...]
    also: tuple[str, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)

    def options(self) -> Options:
        """Return what the label adds to the run."""
        from ftdoctor.diagnose import Options
        from ftdoctor.read.added import ROLES

        files = {role: self.path.parent / self.given[role] for role in ROLES if role in self.given}
        return Options(
            now=self.given.get("now"),
            added=tuple(files.items()),
            observed=tuple(self.given.get("observed", ())),
            price=self.given.get("price"),
            good=str(self.path.parent / self.given["good"]) if "good" in self.given else "",
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tool said of one labelled run; `rank` of the right cause from 1, 0 if not listed.

    `present` and `absent` are the symptoms that were looked for where they would show; `effects`
    are the causes that the diagnosis puts beneath an acceptable one.
    """

    label: Label
    ranked: tuple[tuple[str, float], ...]
    rank: int
    verdict: str
    seconds: float
    error: str = ""
    present: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    effects: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its Wilson interval of 95 %."""

    hits: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """Return the share, NaN of nothing."""
        return self.hits / self.total if self.total else math.nan

    def __str__(self) -> str:
        """Return `value (low-high), hits/total`."""
        if not self.total:
            return "no runs"
        return (
            f"{self.value:6.1%}  ({self.low:.0%} to {self.high:.0%})  {self.hits} of {self.total}"
        )


@dataclass(frozen=True, slots=True)
class Scores:
    """All figures of an evaluation; `*_interval` are 95 % of bootstrap samples over the runs."""

    first: Rate
    first_three: Rate
    reciprocal_rank: float
    false_alarms: Rate
    unclear_alarms: Rate
    brier: float
    calibration_error: float
    reliability: tuple[tuple[float, float, int], ...]
    confusion: tuple[tuple[str, str, int], ...]
    seconds_median: float
    seconds_most: float
    errors: int
    reciprocal_rank_interval: Interval = (math.nan, math.nan)
    brier_interval: Interval = (math.nan, math.nan)
    calibration_error_interval: Interval = (math.nan, math.nan)


def load_labels(labels: Path, runs: Path | None = None) -> list[Label]:
    """Read labels from a JSONL file, or from the `expected.json` files below a folder.

    FtdoctorError names the line that is no label.
    """
    if labels.is_dir():
        return [_folder_label(path, labels) for path in sorted(labels.rglob("expected.json"))]
    made = []
    for number, line in enumerate(labels.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                data = json.loads(line)
                place = (runs or labels.parent) / str(data.get("path", data["id"]))
                made.append(_label(data, str(data["id"]), place))
            except (ValueError, KeyError, TypeError) as error:
                raise FtdoctorError(f"{labels}:{number}: no label: {error!r}") from error
    return made


def _folder_label(path: Path, root: Path) -> Label:
    data = json.loads(path.read_text(encoding="utf-8"))
    return _label(data, path.parent.relative_to(root).as_posix(), path.parent / "run")


def _label(data: Mapping[str, Any], name: str, place: Path) -> Label:
    healthy = data["healthy"]
    if healthy not in (True, False, "unclear"):
        raise ValueError(f'`healthy` must be true, false or "unclear", not {healthy!r}')
    return Label(
        name,
        place,
        None if healthy == "unclear" else healthy,
        tuple(data.get("causes", ())),
        tuple(data.get("also", ())),
        data.get("given", {}),
    )


def outcomes(labels: Sequence[Label], library: Library) -> Iterator[Outcome]:
    """Diagnose each labelled run in turn; a cause may be labelled by an alias."""
    from ftdoctor.diagnose import diagnose_run, gather

    for given in labels:
        called = [(library.cause_called(name), name) for name in given.causes]
        causes = dict.fromkeys(cause.id if cause else name for cause, name in called)
        label = replace(given, causes=tuple(causes))
        begin = time.perf_counter()
        try:
            diagnosis = diagnose_run(gather(label.path, label.options(), library), library)
        except FtdoctorError as error:
            yield Outcome(label, (), 0, "unreadable", time.perf_counter() - begin, str(error))
            continue
        yield judge(label, diagnosis, time.perf_counter() - begin)


def judge(label: Label, diagnosis: Diagnosis, seconds: float = 0.0) -> Outcome:
    """Compare one diagnosis with its label."""
    ranked = tuple((c.id, c.probability) for c in diagnosis.causes)
    place = next((i for i, (name, _) in enumerate(ranked, 1) if name in label.causes), 0)
    states = {
        state: frozenset(f.symptom for f in diagnosis.findings if f.state is state)
        for state in (State.PRESENT, State.ABSENT)
    }
    return Outcome(
        label, ranked, place, diagnosis.verdict.text, seconds,
        present=states[State.PRESENT], absent=states[State.ABSENT],
        effects=frozenset(c.id for c in diagnosis.causes if c.beneath in label.causes),
    )  # fmt: skip


def score(results: Sequence[Outcome]) -> Scores:
    """Return the figures over all outcomes."""
    faulty = [r for r in results if r.label.healthy is False and r.label.causes]
    healthy = [r for r in results if r.label.healthy is True]
    unclear = [r for r in results if r.label.healthy is None]
    pairs = list(claims(results))
    reliability = _reliability(pairs)
    ranks = [1 / r.rank if r.rank else 0.0 for r in faulty]
    of_runs = [made for r in results if (made := list(claims([r])))]
    times = sorted(r.seconds for r in results) or [math.nan]
    return Scores(
        first=rate(sum(r.rank == 1 for r in faulty), len(faulty)),
        first_three=rate(sum(1 <= r.rank <= 3 for r in faulty), len(faulty)),
        reciprocal_rank=_mean(ranks),
        false_alarms=rate(sum(_alarm(r, ALARM) for r in healthy), len(healthy)),
        unclear_alarms=rate(sum(_alarm(r, 0.5) for r in unclear), len(unclear)),
        brier=_brier(pairs),
        calibration_error=_calibration_error(pairs),
        reliability=reliability,
        confusion=_confusion(faulty),
        seconds_median=times[len(times) // 2],
        seconds_most=times[-1],
        errors=sum(bool(r.error) for r in results),
        reciprocal_rank_interval=_interval(ranks, _mean),
        brier_interval=_interval(of_runs, lambda drawn: _brier(_joined(drawn))),
        calibration_error_interval=_interval(
            of_runs, lambda drawn: _calibration_error(_joined(drawn))
        ),
    )


def _brier(pairs: Sequence[tuple[float, bool]]) -> float:
    return _mean([(p - hit) ** 2 for p, hit in pairs])


def _calibration_error(pairs: Sequence[tuple[float, bool]]) -> float:
    table = _reliability(pairs)
    return sum(abs(p - share) * n for p, share, n in table) / (len(pairs) or 1)


def _joined(of_runs: Sequence[Sequence[tuple[float, bool]]]) -> list[tuple[float, bool]]:
    return [pair for pairs in of_runs for pair in pairs]


def _interval(items: Sequence[T], figure: Callable[[Sequence[T]], float]) -> Interval:
    """Return 95 % of a figure over bootstrap samples of its items (percentiles, one seed)."""
    if len(items) < 2:
        return (math.nan, math.nan)
    draw = random.Random(0)
    found = sorted(figure(draw.choices(items, k=len(items))) for _ in range(RESAMPLED))
    return found[round(0.025 * (RESAMPLED - 1))], found[round(0.975 * (RESAMPLED - 1))]


def _alarm(outcome: Outcome, limit: float) -> bool:
    return bool(outcome.ranked) and max(p for _, p in outcome.ranked) > limit


def claims(results: Sequence[Outcome]) -> Iterator[tuple[float, bool]]:
    """Yield (probability, true) for every listed cause of a run that has a clear label.

    Equivalent causes are one claim: of the acceptable ones the likeliest is taken. Causes that the
    label neither names nor excludes are false claims, which makes the figure a strict one; what is
    told as an effect of an acceptable cause is no claim of its own.
    """
    for result in results:
        if result.label.healthy is None or (not result.label.healthy and not result.label.causes):
            continue
        right = [p for name, p in result.ranked if name in result.label.causes]
        if result.label.causes:
            yield max(right, default=0.0), True
        for name, probability in result.ranked:
            if name not in result.label.causes and name not in result.effects:
                yield probability, name in result.label.also


def _reliability(pairs: Sequence[tuple[float, bool]]) -> tuple[tuple[float, float, int], ...]:
    """Return per bin of probability: mean probability, share that is true, count."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for pair in pairs:
        bins[min(int(pair[0] * BINS), BINS - 1)].append(pair)
    return tuple(
        (_mean([p for p, _ in inside]), _mean([float(h) for _, h in inside]), len(inside))
        for inside in bins
        if inside
    )


def _confusion(faulty: Sequence[Outcome]) -> tuple[tuple[str, str, int], ...]:
    """Return (labelled cause, first cause said, count) of the misses, commonest first."""
    misses = Counter(
        (r.label.causes[0], r.ranked[0][0] if r.ranked else "nothing")
        for r in faulty
        if r.rank != 1
    )
    return tuple((a, b, n) for (a, b), n in sorted(misses.items(), key=lambda i: (-i[1], i[0])))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def rate(hits: int, total: int) -> Rate:
    """Return a share with its Wilson score interval."""
    if not total:
        return Rate(0, 0, math.nan, math.nan)
    share = hits / total
    spread = Z95 * math.sqrt(share * (1 - share) / total + Z95**2 / (4 * total**2))
    middle = share + Z95**2 / (2 * total)
    scale = 1 + Z95**2 / total
    return Rate(hits, total, max((middle - spread) / scale, 0), min((middle + spread) / scale, 1))


def to_json(scores: Scores, results: Sequence[Outcome]) -> dict[str, Any]:
    """Return plain data of the figures and of every outcome."""
    return {
        "scores": _finite(asdict(scores)),
        "runs": [
            {
                "id": r.label.id,
                "healthy": "unclear" if r.label.healthy is None else r.label.healthy,
                "causes": list(r.label.causes),
                "rank": r.rank,
                "ranked": [list(pair) for pair in r.ranked[:5]],
                "verdict": r.verdict,
                "seconds": round(r.seconds, 3),
                "error": r.error,
            }
            for r in results
        ],
    }


def _finite(value: Any) -> Any:
    """Return plain data with None for what is no number."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def within(interval: Interval) -> str:
    """Return an interval as it stands behind a figure, nothing if there is none."""
    return "" if math.isnan(interval[0]) else f"  ({interval[0]:.3f} to {interval[1]:.3f})"


def render_text(scores: Scores, results: Sequence[Outcome]) -> str:
    """Return the figures for a terminal, and every run that was not judged right."""
    s = scores
    lines = [
        f"right cause first        {scores.first}",
        f"among the first three    {scores.first_three}",
        f"mean reciprocal rank     {s.reciprocal_rank:6.3f}{within(s.reciprocal_rank_interval)}",
        f"false alarms on healthy  {scores.false_alarms}",
        f"confident on unclear     {scores.unclear_alarms}",
        f"Brier score              {s.brier:6.3f}{within(s.brier_interval)}",
        f"calibration error        {s.calibration_error:6.3f}"
        f"{within(s.calibration_error_interval)}",
        f"seconds per run          median {scores.seconds_median:.2f}, "
        f"most {scores.seconds_most:.2f}",
        f"unreadable               {scores.errors}",
        "",
        "said     true, with interval, claims",
    ]
    lines += [f"{p:7.1%}  {rate(round(share * n), n)}" for p, share, n in scores.reliability]
    if scores.confusion:
        lines += ["", "labelled, first said, runs:"]
        lines += [f"  {labelled}: {first} {n}" for labelled, first, n in scores.confusion]
    wrong = misjudged(results)
    if wrong:
        lines += ["", "not judged as labelled:"]
    lines += [f"  {r.label.id}: wanted {wanted(r)}; said {said(r)}" for r in wrong]
    return "\n".join(lines)


def misjudged(results: Sequence[Outcome]) -> list[Outcome]:
    """Return the runs whose first cause is not acceptable, and healthy ones with an alarm."""
    return [
        r
        for r in results
        if (r.label.healthy is False and r.label.causes and r.rank != 1)
        or (r.label.healthy is True and _alarm(r, ALARM))
        or (r.label.healthy is None and _alarm(r, 0.5))
    ]


def wanted(outcome: Outcome) -> str:
    """Return what the label says, in one line."""
    return "/".join(outcome.label.causes) or ("healthy" if outcome.label.healthy else "unclear")


def said(outcome: Outcome) -> str:
    """Return what the diagnosis said, in one line."""
    likeliest = ", ".join(f"{name} {p:.2f}" for name, p in outcome.ranked[:3])
    return likeliest or outcome.error or "nothing"
