"""What was not read is never the basis of "healthy": each file of a healthy run is spoilt in turn."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdoctor.diagnose import diagnose_run
from ftdoctor.library import load
from ftdoctor.model import Diagnosis, State
from ftdoctor.read import read_run

HEALTHY = Path(__file__).parents[1] / "fixtures" / "healthy"
LIBRARY = load()
FULL = "No known failure found; "
# Data, curve, settings and weights: what a verdict rests on. One file of each kind.
DECISIVE = (
    "trainer-state", "console", "training-args", "script", "settings", "data-json", "tokenizer",
    "tokenizer-config", "chat-template", "adapter-config", "safetensors", "model-config",
)  # fmt: skip
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"

FORMS: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "zeroed by a crash": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "not pulled": lambda path: path.write_bytes(POINTER),
}


def diagnosed(folder: Path) -> Diagnosis:
    return diagnose_run(read_run(folder), LIBRARY)


@pytest.fixture(scope="module")
def healthy() -> tuple[Path, Diagnosis]:
    folder = HEALTHY / "configured" / "run"
    diagnosis = diagnosed(folder)
    assert diagnosis.verdict.kind == "healthy"
    assert diagnosis.verdict.text.startswith(FULL), diagnosis.verdict.text
    return folder, diagnosis


def decisive(diagnosis: Diagnosis) -> list[str]:
    """Return one file of each decisive kind."""
    first: dict[str, str] = {}
    for artifact in diagnosis.artifacts:
        if artifact.kind in DECISIVE and artifact.state == "read":
            first.setdefault(artifact.kind, artifact.path)
    assert len(first) >= 5, first
    return sorted(first.values())


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_is_named(
    healthy: tuple[Path, Diagnosis], tmp_path: Path, form: str
) -> None:
    folder, before = healthy
    for path in decisive(before):
        copy = tmp_path / "run"
        shutil.copytree(folder, copy)
        FORMS[form](copy / path)
        verdict = diagnosed(copy).verdict
        shutil.rmtree(copy)
        assert not verdict.text.startswith(FULL), path
        if verdict.kind == "healthy":
            assert path in verdict.text + verdict.lead


def test_a_file_without_permission_is_named(
    healthy: tuple[Path, Diagnosis], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = healthy
    for path in decisive(before):
        with monkeypatch.context() as patch:
            refused = folder / path
            patch.setattr(os, "access", lambda p, _mode, no=refused: Path(p) != no)
            verdict = diagnosed(folder).verdict
        assert not verdict.text.startswith(FULL), path
        if verdict.kind == "healthy":
            assert path in verdict.text + verdict.lead


def test_what_is_not_there_is_not_held_to_be_sound(
    healthy: tuple[Path, Diagnosis], tmp_path: Path
) -> None:
    folder, before = healthy
    open_before = {f.symptom for f in before.findings if f.state is State.UNOBSERVABLE}
    for path in decisive(before):
        copy = tmp_path / "run"
        shutil.copytree(folder, copy)
        (copy / path).unlink()
        after = diagnosed(copy)
        shutil.rmtree(copy)
        open_after = {f.symptom for f in after.findings if f.state is State.UNOBSERVABLE}
        if after.verdict.kind == "healthy" and open_after != open_before:
            assert f" {len(open_after)} " in after.verdict.text, path


def test_without_any_curve_the_verdict_says_so(
    healthy: tuple[Path, Diagnosis], tmp_path: Path
) -> None:
    folder, before = healthy
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    for artifact in before.artifacts:
        if artifact.kind in ("trainer-state", "console", "tensorboard", "results", "metrics-jsonl"):
            (copy / artifact.path).unlink()
    verdict = diagnosed(copy).verdict
    assert verdict.kind != "healthy" or "no training curve" in verdict.text
