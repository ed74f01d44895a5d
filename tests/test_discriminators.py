"""The discriminator tables of the catalogue: evidence in, right cause first, look-alike not."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from ftdoctor.detect.engine import detect_all
from ftdoctor.examples import run_from_example
from ftdoctor.library import load
from ftdoctor.model import Library
from ftdoctor.rank import Ranked, rank

NAN = float("nan")
FALL = [2.7, 2.1, 1.8, 1.6, 1.5, 1.4, 1.35, 1.3, 1.28, 1.25]
FLAT = [1.52, 1.5, 1.51, 1.5, 1.52, 1.5, 1.51, 1.5, 1.5, 1.51] * 2
NORM = [1.2, 1.0, 0.9, 1.1, 1.0, 0.9, 1.0, 1.1, 0.9, 1.0]
RATE = [2e-5, 2e-4, 1.9e-4, 1.8e-4, 1.7e-4, 1.6e-4, 1.5e-4, 1.4e-4, 1.3e-4, 1.2e-4]
LN2 = [0.6931, 0.6932, 0.6931, 0.6930, 0.6931, 0.6932, 0.6931, 0.6931, 0.6930, 0.6931]
LOGPS = [-90.0, -80.0, -85.0, -99.0, -70.0, -88.0, -77.0, -91.0, -84.0, -79.0]
OTHER_LOGPS = [v - 3 for v in LOGPS]
ZERO = [0.0] * 10
DEAD = {"loss": [*FALL, 0.0, 0.0, 0.0, 0.0], "grad_norm": [*NORM, NAN, NAN, NAN, NAN]}
CLIMB = [2.7, 2.0, 1.6, 1.5, 1.4, 1.4, 1.3, 1.3, 1.3, 1.3, 1.3, 3.5, 6.0, 9.0, NAN, NAN, NAN]
CLIMB_NORM = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9, 30, 90, NAN, NAN, NAN]
NOISE = [0.25, 0.5, 0.1, 0.3, 0.2, 0.25, 0.3, 0.1, 0.2, 0.4]

OVERFLOWS = [
    "[deepspeed] OVERFLOW! Rank 0 Skipping step. "
    f"Attempted loss scale: {2 ** (30 - i)}, reducing to {2 ** (29 - i)}"
    for i in range(30)
]
NEWLY = (
    "Some weights of LlamaForCausalLM were not initialized from the model checkpoint at ./base and "
    "are newly initialized: ['model.embed_tokens.weight']"
)
MARKS = "".join(
    json.dumps({"prompt": f"Describe {i}", "generated_text": "!" * 40}) + "\n" for i in range(24)
)
LONG = [round(2.5 * math.exp(-i / 15) + 1.2 + 0.02 * (i * 7 % 5 - 2), 3) for i in range(60)]
LONG_NORM = [round(0.9 + 0.05 * (i * 3 % 5), 2) for i in range(60)]
LATE = [*LONG[:40], 5.0, *[round(3.5 + 0.03 * (i * 7 % 5), 2) for i in range(19)]]
LATE_NORM = [*LONG_NORM[:40], 50.0, *[3.0] * 19]
EPOCHS = [(i + 1) / 15 for i in range(60)]
# The row asks for a second run with the same seed; `ftdoctor compare` is told of two runs.
NOT_IN_ONE_RUN = {"0.2/5"}
# A floor that is weak practice at most: it has a test of its own below.
ADVICE = {"0.3/9"}


def with_(values: list[float], changed: dict[int, float]) -> list[float]:
    """Return a curve with other values at some places."""
    return [changed.get(i, v) for i, v in enumerate(values)]


def merge(ratio: float, residual: float, *, identical: bool = False) -> dict[str, Any]:
    """Return what the weights of base, adapter (rank 8) and merge say of each other."""
    facts = {"ratio": ratio, "residual": residual, "noise": 0.03, "rank": 8, "identical": identical}
    return {"facts": {f"merge.{name}": value for name, value in facts.items()}}


@pytest.fixture(scope="module")
def library() -> Library:
    return load()


def ranked(library: Library, **example: Any) -> tuple[Ranked, ...]:
    findings = detect_all(run_from_example(example), library, strict=True)
    return rank(findings, library).ranked


def first(library: Library, **example: Any) -> tuple[str, float]:
    """Return the first cause that is more than weak practice, and its probability."""
    found = [r for r in ranked(library, **example) if r.cause.severity != "low"]
    return (found[0].cause.id, found[0].probability) if found else ("", 0.0)


# (what the row says, the run, the cause that must come first, its least probability)
TABLES: list[tuple[str, dict[str, Any], str, float]] = [
    # 0.1 the loss is 0.0
    (
        "0.1/1 loss 0, gradient 0, eval NaN from step 1",
        {"metrics": {"loss": ZERO, "grad_norm": ZERO, "eval/loss": [NAN, NAN]}},
        "all-labels-masked",
        0.8,
    ),
    (
        "0.1/2 loss 0, gradient NaN after normal steps",
        {"metrics": DEAD},
        "nan-weights-one-bad-batch",
        0.5,
    ),
    (
        "0.1/2 the same on MPS",
        {"metrics": DEAD, "facts": {"environment.device": "mps"}},
        "mps-numerics",
        0.8,
    ),
    (
        "0.1/3 loss 0, gradient NaN from row 1 while the rate is tiny, fp16",
        {
            "metrics": {"loss": [1.1, *ZERO], "grad_norm": [NAN] * 11},
            "settings": {"fp16": True},
            "facts": {"model.dtype": "bfloat16"},
        },
        "fp16-overflow-bf16-model",
        0.8,
    ),
    (
        "0.1/4 loss 0, gradient constant at sqrt(2)",
        {"metrics": {"loss": [1.5, *ZERO], "grad_norm": [2.1, *[1.4142135] * 10]}},
        "deepspeed-nan-sentinel",
        0.8,
    ),
    (
        "0.1/5 zero on some rows, gradient zero on the same",
        {
            "metrics": {
                "loss": [2.7, 0, 1.9, 1.7, 0, 1.5, 0, 1.4, 1.3, 1.3],
                "grad_norm": [1, 0, 1, 1, 0, 1, 0, 1, 1, 1],
            }
        },
        "partly-masked-batches",
        0.8,
    ),
    (
        "0.1/8 smooth way to 0 with many epochs",
        {
            "metrics": {
                "loss": [2.0, 1.2, 0.6, 0.3, 0.1, 0.05, 0.02, 0.008, 0.003, 0.001, 0.0, 0.0],
                "grad_norm": [2, 2, 1.5, 1, 0.6, 0.3, 0.1, 0.05, 0.03, 0.02, 0.01, 0.01],
            },
            "epochs": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
        },
        "overfit-too-many-epochs",
        0.8,
    ),
    (
        "0.1/9 only the summary is 0",
        {
            "metrics": {"loss": FALL, "grad_norm": NORM},
            "facts": {
                "summary.train_loss": 0.0,
                "summary.train_runtime": 0.01,
                "progress.global_step": 500,
            },
        },
        "resume-already-complete",
        0.8,
    ),
    # 0.2 NaN
    (
        "0.2/3 NaN after a climb, rate far too high",
        {
            "metrics": {
                "loss": CLIMB,
                "grad_norm": CLIMB_NORM,
                "learning_rate": [0.02] * len(CLIMB),
            },
            "settings": {"lora.r": 8, "bf16": True},
        },
        "lr-too-high",
        0.8,
    ),
    (
        "0.2/3 NaN after a climb, clipping off",
        {
            "metrics": {
                "loss": CLIMB,
                "grad_norm": CLIMB_NORM,
                "learning_rate": [1e-4] * len(CLIMB),
            },
            "settings": {"lora.r": 8, "bf16": True, "max_grad_norm": 0},
        },
        "grad-explosion-no-clipping",
        0.6,
    ),
    (
        "0.2/1 fp16 and a base in bf16",
        {
            "metrics": DEAD,
            "settings": {"fp16": True},
            "facts": {"model.dtype": "bfloat16"},
        },
        "fp16-overflow-bf16-model",
        0.8,
    ),
    (
        "0.2/7 8-bit base",
        {
            "metrics": {"loss": [2.1, NAN, NAN, NAN], "grad_norm": [1.0, NAN, NAN, NAN]},
            "settings": {"quantization.load_in_8bit": True, "bf16": True},
        },
        "int8-base-unsupported-gpu",
        0.6,
    ),
    (
        "0.2/2 every step overflowed",
        {
            "metrics": {"loss": FLAT},
            "lines": ["[Rank 0] step=200, skipped=200, lr=[1e-05], mom=[(0.9, 0.99)]"],
        },
        "loss-scaler-collapse",
        0.8,
    ),
    # 0.3 the loss does not move
    (
        "0.3/1 rate 0 throughout",
        {"metrics": {"loss": FLAT, "learning_rate": [0.0] * 20, "grad_norm": NORM * 2}},
        "lr-zero-throughout",
        0.8,
    ),
    (
        "0.3/1 warm-up to the end",
        {
            "metrics": {
                "loss": FALL,
                "learning_rate": [1e-6, 2e-6, 3e-6, 4e-6, 5e-6, 6e-6, 7e-6, 8e-6, 9e-6, 1e-5],
            },
            "facts": {"progress.global_step": 10, "progress.max_steps": 10},
        },
        "warmup-longer-than-run",
        0.6,
    ),
    (
        "0.3/2 epoch 2 repeats epoch 1 to 4 decimals",
        {
            "metrics": {"loss": [1.5, 1.7, 1.4, 1.9, 1.3, 1.6, 1.8, 1.2, 1.55, 1.45] * 2},
            "epochs": [round(0.1 * i, 1) for i in range(1, 21)],
        },
        "weights-not-updated",
        0.6,
    ),
    (
        "0.3/3 gradient exactly 0 at a loss",
        {"metrics": {"loss": FLAT, "grad_norm": [0.0] * 20}},
        "frozen-or-no-trainable-params",
        0.7,
    ),
    (
        "0.3/5 flat at a low rate with sound gradients",
        {
            "metrics": {"loss": FLAT, "learning_rate": [1e-7] * 20, "grad_norm": NORM * 2},
            "settings": {"lora.r": 8},
        },
        "lr-too-low",
        0.7,
    ),
    (
        "0.3/6 flat in pure bf16",
        {
            "metrics": {"loss": FLAT, "learning_rate": [5e-6] * 20, "grad_norm": NORM * 2},
            "settings": {"pure_bf16": True, "learning_rate": 5e-6, "adapter": "full"},
        },
        "pure-bf16-update-underflow",
        0.7,
    ),
    (
        "0.3/8 level at ln(vocabulary) after having been lower",
        {
            "metrics": {
                "loss": [2.0, 1.7, 1.64, 11.8, 10.6, 10.38, 10.37, 10.37, 10.37, 10.37],
                "learning_rate": [5.0] * 10,
            },
            "facts": {"model.vocab_size": 32000},
        },
        "lr-too-high",
        0.8,
    ),
    # 0.4 the first loss is too high
    (
        "0.4/1 train/eval is gradient_accumulation_steps",
        {
            "metrics": {"loss": [35.0, 33.0, 30.0, 28.0, 27.0], "eval/loss": [2.1, 2.0, 1.9]},
            "settings": {"gradient_accumulation_steps": 16},
        },
        "grad-accum-loss-summed",
        0.8,
    ),
    (
        "0.4/3 first loss above ln(vocabulary)",
        {
            "metrics": {"loss": [14.0, 9.0, 6.0, 5.0, 4.5, 4.0, 4.0, 3.9, 3.9, 3.8]},
            "facts": {"model.vocab_size": 32000},
        },
        "initial-loss-inflated",
        0.15,
    ),
    # 0.5 jumps
    (
        "0.5/3 up after a resume, the rate jumps with it",
        {
            "metrics": {
                "loss": [2, 1.9, 1.8, 1.7, 1.6, 1.5, 1.4, 1.3, 2.1, 2.0, 2.0, 1.9, 1.9, 1.9],
                "learning_rate": [
                    1e-3,
                    9e-4,
                    8e-4,
                    7e-4,
                    6e-4,
                    5e-4,
                    4e-4,
                    3e-4,
                    1e-3,
                    9e-4,
                    8e-4,
                    7e-4,
                    6e-4,
                    5e-4,
                ],
            },
            "steps": [1, 2, 3, 4, 5, 6, 7, 8, 7, 8, 9, 10, 11, 12],
        },
        "resume-without-optimizer-or-scheduler",
        0.4,
    ),
    (
        "0.5/4 down after a resume, rate continuous",
        {
            "metrics": {
                "loss": [2, 2, 2, 2, 2, 2, 2, 2, 1.5, 1.5, 1.5, 1.5, 1.5, 1.6],
                "learning_rate": [1e-4] * 14,
            },
            "steps": [1, 2, 3, 4, 5, 6, 7, 8, 7, 8, 9, 10, 11, 12],
        },
        "resume-repeats-data",
        0.2,
    ),
    # 0.6 DPO at ln 2
    (
        "0.6/2 ln 2, gradient 0, both sides equal",
        {
            "metrics": {
                "loss": LN2,
                "grad_norm": ZERO,
                "logps/chosen": LOGPS,
                "logps/rejected": LOGPS,
                "rewards/chosen": [0.01] * 10,
                "rewards/rejected": [0.01] * 10,
                "rewards/margins": ZERO,
            }
        },
        "dpo-identical-pairs",
        0.8,
    ),
    (
        "0.6/3 ln 2, gradient 0, rewards exactly 0, sides differ",
        {
            "metrics": {
                "loss": LN2,
                "grad_norm": ZERO,
                "logps/chosen": LOGPS,
                "logps/rejected": OTHER_LOGPS,
                "rewards/chosen": ZERO,
                "rewards/rejected": ZERO,
                "rewards/margins": ZERO,
            }
        },
        "dpo-no-gradient",
        0.8,
    ),
    (
        "0.6/4 ln 2, gradients flow",
        {
            "metrics": {
                "loss": LN2,
                "grad_norm": NORM,
                "logps/chosen": LOGPS,
                "logps/rejected": OTHER_LOGPS,
                "rewards/chosen": [0.001, -0.001] * 5,
                "rewards/rejected": [0.0, 0.001] * 5,
                "rewards/margins": [0.001, -0.002] * 5,
            }
        },
        "dpo-signal-too-weak",
        0.8,
    ),
    (
        "0.6/5 accuracy at a half, loss wanders",
        {
            "metrics": {
                "loss": [0.69, 0.66, 0.73, 0.7, 0.67, 0.74, 0.68, 0.71, 0.66, 0.72],
                "grad_norm": NORM,
                "rewards/margins": [0.02, -0.03, 0.05, -0.02, 0.04, -0.05, 0.03, 0.02, -0.03, 0.0],
                "rewards/accuracies": [0.5, 0.52, 0.48, 0.5, 0.51, 0.49, 0.5, 0.53, 0.47, 0.5],
            }
        },
        "dpo-random-or-swapped-pairs",
        0.2,
    ),
    (
        "0.6/6 loss far above ln 2",
        {
            "metrics": {
                "loss": [
                    0.69,
                    2.9,
                    7.4,
                    3.1,
                    2.2,
                    4.0,
                    3.0,
                    2.8,
                    3.3,
                    3.0,
                    2.9,
                    3.1,
                    2.7,
                    3.0,
                    2.9,
                ],
                "grad_norm": [
                    12,
                    380,
                    410,
                    557,
                    390,
                    400,
                    420,
                    380,
                    410,
                    390,
                    400,
                    380,
                    390,
                    410,
                    400,
                ],
                "rewards/margins": [0, -9, 4, 3, -5, 8, 1, 2, 3, 1, 2, 2, 1, 2, 1],
                "learning_rate": [5e-4] * 15,
            },
            "settings": {"lora.r": 16},
        },
        "dpo-beta-or-lr-too-high",
        0.8,
    ),
    (
        "0.6/7 accuracy 1.0 at once",
        {
            "metrics": {
                "loss": [0.69, 0.2, 0.05, *[0.001] * 17],
                "rewards/accuracies": [0.5, *[1.0] * 19],
                "rewards/margins": [0.0, 3.0, *[12.0] * 18],
            }
        },
        "dpo-trivial-pairs",
        0.7,
    ),
    (
        "0.6/8 rewards in units on row 1",
        {
            "metrics": {
                "loss": [0.33, 4.3, 0.5, 0.4],
                "rewards/chosen": [9.8, 10.4, 9.0, 9.5],
                "rewards/rejected": [5.7, 14.3, 6.0, 5.0],
            }
        },
        "dpo-reference-mismatch",
        0.5,
    ),
    # 0.7 GRPO
    (
        "0.7/2 no variance, not truncated",
        {
            "metrics": {
                "reward": [0.5, 0.4] * 10,
                "frac_reward_zero_std": [1.0] * 20,
                "grad_norm": [0.0] * 20,
                "completions/clipped_ratio": [0.1] * 20,
            }
        },
        "grpo-zero-reward-variance",
        0.6,
    ),
    (
        "0.7/3 no variance because everything is truncated",
        {
            "metrics": {
                "reward": [0.0] * 20,
                "frac_reward_zero_std": [1.0] * 20,
                "grad_norm": [0.0] * 20,
                "completions/clipped_ratio": [1.0] * 20,
            }
        },
        "grpo-all-truncated",
        0.7,
    ),
    (
        "reward never leaves its floor",
        {"metrics": {"reward": [0, 0, 0.25, *[0] * 27], "loss": [0, 0, 2.5, *[0] * 27]}},
        "grpo-reward-never-positive",
        0.4,
    ),
    ("reward does not rise", {"metrics": {"reward": NOISE * 4}}, "rl-no-reward-progress", 0.5),
    # further rows
    (
        "0.1/7 GRPO without variance",
        {
            "metrics": {
                "loss": ZERO * 2,
                "grad_norm": ZERO * 2,
                "reward": [0.5, 0.4] * 10,
                "reward_std": ZERO * 2,
                "frac_reward_zero_std": [1.0] * 20,
            }
        },
        "grpo-zero-reward-variance",
        0.4,
    ),
    (
        "0.1/8 all tokens right from the first row",
        {
            "metrics": {
                "loss": [0.02, 0.005, 0.001, 0.0, 0.0, 0.0],
                "grad_norm": [0.1, 0.05, 0.01, 0.01, 0.01, 0.01],
                "mean_token_accuracy": [1.0] * 6,
            }
        },
        "initial-loss-leakage",
        0.8,
    ),
    (
        "0.1/10 the loss itself is NaN",
        {"metrics": {"loss": [*FALL, NAN, NAN, NAN, NAN], "grad_norm": [*NORM, *[NAN] * 4]}},
        "nan-weights-one-bad-batch",
        0.5,
    ),
    (
        "0.2/2 the scale falls to 1",
        {"metrics": {"loss": FLAT}, "lines": OVERFLOWS},
        "loss-scaler-collapse",
        0.8,
    ),
    (
        "0.2/4 bf16, normal at the row before",
        {
            "metrics": {"loss": [*FALL, NAN, NAN, NAN], "grad_norm": [*NORM, NAN, NAN, NAN]},
            "settings": {"bf16": True, "learning_rate": 1e-5},
        },
        "nan-weights-one-bad-batch",
        0.8,
    ),
    (
        "0.2/6 NaN on MPS",
        {
            "metrics": {"loss": [*FALL, NAN, NAN, NAN], "grad_norm": [*NORM, NAN, NAN, NAN]},
            "facts": {"environment.device": "mps"},
        },
        "mps-numerics",
        0.8,
    ),
    (
        "0.2/8 samples are exclamation marks, training was sound",
        {"files": {"predictions.jsonl": MARKS}},
        "weights-overflowed-at-save",
        0.3,
    ),
    (
        "0.2/8 the same after a loss of NaN",
        {
            "metrics": {"loss": [*FALL, NAN, NAN, NAN], "grad_norm": [*NORM, NAN, NAN, NAN]},
            "files": {"predictions.jsonl": MARKS},
        },
        "nan-weights-one-bad-batch",
        0.5,
    ),
    (
        "0.3/4 every lora_B is zero while the loss falls",
        {
            "metrics": {"loss": FALL, "grad_norm": NORM},
            "settings": {"gradient_checkpointing": True},
            "facts": {"weights.lora_b_count": 32, "weights.lora_b_zero": 32},
        },
        "adapter-never-trained",
        0.4,
    ),
    (
        "0.3/7 flat at a high level, gradients not small",
        {
            "metrics": {
                "loss": [6.1, 6.0, 6.1, 6.05, 6.1, 6.0, 6.08, 6.1, 6.0, 6.1] * 2,
                "grad_norm": [3.0, 2.8] * 10,
                "learning_rate": [1e-4] * 20,
            },
            "settings": {"lora.r": 8},
        },
        "initial-loss-inflated",
        0.6,
    ),
    (
        "0.4/2 about ln(vocabulary), weights newly initialised",
        {
            "metrics": {"loss": [10.6, 9.8, 9.0, 8.4, 8.0, 7.7, 7.5, 7.3, 7.2, 7.1]},
            "facts": {"model.vocab_size": 32000},
            "lines": [NEWLY],
        },
        "wrong-base-or-unsaved-head",
        0.8,
    ),
    (
        "0.4/3 above ln(vocabulary), gradient above 100",
        {
            "metrics": {
                "loss": [44.0, 29.0, 16.0, 9.0, 5.5, 4.0, 3.0, 2.9, 2.8, 2.8],
                "grad_norm": [900, 500, 300, 150, 40, 12, 8, 5, 4, 4],
            },
            "facts": {"model.vocab_size": 32000},
        },
        "initial-loss-inflated",
        0.8,
    ),
    (
        "0.5/1 two points up, gradient with them",
        {
            "metrics": {
                "loss": with_(LONG, {30: 6.0, 31: 3.0}),
                "grad_norm": with_(LONG_NORM, {30: 40.0}),
            }
        },
        "bad-data-pocket-spike",
        0.15,
    ),
    (
        "0.5/2 up where the warm-up ends",
        {
            "metrics": {
                "loss": [2.5, 2.2, 2.0, 1.9, 1.9, 2.6, 3.8, 4.5, 4.4, 4.2, 4.0, 4.0, 3.9, 3.9, 3.8],
                "learning_rate": [2e-4, 4e-4, 6e-4, 8e-4, 1e-3, *[2e-3] * 10],
                "grad_norm": [1, 1, 1, 1, 2, 9, 20, 15, 8, 6, 5, 5, 5, 5, 5],
            },
            "settings": {"adapter": "full"},
        },
        "lr-too-high",
        0.8,
    ),
    (
        "0.5/5 a step down at each epoch while the evaluation rises",
        {
            "metrics": {
                "loss": [
                    1.6 - 0.35 * e + 0.01 * (i * 7 % 5 - 2) for e in range(4) for i in range(15)
                ],
                "eval/loss": [
                    v if i == 14 else None for v in (1.3, 1.35, 1.5, 1.7) for i in range(15)
                ],
            },
            "epochs": EPOCHS,
        },
        "overfit-too-many-epochs",
        0.5,
    ),
    (
        "0.5/6 a step up at each epoch",
        {
            "metrics": {
                "loss": [
                    round(1.6 - 0.014 * i + 0.015 * math.sin(i * (e + 1.3) + e), 3)
                    for e in range(4)
                    for i in range(15)
                ]
            },
            "epochs": EPOCHS,
        },
        "data-order-not-shuffled",
        0.2,
    ),
    (
        "0.5/8 a new level after the spike",
        {"metrics": {"loss": LATE, "grad_norm": LATE_NORM, "learning_rate": [2e-3] * 60}},
        "lr-too-high",
        0.8,
    ),
    (
        "0.5/8 the same with an unusual Adam",
        {
            "metrics": {"loss": LATE, "grad_norm": LATE_NORM},
            "settings": {"adam_epsilon": 1e-5, "adam_beta2": 0.999},
        },
        "adam-eps-beta2-late-spikes",
        0.8,
    ),
    (
        "0.7/4 the functions vary, the groups do not",
        {
            "metrics": {
                "reward": NOISE * 2,
                "reward_std": ZERO * 2,
                "rewards/accuracy/std": [0.4] * 20,
                "grad_norm": ZERO * 2,
            }
        },
        "grpo-zero-reward-variance",
        0.4,
    ),
    ("0.8/2 bit for bit the base", merge(0.0, 1.0, identical=True), "merge-not-applied", 0.8),
    ("0.8/3 twice", merge(2.0, 1.0), "merged-twice", 0.8),
    ("0.8/4 root of the rank", merge(8**0.5, 1.8), "lora-scaling-mismatch-at-load", 0.8),
    ("0.8/6 less than one, much rounding", merge(0.43, 1.0), "merge-into-4bit", 0.7),
    ("0.8/7 unrelated to the adapter", merge(0.01, 8.0), "wrong-base-for-adapter", 0.5),
]

HEALTHY: list[tuple[str, dict[str, Any]]] = [
    ("ordinary SFT", {"metrics": {"loss": FALL, "grad_norm": NORM, "learning_rate": RATE}}),
    (
        "one Inf of the loss scaler",
        {"metrics": {"loss": FALL, "grad_norm": [*NORM[:4], float("inf"), *NORM[5:]]}},
    ),
    (
        "0.6/1 DPO that begins at ln 2",
        {
            "metrics": {
                "loss": [0.6931, 0.68, 0.64, 0.6, 0.58, 0.55, 0.53, 0.52, 0.5, 0.5],
                "grad_norm": NORM,
                "rewards/accuracies": [0, 0.55, 0.6, 0.65, 0.7, 0.7, 0.75, 0.72, 0.74, 0.75],
                "rewards/margins": [0, 0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.6, 0.6],
                "rewards/chosen": [0, 0.01, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
            }
        },
    ),
    (
        "0.1/6, 0.7/1 GRPO with loss 0 and a rising reward",
        {
            "metrics": {
                "loss": [0.0] * 20,
                "grad_norm": NORM * 2,
                "reward": [0.1 + 0.03 * i for i in range(20)],
                "frac_reward_zero_std": [0.2] * 20,
            }
        },
    ),
    (
        "rate 0 in the first row, restarts that were asked for",
        {
            "metrics": {
                "loss": [2.7 - 0.05 * i for i in range(24)],
                "learning_rate": [0, *[1e-4 * (1 - i / 8) for i in range(8)] * 2, *[5e-5] * 7],
            },
            "settings": {"lr_scheduler_type": "cosine_with_restarts"},
        },
    ),
    (
        "0.4/4 5 to 9 that falls within a few rows",
        {"metrics": {"loss": [8.34, 1.26, 0.9, 0.8, 0.7, 0.65, 0.6, 0.55, 0.52, 0.5]}},
    ),
    (
        "0.4/5 the sum of several heads",
        {
            "metrics": {
                "loss": [24.8, 22, 20, 18, 17, 16, 15.5, 15, 14.8, 14.5],
                "medusa0_loss": [3.5] * 10,
                "medusa1_loss": [4.0] * 10,
            },
            "facts": {"model.vocab_size": 32000},
        },
    ),
    (
        "0.4/6 a multimodal model that starts in the tens",
        {
            "metrics": {"loss": [14.0, 6.0, 3.1, 2.0, 1.7, 1.5, 1.4, 1.3, 1.3, 1.2]},
            "settings": {"model.type": "gemma3"},
        },
    ),
    (
        "0.5/7 the gradient spikes, the loss does not",
        {"metrics": {"loss": LONG, "grad_norm": with_(LONG_NORM, {20: 400.0, 40: 900.0})}},
    ),
    (
        "0.7/5, 0.7/6, 0.7/7 the loss is beta times kl, nothing is clipped",
        {
            "metrics": {
                "loss": [0.0000648, 0.00007] * 10,
                "kl": [0.0648, 0.07] * 10,
                "clip_ratio/low_mean": [0.0] * 20,
                "grad_norm": NORM * 2,
                "reward": [0.1 + 0.03 * i for i in range(20)],
            },
            "settings": {"beta": 0.001},
        },
    ),
    ("0.8/1 a sound merge", merge(1.0, 0.03)),
    ("0.8/5 merged onto dequantised weights", merge(1.0, 1.6)),
    (
        "solved RL whose groups are all right",
        {
            "metrics": {
                "reward": [0.7, 0.8, 0.9, 0.95, *[1.0] * 16],
                "frac_mixed": [0.8, 0.5, 0.3, 0.1, *[0.0] * 16],
                "entropy": [0.8, 0.5, 0.3, 0.1, *[0.001] * 16],
            }
        },
    ),
]


@pytest.mark.parametrize(
    ("example", "cause", "least"), [r[1:] for r in TABLES], ids=[r[0] for r in TABLES]
)
def test_row(library: Library, example: dict[str, Any], cause: str, least: float) -> None:
    found, probability = first(library, **example)
    assert (found, probability >= least) == (cause, True), (found, probability)


@pytest.mark.parametrize("example", [r[1] for r in HEALTHY], ids=[r[0] for r in HEALTHY])
def test_look_alike_is_clean(library: Library, example: dict[str, Any]) -> None:
    cause, probability = first(library, **example)
    assert probability < 0.25, (cause, probability)


def test_label_smoothing_floor_is_advice(library: Library) -> None:
    loss = [round(1.41 + 1.6 * math.exp(-i / 4) + 0.01 * (i * 7 % 3 - 1), 3) for i in range(50)]
    run = {"metrics": {"loss": loss}, "settings": {"label_smoothing_factor": 0.1}}
    found = {r.cause.id: r.probability for r in ranked(library, **run)}
    assert found["label-smoothing-floor"] > 0.5
    assert first(library, **run)[1] < 0.25


def test_every_row_of_every_table_is_here() -> None:
    catalogue = Path(__file__).parents[2] / "shared/knowledge/1-training-dynamics.md"
    if not catalogue.is_file():
        pytest.skip("the failure catalogue is not here")
    text = catalogue.read_text(encoding="utf-8")
    wanted = set()
    for number, section in re.findall(r"(?ms)^### (0\.\d) (.*?)(?=^###? |\Z)", text):
        # A table has a head and a line of dashes above its rows.
        rows = [line for line in section.splitlines() if line.startswith("|")][2:]
        wanted |= {f"{number}/{i}" for i in range(1, len(rows) + 1)}
    here = {row for name, *_ in (*TABLES, *HEALTHY) for row in re.findall(r"0\.\d/\d+", name)}
    assert len(wanted) > 50
    assert sorted(wanted - here - NOT_IN_ONE_RUN - ADVICE) == []
