"""What marks a cluster: found where it is, silent where it is chance."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ftdoctor.fleet.association import markers, odds_ratio, two_sided
from ftdoctor.fleet.clusters import fleet_of, trend, weeks_of
from ftdoctor.fleet.rows import Row

WEEK = 7 * 86400.0
START = 1_790_000_000.0


def row(index: int, cause: str = "", **factors: str) -> Row:
    kind = "cause" if cause else "healthy"
    return Row(
        run=f"r{index}", path=f"/r{index}", key=f"/r{index}", kind=kind, cause=cause, title=cause,
        probability=0.9 if cause else None, fix="Do it.", factors=factors,
        modified=START + index * 3600,
    )  # fmt: skip


def found(rows: list[Row], cause: str) -> list[tuple[str, str]]:
    clusters = {cause: [r for r in rows if r.cause == cause]}
    made, _ = markers(rows, clusters)
    return [(m.factor, m.value) for m in made.get(cause, ())]


def test_a_shared_function_is_named_and_its_twin_beside_it() -> None:
    rows = [row(i, "eos", host=f"n{i % 7}", function="bad", script="s1") for i in range(20)]
    rows += [row(i, "", host=f"n{i % 7}", function="good", script="s2") for i in range(20, 100)]
    made, tests = markers(rows, {"eos": rows[:20]})
    [marker] = made["eos"]
    assert marker.value in ("bad", "s1")
    assert len(marker.also) == 1
    assert (marker.inside, marker.inside_known, marker.outside) == (20, 20, 0)
    assert 1 < marker.low < marker.odds < marker.high
    assert marker.q <= 1e-6
    assert tests >= 2


def test_chance_is_not_named() -> None:
    rng = random.Random(7)
    named = 0
    for trial in range(40):
        rows = [
            row(i, "c" if rng.random() < 0.3 else "",
                **{f"f{k}": str(rng.randrange(4)) for k in range(20)})
            for i in range(120)
        ]  # fmt: skip
        named += bool(found(rows, "c"))
        assert trial >= 0
    assert named <= 5  # 5 % of 40 fleets, with room for chance: binomial, P(more) < 2 %


def test_unknown_is_not_absent() -> None:
    rows = [row(i, "c", host="n1") for i in range(10)] + [row(i) for i in range(10, 60)]
    assert found(rows, "c") == []  # no other run's host is known: nothing to compare with


def test_a_cluster_is_compared_with_its_own_kind_of_training() -> None:
    kind = "kind of training"
    rows = [row(i, "kl", **{kind: "rl", "trainer": "tinker"}) for i in range(10)]
    rows += [row(i, "", **{kind: "rl", "trainer": "tinker"}) for i in range(10, 30)]
    rows += [row(i, "", **{kind: "sft", "trainer": "hf"}) for i in range(30, 90)]
    assert found(rows, "kl") == []
    rows += [row(i, "", **{kind: "rl", "trainer": "verl"}) for i in range(90, 120)]
    assert found(rows, "kl") == [("trainer", "tinker")]


def test_what_most_others_have_too_marks_nobody_however_many_runs() -> None:
    rows = [row(i, "oom", optim="adamw") for i in range(800)]
    rows += [row(i, "", optim="adamw" if i % 5 else "lion") for i in range(800, 4800)]
    assert found(rows, "oom") == []


def test_what_all_runs_share_marks_nobody() -> None:
    rows = [row(i, "c" if i < 10 else "", host="n1") for i in range(60)]
    assert found(rows, "c") == []


def test_odds_ratio_is_finite_with_an_empty_cell() -> None:
    odds, low, high = odds_ratio(10, 0, 0, 10)
    assert low < odds < high < float("inf")
    assert odds_ratio(5, 5, 5, 5)[0] == pytest.approx(1.0)


def test_fisher_against_a_published_value() -> None:
    # The lady tasting tea, Fisher 1935: three of four right, two-sided 0.4857.
    assert two_sided(3, 1, 1, 3) == pytest.approx(0.4857, abs=1e-4)


def test_trend_rises_only_with_evidence() -> None:
    def at(index: int, week: int, cause: str) -> Row:
        return replace(row(index, cause), modified=START + week * WEEK)

    steady = [at(i, i % 8, "a" if i % 2 else "b") for i in range(64)]
    assert trend([r for r in steady if r.cause == "a"], weeks_of(steady)).word == "steady"
    rising = [at(i, i % 8, "a" if i % 8 >= 4 else "b") for i in range(64)]
    made = trend([r for r in rising if r.cause == "a"], weeks_of(rising))
    assert made.word == "rising"
    assert sum(count for _, count in made.weeks) == 32
    assert made.first == START + 4 * WEEK


def test_unknown_runs_are_grouped_by_alike_symptoms() -> None:
    def unknown(index: int, *symptoms: str) -> Row:
        return replace(row(index), kind="unknown", unexplained=symptoms)

    rows = [unknown(i, "a", "b", "c") for i in range(5)]
    rows += [unknown(5, "a", "b", "c", "d"), unknown(6, "x"), unknown(7, "x")]
    groups = fleet_of(rows).unknown
    assert [(g.symptoms, len(g.rows)) for g in groups] == [(("a", "b", "c"), 6), (("x",), 2)]


def test_unknown_exceptions_are_grouped_by_their_message() -> None:
    rows = [
        replace(row(i, "uncaught-exception"), message=f"KeyError: 'lane {i}' at /data/{i}/x")
        for i in range(3)
    ]
    rows.append(replace(row(9, "uncaught-exception"), message="TypeError: not that"))
    rows.append(row(10, "uncaught-exception"))  # its message was not kept
    fleet = fleet_of(rows)
    assert [len(group.rows) for group in fleet.unknown] == [3, 1]
    assert fleet.unknown[0].titles == ("KeyError: 'lane 0' at /data/0/x",)
    assert len(fleet.clusters[0].rows) == 5


def test_hours_count_once_under_the_first_cause() -> None:
    rows = [replace(row(i, "a"), hours_lost=2.0) for i in range(3)]
    rows += [replace(row(3, "b"), hours_lost=None), row(4)]
    fleet = fleet_of(rows)
    assert fleet.hours == 6.0
    assert fleet.hours_known == 3
    assert [(c.id, c.hours, c.hours_known) for c in fleet.clusters] == [
        ("a", 6.0, 3),
        ("b", 0.0, 0),
    ]
