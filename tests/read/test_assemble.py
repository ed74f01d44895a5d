"""Readings put together: one curve per metric, settings by authority, conclusions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftdoctor.discover import Discovery, Found
from ftdoctor.examples import run_from_example
from ftdoctor.kinds import classify
from ftdoctor.model import ArtifactState, Run
from ftdoctor.read import Options, read_run
from ftdoctor.read.assemble import assemble, parse_value
from ftdoctor.read.curve import Log, Pace, assemble_curves, infer_steps, is_interleaved
from ftdoctor.read.items import read_items, read_one
from ftdoctor.read.names import metric_name, setting_name
from ftdoctor.read.reading import MetricRow
from ftdoctor.read.source import memory_source
from ftdoctor.redact import Redactor
from ftdoctor.show import describe, render_show


def run_of(files: dict[str, str]) -> Run:
    found = tuple(
        Found(source, classify(source))
        for source in (memory_source(path, text.encode()) for path, text in files.items())
    )
    redactor = Redactor()
    return assemble(Discovery("/runs/one", found), read_items(found, redactor), redactor)


def state(losses: dict[int, float], **fields: Any) -> str:
    history = [{"epoch": s / 10, "loss": v, "step": s} for s, v in losses.items()]
    return json.dumps({"best_metric": None, **fields, "log_history": history}, indent=2)


def rows(*steps: int | None, name: str = "loss") -> tuple[MetricRow, ...]:
    return tuple(MetricRow({name: float(i)}, i + 1, step) for i, step in enumerate(steps))


def steps_of(*logs: Log) -> list[tuple[int, int]]:
    return [(point.step, point.segment) for point in assemble_curves(logs).points]


# --- steps and sessions -----------------------------------------------------------------------


def test_steps_from_epochs_and_from_order() -> None:
    epochs = [MetricRow({"loss": 1.0}, epoch=e) for e in (0.5, 1.0, 1.5)]
    assert infer_steps(epochs, Pace(steps_per_epoch=20)) == [10, 20, 30]
    bare = [MetricRow({"loss": 1.0}), MetricRow({"eval_loss": 1.0}), MetricRow({"loss": 1.0})]
    assert infer_steps(bare, Pace(logging_steps=5)) == [5, 5, 10]
    assert infer_steps(rows(3, None, 6), Pace()) == [3, 3, 6]


def test_a_resume_starts_a_segment_and_keeps_what_was_logged_before() -> None:
    log = Log("m.jsonl", "metrics", rows(1, 2, 3, 4, 3, 4, 5))
    assert steps_of(log) == [(1, 0), (2, 0), (3, 0), (4, 0), (3, 1), (4, 1), (5, 1)]


def test_two_writers_are_not_resumes() -> None:
    log = Log("m.jsonl", "metrics", rows(1, 1, 2, 2, 3, 3, 4, 4, 5, 5))
    curves = assemble_curves([log])
    assert [point.step for point in curves.points] == [1, 2, 3, 4, 5]
    assert {point.segment for point in curves.points} == {0}
    assert curves.interleaved == ("m.jsonl",)
    assert is_interleaved([10, 20, 10, 30, 20, 40, 30, 50, 40, 60])
    assert not is_interleaved([1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7])
    assert not is_interleaved([1, 2, 1])


def test_lines_of_two_kinds_with_own_grids_are_one_session() -> None:
    mixed = []
    for step in range(1, 31):
        mixed.append(MetricRow({"loss": 1.0}, step=step))
        if step % 10 == 0:
            mixed.append(MetricRow({"lr": 1e-5}, step=step - 1))
    curves = assemble_curves([Log("out.log", "console", tuple(mixed))])
    assert {point.segment for point in curves.points} == {0}
    assert curves.interleaved == ()


def test_the_last_value_of_a_repeated_step_counts() -> None:
    log = Log("s", "state", (MetricRow({"loss": 1.0}, 1, 5), MetricRow({"loss": 2.0}, 2, 5)))
    assert [(p.step, p.value) for p in assemble_curves([log]).points] == [(5, 2.0)]


# --- which source -----------------------------------------------------------------------------


def test_the_state_is_the_curve_and_the_log_extends_it() -> None:
    exact = Log("trainer_state.json", "state", (
        MetricRow({"loss": 2.12345}, 1, 10), MetricRow({"loss": 1.98765}, 2, 20),
        MetricRow({"loss": 1.5}, 3, 30),
    ))  # fmt: skip
    printed = Log("stdout.log", "console", (
        MetricRow({"loss": 2.1235, "mfu": 0.4}, 1, 10), MetricRow({"loss": 1.9877}, 2, 20),
        MetricRow({"loss": 1.5}, 3, 30), MetricRow({"loss": math.nan}, 4, 40),
    ))  # fmt: skip
    points = assemble_curves([printed, exact]).points
    loss = [(p.step, p.value, p.path) for p in points if p.name == "loss"]
    assert loss[:3] == [
        (10, 2.12345, "trainer_state.json"), (20, 1.98765, "trainer_state.json"),
        (30, 1.5, "trainer_state.json"),
    ]  # fmt: skip
    assert loss[3][0] == 40
    assert math.isnan(loss[3][1])
    assert [p.path for p in points if p.name == "mfu"] == ["stdout.log"]


def test_a_log_of_another_run_does_not_extend_the_curve() -> None:
    first = Log("trainer_state.json", "state", rows(10, 20, 30))
    other = Log("old.log", "console", tuple(
        MetricRow({"loss": 50.0 + step}, step=step) for step in (10, 20, 30, 40)
    ))  # fmt: skip
    curves = assemble_curves([first, other])
    assert [point.step for point in curves.points] == [10, 20, 30]
    assert curves.aside == (("old.log", "shows another run than trainer_state.json"),)
    planned = Log("old.log", "console", rows(40, 50), planned=90)
    kept = Log("trainer_state.json", "state", rows(10, 20, 30), planned=30)
    assert len(assemble_curves([kept, planned]).points) == 3


def test_the_highest_checkpoint_holds_the_others() -> None:
    low = Log("checkpoint-20/trainer_state.json", "state", rows(10, 20))
    high = Log("checkpoint-100/trainer_state.json", "state", rows(*range(10, 101, 10)))
    assert len(steps_of(low, high)) == 10
    assert len(steps_of(high, low)) == 10


def test_later_logs_resume_or_supersede_earlier_ones() -> None:
    first = Log("log_1000.txt", "console", rows(1, 2, 3, 4))
    resumed = Log("log_2000.txt", "console", rows(3, 4, 5, 6))
    assert steps_of(resumed, first)[-4:] == [(3, 1), (4, 1), (5, 1), (6, 1)]
    again = Log("log_3000.txt", "console", tuple(
        MetricRow({"loss": 9.0 - step}, step=step) for step in (1, 2, 3)
    ))  # fmt: skip
    curves = assemble_curves([first, again])
    assert {point.path for point in curves.points} == {"log_3000.txt"}
    assert "superseded" in curves.aside[0][1]
    aborted = Log("log_4000.txt", "console", rows(1))
    long = Log("log_1000.txt", "console", rows(*range(1, 30)))
    assert {p.path for p in assemble_curves([long, aborted]).points} == {"log_1000.txt"}


# --- names and values -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("loss", ("loss", "train")),
        ("Loss", ("loss", "train")),
        ("train_loss", ("loss", "train")),
        ("train/train_loss", ("train_loss", "train")),
        ("eval_loss", ("loss", "eval")),
        ("Validation Loss", ("loss", "eval")),
        ("train/grad_norm", ("grad_norm", "train")),
        ("eval/rewards/margins", ("rewards/margins", "eval")),
        ("lr-AdamW", ("learning_rate", "train")),
        ("lr-SGD/pg1", ("learning_rate", "train")),
        ("lr-Adam-1", ("learning_rate", "train")),
        ("lr/pg0", ("learning_rate", "train")),
        ("lr-SGD/pg2", ("lr-sgd/pg2", "train")),
        ("lr-SGD-momentum", ("lr-sgd-momentum", "train")),
        ("lr-AdamW/pg1-weight_decay", ("lr-adamw/pg1-weight_decay", "train")),
    ],
)
def test_metric_names(raw: str, expected: tuple[str, str]) -> None:
    assert metric_name(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("--learning-rate", "learning_rate"),
        ("training.lr", "learning_rate"),
        ("lora.base_model", "lora.base_model"),
        ("peft_config.r", "lora.r"),
        ("lora_config.bias", "lora.bias"),
        ("bnb_config.load_in_4bit", "quantization.load_in_4bit"),
        ("deepspeed.optimizer.params.lr", "deepspeed.optimizer.params.lr"),
        ("model.type", "model.type"),
    ],
)
def test_setting_names(raw: str, expected: str) -> None:
    assert setting_name(raw) == expected
    assert setting_name(expected) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("2e-4", 2e-4), ("10", 10), ("true", True), ("None", None), ("none", "none"),
        ("SchedulerType.COSINE", "cosine"), ("torch.bfloat16", "bfloat16"), ("1.2.3", "1.2.3"),
        ("auto", "auto"), (3, 3), ("1e999", "1e999"),
    ],
)  # fmt: skip
def test_values(raw: object, expected: object) -> None:
    assert parse_value(raw) == expected


def test_settings_are_ordered_by_authority_and_all_kept() -> None:
    run = run_of({
        "train.py": "from transformers import TrainingArguments\n"
                    "args = TrainingArguments(output_dir='o', learning_rate=3e-4)\n",
        "config.yaml": "learning_rate: 2e-4\nnum_train_epochs: 2\nmodel_name: gpt2\n",
        "trainer_state.json": state({1: 2.0}, num_train_epochs=3, global_step=1, max_steps=9),
    })  # fmt: skip
    assert [fact.value for fact in run.settings["learning_rate"]] == [2e-4, 3e-4]
    assert str(run.settings["learning_rate"][0].where) == "config.yaml:1"
    assert run.texts["config.yaml"].startswith("learning_rate")


def test_what_the_trainer_rounded_fills_a_gap_but_contradicts_nothing() -> None:
    saved = state({1: 2.0}, num_train_epochs=3, global_step=1, max_steps=9)
    alone = run_of({"trainer_state.json": saved})
    assert [fact.value for fact in alone.settings["num_train_epochs"]] == [3]
    asked = run_of({
        "trainer_state.json": saved,
        "training_args.yaml": "num_train_epochs: 2.5\nlearning_rate: 1\n",
    })  # fmt: skip
    assert 2.5 in [fact.value for fact in asked.settings["num_train_epochs"]]


# --- conclusions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "kind"),
    [
        ({"metrics": {"loss": [1, 2], "rewards/margins": [0, 1]}}, "preference"),
        ({"metrics": {"loss": [1, 2], "reward": [0, 1]}}, "rl"),
        ({"metrics": {"loss": [1], "min_reward": [0], "max_reward": [1]}}, "reward"),
        ({"metrics": {"loss": [1, 2]}, "settings": {"method": "dpo"}}, "preference"),
        ({"metrics": {"loss": [1, 2]}}, "sft"),
        ({"metrics": {"loss": [1]}, "facts": {"model.architecture": "XForSequenceClassification"}},
         "classification"),
        ({"lines": ["hello"]}, None),
    ],
)  # fmt: skip
def test_kind_of_training(example: dict[str, Any], kind: str | None) -> None:
    fact = run_from_example(example).fact("run.kind")
    assert (fact.value if fact else None) == kind


def test_progress_is_the_furthest_that_any_source_shows() -> None:
    run = run_of({"trainer_state.json": state({10: 2.0, 20: 1.0}, global_step=20, max_steps=40)})
    assert run.fact("progress.global_step").value == 20  # type: ignore[union-attr]
    assert run.fact("progress.max_steps").value == 40  # type: ignore[union-attr]
    assert run.fact("progress.finished") is None
    assert run.fact("run.trainer").value == "hf"  # type: ignore[union-attr]


# --- the door ---------------------------------------------------------------------------------


def test_a_reader_that_fails_is_a_damaged_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(source: object) -> object:
        raise KeyError("surprise\nsecond line")

    monkeypatch.setattr("ftdoctor.read.items.reader_named", lambda name: broken)
    source = memory_source("trainer_state.json", state({1: 1.0}).encode())
    reading = read_one(Found(source, classify(source)))
    assert reading.state is ArtifactState.DAMAGED
    assert reading.reason.startswith("KeyError")
    assert "\n" not in reading.reason


def test_pointers_and_empty_files_say_what_to_do() -> None:
    run = run_of({
        "trainer_state.json": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "train.log": "",
        "notes.xyz": "abc",
    })  # fmt: skip
    told = {a.path: (str(a.state), a.reason) for a in run.artifacts}
    assert told["trainer_state.json"][0] == "damaged"
    assert "git lfs pull" in told["trainer_state.json"][1]
    assert told["train.log"] == ("damaged", "empty file")
    assert told["notes.xyz"][0] == "unknown"


def test_secrets_do_not_get_into_the_run() -> None:
    key = "hf_" + "Ab1" * 11
    run = run_of({
        "config.yaml": f"learning_rate: 1e-4\nmodel_name: /home/jane/m\nhub_token: {key}\n",
        "train.log": f"login with {key} as jane.doe@example.org\nValueError: {key}\n",
        "train.jsonl": json.dumps({"text": f"my key is {key}"}) + "\n",
    })  # fmt: skip
    everything = json.dumps(describe(run)) + render_show(run) + repr(run.texts)
    everything += repr(run.lines.to_dicts()) + repr(run.data.to_dicts())
    assert key not in everything
    assert "jane" not in everything
    assert run.redactions["key"] >= 3


def test_copies_are_read_once() -> None:
    saved = state({1: 2.0, 2: 1.0}, global_step=2)
    run = run_of({"trainer_state.json": saved, "checkpoint-2/trainer_state.json": saved})
    copy = next(a for a in run.artifacts if a.path.startswith("checkpoint"))
    assert copy.taken == "same content as trainer_state.json"


# --- examples of signatures -------------------------------------------------------------------


def test_an_example_is_a_run() -> None:
    run = run_from_example({
        "metrics": {"loss": [3, 2, math.nan, 0], "eval/loss": [2.5, 2.0]},
        "steps": [10, 20, 30, 40],
        "settings": {"learning_rate": 1e-4, "lora.target_modules": ["q_proj"]},
        "facts": {"tokenizer.eos_id": 2},
        "events": [{"kind": "killed", "text": "Killed", "step": 40}],
        "lines": ["Killed"],
        "files": {"train.py": "import torch\n"},
    })  # fmt: skip
    loss = run.series("loss")
    assert loss is not None
    np.testing.assert_array_equal(loss.steps, [10, 20, 30, 40])
    assert math.isnan(loss.values[2])
    assert len(run.series("loss", "eval") or ()) == 2
    assert run.setting("lora.target_modules").value == ["q_proj"]  # type: ignore[union-attr]
    assert run.fact("tokenizer.eos_id").value == 2  # type: ignore[union-attr]
    assert "killed" in run.events["kind"].to_list()
    assert run.has("trainer-state", "script")


def test_an_example_with_a_resume_has_two_segments() -> None:
    run = run_from_example({"metrics": {"loss": [3, 2, 1, 2, 1]}, "steps": [1, 2, 3, 2, 3]})
    loss = run.series("loss")
    assert loss is not None
    np.testing.assert_array_equal(loss.segments, [0, 0, 0, 1, 1])


def test_an_empty_example_is_an_empty_run() -> None:
    run = run_from_example({"metrics": {}})
    assert run.series_names() == ()
    assert run.metrics.height == run.data.height == run.events.height == 0
    assert not run.has("trainer-state")


# --- real runs --------------------------------------------------------------------------------


def test_one_run_of_several_can_be_named(tmp_path: Path) -> None:
    for name, loss in (("a", 2.0), ("b", 3.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text(state({1: loss}, global_step=1))
    run = read_run(tmp_path, options=Options(choose="a"))
    assert run.series("loss").values[0] == 2.0  # type: ignore[union-attr]
    assert run.fact("run.others").value == ["b"]  # type: ignore[union-attr]


def test_no_real_run_raises_and_most_files_are_read(shared: Path) -> None:
    folders = sorted((shared / "corpus" / "runs").iterdir())[::4]
    folders += [p for p in sorted((shared / "formats" / "samples").iterdir()) if p.is_dir()]
    states: list[str] = []
    for folder in folders:
        run = read_run(folder)
        render_show(run)
        states += [a.state for a in run.artifacts if "Git LFS" not in a.reason]
    usable = sum(s in ("read", "partial") for s in states)
    assert usable / len(states) > 0.9


def test_counted_rows_begin_again_where_the_epoch_goes_back() -> None:
    epochs = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 0.9, 1.0, 1.1)
    again = [MetricRow({"loss": 1.0}, epoch=e) for e in epochs]
    assert infer_steps(again, Pace()) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 9, 10, 11]
