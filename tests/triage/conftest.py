"""Small runs for the tests of many runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

MakeRun = Callable[..., Path]


def write_state(folder: Path, losses: list[float], *, lr: float = 1e-4, seed: float = 0.0) -> None:
    """Write a trainer_state.json of one row per step."""
    rows = [
        {
            "step": i,
            "epoch": i / 10,
            "loss": loss + seed,
            "grad_norm": 0.5 + (loss > 0) * (i % 7) / 100,
            "learning_rate": lr,
        }
        for i, loss in enumerate(losses, start=1)
    ]
    state = {
        "global_step": len(losses),
        "max_steps": len(losses),
        "num_train_epochs": 1,
        "log_history": rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainer_state.json").write_text(json.dumps(state))


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return a function that makes a run folder: healthy, dead (loss 0), or with log lines."""

    def make(name: str, *, dead: bool = False, log: str = "", root: str = "runs") -> Path:
        folder = tmp_path / root / name
        seed = len(list((tmp_path / root).iterdir())) / 1000 if (tmp_path / root).exists() else 0.0
        healthy = [2.5 * 0.97**i + 0.4 for i in range(60)]
        losses = [2.5, 1.4, 0.9, *[0.0] * 57] if dead else healthy
        write_state(folder, losses, seed=0.0 if dead else seed)
        if dead:
            (folder / "trainer_state.json").write_text(
                (folder / "trainer_state.json").read_text().replace('0.0, "grad_norm": 0.5',
                                                                    '0.0, "grad_norm": NaN')
            )  # fmt: skip
        if log:
            (folder / "train.log").write_text(log)
        return folder

    return make


@pytest.fixture
def environment() -> dict[str, str]:
    """Return an environment in which `python -m ftdoctor` finds this checkout."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
