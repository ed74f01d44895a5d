"""By which metric, and in which direction, a script keeps its best checkpoint."""

from __future__ import annotations

import ast

import pytest

from ftdoctor.read.code import Code
from ftdoctor.read.script_best import kept_best_of

LIGHTNING = "import lightning.pytorch as pl\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LIGHTNING + "c = ModelCheckpoint(monitor='val_loss', mode='max')", ["val_loss", "max"]),
        (LIGHTNING + "c = pl.callbacks.ModelCheckpoint('out', monitor='acc')", ["acc", "min"]),
        (LIGHTNING + "c = EarlyStopping('val_acc', mode='max')", ["val_acc", "max"]),
        ("c = ModelCheckpoint('x.h5', monitor='val_loss', mode='max')", ["val_loss", "max"]),
        ("if loss > best:\n    best = loss\n    torch.save(net, 'p')", ["loss", "max"]),
        ("if best_acc >= acc:\n    best_acc = acc\n    m.save_pretrained('p')", ["acc", "min"]),
    ],
)
def test_kept(text: str, expected: list[str]) -> None:
    assert [value for _, value, _ in kept_best_of(Code(ast.parse(text)))] == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "c = ModelCheckpoint('x.h5', monitor='val_acc')",  # Keras goes by the name
        LIGHTNING + "c = ModelCheckpoint('out', save_top_k=-1)",
        LIGHTNING + "c = ModelCheckpoint(monitor='val_loss', mode=args.mode)",
        "if loss > limit:\n    torch.save(net, 'diverged')",
        "if loss > best:\n    best = loss",
        "if step > last:\n    last = other\n    save(net)",
    ],
)
def test_nothing_is_said(text: str) -> None:
    assert not list(kept_best_of(Code(ast.parse(text))))
