"""Rank causes by noisy-OR over the findings; the account of every number is kept.

Model. Each cause is present or absent, independently, with its prior odds multiplied by the odds
ratios of the risk factors seen. A symptom is absent with probability
(1 - leak) x product over present causes of (1 - sensitivity). An unobservable finding contributes
no factor. Causes that share no present symptom are independent; within each such family sets of
causes are enumerated in log space and summed to marginals, so that explaining away and several
faults at once need no special case.

Causes whose advice contradicts (`excludes`, in either direction) are never present together: sets
that hold both have no weight. Where the evidence leaves both likely, the less likely one is held
below CONTRADICTED and what it loses is counted as "no known cause": advice in two directions helps
nobody, and the likelier cause has not gained by it.

Order of events: what began before a cause's own work is not its work. A dated symptom whose onset
lies before the earliest onset of the symptoms that define a cause (sensitivity DEFINING or more),
beyond the uncertainties of both, is taken out of what that cause shows. Spans without an
uncertainty are no onsets and prove nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ftdoctor.model import Cause, Finding, Library, Severity, State, Unseen, Weight

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


MAX_CANDIDATES = 40  # the likeliest by their own evidence; the rest could not matter
MAX_SETS = 20_000  # per family: three together of 40 causes, four of 24, five of 15: milliseconds
MAX_TOGETHER = 5
PROBABILITY_FLOOR = 0.001  # nothing that was read off a log is more certain than this allows
CONTRADICTED = 0.25  # of two causes that exclude each other, the less likely one stays below this
EXPLAINED_AWAY = 5.0  # decibans by which another cause must lower this one before we say so
DEFINING = 0.8  # sensitivity from which on a symptom tells when its cause set in (judgement)
SHOWN_WEIGHT = 0.05  # decibans below which a weight is rounding


@dataclass(frozen=True)
class Ranked:
    """One cause after ranking: probability within [0.001, 0.999] and the account of it.

    `weights` are decibans and add up from the prior to the posterior log-odds.
    """

    cause: Cause
    prior: float
    probability: float
    weights: tuple[Weight, ...]
    unseen: tuple[Unseen, ...]
    explained_by: str


@dataclass(frozen=True)
class SplitBy:
    """How far an unobservable symptom would settle the matter: expected entropy lost, in bits."""

    symptom: str
    missing: tuple[str, ...]
    bits: float
    causes: tuple[str, ...]


@dataclass(frozen=True)
class Ranking:
    """All candidates best first, the weight of "no known cause", and what each gap is worth.

    `winners` is the most probable set of causes; `unexplained` are symptoms no member of it shows.
    """

    ranked: tuple[Ranked, ...]
    winners: tuple[str, ...]
    no_known_cause: float
    unexplained: tuple[str, ...]
    splits: tuple[SplitBy, ...]


@dataclass(frozen=True)
class _Unit:
    """One observation for the model: a symptom, or the symptoms of one group taken together."""

    symptom: str
    present: bool
    leak: float
    sensitivity: Mapping[str, float]


def rank(findings: Sequence[Finding], library: Library) -> Ranking:
    """Return the posterior of every candidate cause, given all findings."""
    states = {f.symptom: f.state for f in findings}
    library = _in_order(library, findings)
    candidates = _candidates(states, library)
    units = _units(states, library, candidates)
    families = [
        _weigh(family, states, units, findings, library) for family in _families(candidates, units)
    ]
    winners = tuple(w for f in families for w in f.winners)
    return Ranking(
        ranked=tuple(sorted((r for f in families for r in f.ranked), key=_order)),
        winners=winners,
        no_known_cause=math.prod(f.none for f in families),
        unexplained=_notable(states, library, winners),
        splits=_best_splits(s for f in families for s in f.splits),
    )


def _in_order(library: Library, findings: Sequence[Finding]) -> Library:
    """Return the library without what each cause cannot have caused, as it began before it."""
    spans = {f.symptom: f.span for f in findings if f.state is State.PRESENT and f.span is not None}
    causes = {}
    for name, cause in library.causes.items():
        own = [spans[s] for s, p in cause.shows.items() if p >= DEFINING and s in spans]
        begin = min(own, key=lambda span: span.step - (span.within or 0), default=None)
        early = {s for s in cause.shows if begin and s in spans and spans[s].precedes(begin)}
        shows = {s: p for s, p in cause.shows.items() if s not in early}
        causes[name] = replace(cause, shows=shows) if early else cause
    return replace(library, causes=causes)


@dataclass(frozen=True)
class _Family:
    """The result for causes that compete for the same symptoms."""

    ranked: tuple[Ranked, ...]
    winners: tuple[str, ...]
    none: float
    splits: tuple[SplitBy, ...]


def _families(candidates: Sequence[Cause], units: Sequence[_Unit]) -> list[list[Cause]]:
    """Split causes into families that share a present symptom or exclude each other.

    An absent symptom couples nothing: (1 - s1)(1 - s2) is a product already.
    """
    left = list(candidates)
    families = []
    while left:
        family = [left.pop(0)]
        for cause in family:
            shared = [u for u in units if u.present and cause.id in u.sensitivity]
            near = [
                c for c in left
                if any(c.id in u.sensitivity for u in shared) or excluding(c, cause)
            ]  # fmt: skip
            family += near
            left = [c for c in left if c not in near]
        families.append(family)
    return families


def excluding(one: Cause, other: Cause) -> bool:
    """Say whether the advice of two causes contradicts; either may name the other."""
    return other.id in one.excludes or one.id in other.excludes


def _weigh(
    candidates: Sequence[Cause],
    states: Mapping[str, State],
    all_units: Sequence[_Unit],
    findings: Sequence[Finding],
    library: Library,
) -> _Family:
    """Enumerate the sets of one family and account for each of its causes."""
    import numpy as np

    units = [u for u in all_units if any(c.id in u.sensitivity for c in candidates)]
    against = [
        (a, b)
        for a, b in itertools.combinations(range(len(candidates)), 2)
        if excluding(candidates[a], candidates[b])
    ]
    sets = _sets(len(candidates), against)
    member = np.zeros((len(sets), len(candidates)))
    for row, chosen in enumerate(sets):
        member[row, list(chosen)] = 1.0

    prior = member @ np.array([_log_odds(c.prior) for c in candidates])
    risks = _risk_columns(states, candidates)
    columns = [member @ r for _, r in risks]
    columns += [_log_likelihood(unit, candidates, member) for unit in units]
    names = [name for name, _ in risks] + [unit.symptom for unit in units]

    totals = [prior]
    for column in columns:
        totals.append(totals[-1] + column)
    undecided = totals[-1]
    yielded: dict[str, str] = {}
    for winner, loser in _contradicted(totals[-1], member, against):
        totals.append(_yield(totals[-1], member, loser, sets))
        names.append(_proof(candidates[winner], units, names[-1]))
        yielded[candidates[loser].id] = candidates[winner].id
    marginals = np.array([_marginals(total, member) for total in totals])
    posterior = totals[-1]
    share = _normalised(posterior)
    unseen = {c.id: _unseen(c, states, findings, library) for c in candidates}
    ranked = _account(candidates, names, len(risks), units, marginals, posterior, member, library)
    return _Family(
        tuple(
            replace(
                r, unseen=unseen[r.cause.id], explained_by=yielded.get(r.cause.id, r.explained_by)
            )
            for r in ranked
        ),
        tuple(candidates[i].id for i in sets[int(posterior.argmax())]),
        float(share[0]),
        _splits(findings, library, candidates, _normalised(undecided), member),
    )


def _contradicted(
    log_weights: npt.NDArray[np.float64],
    member: npt.NDArray[np.float64],
    against: Sequence[tuple[int, int]],
) -> list[tuple[int, int]]:
    """Return (likelier, less likely) of the pairs that exclude each other and are both likely."""
    odds = _marginals(log_weights, member)
    limit = _log_odds(CONTRADICTED)
    pairs = [(a, b) if odds[a] >= odds[b] else (b, a) for a, b in against]
    pairs.sort(key=lambda pair: (-odds[pair[0]], pair))
    found: list[tuple[int, int]] = []
    for winner, loser in pairs:
        if odds[loser] >= limit and not {winner, loser} & {lost for _, lost in found}:
            found.append((winner, loser))
    return found


def _yield(
    log_weights: npt.NDArray[np.float64],
    member: npt.NDArray[np.float64],
    loser: int,
    sets: Sequence[tuple[int, ...]],
) -> npt.NDArray[np.float64]:
    """Bring one cause below CONTRADICTED: part of each set's weight goes to the set without it."""
    import numpy as np

    share = _normalised(log_weights)
    kept = 0.99 * CONTRADICTED / float(share @ member[:, loser])
    row = {chosen: index for index, chosen in enumerate(sets)}
    for index, chosen in enumerate(sets):
        if loser in chosen:
            share[row[tuple(c for c in chosen if c != loser)]] += (1 - kept) * share[index]
            share[index] *= kept
    return np.log(np.maximum(share, np.finfo(float).tiny))


