"""Fixes become edits at real lines, in the dialect of the trainer."""

from __future__ import annotations

import pytest

from ftdoctor.diagnose import first_sentence
from ftdoctor.examples import run_from_example
from ftdoctor.fixes import end_with, fitting, fix_text, literal, replace_value, setting_in
from ftdoctor.model import Cause, Fact, Patch, Severity, Where


def cause(patch: Patch | None, **fix_for: str) -> Cause:
    return Cause("x", "x", "numerics", Severity.HIGH, 0.02, {}, "why", "fix", patch=patch,
                 fix_for={k.replace("_", "-"): v for k, v in fix_for.items()})  # fmt: skip


@pytest.mark.parametrize(
    ("line", "path", "to", "expected"),
    [
        ("    fp16=True,", "train.py", False, "    fp16=False,"),
        ("fp16: true  # fast", "c.yml", False, "fp16: false  # fast"),
        ('  "fp16": true,', "args.json", False, '  "fp16": false,'),
        ("    fp16=[1, 2], x=3", "train.py", None, "    fp16=None, x=3"),
        ("  --fp16 True --lr 2", "run.sh", False, "  --fp16 false --lr 2"),
    ],
)
def test_the_value_is_replaced_where_it_stands(
    line: str, path: str, to: object, expected: str
) -> None:
    assert replace_value(line, Fact("fp16", True, Where(path, line=1)), to) == expected


def test_an_alias_on_the_line_is_understood() -> None:
    fact = Fact("learning_rate", 3.0, Where("config.yml", line=4))
    assert replace_value("lr: 3.0", fact, 1e-4) == "lr: 0.0001"


def test_a_line_without_the_value_is_left_alone() -> None:
    fact = Fact("fp16", True, Where("train.py", line=1))
    assert replace_value("parser.parse_args()", fact, False) is None


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [("axolotl", "micro_batch_size"), ("trl", "per_device_train_batch_size")],
)
def test_settings_are_named_as_the_trainer_names_them(trainer: str, expected: str) -> None:
    assert setting_in(trainer, "per_device_train_batch_size") == expected


def test_a_written_fix_for_the_trainer_wins_over_the_patch() -> None:
    made = cause(Patch("learning_rate", 1e-4), axolotl="Lower it.")
    assert fix_text(made, "axolotl") == "Lower it."
    assert fix_text(made, "hf") == "Set `learning_rate` to `0.0001`."
    assert fix_text(cause(None), "hf") == ""


def test_literals_follow_the_language() -> None:
    assert literal(True, yaml=False) == "True"
    assert literal(True, yaml=True) == "true"
    assert literal("no", yaml=False) == '"no"'


@pytest.mark.parametrize(
    ("line", "stops", "expected"),
    [
        ('    text = prompt + row["output"]', (), '    text = prompt + row["output"] + EOS'),
        ('text = p + row["output"] + "<|endoftext|>"', ("<|endoftext|>",),
         'text = p + row["output"] + EOS'),
        ("    return f'{q}\\n{a}<|im_end|>'  # end", ("<|im_end|>",),
         "    return f'{q}\\n{a}' + EOS  # end"),
        ('text = "ü" + answer', (), 'text = "ü" + answer + EOS'),
        ("text = prompt + answer + EOS", (), None),
        ("text = (prompt +", (), None),
        ("texts.append(prompt)", (), None),
        ("count = 3", (), None),
    ],
)  # fmt: skip
def test_the_training_text_gets_an_end(
    line: str, stops: tuple[str, ...], expected: str | None
) -> None:
    assert end_with(line, stops, "EOS") == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_train_epochs": 3}, 1e-5),  # nothing says adapter: all weights are trained
        ({"num_train_epochs": 3, "lora.r": 8}, 1e-4),
        ({}, 1e-4),  # nothing is known
    ],
)
def test_a_full_fine_tune_may_need_another_value(settings: dict[str, int], expected: float) -> None:
    run = run_from_example({"settings": settings})
    fitted = fitting(cause(Patch("learning_rate", 1e-4, to_full=1e-5)), run)
    assert fitted.patch is not None
    assert fitted.patch.to == expected


def test_a_value_that_is_set_already_is_no_fix() -> None:
    run = run_from_example({"settings": {"lr_scheduler_type": "cosine"}})
    assert fitting(cause(Patch("lr_scheduler_type", "cosine")), run).patch is None
    assert fitting(cause(Patch("lr_scheduler_type", "linear")), run).patch is not None


def test_a_stop_in_code_or_brackets_ends_no_sentence() -> None:
    text = "Save it (`a = b; c()`, i.e. now; soon) beside `x. y`. Then convert."
    assert first_sentence(text) == "Save it (`a = b; c()`, i.e. now; soon) beside `x. y`."
