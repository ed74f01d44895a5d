"""Scripts that train classifiers, and those that train language models."""

from __future__ import annotations

import pytest

from ftdoctor.examples import run_from_example
from ftdoctor.read.code import parse
from ftdoctor.read.script_classes import classes_of

HEAD = "self.head = nn.Linear(d, {})\nacc = (z.argmax(-1) == y).float().mean()\n"


def told(text: str) -> bool:
    code, problem = parse(text)
    assert code is not None, problem
    return any(value for _, value, _ in classes_of(code))


@pytest.mark.parametrize(
    "text",
    [
        "m = AutoModelForSequenceClassification.from_pretrained(b)\n",
        "m = BertForTokenClassification(config)\n",
        HEAD.format("3"),
        HEAD.format("self.num_labels"),
        HEAD.format("len(label2id)"),
        HEAD.format("out_features=n_classes"),
        "self.fc = nn.Linear(d, cfg.n_intents)\nhits += (batch.y == torch.argmax(z, 1)).sum()\n",
    ],
)
def test_a_classifier(text: str) -> None:
    assert told(text)


@pytest.mark.parametrize(
    "text",
    [
        "m = AutoModelForCausalLM.from_pretrained(b)\n",
        HEAD.format("vocab_size"),
        HEAD.format("50257"),
        "self.up = nn.Linear(64, 256)\nloss = m(**x).loss\n",
    ],
)
def test_no_classifier(text: str) -> None:
    assert not told(text)


def test_the_run_is_a_classification() -> None:
    script = HEAD.format(3) + "loss.backward()\noptimizer.step()\n"
    kind = run_from_example({"files": {"train.py": f"import torch\n{script}"}}).fact("run.kind")
    assert kind is not None
    assert kind.value == "classification"
