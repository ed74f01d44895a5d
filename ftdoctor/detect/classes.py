"""Whether a run learns labels: of few short answers, a loss near zero is success and no leak."""

from __future__ import annotations

import math
import re

from ftdoctor.detect.data import labels_of
from ftdoctor.detect.points import kind_of, points
from ftdoctor.model import Run

COMMONEST = 0.9  # share above which one label is as good as a constant target (judgement)
CHANCE = math.log(20)  # a loss above it is no guess among few classes
_RIGHT = re.compile(r"(?i)^(?!.*token)(?:.*[/_])?(?:acc|accuracy|(?:macro_|micro_)?f1)$")


def labels_learnt(run: Run) -> str:
    """Say in a clause why a run learns labels, "" if nothing tells.

    Either the training answers are labels, or a run of no declared kind begins at a loss like a
    guess among few classes and evaluates how many it gets right.
    """
    if kind_of(run) == "classification":
        return "a classifier is trained"
    counts = labels_of(run, "train")
    if counts is not None:
        share = max(counts.values()) / sum(counts.values())
        return f"the answers are {len(counts)} labels" if share < COMMONEST else ""
    loss = points(run, "loss")
    if not _may_classify(run) or loss is None or not len(loss.finite):
        return ""
    if loss.finite.values[0] > CHANCE:
        return ""
    scored = [n for n, split in run.series_names() if split == "eval" and _RIGHT.match(n)]
    return f"`{scored[0]}` of classes is evaluated" if scored else ""


def _may_classify(run: Run) -> bool:
    """Say whether nothing tells what is trained: the plain Trainer takes any model."""
    trainer = run.fact("run.trainer")
    plain = trainer is None or trainer.value == "hf"
    return not kind_of(run) or (kind_of(run) == "sft" and plain)
