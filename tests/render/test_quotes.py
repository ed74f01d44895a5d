"""A diagnosis without text of the run keeps its numbers and loses its quotes."""

from __future__ import annotations

import json

from ftdoctor.codec import encode
from ftdoctor.render.quotes import HIDDEN, count_quotes, without_quotes
from tests.render.samples import SAMPLES, data_only, one_cause, two_causes


def test_no_text_of_the_run_is_left() -> None:
    for sample in SAMPLES.values():
        text = json.dumps(encode(without_quotes(sample())))
        for quoted in ("Traceback (most", "endoftext", "Using device", "broken", "fp16=False"):
            assert quoted not in text


def test_numbers_names_and_places_remain() -> None:
    d = without_quotes(one_cause())
    norm = next(f for f in d.findings if f.symptom == "gradient-norm-nan")
    assert norm.text.startswith("`grad_norm` is NaN from step 411 to 986")
    device = next(f for f in d.findings if f.symptom == "half-precision-on-mps")
    assert [fact.value for fact in device.facts] == [True, HIDDEN]
    assert d.verdict == one_cause().verdict
    assert d.curves == one_cause().curves


def test_quotes_are_counted() -> None:
    assert count_quotes(one_cause()) == (2, 0)
    assert count_quotes(two_causes()) == (5, 0)
    assert count_quotes(data_only())[1] == 1
    assert count_quotes(without_quotes(data_only()))[0] <= 2
