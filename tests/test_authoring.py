"""Authoring: a new signature loads as it is, its examples run, other packages may add to it."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ftdoctor.cli import app
from ftdoctor.detect import detector_named
from ftdoctor.diagnose import Options, diagnose
from ftdoctor.explain import explain_family
from ftdoctor.kinds import added_kinds
from ftdoctor.library import load

DOC = Path(__file__).parents[1] / "docs" / "writing-signatures.md"
RUNNER = CliRunner()
PACKAGE = """
from ftdoctor.detect import absent, present, unobservable
from ftdoctor.kinds import Kind
from ftdoctor.model import Fact, Where
from ftdoctor.read.reading import Reading

KIND = Kind("house-reservation", "house_ftdoctor.plug:read", ("reservation.txt",))

def read(source):
    fact = Fact("house.reserved_hours", float(source.text()), Where(source.path, line=1))
    return Reading(taken="the reservation", facts=(fact,))

def reserved(run, *, hours: float):
    fact = run.fact("house.reserved_hours")
    if fact is None:
        return unobservable("No file gives the reservation", "reservation.txt")
    return (present if fact.value < hours else absent)(f"Reserved for {fact.value} hours", fact)
"""
POINTS = """\
[ftdoctor.detectors]
house.reserved = house_ftdoctor.plug:reserved

[ftdoctor.readers]
house-reservation = house_ftdoctor.plug:KIND
"""
SIGNATURE = """\
symptom: reservation-short
title: The reservation is shorter than a run
detect: house.reserved
with: {hours: 8}
leak: 0.001
source: judgement
examples:
  - {files: {reservation.txt: "2"}, expect: present}
  - {files: {reservation.txt: "9"}, expect: absent}
  - {expect: unobservable}
---
cause: reservation-too-short
title: The reservation ended before the run
stage: infrastructure
severity: high
prior: 0.02
shows: {reservation-short: 0.95}
mechanism: The launcher ends the job.
fix: Run `reserve --hours 24`.
references: ["https://example.org/reserve"]
"""


@pytest.fixture
def added_package(tmp_path: Path) -> Iterator[Path]:
    """Install a package with entry points for as long as the test lasts."""
    site = tmp_path / "site"
    (site / "house_ftdoctor").mkdir(parents=True)
    (site / "house_ftdoctor" / "__init__.py").write_text("")
    (site / "house_ftdoctor" / "plug.py").write_text(PACKAGE)
    about = site / "house_ftdoctor-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: house-ftdoctor\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(POINTS)
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    added_kinds.cache_clear()
    detector_named.cache_clear()
    yield site
    sys.path.remove(str(site))
    added_kinds.cache_clear()
    detector_named.cache_clear()


def test_a_new_signature_passes_its_own_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert RUNNER.invoke(app, ["signatures", "new", "house-fault"]).exit_code == 0
    tried = RUNNER.invoke(app, ["signatures", "test", "house-fault.yaml"])
    assert tried.exit_code == 0, tried.output
    assert tried.output.count("holds") == 5


def test_a_failing_example_is_told(tmp_path: Path) -> None:
    made = tmp_path / "house.yaml"
    made.write_text(SIGNATURE.replace("house.reserved", "facts.given").replace(
        "with: {hours: 8}", "with: {fact: house.hours}"))  # fmt: skip
    tried = RUNNER.invoke(app, ["signatures", "test", str(made)])
    assert tried.exit_code == 2
    assert "reservation-short[0]: expected present" in tried.output


def test_an_id_that_exists_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert RUNNER.invoke(app, ["signatures", "new", "lr-too-high"]).exit_code != 0
    assert not list(tmp_path.iterdir())


def test_the_signatures_of_the_page_load_and_hold(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n((?:symptom|cause): .*?)```", DOC.read_text(), re.DOTALL)
    made = tmp_path / "page.yaml"
    made.write_text("---\n".join(blocks))
    tried = RUNNER.invoke(app, ["signatures", "test", str(made)])
    assert tried.exit_code == 0, tried.output
    assert tried.output.count("holds") == 5


def test_a_package_adds_a_detector_and_a_reader(added_package: Path, tmp_path: Path) -> None:
    made = tmp_path / "house.yaml"
    made.write_text(SIGNATURE)
    load([made], check_calls=True)
    tried = RUNNER.invoke(app, ["signatures", "test", str(made)])
    assert tried.exit_code == 0, tried.output
    run = tmp_path / "run"
    run.mkdir()
    (run / "reservation.txt").write_text("2")
    found = diagnose(run, Options(signatures=(made,)))
    assert found.causes[0].id == "reservation-too-short"


def test_a_family_is_shown_with_sources() -> None:
    text = explain_family("qwen2.5")
    assert "# qwen-2.5" in text
    assert "`<|im_end|>` 151645\n  (source: " in text
    assert explain_family("Qwen/Qwen2.5-7B-Instruct") == explain_family("qwen-2.5")
    told = RUNNER.invoke(app, ["explain", "--family", "qwen2.5"])
    assert told.output.strip() == text.strip()
