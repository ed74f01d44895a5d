"""Fixes become edits at real lines, in the dialect of the trainer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ftdoctor.diagnose import first_sentence
from ftdoctor.edits import literal, replace_value
from ftdoctor.examples import run_from_example
from ftdoctor.fixes import edit_for, end_with, fitting, fix_text, place_text, setting_in
from ftdoctor.model import Cause, Fact, Patch, Run, Severity, Where
from ftdoctor.read import read_run
from ftdoctor.render.evidence import sides


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


TRAIN = """import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=2e-5)
args = TrainingArguments(learning_rate=parser.parse_args().lr, output_dir="out")
"""
CELLS = ["!pip install trl\n", "!python train.py --lr 0.5 \\\n", "  --epochs 2"]
NOTEBOOK = json.dumps({"cells": [{"cell_type": "code", "source": CELLS}], "nbformat": 4}, indent=1)
LOWER = cause(Patch("learning_rate", 1e-4))


def read(folder: Path, **files: str) -> Run:
    """Read a run of a script, and files whose names have `_` for each dot."""
    (folder / "train.py").write_text(TRAIN)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return read_run(folder)


@pytest.mark.parametrize(
    ("name", "text", "line", "before", "after"),
    [
        ("run_sh", "#!/bin/sh\npython train.py \\\n  --epochs 2 \\\n  --lr 0.5\n", 4,
         "  --lr 0.5", "  --lr 0.0001"),
        ("job_sbatch", "#!/bin/bash\nLR=0.5\nsrun python train.py --lr $LR\n", 2,
         "LR=0.5", "LR=0.0001"),
        ("run_sh", "LR=${1:-0.5}\npython train.py --lr=$LR\n", 1, "LR=${1:-0.5}", "LR=${1:-0.0001}"),
        ("Makefile", "LR ?= 0.5\ntrain:\n\t@python train.py --lr $(LR)\n", 1,
         "LR ?= 0.5", "LR ?= 0.0001"),
        ("go_ipynb", NOTEBOOK, 7, "!python train.py --lr 0.5 \\", "!python train.py --lr 0.0001 \\"),
    ],
)  # fmt: skip
def test_what_was_typed_is_changed_where_it_was_typed(
    name: str, text: str, line: int, before: str, after: str, tmp_path: Path
) -> None:
    edit = edit_for(LOWER, read(tmp_path, **{name: text}))
    assert edit is not None
    assert (edit.path, edit.line) == (name.replace("_", "."), line)
    assert sides(edit) == ([before], [after])


def test_a_default_that_nothing_replaced_is_changed_in_the_script(tmp_path: Path) -> None:
    edit = edit_for(LOWER, read(tmp_path, run_sh="#!/bin/sh\npython train.py --epochs 2\n"))
    assert edit is not None
    assert (edit.path, edit.after) == (
        "train.py", 'parser.add_argument("--lr", type=float, default=0.0001)',
    )  # fmt: skip


def test_a_command_that_is_only_recorded_is_named_and_the_script_left_alone(tmp_path: Path) -> None:
    kept = json.dumps({"program": "train.py", "args": ["--lr", "0.5"]})
    files = tmp_path / "wandb" / "run-20260110_120000-abc12345" / "files"
    files.mkdir(parents=True)
    (files / "wandb-metadata.json").write_text(kept)
    run = read(tmp_path)
    assert edit_for(LOWER, run) is None
    assert place_text(LOWER, run).startswith(" It was given on the command line, as `wandb/run-")


def test_without_any_file_that_sets_it_the_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "stdout.log").write_text("learning_rate: 0.5\n{'loss': 1.0, 'epoch': 0.1}\n" * 3)
    run = read(tmp_path)
    records = {a.path: a.kind for a in run.artifacts}
    fact = replace(run.settings["learning_rate"][0], value=0.5, where=Where("stdout.log", line=1))
    run = replace(run, settings={"learning_rate": (fact, *run.settings["learning_rate"])})
    assert records["stdout.log"] == "console"
    assert edit_for(LOWER, run) is None
    told = " No file here sets it; `stdout.log:1` records that it was `0.5`."
    assert place_text(LOWER, run) == told


def test_an_option_of_the_scripts_own_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "more.py").write_text("args = TrainingArguments(weight_decay=opts.wd)\n")
    run = read(tmp_path, run_sh="python train.py --wd 50 --lr 0.5\n")
    kept = Fact("weight_decay", 50.0, Where("out/training_args.bin"))
    run = replace(run, settings={**run.settings, "weight_decay": (kept,)})
    edit = edit_for(cause(Patch("weight_decay", 0.01)), run)
    assert edit is not None
    assert (edit.path, edit.after) == ("run.sh", "python train.py --wd 0.01 --lr 0.5")


def test_a_flag_is_taken_off_the_command(tmp_path: Path) -> None:
    run = read(tmp_path, run_sh="python train.py --fp16 --lr 0.5\n")
    edit = edit_for(cause(Patch("fp16", False)), run)
    assert edit is not None
    assert edit.after == "python train.py --lr 0.5"


def test_a_key_that_only_contains_the_name_is_another_setting() -> None:
    line = "    peft = LoraConfig(lora_alpha=16, r=8)"
    fact = Fact("lora.r", 8, Where("train.py", line=1))
    assert replace_value(line, fact, 16) == "    peft = LoraConfig(lora_alpha=16, r=16)"


FORM = """def form(row):
    text = f"### Question:\\n{row['q']}\\n\\n### Answer:\\n{row['a']}"
    return {"text": text}
trainer = SFTTrainer(model, train_dataset=data.map(form))
"""


def test_the_training_text_of_a_notebook_gets_an_end(tmp_path: Path) -> None:
    source = FORM.splitlines(keepends=True)
    book = {"cells": [{"cell_type": "code", "source": source}], "nbformat": 4}
    (tmp_path / "go.ipynb").write_text(json.dumps(book, indent=1))
    edit = edit_for(cause(Patch("text.end", "tokenizer.eos_token")), read_run(tmp_path))
    assert edit is not None
    changed = source[1].rstrip() + " + tokenizer.eos_token"
    assert sides(edit) == ([source[1].rstrip()], [changed])
    lines = (tmp_path / "go.ipynb").read_text().splitlines()
    assert lines[edit.line - 1] == edit.before
    lines[edit.line - 1] = edit.after
    assert json.loads("\n".join(lines))["cells"][0]["source"][1] == f"{changed}\n"


def test_a_number_without_a_name_is_replaced_in_python_only() -> None:
    line = "    gn = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-4)"
    fact = Fact("max_grad_norm", 1e-4, Where("train.py", line=3))
    changed = replace_value(line, fact, 1.0)
    assert changed == "    gn = torch.nn.utils.clip_grad_norm_(model.parameters(), 1)"
    twice = Fact("max_grad_norm", 2, Where("train.py", line=3))
    assert replace_value("clip(parameters, 2, 2)", twice, 1.0) is None
