"""Onsets: the right step, an uncertainty that covers it, and none where nothing began."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdoctor.detect import onset
from ftdoctor.detect.points import Points, points
from ftdoctor.examples import run_from_example
from ftdoctor.model import Span


def curve(values: object, every: int = 1) -> Points:
    listed = [float(v) for v in values]  # type: ignore[attr-defined]
    steps = [every * (i + 1) for i in range(len(listed))]
    found = points(run_from_example({"metrics": {"loss": listed}, "steps": steps}), "loss")
    assert found is not None
    return found


def falling(count: int, seed: int) -> np.ndarray:
    """Return a loss as healthy runs have it: a decay with noise of which 5 % are outliers."""
    random = np.random.default_rng(seed)
    wild = 1 + 3 * (random.random(count) < 0.05)
    noise = random.normal(0, 0.05, count) * wild
    return np.asarray(1 + 2 * np.exp(-6 * np.arange(count) / count) + noise)


@pytest.mark.parametrize(("count", "begin"), [(60, 20), (200, 120), (400, 350)])
def test_a_jump_is_dated_to_its_row(count: int, begin: int) -> None:
    values = falling(count, 1) + 1.0 * (np.arange(count) >= begin)
    span = onset.change(curve(values))
    assert span is not None
    assert (span.step, span.last_good, span.within) == (begin + 1, begin, 1)


@pytest.mark.parametrize("grows", ["ramp", "exponential"])
@pytest.mark.parametrize(("count", "begin"), [(60, 20), (200, 120), (1000, 300)])
def test_a_slow_rise_lies_within_its_uncertainty(grows: str, count: int, begin: int) -> None:
    covered = 0
    for seed in range(20):
        since = np.maximum(0, np.arange(count) - begin) / (count - begin)
        values = falling(count, seed)
        values = values + 2 * since if grows == "ramp" else values * np.exp(3 * since)
        span = onset.change(curve(values))
        assert span is not None
        assert span.within is not None
        assert span.within <= 0.2 * count
        covered += abs(span.step - 1 - begin) <= span.within
    assert covered >= 14


def test_a_fall_is_dated_like_a_rise() -> None:
    values = [0.5 + 0.01 * (i % 3) for i in range(40)] + [0.1] * 20
    span = onset.change(curve(values), rising=False)
    assert span is not None
    assert span.step == 41


def test_late_dips_of_a_heavy_tailed_curve_do_not_move_the_onset() -> None:
    values = [2.2, 2.1, 12.0, 9.0, 21.0, 28.0, 20.0, *([60.0, 110.0, 180.0] * 30), 53.0]
    span = onset.change(curve(values))
    assert span is not None
    assert span.step == 3


@pytest.mark.parametrize("seed", range(10))
def test_a_healthy_curve_has_no_onset(seed: int) -> None:
    assert onset.change(curve(falling(200, seed))) is None


def test_rows_far_apart_make_a_date_uncertain() -> None:
    span = onset.at(curve([1, 1, 1, 5], every=25), 3, good=True)
    assert (span.step, span.last_good, span.within) == (100, 75, 25)
    assert str(span) == "step 100 ± 25"
    assert str(onset.at(curve([5, 5]), 0)) == "step 1"


def test_one_precedes_another_only_beyond_both_uncertainties() -> None:
    assert Span(10, within=2).precedes(Span(20, within=5))
    assert not Span(10, within=5).precedes(Span(20, within=5))
    assert not Span(20, within=1).precedes(Span(10, within=1))
    assert not Span(10).precedes(Span(20, within=1))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_nothing_fails_on_any_finite_series(values: list[float]) -> None:
    span = onset.change(curve(values))
    assert span is None or span.step <= len(values)
