"""The evaluation: figures, page, counted signatures, and the hit rate that must not fall."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from ftdoctor.calibrate import leaks, render_calibration, sensitivities, sharpness
from ftdoctor.errors import FtdoctorError
from ftdoctor.evaluate import (
    Label,
    Outcome,
    claims,
    load_labels,
    misjudged,
    outcomes,
    score,
    to_json,
)
from ftdoctor.library import load
from ftdoctor.render.evaluate import render_evaluation

LIBRARY = load()
FIXTURES = Path(__file__).parents[1] / "fixtures"
# Recorded over fixtures/; raise them when the figures rise. One false alarm is one too many.
FIRST, FIRST_THREE, FALSE_ALARMS, CALIBRATION_ERROR = 0.95, 0.98, 0.0, 0.12


def outcome(
    causes: tuple[str, ...], ranked: tuple[tuple[str, float], ...], *, healthy: bool = False,
    present: tuple[str, ...] = (), absent: tuple[str, ...] = (),
) -> Outcome:  # fmt: skip
    label = Label("run", Path("run"), healthy, causes)
    rank = next((i for i, (name, _) in enumerate(ranked, 1) if name in causes), 0)
    return Outcome(label, ranked, rank, "", 0.1, "", frozenset(present), frozenset(absent))


RIGHT = outcome(("lr-too-high", "full-ft-with-lora-lr"), (("lr-too-high", 0.9),))
SECOND = outcome(("lr-too-low",), (("lr-too-high", 0.6), ("lr-too-low", 0.3)))
CLEAN = outcome((), (), healthy=True)
ALARM = outcome((), (("lr-too-high", 0.5),), healthy=True)


def test_the_figures_are_what_they_are_called() -> None:
    scores = score([RIGHT, SECOND, CLEAN, ALARM])
    assert (scores.first.hits, scores.first.total) == (1, 2)
    assert (scores.first_three.hits, scores.first_three.total) == (2, 2)
    assert scores.reciprocal_rank == pytest.approx(0.75)
    assert (scores.false_alarms.hits, scores.false_alarms.total) == (1, 2)
    claims = [0.1**2, 0.7**2, 0.6**2, 0.5**2]
    assert scores.brier == pytest.approx(sum(claims) / 4)
    assert scores.confusion == (("lr-too-low", "lr-too-high", 1),)
    assert scores.first.low < 0.5 < scores.first.high


def test_figures_that_are_no_shares_have_intervals_over_the_runs() -> None:
    scores = score([RIGHT, SECOND, CLEAN, ALARM] * 10)
    for low, value, high in (
        (scores.reciprocal_rank_interval[0], 0.75, scores.reciprocal_rank_interval[1]),
        (scores.brier_interval[0], scores.brier, scores.brier_interval[1]),
    ):
        assert low < value < high
    low, high = scores.calibration_error_interval
    assert 0 <= low < high < 1
    assert score([RIGHT] * 30).reciprocal_rank_interval == (1.0, 1.0)


def test_json_of_nothing_holds_no_nan() -> None:
    assert json.loads(json.dumps(to_json(score([]), []), allow_nan=False))["runs"] == []


def test_an_effect_of_the_right_cause_is_no_claim_of_its_own() -> None:
    both = (("lr-too-high", 0.9), ("nan-weights-one-bad-batch", 0.9))
    told = replace(outcome(("lr-too-high",), both), effects=frozenset({both[1][0]}))
    assert list(claims([told])) == [(0.9, True)]
    assert len(list(claims([outcome(("lr-too-high",), both)]))) == 2


def test_sharpness_tells_cautious_from_bold_probabilities() -> None:
    cautious = [outcome(("lr-too-high",), (("lr-too-high", 0.7),)) for _ in range(20)]
    bold = [outcome(("lr-too-low",), (("lr-too-high", 0.9), ("lr-too-low", 0.1)))] * 10
    assert sharpness(cautious) > 1.5
    assert sharpness([*bold, *cautious]) < 1


def test_nothing_to_score_is_not_an_error() -> None:
    scores = score([])
    assert math.isnan(scores.first.value)
    assert str(scores.first) == "no runs"


def test_wrong_runs_are_listed_on_the_page_and_in_json() -> None:
    results = [RIGHT, SECOND, CLEAN, ALARM]
    assert misjudged(results) == [SECOND, ALARM]
    page = render_evaluation(score(results), results, "labels")
    assert "1 of 2 faulty runs" in page
    assert "lr-too-high 0.60" in page
    assert "<script" not in page
    assert len(to_json(score(results), results)["runs"]) == 4


def test_sensitivities_and_leaks_are_counted_where_observable() -> None:
    shows = [outcome(("lr-too-high",), (), present=("loss-divergence",)) for _ in range(2)]
    lacks = [outcome(("lr-too-high",), (), absent=("loss-divergence",)) for _ in range(6)]
    blind = [outcome(("lr-too-high",), ()) for _ in range(5)]
    counted = {c.symptom: c for c in sensitivities(shows + lacks + blind, LIBRARY)}
    found = counted["loss-divergence"].counted
    assert (found.hits, found.total) == (2, 8)
    healthy = [outcome((), (), healthy=True, absent=("loss-divergence",)) for _ in range(50)]
    leak = {c.symptom: c for c in leaks(healthy + shows, LIBRARY)}["loss-divergence"]
    assert (leak.counted.hits, leak.counted.total) == (0, 50)
    assert not leak.outside


def test_calibration_lists_what_differs_most_first() -> None:
    lacks = [outcome(("lr-too-low",), (), absent=("loss-hardly-falls",)) for _ in range(20)]
    first = sensitivities(lacks, LIBRARY)[0]
    assert first.symptom == "loss-hardly-falls"
    assert first.outside
    text = render_calibration({"made": lacks}, LIBRARY)
    assert "| lr-too-low | loss-hardly-falls |" in text
    assert "| made | 20 |" in text


def test_a_line_that_is_no_label_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"id": "a", "healthy": true}\n{"id": "b", "healthy": "perhaps"}\n')
    with pytest.raises(FtdoctorError, match=r"labels\.jsonl:2"):
        load_labels(path)


def test_a_label_may_name_a_good_run(tmp_path: Path) -> None:
    label = Label("a", tmp_path / "a" / "run", False, (), given={"good": "../good/run"})
    assert label.options().good == str(tmp_path / "a" / "../good/run")


def test_the_hit_rate_over_the_fixtures_does_not_fall() -> None:
    results = list(outcomes(load_labels(FIXTURES), LIBRARY))
    scores = score(results)
    wrong = [r.label.id for r in misjudged(results)]
    assert scores.first.value >= FIRST, wrong
    assert scores.first_three.value >= FIRST_THREE, wrong
    assert scores.false_alarms.value <= FALSE_ALARMS, wrong
    assert scores.calibration_error <= CALIBRATION_ERROR
