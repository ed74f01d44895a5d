"""The comparison with a good run: what is found, what is not, and what a diagnosis makes of it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ftdoctor.compare import Comparison, compare
from ftdoctor.compare.explain import Explaining, explaining, to_json
from ftdoctor.diagnose import Options, diagnose_pair, diagnose_run, with_comparison
from ftdoctor.examples import run_from_example
from ftdoctor.library import load
from ftdoctor.model import Diagnosis, Run, State
from ftdoctor.render.compare import render_comparison, render_comparison_text

FIXTURES = Path(__file__).parents[1] / "fixtures"
LIBRARY = load()
FALLING = [3.0 - 2.0 * i / 60 + 0.02 * (i % 3) for i in range(60)]


def made(**parts: Any) -> Run:
    return run_from_example(parts)


def rows(answers: list[str], inputs: list[str] | None = None) -> str:
    asked = inputs or [f"Question {i} about nothing?" for i in range(len(answers))]
    pairs = zip(asked, answers, strict=True)
    return "".join(json.dumps({"prompt": q, "completion": a}) + "\n" for q, a in pairs)


def with_rows(answers: list[str], inputs: list[str] | None = None) -> Run:
    return made(files={"train.jsonl": rows(answers, inputs)})


def keys(comparison: Comparison) -> set[str]:
    return {d.key for d in comparison.differences}


def pair(good: str, bad: str) -> tuple[Comparison, Diagnosis, tuple[Explaining, ...]]:
    options = Options(good=str(FIXTURES / good / "run"))
    comparison, diagnosis = diagnose_pair(FIXTURES / bad / "run", options)
    return comparison, diagnosis, explaining(comparison, diagnosis)


# --- single parts -----------------------------------------------------------------------------

ANSWERS = [f"Answer number {i}" for i in range(60)]


def test_versions_are_compared_as_text_and_settings_by_what_they_mean() -> None:
    good = made(
        facts={"environment.package.torch": "2.1"}, settings={"bf16": True, "learning_rate": 1e-4}
    )
    bad = made(
        facts={"environment.package.torch": "2.10"},
        settings={"bf16": "true", "learning_rate": "1e-4"},
    )
    assert keys(compare(good, bad)) == {"version.package.torch"}


def test_a_run_does_not_differ_from_itself() -> None:
    run = made(
        metrics={"loss": FALLING},
        settings={"learning_rate": 1e-4},
        files={"train.jsonl": rows(ANSWERS)},
    )
    comparison = compare(run, run)
    assert comparison.differences == ()
    assert {"curve.loss", "setting.learning_rate", "data.pairing"} <= set(comparison.seen)


def test_shuffled_answers_are_told_from_changed_ones() -> None:
    good = with_rows(ANSWERS)
    shuffled = compare(good, with_rows(ANSWERS[1:] + ANSWERS[:1]))
    assert "data.pairing" in keys(shuffled)
    assert "data.answers" not in keys(shuffled)
    changed = compare(good, with_rows([f"{a}, changed" for a in ANSWERS]))
    assert "data.answers" in keys(changed)
    assert "data.pairing" not in keys(changed)


def test_rows_in_another_order_are_the_same_rows() -> None:
    inputs = [f"Question {i}?" for i in range(60)]
    turned = compare(with_rows(ANSWERS, inputs), with_rows(ANSWERS[::-1], inputs[::-1]))
    assert not {k for k in keys(turned) if k.startswith("data.")}


def test_shuffled_class_labels_are_found_though_many_stay_right_by_chance() -> None:
    labels = ["yes" if i % 2 else "no" for i in range(80)]
    mixed = random.Random(0).sample(labels, len(labels))
    found = compare(with_rows(labels), with_rows(mixed))
    share = next(d for d in found.differences if d.key == "data.pairing")
    assert share.bad > 0.6


def test_lost_and_repeated_rows_and_a_shifted_label_are_found() -> None:
    assert "data.rows" in keys(compare(with_rows(ANSWERS), with_rows(ANSWERS[:25])))
    twice = with_rows(ANSWERS[:30] * 2, [f"Q {i % 30}" for i in range(60)])
    assert "data.repeated" in keys(compare(with_rows(ANSWERS), twice))
    even = with_rows(["yes", "no"] * 50)
    assert "data.labels" in keys(compare(even, with_rows(["yes"] * 90 + ["no"] * 10)))


def test_a_curve_outside_the_band_is_told_with_its_step() -> None:
    worse = [v if i < 30 else v + 1.5 for i, v in enumerate(FALLING)]
    found = compare(made(metrics={"loss": FALLING}), made(metrics={"loss": worse}))
    assert keys(found) == {"curve.loss"}
    assert found.curves[0].leaves_at == pytest.approx(31, abs=4)


def test_what_tells_of_learning_comes_before_what_tells_of_the_machine() -> None:
    names = ("entropy", "memallocated", "positive score", "samplespersec")
    good, bad = ({n: [v + i * 0.001 for i in range(60)] for n in names} for v in (1.0, 3.0))
    found = compare(made(metrics=good), made(metrics=bad)).differences
    assert [d.name for d in found] == ["positive score", "entropy", "memallocated", "samplespersec"]


def test_noise_is_no_difference() -> None:
    noisy = [v * (1 + 0.03 * (-1) ** i) for i, v in enumerate(FALLING)]
    assert not keys(compare(made(metrics={"loss": FALLING}), made(metrics={"loss": noisy})))


def test_a_curve_that_ends_in_nan_is_worse() -> None:
    dead = [*FALLING[:30], *[float("nan")] * 30]
    found = compare(made(metrics={"loss": FALLING}), made(metrics={"loss": dead}))
    assert "curve.loss" in keys(found)
    assert "no finite value" in found.differences[0].text


def test_settings_are_compared_by_value_not_by_form() -> None:
    left = made(settings={"learning_rate": 1e-4, "lora.target_modules": ["q_proj", "v_proj"]})
    right = made(settings={"learning_rate": "1e-4", "lora.target_modules": ["v_proj", "q_proj"]})
    assert not keys(compare(left, right))
    other = made(settings={"learning_rate": 3e-3, "output_dir": "there"})
    assert keys(compare(made(settings={"learning_rate": 1e-4, "output_dir": "here"}), other)) == {
        "setting.learning_rate"
    }


def test_a_larger_step_of_the_rate_is_more_surprising() -> None:
    def surprise(rate: float) -> float:
        found = compare(
            made(settings={"learning_rate": 1e-4}), made(settings={"learning_rate": rate})
        )
        return found.differences[0].surprise

    assert surprise(2e-4) < surprise(1e-3) < surprise(1.0) <= 40


def test_two_checkpoints_of_one_run_can_be_compared() -> None:
    place = FIXTURES / "healthy/sft-lora/run/out"
    options = Options(good=str(place / "checkpoint-40"))
    comparison, diagnosis = diagnose_pair(place / "checkpoint-120", options)
    assert "curve.loss" in keys(comparison)
    assert all(c.probability < 0.25 for c in diagnosis.causes)


# --- into the diagnosis -----------------------------------------------------------------------


def test_without_a_good_run_its_symptoms_are_unobservable() -> None:
    diagnosis = diagnose_run(made(metrics={"loss": FALLING}), LIBRARY)
    finding = diagnosis.finding("answers-moved-to-other-inputs")
    assert finding is not None
    assert finding.state is State.UNOBSERVABLE
    assert any("--good" in need for need in finding.missing)


PAIRS = [
    ("healthy/full-fine-tune", "lr-too-high/full", "setting.learning_rate", "lr-too-high"),
    ("healthy/sft-lora", "lr-too-low/lora", "setting.learning_rate", "lr-too-low"),
    ("healthy/sft-lora", "chat-template-missing/export", "template.text", "chat-template-missing"),
    ("healthy/full-fine-tune", "eos-absent-from-training-text/formatting",
     "data.ends_with_eos", "eos-absent-from-training-text"),
    ("healthy/full-fine-tune", "answers-shuffled-against-inputs/against-good-run",
     "data.pairing", "answers-shuffled-against-inputs"),
]  # fmt: skip


@pytest.mark.parametrize(("good", "bad", "difference", "cause"), PAIRS, ids=[p[1] for p in PAIRS])
def test_the_difference_that_explains_comes_first(
    good: str, bad: str, difference: str, cause: str
) -> None:
    _, diagnosis, ranked = pair(good, bad)
    assert diagnosis.causes[0].id == cause
    assert diagnosis.causes[0].probability > 0.7
    assert ranked[0].difference.key == difference
    assert ranked[0].cause == cause


def test_a_good_run_makes_shuffled_answers_surer() -> None:
    from ftdoctor.diagnose import diagnose

    shuffled = "answers-shuffled-against-inputs"
    name = f"{shuffled}/against-good-run"
    alone = diagnose(FIXTURES / name / "run")
    _, compared, _ = pair("healthy/full-fine-tune", name)
    assert compared.causes[0].id == shuffled
    before = [c.probability for c in alone.causes if c.id == shuffled]
    assert compared.causes[0].probability > max(before, default=0.0)


HEALTHY = ["healthy/noisy-batch-of-one", "healthy/pad-is-eos-kept"]


@pytest.mark.parametrize("other", HEALTHY)
def test_two_runs_that_both_work_raise_no_alarm(other: str) -> None:
    _, diagnosis, _ = pair("healthy/full-fine-tune", other)
    assert all(c.probability <= 0.25 for c in diagnosis.causes)


def test_the_facts_name_the_good_run() -> None:
    good, bad = made(settings={"learning_rate": 1e-4}), made(settings={"learning_rate": 1e-2})
    comparison = compare(good, bad)
    assert str(comparison.differences[0].good_where).startswith("(good run) ")
    facts = with_comparison(bad, comparison).facts
    assert facts["compare.setting.learning_rate"][0].value["good"] == 1e-4


def test_page_text_and_json_hold_the_differences() -> None:
    comparison, diagnosis, ranked = pair("healthy/full-fine-tune", "lr-too-high/full")
    page = render_comparison(comparison, diagnosis, ranked)
    assert "<script" not in page
    assert "learning_rate is 5" in page
    assert page.count("<svg") >= 2
    assert page == render_comparison(comparison, diagnosis, ranked)
    assert "learning_rate is 5" in render_comparison_text(comparison, diagnosis, ranked)
    data = json.loads(json.dumps(to_json(comparison, diagnosis, ranked), allow_nan=False))
    assert data["differences"][0]["explains"] == "lr-too-high"


def test_hostile_names_are_escaped() -> None:
    good = made(settings={"model_name_or_path": "</script><img src=x>"})
    bad = made(settings={"model_name_or_path": "<b>other</b>"})
    comparison = compare(good, bad)
    diagnosis = diagnose_run(with_comparison(bad, comparison), LIBRARY)
    page = render_comparison(comparison, diagnosis, explaining(comparison, diagnosis))
    assert "<img" not in page
    assert "<b>other" not in page
