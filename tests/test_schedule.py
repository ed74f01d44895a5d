"""The schedule that the settings ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdoctor.read import read_run
from ftdoctor.schedule import intended_rate, share


@pytest.mark.parametrize(
    ("name", "step", "expected"),
    [
        ("linear", 0, 0.0), ("linear", 5, 0.5), ("linear", 10, 1.0), ("linear", 60, 0.5),
        ("cosine", 60, 0.5), ("cosine", 110, 0.0), ("cosine", 200, 0.0),
        ("constant", 0, 1.0), ("constant_with_warmup", 5, 0.5), ("constant_with_warmup", 99, 1.0),
    ],
)  # fmt: skip
def test_share_of_the_peak(name: str, step: int, expected: float) -> None:
    assert share(name, step, 10, 110) == pytest.approx(expected)


def test_it_follows_what_a_real_trainer_logged(fixtures: Path) -> None:
    run = read_run(fixtures / "healthy" / "sft-lora" / "run")
    asked, logged = intended_rate(run), run.series("learning_rate")
    assert asked is not None
    assert logged is not None
    peak = max(asked.values)
    # The log row holds the rate before or after the scheduler's step, by version: one step apart.
    away = [abs(a - b) for a, b in zip(asked.values[6:], logged.values[6:], strict=True)]
    assert max(away) < 0.03 * peak


def test_without_settings_nothing_is_intended(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(
        "".join(f"{{'loss': {3 - i / 9}, 'learning_rate': 1e-4}}\n" for i in range(9))
    )
    assert intended_rate(read_run(tmp_path)) is None
