"""What a cluster's runs share and the rest does not: Fisher's test, odds ratio, false discovery.

Each factor and value is compared among the runs for which the factor is known, inside against
outside the cluster: unknown is not absent. Outside are the runs of the cluster's own kinds of
training: that reward models have a fault of reward models tells nobody anything. The test is
one-sided, for more in the cluster than in the rest. p-values of all comparisons of a fleet are
corrected together by Benjamini and Hochberg (1995, doi:10.1111/j.2517-6161.1995.tb02031.x); the
interval of the odds ratio is Woolf's with Haldane's and Anscombe's half added to each cell, so that
it is finite. An association names no cause: runs copied from one another count as if each had been
made alone.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ftdoctor.evaluate import Z95
from ftdoctor.fleet.factors import KIND
from ftdoctor.fleet.rows import Row

FALSE_DISCOVERY = 0.05  # share of named factors that may be chance
LEAST_RUNS = 3  # runs of a cluster that must have a value for it to be compared
LEAST_REST = 3  # runs outside with the factor known: fewer are no comparison
LEAST_SHARE = 0.3  # of the cluster; a value that few have does not mark it (judgement)
LEAST_RATIO = 1.5  # of the share inside to that outside: thousands of runs make trifles significant
SHOWN = 5  # markers named for a cluster


@dataclass(frozen=True, slots=True)
class Marker:
    """A value that marks a cluster: counts with it and with the factor known, in and outside.

    `odds` is the odds ratio with its 95 % interval, `q` the false discovery rate at which it
    would still be named; `also` are other factors that the same runs have.
    """

    factor: str
    value: str
    inside: int
    inside_known: int
    outside: int
    outside_known: int
    odds: float
    low: float
    high: float
    p: float
    q: float = 1.0
    also: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Return the share of the cluster's known runs that have the value."""
        return self.inside / self.inside_known


def markers(
    rows: Sequence[Row], clusters: Mapping[str, Sequence[Row]]
) -> tuple[dict[str, tuple[Marker, ...]], int]:
    """Return the markers of each cluster, the most telling first, and how many were compared."""
    counted = {kind: _counted(r for r in rows if _kind(r) == kind) for kind in {*map(_kind, rows)}}
    tables = []
    for cause, members in clusters.items():
        inside_known, inside = _counted(members)
        alike = [counted[kind] for kind in {*map(_kind, members)}]
        for (name, value), a in inside.items():
            outside_known = sum(known[name] for known, _ in alike) - inside_known[name]
            if a >= LEAST_RUNS and outside_known >= LEAST_REST:
                c = sum(having[name, value] for _, having in alike) - a
                tables.append((cause, name, value, a, inside_known[name], c, outside_known))
    if not tables:
        return {}, 0
    ps = _one_sided([(a, k, c, m) for _, _, _, a, k, c, m in tables])
    qs = _false_discovery(ps)
    found: dict[str, list[Marker]] = defaultdict(list)
    for (cause, name, value, a, k, c, m), p, q in zip(tables, ps, qs, strict=True):
        marked = a / k >= max(LEAST_SHARE, LEAST_RATIO * c / m)
        if q <= FALSE_DISCOVERY and marked:
            odds, low, high = odds_ratio(a, k - a, c, m - c)
            found[cause].append(Marker(name, value, a, k, c, m, odds, low, high, p, q))
    return {cause: _without_twins(each, clusters[cause]) for cause, each in found.items()}, len(
        tables
    )


def _kind(row: Row) -> str:
    return row.factors.get(KIND, "")


def _counted(rows: Iterable[Row]) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Return how many rows know each factor, and how many have each value of it."""
    known: Counter[str] = Counter()
    having: Counter[tuple[str, str]] = Counter()
    for row in rows:
        known.update(name for name in row.factors if name != KIND)
        having.update(item for item in row.factors.items() if item[0] != KIND)
    return known, having


def odds_ratio(a: int, b: int, c: int, d: int) -> tuple[float, float, float]:
    """Return the odds ratio of a 2x2 table with its 95 % interval."""
    cells = [x + 0.5 for x in (a, b, c, d)]
    log = math.log(cells[0] * cells[3] / (cells[1] * cells[2]))
    spread = Z95 * math.sqrt(sum(1 / x for x in cells))
    return math.exp(log), math.exp(log - spread), math.exp(log + spread)


def two_sided(a: int, b: int, c: int, d: int) -> float:
    """Return Fisher's exact two-sided p of a 2x2 table."""
    import numpy as np
    from scipy.stats import fisher_exact

    return float(fisher_exact(np.array([[a, b], [c, d]])).pvalue)


def _one_sided(tables: Sequence[tuple[int, int, int, int]]) -> list[float]:
    """Return Fisher's p for at least `a` of `k` inside, given `c` of `m` outside, for each."""
    import numpy as np
    from scipy.stats import hypergeom

    a, k, c, m = np.array(tables, dtype=float).T
    # P(X >= a), X the number inside among the a + c that have the value of k + m.
    return [float(p) for p in np.minimum(1.0, hypergeom.sf(a - 1, k + m, a + c, k))]


def _false_discovery(ps: Sequence[float]) -> list[float]:
    order = sorted(range(len(ps)), key=ps.__getitem__)
    qs = [1.0] * len(ps)
    least = 1.0
    for rank in range(len(ps), 0, -1):
        index = order[rank - 1]
        least = min(least, ps[index] * len(ps) / rank)
        qs[index] = least
    return qs


def _without_twins(found: list[Marker], members: Sequence[Row]) -> tuple[Marker, ...]:
    """Keep one of several markers that the same runs have, naming the others with it."""
    found.sort(key=lambda m: (m.p, -m.odds, m.factor, m.value))
    kept: list[Marker] = []
    holders: list[frozenset[str]] = []
    for marker in found:
        runs = frozenset(r.key for r in members if r.factors.get(marker.factor) == marker.value)
        twin = next((i for i, other in enumerate(holders) if other == runs), None)
        if twin is not None:
            named = f"{marker.factor} {marker.value}"
            kept[twin] = replace(kept[twin], also=(*kept[twin].also, named))
        elif len(kept) < SHOWN:
            kept.append(marker)
            holders.append(runs)
    return tuple(kept)
