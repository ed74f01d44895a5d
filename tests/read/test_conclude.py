"""The trainer is known from the form of its log, where nothing else names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftdoctor.read import read_run

LOGS = {
    "megatron": " iteration      100/    1000 | consumed samples:        25600 | elapsed time per "
    "iteration (ms): 812.4 | learning rate: 1.0E-05 | global batch size:   256 | lm loss: "
    "2.13E+00 | loss scale: 1.0 | grad norm: 0.981 | number of skipped iterations:   0 | number "
    "of nan iterations:   0 |\n",
    "nemo": "Training epoch 0, iteration 0/9 | lr: 0.0006 | consumed_samples: 32 | "
    "global_batch_size: 32 | global_step: 0 | reduced_train_loss: 11.02\n",
    "verl": "(TaskRunner pid=123) step:1 - actor/entropy:0.41 - actor/pg_loss:-0.001 - "
    "actor/grad_norm:0.21 - critic/score/mean:0.32 - timing_s/step:40.1\n",
    "openrlhf": "\rTrain step of epoch 0:  10%|█         | 1/10 [00:02<00:20,  2.3s/it, loss=0.69, "
    "acc=0.5, chosen_reward=0.01, reject_reward=0.0, lr=5e-7]",
    "mlx": "Iter 10: Train loss 1.945, Learning Rate 1.000e-05, It/sec 0.601, Tokens/sec 301.212, "
    "Trained Tokens 5012, Peak mem 14.213 GB\n",
    "torchtune": "Step 1 | loss:1.9 lr:2e-05 tokens_per_second_per_gpu:812.0 \n",
    "deepspeed": "[2024-05-01 10:00:00,000] [INFO] [logging.py:96:log_dist] [Rank 0] step=10, "
    "skipped=3, lr=[9.5e-05], mom=[(0.9, 0.999)]\n",
    "hf": "***** Running training *****\n  Num examples = 64\n{'loss': 1.5, 'epoch': 0.1}\n",
}
NOBODYS = {
    "a loop": "step 1 loss 2.1\nstep 2 loss 1.9\nstep 3 loss 1.8\n",
    "a reward model": "Step 1 | loss: 0.6 | chosen_reward: 0.1\n" * 3,
    "speed": "Step 1 | loss: 0.6 | tokens/sec: 300.0\n" * 3,
}


def trainer(folder: Path, text: str) -> Any:
    (folder / "train.log").write_text(text)
    fact = read_run(folder).fact("run.trainer")
    return fact.value if fact else None


@pytest.mark.parametrize("name", LOGS)
def test_the_form_of_a_log_tells_the_trainer(tmp_path: Path, name: str) -> None:
    assert trainer(tmp_path, LOGS[name]) == name


def test_the_table_of_newer_mlx_tells_it_too(tmp_path: Path) -> None:
    rows = "    10    1.945 ↓      301      5.0k\n    20    1.701 ↓      305     10.1k\n"
    assert trainer(tmp_path, "Starting training..., iters: 100\n" + rows) == "mlx"


@pytest.mark.parametrize("name", NOBODYS)
def test_a_log_of_no_known_form_names_none(tmp_path: Path, name: str) -> None:
    assert trainer(tmp_path, NOBODYS[name]) is None


def test_an_engine_is_not_the_trainer(tmp_path: Path) -> None:
    assert trainer(tmp_path, LOGS["deepspeed"] + LOGS["hf"]) == "hf"


def test_a_pretraining_tool_does_not_make_it_fine_tuning(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text(LOGS["megatron"])
    assert read_run(tmp_path).fact("run.kind") is None
