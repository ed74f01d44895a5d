from __future__ import annotations

import base64
import json

from ftdoctor.model import ArtifactState
from ftdoctor.read.openai import read_openai, read_step_metrics
from ftdoctor.read.source import memory_source

TABLE = b"step,train_loss,train_accuracy,valid_loss\n1,2.4,0.1,2.3\n2,2.1,0.2,\n"


def test_table_plain_and_base64() -> None:
    for content in (TABLE, base64.b64encode(TABLE)):
        reading = read_step_metrics(memory_source("step_metrics.csv", content))
        assert [dict(row.values) for row in reading.metrics] == [
            {"train_loss": 2.4, "train_accuracy": 0.1, "valid_loss": 2.3},
            {"train_loss": 2.1, "train_accuracy": 0.2},
        ]
        assert reading.curve == "openai"


def test_table_that_is_none() -> None:
    reading = read_step_metrics(memory_source("step_metrics.csv", b"hello world"))
    assert reading.state is ArtifactState.DAMAGED


def event(**fields: object) -> dict[str, object]:
    return {"object": "fine_tuning.job.event", "level": "info", "type": "message"} | fields


def test_events_as_lines_and_as_the_list_of_the_api() -> None:
    events = [
        event(created_at=2, message="The job failed", level="error"),
        event(created_at=1, type="metrics", data={"step": 1, "train_loss": 2.4, "total_steps": 3}),
    ]
    lines = "\n".join(map(json.dumps, events))
    listed = json.dumps({"object": "list", "data": events})
    for text in (lines, listed):
        reading = read_openai(memory_source("events.json", text.encode()))
        assert [(row.step, dict(row.values)) for row in reading.metrics] == [
            (1, {"train_loss": 2.4})
        ]
        assert [(e.kind, e.text) for e in reading.events] == [("exit", "The job failed")]
        assert ("progress.max_steps", 3) in [(f.name, f.value) for f in reading.facts]


def test_failed_job_tells_its_error() -> None:
    job = {
        "object": "fine_tuning.job",
        "status": "failed",
        "error": {"code": "invalid_training_file", "message": "10 examples needed"},
        "hyperparameters": {"n_epochs": 3},
        "model": "gpt-4o-mini",
    }
    reading = read_openai(memory_source("job.json", json.dumps(job, indent=1).encode()))
    assert reading.events[0].text == "invalid_training_file: 10 examples needed"
    assert {f.name: f.value for f in reading.settings} == {"n_epochs": 3, "model": "gpt-4o-mini"}


def test_foreign_json_is_damaged() -> None:
    assert read_openai(memory_source("x.json", b'{"a": 1}')).state is ArtifactState.DAMAGED