def _proof(winner: Cause, units: Sequence[_Unit], default: str) -> str:
    """Return the strongest symptom that the likelier of two causes shows."""
    return next((u.symptom for u in units if u.present and winner.id in u.sensitivity), default)


def _order(ranked: Ranked) -> tuple[float, int, str]:
    """Sort by posterior, then severity, then name."""
    severity = ("critical", "high", "medium", "low").index(ranked.cause.severity)
    return (-round(ranked.probability, 3), severity, ranked.cause.id)


# --- the model --------------------------------------------------------------------------------


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _candidates(states: Mapping[str, State], library: Library) -> list[Cause]:
    """Return the causes that show at least one present symptom, the likeliest of them if many."""
    scored = []
    for cause in library.causes.values():
        seen = [
            s
            for s, sensitivity in cause.shows.items()
            if states.get(s) is State.PRESENT and sensitivity > library.symptoms[s].leak
        ]
        if seen:
            scored.append((_alone(cause, states, library), cause.id, cause))
    scored.sort(key=lambda item: (-item[0], item[1]))
    return [cause for _, _, cause in scored[:MAX_CANDIDATES]]


def _alone(cause: Cause, states: Mapping[str, State], library: Library) -> float:
    """Return the log-odds of this cause against "nothing", group by group."""
    total = _log_odds(cause.prior)
    total += sum(math.log(r) for s, r in cause.risk.items() if states.get(s) is State.PRESENT)
    best: dict[str, float] = {}
    worst: dict[str, float] = {}
    for name, sensitivity in cause.shows.items():
        symptom = library.symptoms[name]
        key = symptom.group or name
        if states.get(name) is State.PRESENT:
            either = 1 - (1 - symptom.leak) * (1 - sensitivity)
            best[key] = max(best.get(key, -math.inf), math.log(either / symptom.leak))
        elif states.get(name) is State.ABSENT:
            worst[key] = min(worst.get(key, 0.0), math.log(1 - sensitivity))
    return total + sum(best.values()) + sum(worst.values())


