"""Settings on which files disagree: what counts, what is the same in other words, where it shows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ftdoctor.conflicts import conflicts
from ftdoctor.diagnose import diagnose_run
from ftdoctor.examples import run_from_example
from ftdoctor.library import load
from ftdoctor.model import Fact, Where
from ftdoctor.read import read_run
from ftdoctor.render.html import render_html
from ftdoctor.render.markdown import render_ticket

HEALTHY = Path(__file__).parents[1] / "fixtures" / "healthy" / "full-fine-tune" / "run"


def of(name: str, *values: object) -> list[tuple[str, list[object]]]:
    facts = tuple(Fact(name, value, Where(f"{n}.yaml")) for n, value in enumerate(values))
    run = replace(run_from_example({}), settings={name: facts})
    found = conflicts(run)
    return [(c.setting, [f.value for f in c.facts]) for c in found]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("learning_rate", (2e-4, "0.0002")),
        ("lora.target_modules", (["q_proj", "v_proj"], ["v_proj", "q_proj"])),
        ("model_name_or_path", ("../models/Llama-3-8B/", "llama-3-8b")),
        ("optim", ("adamw_torch_fused", "adamw")),
        ("fsdp", ([], "[]")),
        ("max_length", (None, 512)),
        ("output_dir", ("out", "elsewhere")),
        ("dataset", ("train.jsonl", "valid.jsonl")),
    ],
)
def test_the_same_in_other_words_is_no_conflict(name: str, values: tuple[object, ...]) -> None:
    assert of(name, *values) == []


def test_each_value_is_kept_once_and_the_one_that_counts_is_first() -> None:
    assert of("learning_rate", 2e-4, 5e-3, 2e-4) == [("learning_rate", [2e-4, 5e-3])]
    assert of("lr_scheduler_type", "cosine", "linear") == [
        ("lr_scheduler_type", ["cosine", "linear"])
    ]
    assert of("optim", "adamw_torch", "sgd") == [("optim", ["adamw_torch", "sgd"])]


def test_reports_show_both_values_with_their_places(tmp_path: Path) -> None:
    shutil.copytree(HEALTHY, tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("model_name: x\nlearning_rate: 5.0e-3\n")
    diagnosis = diagnose_run(read_run(tmp_path / "run"), load())
    assert "learning_rate" in [c.setting for c in diagnosis.conflicts]
    for shown in (render_html(diagnosis), render_ticket(diagnosis)):
        assert "Settings on which the files disagree" in shown
        assert "config.yaml:2" in shown
        assert "0.005" in shown
    assert "disagree" not in render_html(diagnose_run(read_run(HEALTHY), load()))
