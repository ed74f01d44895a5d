"""Detectors on weight files: what they miss and what they must not see."""

from __future__ import annotations

from typing import Any

import pytest

from ftdoctor.detect import tensors
from ftdoctor.examples import run_from_example
from ftdoctor.model import Fact, Run, State, Where


def run_of(**facts: Any) -> Run:
    return run_from_example({"facts": {k.replace("__", "."): v for k, v in facts.items()}})


def test_sentence_fills_only_its_own_fields() -> None:
    fact = Fact("x", ["a", "b"], Where("f.bin"))
    text = tensors.said("{count} in {where}: {value}; {first} {value.__class__}", fact)
    assert text == "2 in f.bin: a, b; a {value.__class__}"


def test_nothing_to_look_at_is_unobservable() -> None:
    empty = run_from_example({})
    for state in (
        tensors.damaged(empty, gguf=False).state,
        tensors.nonfinite(empty).state,
        tensors.only_copy_nonfinite(empty).state,
        tensors.lora_b_zero(empty, share=0.99, after_step=1).state,
        tensors.empty(empty, adapter=True).state,
        tensors.merge_ratio(empty, low=0, high=1).state,
        tensors.merge_scaled_by_rank(empty, tolerance=0.1).state,
        tensors.head_missing(empty).state,
        tensors.quantised_merge(empty).state,
    ):
        assert state is State.UNOBSERVABLE


def test_empty_weight_file_is_damage() -> None:
    run = run_from_example({"files": {"model.safetensors": ""}})
    assert tensors.damaged(run, gguf=False).state is State.PRESENT
    assert tensors.damaged(run, gguf=True).state is State.UNOBSERVABLE


def test_lfs_pointer_is_not_damage() -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    run = run_from_example({"files": {"model.safetensors": pointer}})
    assert tensors.damaged(run, gguf=False).state is State.UNOBSERVABLE


def test_nonfinite_names_count_file_and_first_tensor() -> None:
    run = run_of(
        weights__checked_tensors=290,
        weights__nan_tensors=["lm_head.weight"],
        weights__nan_tensors_count=57,
    )
    seen = tensors.nonfinite(run)
    assert seen.state is State.PRESENT
    assert "57 of 290" in seen.text
    assert "lm_head.weight" in seen.text


def test_partly_tested_weights_say_so() -> None:
    run = run_of(weights__checked_tensors=9, weights__checked_whole=False, weights__nan_tensors=[])
    assert "beginning" in tensors.nonfinite(run).text


def zero_run(*files: tuple[str, int, int], steps: int | None = None) -> Run:
    run = run_of(**({"progress__global_step": steps} if steps is not None else {}))
    facts = dict(run.facts)
    for name in ("weights.lora_b_count", "weights.lora_b_zero"):
        at = 1 if name.endswith("count") else 2
        facts[name] = tuple(Fact(name, f[at], Where(f[0])) for f in files)
    return Run(**{**run.__dict__, "facts": facts})


def test_newest_adapter_decides() -> None:
    old, new = ("checkpoint-100/a.safetensors", 8, 8), ("checkpoint-900/a.safetensors", 8, 0)
    seen = tensors.lora_b_zero(zero_run(old, new), share=0.99, after_step=1)
    assert seen.state is State.ABSENT
    final = ("adapter_model.safetensors", 8, 8)
    seen = tensors.lora_b_zero(zero_run(new, final), share=0.99, after_step=1)
    assert seen.state is State.PRESENT


@pytest.mark.parametrize("path", ["checkpoint-0/a.safetensors", "checkpoint-1/a.safetensors"])
def test_first_checkpoints_may_be_zero(path: str) -> None:
    seen = tensors.lora_b_zero(zero_run((path, 8, 8)), share=0.99, after_step=1)
    assert seen.state is State.UNOBSERVABLE


def test_few_zero_matrices_are_no_untrained_adapter() -> None:
    run = zero_run(("adapter_model.safetensors", 64, 6))
    assert tensors.lora_b_zero(run, share=0.99, after_step=1).state is State.ABSENT


def test_merge_below_rounding_is_unobservable() -> None:
    run = run_of(merge__ratio=0.4, merge__residual=1.5, merge__noise=1.2, merge__identical=False)
    assert tensors.merge_ratio(run, low=0.15, high=0.8).state is State.UNOBSERVABLE


def test_merge_ratio_and_residual_both_decide() -> None:
    run = run_of(merge__ratio=1.0, merge__residual=1.6, merge__noise=0.03)
    inside = tensors.merge_ratio(run, low=0.9, high=1.1, residual_above=1.2)
    outside = tensors.merge_ratio(run, low=0.9, high=1.1, residual_below=0.3)
    assert (inside.state, outside.state) == (State.PRESENT, State.ABSENT)


@pytest.mark.parametrize(
    ("ratio", "present"), [(4.0, True), (0.25, True), (1.0, False), (2, False)]
)
def test_root_of_rank(ratio: float, present: bool) -> None:
    seen = tensors.merge_scaled_by_rank(run_of(merge__ratio=ratio, merge__rank=16), tolerance=0.08)
    assert seen.state is (State.PRESENT if present else State.ABSENT)


def test_adapter_of_mlx_or_full_weights_are_not_empty_adapters() -> None:
    run = run_of(weights__empty_file=40)
    assert tensors.empty(run, adapter=True).state is State.UNOBSERVABLE
