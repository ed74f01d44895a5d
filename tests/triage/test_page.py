"""The fleet page: self-contained, within its budget, safe, and sorted without a script."""

from __future__ import annotations

import math
import random
import re

from ftdoctor.fleet.clusters import fleet_of
from ftdoctor.fleet.rows import Row, Spark
from ftdoctor.render.fleet import BUDGET, Told, render_fleet, sparks

TOLD = Told(roots=("s3://runs/",), command="ftdoctor triage s3://runs/", causes=330)


def many(count: int, causes: int = 60) -> list[Row]:
    rng = random.Random(1)
    rows = []
    for i in range(count):
        cause = f"cause-{min(int(rng.expovariate(0.08)), causes - 1)}"
        y = tuple(round(2.5 * math.exp(-k / 15) + rng.random() / 9, 4) for k in range(46))
        rows.append(
            Row(
                run=f"team/project/experiment-{i}", path=f"s3://runs/{i}", key=f"s3://runs/{i}",
                kind="cause", cause=cause, title=f"The fault number {cause} in words", stage="data",
                severity="high", probability=0.5 + rng.random() / 2, hours_lost=rng.random() * 9,
                model="Qwen/Qwen2.5-7B-Instruct", trainer="trl", fix="Set `x` to `y`.",
                modified=1.79e9 + rng.random() * 1e7, report=f"ftdoctor-reports/exp-{i}.html",
                factors={"host": f"n{i % 5}", "setting learning_rate": cause},
                spark=Spark("loss", tuple(k / 45 for k in range(46)), y, 0.4, True),
            )
        )  # fmt: skip
    return rows


def test_five_thousand_runs_fit() -> None:
    page = render_fleet(fleet_of(many(5000)), TOLD)
    assert len(page.encode()) <= BUDGET < 3_000_000
    assert page.count('class="cl"') == 60


def test_sorting_needs_no_script_and_every_order_is_a_permutation() -> None:
    page = render_fleet(fleet_of(many(300, 12)), TOLD)
    assert "<script" not in page
    assert not re.search(r"""(?:src|href)=["']https?:""", page)
    clusters = page.count('class="cl"')
    for name in "ncpd":
        ranks = sorted(int(n) for n in re.findall(rf"--{name}:(\d+)", page))
        assert ranks == list(range(clusters))


def test_names_of_runs_cannot_break_out() -> None:
    evil = '<img src=x onerror=alert(1)>"\u202e'
    row = Row(run=evil, path=evil, key=evil, kind="cause", cause="c", title=evil, stage="data",
              probability=0.9, model=evil, fix=evil, reason=evil, report='"><i>x',
              factors={})  # fmt: skip
    lost = Row(run=evil, path=evil, key="2", kind="failed", reason=evil)
    page = render_fleet(fleet_of([row, lost]), TOLD)
    assert "<img" not in page
    assert "<i>x" not in page
    assert "\u202e" not in page


def test_sparklines_share_one_scale() -> None:
    flat = Row(
        run="a", path="a", key="a", kind="cause", spark=Spark("loss", (0.0, 1.0), (1.0, 1.0))
    )
    tall = Row(
        run="b", path="b", key="b", kind="cause", spark=Spark("loss", (0.0, 1.0), (1.0, 9.0))
    )
    none = Row(run="c", path="c", key="c", kind="cause")
    low, high, blank = sparks([flat, tall, none])
    assert "2,21.0 98,21.0" in low
    assert "98,2.0" in high
    assert not blank
    assert 'aria-label="loss stays level' in low


def test_no_run_at_all_and_no_failure() -> None:
    healthy = Row(run="a", path="a", key="a", kind="healthy")
    assert "No known failure found in 1 run" in render_fleet(fleet_of([healthy]), TOLD)
    lost = Row(run="b", path="b", key="b", kind="failed", reason="took too long")
    assert "1 of 2 runs could not be diagnosed" in render_fleet(fleet_of([healthy, lost]), TOLD)
    assert "0 runs" in render_fleet(fleet_of([]), TOLD)
