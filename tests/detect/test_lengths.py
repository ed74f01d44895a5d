"""Rows that are cut, told by the tokens that a log counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftdoctor.detect import lengths
from ftdoctor.model import Run, State
from ftdoctor.read import read_run

LIMIT = 100


def run_of(path: Path, chars: list[int], *, per_char: float, batch: int = 4) -> Run:
    """Return a run whose rows have so many characters, of `per_char` tokens each."""
    rows = [{"prompt": "p" * (n - 10), "completion": "c" * 10} for n in chars]
    (path / "train.jsonl").write_text("\n".join(json.dumps(r) for r in rows) + "\n")
    (path / "train.py").write_text(
        "from trl import SFTConfig, SFTTrainer\n"
        f"args = SFTConfig('out', max_length={LIMIT}, per_device_train_batch_size={batch})\n"
        "SFTTrainer(model, args=args, train_dataset=ds).train()\n"
    )
    mean = sum(min(LIMIT, n * per_char) for n in chars) / len(chars)
    history = [
        {
            "step": step,
            "epoch": step * batch / len(chars),
            "loss": 2.0,
            "mean_token_accuracy": 0.5,
            "num_tokens": mean * batch * step,
        }
        for step in range(1, 11)
    ]
    (path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    return read_run(path)


@pytest.mark.parametrize(
    ("chars", "state", "said"),
    [
        ([600] * 40, State.PRESENT, "every row is cut"),
        ([100] * 20 + [800] * 20, State.PRESENT, "50% of rows"),
        ([100] * 38 + [800] * 2, State.ABSENT, "5% of rows"),
        ([200 + i for i in range(40)], State.ABSENT, "0% of rows"),
    ],
)
def test_share_of_cut_rows(tmp_path: Path, chars: list[int], state: State, said: str) -> None:
    seen = lengths.counted_at_limit(run_of(tmp_path, chars, per_char=0.3), above=0.3)
    assert seen.state is state
    assert said in seen.text


def test_rows_that_do_not_fit_the_count_tell_nothing(tmp_path: Path) -> None:
    run = run_of(tmp_path, [600] * 40, per_char=0.01)
    seen = lengths.counted_at_limit(run, above=0.3)
    assert seen.state is not State.PRESENT
