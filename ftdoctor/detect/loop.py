"""Detectors on hand-written training loops: what is never done, or done in the wrong place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.script import facts_named
from ftdoctor.model import Observation, Run

_LOOP = "training script with its own loop"
_ROLES = ("train", "data", "other")  # a LightningModule often has a file of its own

# What a fault looks like in the script; the ids are those of `read/script_loop.py`.
_SENTENCES: Mapping[str, str] = {
    "backward-missing": "the loop steps the optimizer, and nothing calls `backward`",
    "step-missing": "the loop calls `backward`, and nothing steps the optimizer",
    "zero-grad-missing": "the loop calls `backward`, and nothing clears the gradients",
    "cleared-before-step": "gradients are cleared after `backward` and before the optimizer's step",
    "loss-cut-off": "`backward` is called on a loss that was cut from its graph",
    "optimizer-of-other-weights": "the model is replaced after the optimizer was given its weights",
    "optimizer-of-another-model": "the optimizer is given a model that nothing calls",
    "loss-of-logits": "`backward` is called on a mean of the logits, which no target enters",
    "training-step-returns-nothing": "`training_step` returns no loss",
    "schedule-stepped-per-epoch": "the schedule counts steps and is stepped once per epoch",
    "schedule-stepped-per-batch": "the schedule counts epochs and is stepped at every batch",
    "schedule-never-stepped": "a schedule is made for the optimizer, and nothing steps it",
    "warm-up-never-stepped": "a schedule that warms up from 0 is made, and nothing steps it",
    "trains-in-eval-mode": "`eval()` is called, and `backward` follows without `train()`",
    "train-mode-not-restored": "`eval()` is called within training, and no `train()` follows",
    "labels-shifted-twice": "labels are shifted by hand, and the model shifts them again",
    "labels-never-shifted": "logits and labels of the same place are compared, none is shifted",
}


@detector("loop.fault")
def fault(
    run: Run, *, any_of: list[str], looked: Literal["loop", "labels_seen"] = "loop"
) -> Observation:
    """Find one of the named faults in a training loop that the script itself writes.

    `looked` is the fact by which a script is known to have been looked at for them.
    """
    if unknown := [name for name in any_of if name not in _SENTENCES]:
        raise ValueError(f"no such fault of a loop: {unknown[0]}")
    found = [
        fact
        for fact in facts_named(run, *(f"script.{role}.loop_fault" for role in _ROLES))
        if fact.value in any_of
    ]
    if found:
        return present(f"In {found[0].where} {_SENTENCES[found[0].value]}", *found)
    if seen := facts_named(run, *(f"script.{role}.{looked}" for role in _ROLES)):
        return absent(f"{seen[0].where.path} shows no such fault", *seen[:1])
    return unobservable("No training loop of the script's own was found", _LOOP)
