from __future__ import annotations

import math

import pytest

from ftdoctor.read.rows import parse_row

ROWS = [
    ("Step   1/50 | loss=-6.1718 | reward=0.844", 1, {"loss": -6.1718, "reward": 0.844}),
    ("[math100]   9/100 | loss=0.0 | acc=62.5%", 9, {"loss": 0.0, "acc": 0.625}),
    ("epoch 1/3  step 2/39  loss 1.5", 2, {"loss": 1.5}),
    ("Epoch [1/10], Step [20/100], Loss: 0.5", 20, {"Loss": 0.5}),
    ("Epoch: [0][10/100] Time 0.5 (0.6) Loss 2.3 (2.4)", 10, {"Time": 0.5, "Loss": 2.3}),
    ("step 10: train loss 2.1, val loss 2.2", 10, {"train loss": 2.1, "val loss": 2.2}),
    ("INFO:root:epoch=1 step=100 loss=0.5 lr=1e-4", 100, {"loss": 0.5, "lr": 1e-4}),
    ("12/100 [===>....] - ETA: 0s - loss: 0.5", 12, {"ETA": 0.0, "loss": 0.5}),
    ("Step 3 | loss:2.25 lr:2e-05 grad_norm:1.1 ", 3, {"loss": 2.25, "lr": 2e-5, "grad_norm": 1.1}),
    ("Iter 1: Val loss 2.391, Val took 5.213s", 1, {"Val loss": 2.391, "Val took": 5.213}),
    ("   10    1.945 ↓      301      5.0k", 10,
     {"loss": 1.945, "Tokens/sec": 301.0, "Trained Tokens": 5000.0}),
    ("     1    val 2.391    5.21s", 1, {"val_loss": 2.391}),
    ("step:2 - actor/entropy:0.39 - critic/score/mean:np.float64(0.33)", 2,
     {"actor/entropy": 0.39, "critic/score/mean": 0.33}),
    ("[t] [INFO] [a.py:1:b] [Rank 0] step=10, skipped=3, lr=[9.5e-05], mom=[(0.9, 0.999)]", 10,
     {"skipped_steps": 3.0, "learning_rate": 9.5e-05}),
    ("{'loss': '5.833', 'learning_rate': '0', 'epoch': '0.125'}", None,
     {"loss": 5.833, "learning_rate": 0.0}),
    ("[INFO|2024-11-26 22:09:01] logging.py:157 >> {'loss': 2.2, 'epoch': 0.29}", None,
     {"loss": 2.2}),
    ('{"loss": 1.39, "acc": 0.63, "global_step/max_steps": "8275/11043"}', 8275,
     {"loss": 1.39, "acc": 0.63}),
    ("Training epoch 0, iteration 1/9 | lr: 0.0006 | global_step: 1 | reduced_train_loss: 9.7", 1,
     {"lr": 0.0006, "reduced_train_loss": 9.7}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "step", "values"), ROWS)
def test_rows_of_many_trainers(text: str, step: int | None, values: dict[str, float]) -> None:
    row = parse_row(text)
    assert row is not None
    assert row.step == step
    assert row.values == pytest.approx(values)
    assert not row.loose


@pytest.mark.parametrize(
    "text",
    [
        "The loss 5 was found at step 3 and the reward of it is higher",
        "[A] DONE | avg_reward_last10=0.875",
        "Trainable parameters: 0.071% (5.112M/7241.732M)",
        "{'learning_rate': 1e-4, 'batch_size': 4, 'loss_type': 'sigmoid'}",
        "Step 500, saving checkpoint to out/checkpoint-500",
        "[math100] 800 examples, 40 unique problems",
        "GRPO - 50 steps, group=8, model=Qwen/Qwen3-8B",
        "| 10 | some table | 20 |",
        "",
    ],
)
def test_what_is_no_row(text: str) -> None:
    assert parse_row(text) is None


def test_nan_is_a_value() -> None:
    for text in ("epoch 1/3  step 2/39  loss nan", "{'loss': nan, 'grad_norm': 'nan', 'epoch': 1}"):
        row = parse_row(text)
        assert row is not None
        assert math.isnan(row.values["loss"])


def test_megatron_counts_of_nan_iterations_are_no_nan() -> None:
    row = parse_row(
        " [2026-08-20 09:00:00.123456] iteration      100/    1000 | consumed samples:        25600"
        " | elapsed time per iteration (ms): 812.4 | learning rate: 1.0E-05 | lm loss: 2.131231E+00"
        " | grad norm: 0.981 | number of nan iterations:   0 |"
    )
    assert row is not None
    assert (row.step, row.planned) == (100, 1000)
    assert row.values["number of nan iterations"] == 0
    assert row.values["elapsed time per iteration (ms)"] == 812.4


def test_validation_is_told_by_the_words_around() -> None:
    row = parse_row(" validation loss at iteration 100 | lm loss value: 2.2 | lm loss PPL: 9.0 | ")
    assert row is not None
    assert (row.split, row.step) == ("eval", 100)


def test_epoch_without_a_step() -> None:
    row = parse_row("Epoch 3/10, Train Loss: 0.1, Val Loss: 0.2")
    assert row is not None
    assert (row.step, row.epoch, row.epochs) == (None, 3.0, 10)


def test_a_row_without_a_position_is_loose() -> None:
    row = parse_row("train_loss:  nan")
    assert row is not None
    assert row.loose


def test_final_aggregates_are_marked() -> None:
    row = parse_row("{'train_runtime': '6914', 'train_loss': '-0.0098', 'epoch': '3.125'}")
    assert row is not None
    assert row.final


def test_hostile_lines_take_no_time() -> None:
    for text in ("loss " * 800, "step " * 800 + "loss", "{'" * 2000 + "loss", "a.b " * 900 + "acc"):
        parse_row(text)


@pytest.mark.parametrize(
    ("line", "split", "step"),
    [
        ("eval step 50 loss 1.9211 exact 0.00", "eval", 50),
        ("INFO valid at step 50: loss=1.92", "eval", 50),
        ("Test - epoch 2, loss 0.4", "eval", None),
        ("train step 50 loss 1.92", "", 50),
        ("step 50 loss 1.92 lr 1e-4", "", 50),
    ],
)
def test_a_word_of_evaluation_before_the_step(line: str, split: str, step: int | None) -> None:
    row = parse_row(line)
    assert row is not None
    assert (row.split, row.step) == (split, step)
    assert any("loss" in key for key in row.values)
