"""A short seeded share of benchmarks/fuzz.py, and hypothesis for text readers and round trips."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftdoctor.codec import decode_diagnosis, encode
from ftdoctor.kinds import KINDS
from ftdoctor.model import Diagnosis
from ftdoctor.read.items import clean_reading, reader_named
from ftdoctor.read.source import memory_source
from ftdoctor.redact import Redactor
from tests.render.hostile import fill
from tests.render.samples import SAMPLES

ROOT = Path(__file__).parents[2]
TEXT_KINDS = (
    "console", "metrics-jsonl", "csv-log", "trainer-state", "settings", "data-json", "data-csv",
    "script", "shell", "notebook", "requirements", "modelfile", "tokenizer", "tokenizer-config",
    "chat-template", "model-config", "adapter-config", "wandb-config", "wandb-summary", "results",
    "mlflow-metric", "mlflow-param", "model-card", "tinker-checkpoints",
)  # fmt: skip
# What such files are made of, so that the shrinker does not have to find it out.
PIECES = st.sampled_from(
    ["{", "}", "[", "]", '"', "'", ":", ",", "\n", "\r", "\t", " ", "loss", "step", "epoch", "messages",
     "role", "content", "- ", "&a ", "*a", "!!python/object", "{{", "}}", "{%", "%}", "for x in y",
     "1e999", "-0", "NaN", "9" * 30, "0x", "\\", "\\u0000", "\ud800", "\x1b[", "=cmd", "def f(", "import ",
     "|", "100%", "Traceback (most recent call last):", '  File "x", line 3', "RuntimeError: ",
     "model_type", "added_tokens", "log_history", "cells", "learning_rate", "null", "true"]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=8), max_size=40).map("".join)


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", ROOT / "benchmarks" / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


def test_damaged_files_never_raise_nor_hang(fuzz: ModuleType) -> None:
    found = fuzz.fuzz_readers(4000, random.Random(7), 12)
    assert found.failures == {}
    assert found.tried > 300


def test_damage_makes_no_verdict_bolder(fuzz: ModuleType) -> None:
    found = fuzz.fuzz_runs(12, random.Random(7), 8)
    assert found.failures == {}
    assert found.tried > 0


@pytest.mark.parametrize("kind", [k for k in KINDS if k.id in TEXT_KINDS], ids=lambda k: k.id)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(text=TEXTS)
def test_text_readers_take_any_text(kind: object, text: str) -> None:
    source = memory_source("file", text.encode("utf-8", "surrogatepass"))
    if not source.size:
        return
    reading = clean_reading(reader_named(kind.reader)(source), Redactor())  # type: ignore[attr-defined]
    assert reading.state.value in ("read", "partial", "damaged", "skipped", "unknown")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(SAMPLES)), text=st.text(max_size=20))
def test_a_diagnosis_survives_the_way_through_json(name: str, text: str) -> None:
    diagnosis = fill(SAMPLES[name](), text)
    written = json.dumps(diagnosis.to_json(), allow_nan=False)
    again = Diagnosis.from_json(json.loads(written))
    assert again.to_json() == json.loads(written)
    assert encode(decode_diagnosis(encode(again))) == encode(again)
