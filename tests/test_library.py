"""Loading signatures: every mistake is found, and named with its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ftdoctor.errors import SignatureError
from ftdoctor.library import load

SYMPTOM = """\
symptom: house-loss-high
title: The loss of our house model is high
detect: facts.above
with: {fact: learning_rate, limit: 1e-3}
leak: 1e-2
source: judgement
"""
CAUSE = """\
cause: house-rate-high
title: The house learning rate is too high
stage: optimisation
severity: high
prior: 0.02
shows: {house-loss-high: 0.9}
mechanism: Steps overshoot.
fix: Lower learning_rate.
references: ["https://example.org/house"]
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    """Return the problems that loading this file on top of the package's signatures gives."""
    file = tmp_path / "house.yaml"
    file.write_text(text)
    with pytest.raises(SignatureError) as caught:
        load([file])
    return [p.replace(f"{file}:", "") for p in caught.value.problems]


def test_a_file_with_both_documents_is_taken(tmp_path: Path) -> None:
    (tmp_path / "house.yaml").write_text(f"{SYMPTOM}---\n{CAUSE}")
    library = load([tmp_path])
    assert library.symptoms["house-loss-high"].leak == 0.01
    assert library.symptoms["house-loss-high"].call.parameters["limit"] == 0.001
    assert library.causes["house-rate-high"].shows == {"house-loss-high": 0.9}


def test_the_digest_depends_on_the_content(tmp_path: Path) -> None:
    before = load().digest
    (tmp_path / "house.yaml").write_text(SYMPTOM)
    assert load([tmp_path]).digest != before == load().digest


def test_an_unknown_key_is_named_with_place_and_nearest(tmp_path: Path) -> None:
    assert problems(tmp_path, SYMPTOM + "groop: x\n") == [
        "7:1: unknown key `groop`; did you mean `group`?"
    ]


def test_a_duplicate_key_is_refused(tmp_path: Path) -> None:
    assert "the key `leak` stands here twice" in problems(tmp_path, SYMPTOM + "leak: 0.1\n")[0]


def test_yaml_1_1_words_stay_words(tmp_path: Path) -> None:
    text = SYMPTOM.replace("limit: 1e-3", "limit: no")
    (tmp_path / "house.yaml").write_text(text)
    assert load([tmp_path]).symptoms["house-loss-high"].call.parameters["limit"] == "no"


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    text = CAUSE.replace("high: 0.9", "hihg: 0.9").replace("severity: high", "severity: bad")
    found = problems(tmp_path, f"{SYMPTOM}---\n{text}".replace("prior: 0.02", "prior: 2"))
    assert any("`severity` must be one of" in p for p in found)
    assert any("expected a probability" in p for p in found)
    assert any("no symptom `house-loss-hihg`; did you mean `house-loss-high`?" in p for p in found)


def test_an_id_that_exists_needs_replaces(tmp_path: Path) -> None:
    text = f"{SYMPTOM}---\n{SYMPTOM}"
    assert "is defined at" in problems(tmp_path, text)[0]
    (tmp_path / "house.yaml").write_text(f"{SYMPTOM}---\n{SYMPTOM}replaces: house-loss-high\n")
    load([tmp_path])


def test_broken_yaml_has_a_place(tmp_path: Path) -> None:
    assert problems(tmp_path, "symptom: [x\ntitle: y\n")[0].startswith("2:")


def test_wrong_detector_parameters_are_found(tmp_path: Path) -> None:
    (tmp_path / "house.yaml").write_text(SYMPTOM.replace("limit:", "limits:"))
    with pytest.raises(SignatureError) as caught:
        load([tmp_path], check_calls=True)
    assert any("takes no parameter `limits`; did you mean `limit`?" in p
               for p in caught.value.problems)  # fmt: skip


def test_a_diagnosis_passes_over_packaged_examples_and_over_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "house.yaml").write_text(f"{SYMPTOM}examples:\n  - {{metrics: {{}}}}\n")
    whole, quick = load([tmp_path]), load([tmp_path], examples=False)
    assert quick.symptoms["house-loss-high"].examples == ({"metrics": {}},)
    assert sum(bool(s.examples) for s in quick.symptoms.values()) == 1
    assert not any(c.examples for c in quick.causes.values())
    assert quick.digest == whole.digest
    for some, others in ((whole.symptoms, quick.symptoms), (whole.causes, quick.causes)):
        assert {n: replace(x, examples=()) for n, x in some.items()} == {  # type: ignore[type-var]
            n: replace(x, examples=())
            for n, x in others.items()  # type: ignore[type-var]
        }
