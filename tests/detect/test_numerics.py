"""Detectors on mixed precision, skipped steps, batch size and LoRA scale."""

from __future__ import annotations

from typing import Any

import pytest

from ftdoctor.detect import lora, numerics
from ftdoctor.examples import run_from_example
from ftdoctor.model import Run, State


def settings(**values: Any) -> Run:
    return run_from_example({"settings": {k.replace("__", "."): v for k, v in values.items()}})


def test_skipped_steps_of_deepspeed() -> None:
    line = "[Rank 0] step={}, skipped={}, lr=[1e-05, 1e-05], mom=[(0.9, 0.99)]"
    bad = run_from_example({"lines": [line.format(s, s) for s in (10, 20, 30, 40)]})
    seen = numerics.steps_skipped(bad)
    assert seen.state is State.PRESENT
    assert "40 of 40 optimizer steps" in seen.text
    good = run_from_example({"lines": [line.format(s, 3) for s in (10, 20, 30, 40)]})
    assert numerics.steps_skipped(good).state is State.ABSENT


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({"fp16": True}, State.PRESENT),
        ({"fp16": False}, State.ABSENT),
        ({"fp16": False, "bf16": True}, State.ABSENT),
        ({"mixed_precision": "fp16"}, State.PRESENT),
        ({"torch_dtype": "torch.float16"}, State.PRESENT),
        ({"torch_dtype": "bfloat16"}, State.ABSENT),
        ({"learning_rate": 1e-4}, State.UNOBSERVABLE),
    ],
)
def test_precision(values: dict[str, Any], state: State) -> None:
    assert numerics.precision(settings(**values), name="fp16").state is state


def test_small_batch_needs_accumulation_to_be_known() -> None:
    assert numerics.batch(settings(per_device_train_batch_size=1), at_most=4).state is (
        State.UNOBSERVABLE
    )
    small = settings(per_device_train_batch_size=1, gradient_accumulation_steps=2)
    assert numerics.batch(small, at_most=4).state is State.PRESENT


def test_rslora_scale_uses_the_root() -> None:
    plain = settings(lora__r=64, lora__alpha=128)
    stabilised = settings(lora__r=64, lora__alpha=128, lora__use_rslora=True)
    assert lora.scale(plain, above=8, below=0.1).state is State.ABSENT
    seen = lora.scale(stabilised, above=8, below=0.1)
    assert seen.state is State.PRESENT
    assert "alpha/sqrt(r) is 16" in seen.text
