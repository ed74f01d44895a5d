"""Notebooks: cells as one script, output as a log, the Trainer's table as a curve."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.notebook import read
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import memory_source


def cell(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    lines = source.splitlines(keepends=True)
    return {"cell_type": "code", "source": lines, "outputs": list(outputs)}


def reading(*cells: dict[str, Any], indent: int | None = 1) -> tuple[Reading, list[str]]:
    text = json.dumps({"cells": list(cells), "nbformat": 4}, indent=indent)
    return read(memory_source("run.ipynb", text.encode())), text.split("\n")


def table(rows: str, columns: str = "<th>Step</th><th>Training Loss</th>") -> dict[str, Any]:
    markup = f"<table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>"
    return {"output_type": "display_data", "data": {"text/html": [markup]}}


def test_cells_are_one_script_and_places_are_lines_of_the_file() -> None:
    found, raw = reading(
        cell("LR = 3e-4"),
        cell("args = TrainingArguments(\n    learning_rate=LR,\n    num_train_epochs=2)\n"),
    )
    lines = {f.name: raw[(f.where.line or 1) - 1] for f in found.settings}
    assert "LR = 3e-4" in lines["learning_rate"]
    assert "num_train_epochs=2" in lines["num_train_epochs"]


def test_magics_and_shell_lines_do_not_stop_the_parser() -> None:
    found, _ = reading(
        cell("%%capture\n!pip install -q \\\n    trl==0.9.6 peft\n%matplotlib inline\nimport trl"),
        cell("%%writefile x.txt\nthis is not python"),
        cell("this is prose"),
        cell("TrainingArguments(learning_rate=1e-4)"),
    )
    assert found.state is ArtifactState.READ
    assert [f.value for f in found.settings] == [1e-4]
    assert [f.value for f in found.facts if f.name == "requirements.installed"] == [["peft", "trl"]]


def test_the_table_of_losses_is_a_curve() -> None:
    rows = "<tr><td>10</td><td>1.5</td></tr><tr><td>20</td><td>nan</td></tr>"
    found, _ = reading(cell("trainer.train()", table(rows)))
    assert [(m.step, str(m.values["loss"])) for m in found.metrics] == [(10, "1.5"), (20, "nan")]


def test_the_table_of_evaluations_gives_both_splits() -> None:
    columns = "<th>Epoch</th><th>Training Loss</th><th>Validation Loss</th><th>Accuracy</th>"
    rows = "<tr><td>1</td><td>No log</td><td>0.7</td><td>0.91</td></tr>"
    found, _ = reading(cell("trainer.train()", table(rows, columns)))
    [row] = found.metrics
    assert row.epoch == 1
    assert dict(row.values) == {"eval_loss": 0.7, "eval_accuracy": 0.91}


def test_another_table_is_no_curve() -> None:
    found, _ = reading(cell("df", table("<tr><td>1</td></tr>", "<th>name</th>")))
    assert found.metrics == ()


def test_printed_errors_are_log_events() -> None:
    error = {
        "output_type": "error",
        "traceback": ["\x1b[0;31mTraceback (most recent call last)\x1b[0m", "KeyError: 'text'"],
    }
    found, _ = reading(cell("x", error))
    text = " ".join([*(e.text for e in found.events), *(item.text for item in found.lines)])
    assert "KeyError: 'text'" in text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"cells": 3}', b'{"nbformat": 4}'])
def test_what_is_no_notebook_is_damaged_with_a_remedy(content: bytes) -> None:
    found = read(memory_source("run.ipynb", content))
    assert found.state is ArtifactState.DAMAGED
    assert "Jupyter" in found.reason


def test_a_notebook_on_one_line_is_read_too() -> None:
    found, _ = reading(cell("TrainingArguments(learning_rate=1e-4)"), indent=None)
    assert [f.where.line for f in found.settings] == [1]
