"""Robust statistics, on curves with known answers and on noise that must raise no alarm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdoctor.detect import stats


def test_level_of_parts() -> None:
    values = np.arange(10, dtype=float)
    assert stats.level(values, "first-fifth") == 0.5
    assert stats.level(values, "last-fifth") == 8.5
    assert stats.level(values, "first") == 0
    assert stats.level(values, "last") == 9


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("name", stats.PARTS)
def test_no_part_of_a_short_series_is_empty(name: str, count: int) -> None:
    assert len(stats.part(np.arange(count, dtype=float), name)) >= 1


def test_slope_ignores_outliers() -> None:
    x = np.arange(30, dtype=float)
    y = 2.0 * x
    y[[3, 17]] = 500.0
    slope = stats.theil_sen(x, y)
    assert slope.value == pytest.approx(2.0, abs=0.05)
    assert not slope.is_flat


def test_slope_of_noise_is_flat() -> None:
    random = np.random.default_rng(0)
    flat = [stats.theil_sen(np.arange(60.0), random.normal(size=60)).is_flat for _ in range(100)]
    assert 88 <= sum(flat) <= 100


def test_slope_needs_distinct_places() -> None:
    assert stats.theil_sen(np.ones(5), np.arange(5.0)).value == 0.0


def test_rank_correlation() -> None:
    x = np.arange(10, dtype=float)
    assert stats.spearman(x, np.exp(x)) == pytest.approx(1.0)
    assert stats.spearman(x, -x) == pytest.approx(-1.0)
    assert stats.spearman(x, np.ones(10)) == 0.0


def test_spike_that_returns_and_step_that_stays() -> None:
    base = 1.5 + 0.01 * np.sin(np.arange(40.0))
    spike, step = base.copy(), base.copy()
    spike[20] = 4.0
    step[20:] = 4.0
    assert [(s.index, s.back) for s in stats.spikes(spike)] == [(20, True)]
    found = stats.spikes(step)
    assert found[0].index == 20
    assert not found[0].back


def test_ordinary_descents_have_no_spikes() -> None:
    random = np.random.default_rng(1)
    decay = 1 + 2 * np.exp(-np.arange(300) / 40)
    alarms = [stats.spikes(decay * random.normal(1, 0.05, 300)) for _ in range(50)]
    assert sum(bool(a) for a in alarms) <= 1


def test_runs_of_true() -> None:
    mask = np.array([True, False, True, True, True])
    assert (stats.leading_run(mask), stats.trailing_run(mask)) == (1, 3)
    assert stats.longest_run(mask) == (2, 3)
    assert stats.longest_run(np.zeros(3, dtype=bool)) == (0, 0)
    assert stats.trailing_run(np.ones(3, dtype=bool)) == 3


def test_shift_of_thirds_counts_errors() -> None:
    random = np.random.default_rng(2)
    noise = random.normal(0, 0.2, 90)
    assert abs(stats.shift_of_thirds(noise).errors) < 3
    assert stats.shift_of_thirds(noise + np.linspace(0, 1, 90)).errors > 5
    assert stats.shift_of_thirds(np.ones(9)).errors == 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_nothing_fails_on_any_finite_series(values: list[float]) -> None:
    array = np.array(values)
    stats.fifths(array)
    stats.noise(array)
    stats.scale(array)
    stats.residuals(array)
    stats.spikes(array)
    stats.theil_sen(np.arange(len(array), dtype=float), array)
