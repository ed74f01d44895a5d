"""Hostile names and lines reach the terminal and CSV as text: messages, `show`, triage tables."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
CURVE = "".join(f'{{"step": {n}, "loss": {2 - n / 40}}}\n' for n in range(1, 31))


def output(*arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ftdoctor", *arguments], cwd=folder, capture_output=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr
    return (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.fixture
def hostile_run(tmp_path: Path) -> Path:
    root = tmp_path / f"run{ESCAPES}"
    root.mkdir()
    (root / "metrics.jsonl").write_text(CURVE)
    (root / f"a{ESCAPES}.log").write_text(
        f"{ESCAPES}{{'loss': 1.0, 'learning_rate': 1e-5}}\nRuntimeError: {ESCAPES} failed\n" * 9
    )
    (root / "config.yaml").write_text('model_name_or_path: "x\\e]0;owned\\a"\nlearning_rate: 3\n')
    (root / f"link{ESCAPES}").symlink_to("/etc")
    return root


@pytest.mark.parametrize(
    "arguments",
    [["diagnose", "RUN"], ["show", "RUN"], ["compare", "RUN", "RUN"], ["diagnose", "RUN", "--ticket"],
     ["diagnose", "RUN/none"], ["show", "EMPTY"], ["diagnose", "RUN", "--run", ESCAPES]],
    ids=lambda a: " ".join(a)[:20].replace("\x1b", "ESC"),
)  # fmt: skip
def test_no_control_character_reaches_the_terminal(
    arguments: list[str], hostile_run: Path, tmp_path: Path
) -> None:
    empty = tmp_path / f"empty{ESCAPES}"
    empty.mkdir()
    filled = [a.replace("RUN", str(hostile_run)).replace("EMPTY", str(empty)) for a in arguments]
    assert not CONTROL.search(output(*filled, folder=tmp_path))


def test_a_formula_in_a_name_is_text_in_the_table(tmp_path: Path) -> None:
    for name in ("=cmd|' C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "plain"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "metrics.jsonl").write_text(CURVE)
    output("triage", "runs", "-o", "out", "--workers", "1", folder=tmp_path)
    with (tmp_path / "out" / "ftdoctor-triage.csv").open(newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert [c for c in cells if c[:1] in "=@\t" and c] == []
    assert [c for c in cells if c[:1] in "+-" and c and not re.fullmatch(r"[+-][\d.e+-]+", c)] == []