def _units(
    states: Mapping[str, State], library: Library, candidates: Sequence[Cause]
) -> list[_Unit]:
    """Return the observations, present ones first, strongest first; one per group and state.

    A group is one observation seen from several sides. Of its present symptoms each cause is judged
    by the one that speaks most for it; of its absent ones by the one that speaks most against it.
    """
    groups: dict[str, list[str]] = {}
    relevant = {s for c in candidates for s in c.shows}
    for name in sorted(relevant):
        groups.setdefault(library.symptoms[name].group or name, []).append(name)
    units = []
    for names in groups.values():
        seen = [n for n in names if states.get(n) is State.PRESENT]
        gone = [n for n in names if states.get(n) is State.ABSENT]
        if seen:
            units.append(_present_unit(seen, library, candidates))
        if gone:
            units.append(_absent_unit(gone, candidates))
    units.sort(key=lambda u: (not u.present, -_reach(u), u.symptom))
    return units


def _present_unit(names: list[str], library: Library, candidates: Sequence[Cause]) -> _Unit:
    """Join present symptoms: the rarest gives the leak, each cause its best likelihood ratio."""
    rarest = min(names, key=lambda n: (library.symptoms[n].leak, n))
    leak = library.symptoms[rarest].leak
    sensitivity = {}
    for cause in candidates:
        ratios = [cause.shows[n] / library.symptoms[n].leak for n in names if n in cause.shows]
        if ratios:
            sensitivity[cause.id] = min(max(ratios) * leak, 0.999)
    return _Unit(rarest, True, leak, sensitivity)


def _absent_unit(names: list[str], candidates: Sequence[Cause]) -> _Unit:
    sensitivity: dict[str, float] = {}
    telling = names[0]
    for cause in candidates:
        for name in names:
            if cause.shows.get(name, 0.0) > sensitivity.get(cause.id, 0.0):
                sensitivity[cause.id] = cause.shows[name]
                if cause.shows[name] >= max(sensitivity.values()):
                    telling = name
    return _Unit(telling, False, 0.0, sensitivity)


def _reach(unit: _Unit) -> float:
    """Return the largest move, in nats, that the unit can make: for ordering only."""
    strongest = max(unit.sensitivity.values(), default=0.0)
    if unit.present:
        return math.log((1 - (1 - unit.leak) * (1 - strongest)) / unit.leak)
    return -math.log(1 - min(strongest, 0.999))


