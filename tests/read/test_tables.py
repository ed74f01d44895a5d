"""Tables of training progress: notebooks, saved pages, tables printed into logs."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from ftdoctor.kinds import classify
from ftdoctor.model import ArtifactState
from ftdoctor.read import notebook
from ftdoctor.read.console import read_console
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import memory_source
from ftdoctor.read.tables import TextTables, chosen, metric_of, read_html, trainings

Values = list[tuple[int | None, dict[str, float]]]


def trainer_table(header: list[str], *rows: list[Any], bar: str = "") -> str:
    """Return the HTML that transformers/utils/notebook.py (5.x) writes."""
    head = "".join(f"      <th>{name}</th>\n" for name in header)
    body = "".join(
        "    <tr>\n" + "".join(f"      <td>{cell}</td>\n" for cell in row) + "    </tr>\n"
        for row in rows
    )
    progress = f"<div>\n  <progress value='1' max='2'></progress>\n  {bar}\n</div>\n" if bar else ""
    return (
        f'{progress}<table border="1" class="dataframe">\n  <thead>\n'
        f' <tr style="text-align: left;">\n{head}    </tr>\n  </thead>\n  <tbody>\n{body}'
        "  </tbody>\n</table><p>"
    )


def book(*outputs: str, key: str = "text/html") -> Reading:
    cells = [
        {
            "cell_type": "code",
            "source": ["trainer.train()\n"],
            "outputs": [
                {"output_type": "display_data", "data": {key: html.splitlines(keepends=True)}}
            ],
        }
        for html in outputs
    ]
    text = json.dumps({"cells": cells, "nbformat": 4}, indent=1)
    return notebook.read(memory_source("run.ipynb", text.encode()))


def values(reading: Reading) -> Values:
    return [(row.step, dict(row.values)) for row in reading.metrics]


def facts(reading: Reading) -> dict[str, Any]:
    return {fact.name: fact.value for fact in reading.facts}


# --- notebooks --------------------------------------------------------------------------------

LOSSES = ["Step", "Training Loss"]
EVALUATED = ["Step", "Training Loss", "Validation Loss", "F1 Macro"]


def test_the_bar_above_the_table_tells_how_far_it_came() -> None:
    bar = "[ 20/346 00:40 < 18:20, 0.3 it/s, Epoch 0.06/1]"
    found = facts(book(trainer_table(LOSSES, [10, "1.500000"], [20, "1.250000"], bar=bar)))
    assert found["progress.global_step"] == 20
    assert found["progress.max_steps"] == 346
    assert found["progress.epoch"] == 0.06
    assert "progress.finished" not in found
    done = facts(book(trainer_table(LOSSES, [346, 1.0], bar="[346/346 1:02:02, Epoch 1/1]")))
    assert done["progress.finished"] is True


def test_no_log_is_no_value_and_nan_is_one() -> None:
    table = trainer_table(EVALUATED, [5, "No log", "0.700000", "0.5"], [10, "nan", "nan", "No Log"])
    first, second = book(table).metrics
    assert dict(first.values) == {"eval_loss": 0.7, "eval_f1_macro": 0.5}
    assert set(second.values) == {"loss", "eval_loss"}
    assert all(math.isnan(value) for value in second.values.values())


def test_columns_of_a_preference_training_are_those_of_training() -> None:
    header = [
        "Step",
        "Training Loss",
        "rewards / chosen",
        "reward_std",
        "completions / mean_length",
    ]
    [row] = book(trainer_table(header, [1, 0.69, -0.1, 0.2, 80])).metrics
    assert dict(row.values) == {
        "loss": 0.69, "rewards/chosen": -0.1, "reward_std": 0.2, "completions/mean_length": 80.0,
    }  # fmt: skip


def test_every_row_has_the_line_that_shows_it() -> None:
    table = trainer_table(LOSSES, [10, "1.5"], [20, "1.25"])
    cells = [
        {
            "cell_type": "code",
            "source": [],
            "outputs": [
                {
                    "output_type": "display_data",
                    "data": {"text/html": table.splitlines(keepends=True)},
                }
            ],
        }
    ]
    text = json.dumps({"cells": cells}, indent=1)
    found = notebook.read(memory_source("run.ipynb", text.encode()))
    shown = [text.split("\n")[row.line - 1] for row in found.metrics]
    assert "<td>10</td>" in shown[0]
    assert "<td>20</td>" in shown[1]


def test_a_second_training_replaces_the_first_and_says_so() -> None:
    first = trainer_table(LOSSES, [10, 2.0], [20, 1.9])
    second = trainer_table(LOSSES, [10, 1.0], [20, 0.9], [30, 0.8])
    found = book(first, second)
    assert values(found) == [(10, {"loss": 1.0}), (20, {"loss": 0.9}), (30, {"loss": 0.8})]
    assert "another start" in facts(found)["log.aside"]


def test_a_training_that_goes_on_is_a_resume_and_an_aborted_start_is_not_used() -> None:
    first = trainer_table(LOSSES, *[[10 * n, 2.0 - n / 100] for n in range(1, 9)])
    resumed = trainer_table(LOSSES, [90, 1.9])
    aborted = trainer_table(LOSSES, [10, 2.5])
    found = book(first, resumed, aborted)
    assert [row.step for row in found.metrics] == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert "log.aside" in facts(found)
    assert len(book(first, first).metrics) == 8


def test_tables_of_something_else_are_no_curve() -> None:
    assert book(trainer_table(["Model", "Loss"], ["a", 1.0])).metrics == ()
    assert book(trainer_table(["Epoch", "Loss"], [3, 1.0], [1, 0.5])).metrics == ()
    assert book(trainer_table(["Step", "Loss"], ["...", "..."])).metrics == ()


def test_a_data_frame_of_the_history_has_empty_cells() -> None:
    header = ["", "loss", "learning_rate", "epoch", "step", "eval_loss"]
    table = trainer_table(header, [0, 1.5, 1e-4, 0.5, 10, "NaN"], [1, "NaN", "NaN", 0.5, 10, 1.25])
    assert values(book(table)) == [
        (10, {"loss": 1.5, "learning_rate": 1e-4}), (10, {"eval_loss": 1.25}),
    ]  # fmt: skip


def test_fastai_columns() -> None:
    header = ["epoch", "train_loss", "valid_loss", "accuracy", "time"]
    [row] = book(trainer_table(header, [0, 3.9, 3.7, 0.33, "00:41"])).metrics
    assert row.epoch == 0
    assert dict(row.values) == {"train_loss": 3.9, "valid_loss": 3.7, "eval_accuracy": 0.33}


def test_plain_text_output_of_a_table() -> None:
    found = book("Step\tTraining Loss\n10\t1.500000\n20\t1.250000\n", key="text/plain")
    assert values(found) == [(10, {"loss": 1.5}), (20, {"loss": 1.25})]


@pytest.mark.parametrize("hostile", ["<tr", "<table><tr", "<td", "<table", "[1/1 1:"])
def test_hostile_markup_takes_no_square_time(hostile: str) -> None:
    assert trainings("<table><tr><th>Step</th><th>Training Loss</th>" + hostile * 40_000) == []


# --- saved pages ------------------------------------------------------------------------------


def test_a_saved_page_is_read_and_another_page_is_not() -> None:
    page = "<html><style>" + "x" * 400_000 + "</style>\n" + trainer_table(LOSSES, [10, 1.5])
    source = memory_source("run.html", page.encode())
    kind = classify(source)
    assert kind is not None
    assert kind.id == "html-table"
    found = read_html(source)
    assert values(found) == [(10, {"loss": 1.5})]
    assert "<td>10</td>" in page.split("\n")[found.metrics[0].line - 1]
    other = classify(memory_source("a.html", b"<table><tr><th>Name</th></tr></table>"))
    assert other is not None
    assert other.id == "media"


def test_a_page_whose_table_has_no_rows_is_passed_over() -> None:
    found = read_html(memory_source("a.html", trainer_table(LOSSES).encode()))
    assert found.state is ArtifactState.SKIPPED


# --- logs -------------------------------------------------------------------------------------


def rows(text: str) -> Values:
    return values(read_console(memory_source("a.log", text.encode())))


@pytest.mark.parametrize(
    "text",
    [
        "Step\tTraining Loss\tValidation Loss\n10\tNo log\t0.7\n20\t0.5\t0.6\n",
        "Step Training Loss Validation Loss\n10 No log 0.7\n20 0.5 0.6\n",
        "Step   Training Loss   Validation Loss\n10     No log          0.7\n20  0.5  0.6\n",
        "| Step | Training Loss | Validation Loss |\n|:----:|:---:|:---:|\n| 10 | No log | 0.7 |\n"
        "| 20 | 0.5 | 0.6 |\n",
        "+------+---------------+-----------------+\n| Step | Training Loss | Validation Loss |\n"
        "+------+---------------+-----------------+\n|   10 |        No log |             0.7 |\n"
        "+------+---------------+-----------------+\n|   20 |           0.5 |             0.6 |\n",
        "┏━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━━┓\n"
        "┃ Step ┃ Train Loss ┃ Val Loss ┃\n"
        "┡━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━━┩\n"
        "│ 10   │ -          │ 0.7      │\n│ 20   │ 0.5        │ 0.6      │\n",
    ],
)  # fmt: skip
def test_tables_printed_into_a_log(text: str) -> None:
    assert rows(text) == [(10, {"eval_loss": 0.7}), (20, {"loss": 0.5, "eval_loss": 0.6})]


def test_a_table_ends_with_its_last_row() -> None:
    assert rows("Step\tTraining Loss\n10\t1.5\ndone\n20\t1.0\n") == [(10, {"loss": 1.5})]


def test_names_and_values_between_rules() -> None:
    block = (
        "-----------------------------------\n| rollout/            |           |\n"
        "|    ep_rew_mean      | {0}      |\n| time/               |           |\n"
        "|    total_timesteps  | {1}      |\n| train/              |           |\n"
        "|    loss             | {2}      |\n|    policy_gradient_loss | -0.01 |\n"
        "-----------------------------------\n"
    )
    text = block.format(20.9, 2048, 7.5) + block.format(30.1, 4096, 6.5)
    found = rows(text)
    assert [step for step, _ in found] == [2048, 4096]
    assert found[0][1]["rollout/ep_rew_mean"] == 20.9
    assert found[1][1]["train/loss"] == 6.5


def test_a_box_without_a_training_metric_is_text() -> None:
    text = "--------------\n| host | 3 |\n| port | 80 |\n--------------\n"
    assert rows(text) == []


def test_a_listing_with_bars_is_no_table() -> None:
    tables = TextTables()
    for line in (
        "| Trial name | status | iter | loss |",
        "|---|---|---|---|",
        "| a | RUN | 3 | 1 |",
    ):
        assert tables.feed(line) is None


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("Training Loss", "loss"),
        ("Validation Loss", "eval_loss"),
        ("F1 Macro", "eval_f1_macro"),
        ("rewards / chosen", "rewards/chosen"),
        ("LR", "lr"),
        ("Val Acc", "val acc"),
        ("kl", "kl"),
    ],
)
def test_names_of_columns(column: str, name: str) -> None:
    assert metric_of(column) == name


def test_no_training_is_chosen_of_none() -> None:
    assert chosen([]) == ([], [])
