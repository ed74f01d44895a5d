"""The diagnosis as JSON: nothing is lost on the way out and back, wrong data say what is wrong."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdoctor.codec import decode_diagnosis, encode, json_schema
from ftdoctor.errors import FtdoctorError
from ftdoctor.folders import folder
from ftdoctor.model import Curve, Diagnosis, Fact, Severity, Where
from tests.render.samples import SAMPLES, one_cause

EVERY = pytest.mark.parametrize("name", SAMPLES)


def through_json(d: Diagnosis, *, sparse: bool = False) -> Any:
    return json.loads(json.dumps(encode(d, sparse=sparse), allow_nan=False))


@EVERY
@pytest.mark.parametrize("sparse", [False, True])
def test_a_diagnosis_survives_json(name: str, sparse: bool) -> None:
    d = SAMPLES[name]()
    plain = through_json(d, sparse=sparse)
    back = decode_diagnosis(plain)
    assert isinstance(back, Diagnosis)
    assert encode(back, sparse=sparse) == plain
    assert back.causes == d.causes
    assert back.artifacts == d.artifacts


@EVERY
def test_the_encoded_form_fits_the_schema(name: str) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(through_json(SAMPLES[name]()), schema)
    jsonschema.validate(through_json(SAMPLES[name](), sparse=True), schema)


def test_the_schema_file_is_current() -> None:
    written = folder("reports").joinpath("diagnosis.schema.json").read_text(encoding="utf-8")
    assert json.loads(written) == json_schema(), "write json_schema() to the file"


def test_sparse_leaves_out_defaults_only() -> None:
    d = one_cause()
    full, sparse = encode(d), encode(d, sparse=True)
    assert full["findings"][3]["facts"] == []
    assert "facts" not in sparse["findings"][3]
    assert sparse["findings"][0]["facts"][0]["where"] == {
        "path": "trainer_state.json",
        "line": 2470,
    }
    assert sparse["schema_version"] == full["schema_version"]


@given(st.lists(st.floats(width=64), min_size=1))
def test_every_float_of_a_curve_survives(values: list[float]) -> None:
    steps = tuple(range(len(values)))
    d = replace(one_cause(), curves=(Curve("loss", "train", steps, tuple(values), "a", 1),))
    back = decode_diagnosis(through_json(d)).curves[0].values
    assert all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(values, back, strict=True)
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.array([1, 2]), [1, 2]),
        ((1, (2, None)), [1, [2, None]]),
        ({2: "b", 1: "a"}, {"1": "a", "2": "b"}),
        ({"b", "a"}, ["a", "b"]),
        (Severity.HIGH, "high"),
        (Where("x", line=3), {"path": "x", "line": 3, "row": None, "pointer": None,
                              "offset": None, "tensor": None}),
        (b"bytes", "b'bytes'"),
    ],
)  # fmt: skip
def test_values_become_plain(value: Any, expected: Any) -> None:
    encoded = encode(value)
    assert encoded == expected
    json.dumps(encoded, allow_nan=False)


def test_the_value_of_a_fact_may_be_anything_plain() -> None:
    d = one_cause()
    fact = Fact("x", {"a": [1, None, "NaN"]}, Where("f"))
    d = replace(d, findings=(replace(d.findings[0], facts=(fact,)),))
    assert decode_diagnosis(through_json(d)).findings[0].facts == (fact,)


def wrong(**changes: Any) -> dict[str, Any]:
    return {**through_json(one_cause()), **changes}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "JSON object"),
        ({}, "schema version None"),
        (wrong(schema_version="2.0"), "schema version '2.0'"),
        (wrong(schema_version=1), "schema version 1"),
        (wrong(status="1"), "diagnosis.status must be a whole number"),
        (wrong(status=True), "diagnosis.status must be a whole number"),
        (wrong(no_known_cause="much"), "diagnosis.no_known_cause must be a number"),
        (wrong(causes={}), "diagnosis.causes must be a list"),
        (wrong(causes=[{}]), "diagnosis.causes[0] has no `id`"),
        (wrong(verdict="bad"), "diagnosis.verdict must be an object"),
        (wrong(redactions=[]), "diagnosis.redactions must be an object"),
        (wrong(verdict={"kind": "cause", "text": 3}), "diagnosis.verdict.text must be text"),
        (wrong(artifacts=[{"path": "a", "kind": "", "size": 1, "state": "gone"}]),
         "must be one of read, partial"),
    ],
)  # fmt: skip
def test_wrong_data_are_refused_with_their_place(data: Any, said: str) -> None:
    with pytest.raises(FtdoctorError, match=r".") as caught:
        decode_diagnosis(data)
    assert said in str(caught.value)
    assert "ftdoctor diagnose RUN --json" in str(caught.value)


def test_newer_minor_versions_may_add_fields() -> None:
    d = one_cause()
    assert decode_diagnosis(wrong(schema_version="1.9", later=1)).causes == d.causes


def test_the_model_offers_both_ways() -> None:
    d = one_cause()
    assert Diagnosis.from_json(d.to_json()).causes == d.causes
