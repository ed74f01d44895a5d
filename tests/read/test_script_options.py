"""Settings that are defaults of a command line, by the parsers that scripts use."""

from __future__ import annotations

import pytest

from ftdoctor.read.script import read
from ftdoctor.read.source import memory_source


def options(text: str) -> set[str]:
    facts = read(memory_source("train.py", text.encode())).facts
    return {str(f.value) for f in facts if f.name == "script.train.option"}


ARGPARSE = """
p = argparse.ArgumentParser()
p.add_argument("--lr", type=float, default=5e-5)
a = p.parse_args()
args = TrainingArguments("out", learning_rate=a.lr, num_train_epochs=3)
Trainer(model=model, args=args).train()
"""
DATACLASS = """
@dataclass
class Options:
    rate: float = 5e-5
(opts,) = HfArgumentParser(Options).parse_args_into_dataclasses()
args = TrainingArguments("out", learning_rate=opts.rate, num_train_epochs=3)
Trainer(model=model, args=args).train()
"""
PLAIN = """
RATE = 5e-5
args = TrainingArguments("out", learning_rate=RATE, num_train_epochs=config.epochs)
Trainer(model=model, args=args).train()
"""


@pytest.mark.parametrize(("text", "found"), [(ARGPARSE, True), (DATACLASS, True), (PLAIN, False)])
def test_the_rate_is_an_option(text: str, found: bool) -> None:
    assert ("learning_rate" in options(text)) is found
    assert "num_train_epochs" not in options(text)
