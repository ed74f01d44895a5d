"""Plots: what is chosen, what is marked, NaN as gaps, and SVG that can live inside a page."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from ftdoctor.model import Curve, Diagnosis, Span
from ftdoctor.render import plots
from tests.render.samples import (
    SAMPLES,
    chain,
    crash_in_the_middle,
    curve,
    one_cause,
    reinforcement,
)

EVERY = pytest.mark.parametrize("name", SAMPLES)


def keys(d: Diagnosis) -> list[str]:
    return [figures.key for figures in plots.plan(d)]


def first(d: Diagnosis) -> plots.Plot:
    return plots.draw(d, plots.plan(d)[0])


def with_curves(*curves: Curve) -> Diagnosis:
    return replace(one_cause(), curves=curves, causes=(), findings=())


def test_what_proves_the_top_cause_comes_first() -> None:
    assert keys(one_cause()) == ["training"]
    assert keys(chain()) == ["training", "eval/loss"]
    assert keys(reinforcement()) == ["reinforcement", "training"]
    assert keys(SAMPLES["healthy"]()) == ["training", "eval/loss"]
    assert keys(SAMPLES["data_only"]()) == []


def test_loss_gradient_norm_and_rate_share_a_figure() -> None:
    assert plots.plan(one_cause())[0].panels == (("loss",), ("grad_norm",), ("learning_rate",))


def test_the_curve_of_the_onset_comes_before_stronger_undated_evidence() -> None:
    d = chain()
    child = replace(d.causes[1], beneath="")
    assert keys(replace(d, causes=(child,)))[0] == "eval/loss"


def test_a_crash_is_not_proved_by_a_curve() -> None:
    d = crash_in_the_middle()
    assert not plots.proves_by_curve(d, d.causes[0])
    assert plots.proves_by_curve(one_cause(), one_cause().causes[0])


def test_at_most_three_plots() -> None:
    d = one_cause()
    names = tuple(f"odd{i}" for i in range(9))
    finding = replace(d.findings[0], curves=names)
    d = replace(
        d,
        findings=(finding, *d.findings[1:]),
        curves=tuple(curve(n, [1.0, 2.0, 3.0]) for n in names),
    )
    assert len(plots.plan(d)) == 3


@EVERY
def test_svg_is_well_formed_and_fit_for_a_page(name: str) -> None:
    d = SAMPLES[name]()
    for figures in plots.plan(d):
        plot = plots.draw(d, figures)
        for svg in (plot.wide, plot.narrow):
            ElementTree.fromstring(svg)
            assert not re.search(r"<style|<metadata|<\?xml|<!DOCTYPE|<script", svg)
            assert not re.search(r"#0[1-8]0[1-8]0[1-8]", svg), "a sentinel colour is left"
            assert "var(--series)" in svg
            assert not re.search(r' (?:id|style|class="(?!plot)|clip-path)=', svg)
            numbers = re.findall(r' (?:x|y|cx|cy|r|d)="([^"]*)"', svg)
            assert numbers
            assert not any("." in found or "nan" in found for found in numbers)


def strokes(svg: str) -> int:
    """Return how many unbroken strokes the series has."""
    line = re.search(r'<path d="([^"]*)"(?: fill="none")? stroke="var\(--series\)"', svg)
    assert line is not None
    return line[1].count("M")


def test_the_same_input_gives_the_same_svg() -> None:
    assert first(one_cause()) == first(one_cause())


def test_the_onset_is_marked_by_line_wash_and_sentence() -> None:
    svg = first(one_cause()).wide
    assert "step 411: Gradient norm is NaN" in svg
    assert "stroke-dasharray" in svg
    assert 'fill="var(--bad-wash)"' in svg


def test_without_an_onset_nothing_is_marked() -> None:
    svg = first(SAMPLES["healthy"]()).wide
    assert "var(--bad)" not in svg
    assert "var(--bad-wash)" not in svg


def test_nan_is_a_gap_with_the_word_and_never_a_zero() -> None:
    values = [1.0, 1.1, math.nan, math.nan, 1.2, 1.3, math.inf, 1.2]
    plot = first(with_curves(curve("loss", values)))
    assert ">NaN<" in plot.wide
    assert "var(--bad-wash)" in plot.wide
    assert "Shaded: not a finite number." in plot.caption
    assert strokes(plot.wide) > 2
    assert ("6", "NaN") in plot.table
    assert ("14", "Inf") in plot.table


def test_a_curve_of_nan_alone_is_not_drawn() -> None:
    assert keys(with_curves(curve("loss", [math.nan] * 5))) == []


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 8,
        [5.0, 5.0],
        [-2.0, -1.0, -3.0],
        [1e-12, 3e-12],
        [1.0, 1e30],
        [0.0, 1e-300, 1.0],
        [-1.0, 0.0, 1e9],
        [1e308, -1e308],
    ],
)
@pytest.mark.parametrize("name", ["loss", "grad_norm", "learning_rate", "$x$ <b>", "eval/loss"])
def test_odd_values_are_drawn(values: list[float], name: str) -> None:
    split, metric = ("eval", "loss") if name == "eval/loss" else ("train", name)
    d = one_cause()
    finding = replace(d.findings[0], curves=(name,), span=None)
    d = replace(d, curves=(curve(metric, values, split=split),), findings=(finding,))
    ElementTree.fromstring(first(d).narrow)


def test_gradient_norms_are_on_a_log_scale_and_say_so() -> None:
    svg = first(one_cause()).wide
    assert "gradient norm (log scale)" in svg
    assert "train loss (log scale)" not in svg


def test_a_spike_does_not_flatten_the_loss() -> None:
    values = [2.0 - i / 200 for i in range(200)]
    values[150] = 4000.0
    assert "train loss (log scale)" in first(with_curves(curve("loss", values))).wide


def test_thinning_keeps_spikes_and_gaps() -> None:
    points = [(i, 1.0) for i in range(5000)]
    points[1234] = (1234, 99.0)
    points[2345] = (2345, -99.0)
    points[3456] = (3456, math.nan)
    kept = plots.thinned(points, 200)
    assert len(kept) <= 310
    assert {1234, 2345, 3456, 0, 4999} <= {step for step, _ in kept}


def test_many_points_say_that_they_were_thinned() -> None:
    values = [2 - i / 3000 for i in range(2000)]
    plot = first(with_curves(curve("loss", values)))
    assert "2,000 logged points" in plot.caption
    assert "lowest and highest of each interval" in plot.caption
    assert len(plot.table) == plots.TABLE_ROWS


def test_a_resumed_run_is_not_joined_across_the_jump_back() -> None:
    steps = (2, 4, 6, 8, 4, 6, 8, 10)
    resumed = Curve("loss", "train", steps, (3.0, 2.0, 1.5, 9.0, 2.0, 1.5, 1.2, 1.1), "a", 8)
    straight = Curve("loss", "train", tuple(range(8)), resumed.values, "a", 8)
    lines = [strokes(first(with_curves(c)).wide) for c in (resumed, straight)]
    assert lines[0] > lines[1]


def test_the_best_evaluation_is_ringed() -> None:
    d = chain()
    plot = plots.draw(d, plots.plan(d)[1])
    assert "best: 1.12 at step 300" in plot.wide
    assert "var(--ok)" in plot.wide
    assert ">evaluation<" in plot.wide
    assert ">train<" in plot.wide


def test_the_label_states_the_finding() -> None:
    label = first(one_cause()).label
    assert "Train loss goes from" in label
    assert "just before step 411" in label
    assert "it is not a finite number from step 412" in label
    assert "Marked: step 411" in label


def test_a_mark_beyond_the_curve_is_still_inside_the_plot() -> None:
    d = one_cause()
    cause = replace(d.causes[0], span=Span(5000, 5000))
    ElementTree.fromstring(first(replace(d, causes=(cause,))).wide)


def test_a_curve_that_never_moves_says_so() -> None:
    assert ">0.0 on every row<" in first(with_curves(curve("loss", [0.0] * 8))).wide
    assert "on every row" not in first(with_curves(curve("loss", [0.0] * 8 + [math.nan]))).wide


def test_every_point_lies_inside_the_plot() -> None:
    values = [0.0, 1e-300, 1.0, 1e9, 3.0]
    d = with_curves(curve("grad_norm", values))
    finding = replace(one_cause().findings[0], curves=("grad_norm",), span=None)
    svg = plots.draw(replace(d, findings=(finding,)), plots.Figures("x", (("grad_norm",),))).wide
    height = int(svg.split('viewBox="0 0 ')[1].split('"')[0].split()[1])
    starts = re.findall(r"M(-?\d+) (-?\d+)", svg)
    assert all(0 <= int(y) <= height for _, y in starts)


def test_a_step_that_is_hardly_known_is_about() -> None:
    d = one_cause()
    for within, told in ((40, "step 411 ± 40: "), (300, "about step 411: ")):
        cause = replace(d.causes[0], span=Span(411, within=within))
        mark = plots.mark_of(replace(d, causes=(cause,)))
        assert mark is not None
        assert mark.text.startswith(told)
