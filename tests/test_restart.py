"""From where to go on: only from a checkpoint that is older than all damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdoctor.diagnose import diagnose

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.mark.parametrize(
    ("run", "begin"),
    [
        ("lr-too-high/lora", "Start again from the base model: no checkpoint is older"),
        ("overfit-too-many-epochs/forty-epochs", "Restart from the checkpoint of step 40"),
        ("eos-absent-from-training-text/formatting", "End every answer with"),
        ("lr-restarts-or-oscillates/own-scheduler", "Confirm it: print lr_scheduler_type"),
    ],
)
def test_where_to_go_on(run: str, begin: str) -> None:
    assert diagnose(FIXTURES / run / "run").verdict.action.startswith(begin)


@pytest.mark.parametrize(
    ("run", "place"),
    [
        (
            "dataset-file-not-found/moved",
            "Raised at `train.py:13`.",
        ),  # the user's own frame of the traceback
        (
            "token-id-out-of-range/no-resize",
            "See `train.py:11`.",
        ),  # where the script adds the tokens
    ],
)
def test_the_action_names_the_line_of_code(run: str, place: str) -> None:
    assert diagnose(FIXTURES / run / "run").verdict.action.endswith(place)


def test_settings_alone_are_no_symptom_of_a_failure(tmp_path: Path) -> None:
    (tmp_path / "hparams.yaml").write_text("learning_rate: 0.0001\nnum_train_epochs: 2\n")
    assert diagnose(tmp_path).verdict.kind != "unknown"