def _sets(count: int, against: Sequence[tuple[int, int]] = ()) -> list[tuple[int, ...]]:
    """Return every set of a few candidates, the empty one first, within MAX_SETS.

    Sets that hold a pair of `against` are left out.
    """
    together = 0
    total = 1
    while together < min(MAX_TOGETHER, count):
        total += math.comb(count, together + 1)
        if total > MAX_SETS:
            break
        together += 1
    made = (s for k in range(together + 1) for s in itertools.combinations(range(count), k))
    return [s for s in made if not any(a in s and b in s for a, b in against)]


def _risk_columns(
    states: Mapping[str, State], candidates: Sequence[Cause]
) -> list[tuple[str, npt.NDArray[np.float64]]]:
    import numpy as np

    seen = sorted({s for c in candidates for s in c.risk if states.get(s) is State.PRESENT})
    return [(s, np.array([math.log(c.risk.get(s, 1.0)) for c in candidates])) for s in seen]


def _log_likelihood(
    unit: _Unit, candidates: Sequence[Cause], member: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return log P(unit | set) for every set, relative to the empty set when the unit is absent."""
    import numpy as np

    misses = np.array([math.log(1 - unit.sensitivity.get(c.id, 0.0)) for c in candidates])
    silent: npt.NDArray[np.float64] = member @ misses
    if not unit.present:
        return silent
    result: npt.NDArray[np.float64] = np.log(1 - (1 - unit.leak) * np.exp(silent))
    return result


def _normalised(log_weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    import numpy as np

    shifted = np.exp(log_weights - log_weights.max())
    result: npt.NDArray[np.float64] = shifted / shifted.sum()
    return result


def _marginals(
    log_weights: npt.NDArray[np.float64], member: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return each candidate's log-odds of being present."""
    import numpy as np

    share = _normalised(log_weights)
    inside = member.T @ share
    outside = (1 - member).T @ share
    tiny = np.finfo(float).tiny
    result: npt.NDArray[np.float64] = np.log(np.maximum(inside, tiny)) - np.log(
        np.maximum(outside, tiny)
    )
    return result


# --- the account ------------------------------------------------------------------------------


def _account(
    candidates: Sequence[Cause],
    names: Sequence[str],
    risk_count: int,
    units: Sequence[_Unit],
    marginals: npt.NDArray[np.float64],
    posterior: npt.NDArray[np.float64],
    member: npt.NDArray[np.float64],
    library: Library,
) -> list[Ranked]:
    """Turn the prefix marginals into weights per finding, and sort the causes."""
    limit = math.log((1 - PROBABILITY_FLOOR) / PROBABILITY_FLOOR)
    ranked = []
    for column, cause in enumerate(candidates):
        steps = marginals[1:, column] - marginals[:-1, column]
        weights = []
        for index, (name, step) in enumerate(zip(names, steps, strict=True)):
            decibans = float(step) * 10 / math.log(10)
            if abs(decibans) >= SHOWN_WEIGHT:
                role = _role(index, risk_count, units, cause, decibans)
                weights.append(Weight(_spoken(name, cause, units, index - risk_count, library),
                                      round(decibans, 2), role))  # fmt: skip
        odds = float(min(max(marginals[-1, column], -limit), limit))
        probability = 1 / (1 + math.exp(-odds))
        explained = _explained_by(column, candidates, posterior, member, marginals[-1, column])
        ranked.append(Ranked(cause, cause.prior, probability, tuple(weights), (), explained))
    return ranked


def _role(
    index: int, risk_count: int, units: Sequence[_Unit], cause: Cause, decibans: float
) -> str:
    if index < risk_count:
        return "risk"
    if index - risk_count >= len(units):
        return "explained"  # what the likelier of two contradictory causes takes from the other
    unit = units[index - risk_count]
    if decibans > 0:
        return "for" if cause.id in unit.sensitivity and unit.present else "explained"
    return "against" if cause.id in unit.sensitivity and not unit.present else "explained"


def _spoken(name: str, cause: Cause, units: Sequence[_Unit], index: int, library: Library) -> str:
    """Name the symptom of a group that this cause shows, rather than the group's rarest one."""
    if index < 0 or index >= len(units) or name in cause.shows:
        return name
    group = library.symptoms[name].group
    same = [s for s in cause.shows if group and library.symptoms[s].group == group]
    return max(same, key=lambda s: cause.shows[s]) if same and units[index].present else name


def _explained_by(
    column: int,
    candidates: Sequence[Cause],
    posterior: npt.NDArray[np.float64],
    member: npt.NDArray[np.float64],
    odds: float,
) -> str:
    """Name the cause that takes this one's evidence, if it lowers the odds by EXPLAINED_AWAY."""
    import numpy as np

    alone = member.sum(axis=1) == 1
    own = float(posterior[alone & (member[:, column] == 1)][0])
    if (own - float(posterior[0]) - odds) * 10 / math.log(10) < EXPLAINED_AWAY:
        return ""
    share = member.T @ _normalised(posterior)
    share[column] = 0.0
    mine = candidates[column].shows
    rivals = [(float(share[i]), c.id) for i, c in enumerate(candidates) if set(c.shows) & set(mine)]
    best = max(rivals, default=(0.0, ""))
    return best[1] if best[0] > float(np.exp(odds) / (1 + np.exp(odds))) else ""


def _unseen(
    cause: Cause, states: Mapping[str, State], findings: Sequence[Finding], library: Library
) -> tuple[Unseen, ...]:
    """Return what the cause would show in files that are not there, strongest first."""
    missing = {f.symptom: f.missing for f in findings}
    found = []
    for name, sensitivity in cause.shows.items():
        if states.get(name) is not State.UNOBSERVABLE:
            continue
        leak = library.symptoms[name].leak
        present = 1 - (1 - leak) * (1 - sensitivity)
        found.append(
            Unseen(
                symptom=name,
                if_present=round(10 * math.log10(present / leak), 1),
                if_absent=round(10 * math.log10(1 - sensitivity), 1),
                missing=missing.get(name, ()),
            )
        )
    return tuple(sorted(found, key=lambda u: (-u.if_present + u.if_absent, u.symptom)))


TROUBLE = "trouble"  # group of the symptoms that say that something is wrong, but not what
NOTABLE_LEAK = 0.05  # symptoms commoner than this in healthy runs need no explanation


def _notable(
    states: Mapping[str, State], library: Library, winners: Sequence[str]
) -> tuple[str, ...]:
    """Return present, rare symptoms that none of the winning causes shows, rarest first.

    Symptoms of the group TROUBLE, which any fault may show, are accounted for by any grave winner.
    """
    shown = {s for w in winners for s in library.causes[w].shows}
    shown |= {library.symptoms[s].group for s in shown if library.symptoms[s].group}
    if any(library.causes[w].severity is not Severity.LOW for w in winners):
        shown.add(TROUBLE)
    left = [
        s
        for name, s in library.symptoms.items()
        if states.get(name) is State.PRESENT
        and s.leak <= NOTABLE_LEAK
        and name not in shown
        and (not s.group or s.group not in shown)
    ]
    return tuple(s.id for s in sorted(left, key=lambda s: (s.leak, s.id)))


def _splits(
    findings: Sequence[Finding],
    library: Library,
    candidates: Sequence[Cause],
    share: npt.NDArray[np.float64],
    member: npt.NDArray[np.float64],
) -> tuple[SplitBy, ...]:
    """Return, per unobservable symptom, the mutual information with the set of causes in bits."""
    import numpy as np

    found = []
    for finding in findings:
        if finding.state is not State.UNOBSERVABLE:
            continue
        bearing = [c for c in candidates if finding.symptom in c.shows]
        if not bearing:
            continue
        misses = np.array([math.log(1 - c.shows.get(finding.symptom, 0.0)) for c in candidates])
        seen = 1 - (1 - library.symptoms[finding.symptom].leak) * np.exp(member @ misses)
        # Most causes do not bear on a symptom, so a few values serve all sets.
        chances, at = np.unique(seen, return_inverse=True)
        entropies = np.array([entropy(float(chance)) for chance in chances])[at]
        bits = entropy(float(share @ seen)) - float(share @ entropies)
        found.append(
            SplitBy(finding.symptom, finding.missing, max(bits, 0.0), tuple(c.id for c in bearing))
        )
    return tuple(found)


def _best_splits(splits: Iterable[SplitBy]) -> tuple[SplitBy, ...]:
    """Return one entry per symptom, from the family that it tells most about, best first."""
    best: dict[str, SplitBy] = {}
    for split in splits:
        if split.symptom not in best or split.bits > best[split.symptom].bits:
            best[split.symptom] = split
    return tuple(sorted(best.values(), key=lambda s: (-s.bits, s.symptom)))


def entropy(probability: float) -> float:
    """Return the entropy of a yes-or-no question in bits."""
    if probability <= 0 or probability >= 1:
        return 0.0
    rest = 1 - probability
    return -probability * math.log2(probability) - rest * math.log2(rest)
