"""The command's contract: output, exit status, and messages that help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftdoctor.model import Diagnosis

FAILED = Path(__file__).parents[1] / "fixtures" / "lr-too-high" / "full" / "run"
HEALTHY = Path(__file__).parents[1] / "fixtures" / "healthy" / "full-fine-tune" / "run"


def ftdoctor(
    *arguments: object, cwd: Path, stdin: str = "", browser: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command; `browser` is what BROWSER names, on a machine that has no other."""
    surroundings = {"PATH": str(cwd), "BROWSER": browser} if browser is not None else None
    return subprocess.run(
        [sys.executable, "-m", "ftdoctor", *map(str, arguments)],
        cwd=cwd,
        env=surroundings and {**os.environ, **surroundings, "DISPLAY": "", "WAYLAND_DISPLAY": ""},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_diagnose_writes_the_report_into_the_current_folder(tmp_path: Path) -> None:
    done = ftdoctor("diagnose", FAILED, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["ftdoctor-run.html"]
    assert "ftdoctor-run.html" in done.stdout
    assert done.stderr == ""


def test_output_can_be_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    ftdoctor("diagnose", FAILED, "-o", "reports", cwd=tmp_path)
    ftdoctor("diagnose", FAILED, "-o", "x.html", cwd=tmp_path)
    assert (tmp_path / "reports" / "ftdoctor-run.html").is_file()
    assert (tmp_path / "x.html").is_file()


def recorder(folder: Path) -> Path:
    """Return a browser that writes down what it was asked to show, and the limits it lives under."""
    script = folder / "browser"
    script.write_text('#!/bin/sh\necho "$1" > asked.txt\n(ulimit -Sd; ulimit -Hd) > limits.txt\n')
    script.chmod(0o755)
    return script


@pytest.mark.skipif(sys.platform == "win32", reason="the browser of this test is a shell script")
@pytest.mark.parametrize("formats", ["html", "md,html"])
def test_open_shows_the_page_in_the_browser(formats: str, tmp_path: Path) -> None:
    browser = str(recorder(tmp_path))
    done = ftdoctor("diagnose", FAILED, "--open", "--format", formats, cwd=tmp_path,
                    browser=browser)  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    page = tmp_path / "ftdoctor-run.html"
    assert (tmp_path / "asked.txt").read_text().strip() == page.resolve().as_uri()
    soft, hard = (tmp_path / "limits.txt").read_text().split()
    assert soft == hard  # the diagnosis' own limit of memory is not the browser's


@pytest.mark.parametrize("browser", ["", "no-such-browser"])
def test_open_says_in_one_line_that_there_is_no_browser(browser: str, tmp_path: Path) -> None:
    done = ftdoctor("diagnose", FAILED, "--open", cwd=tmp_path, browser=browser)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "No browser could be started; set BROWSER, or open the report yourself."
    ]
    assert (tmp_path / "ftdoctor-run.html").is_file()


def test_json_is_the_diagnosis_and_nothing_else(tmp_path: Path) -> None:
    done = ftdoctor("diagnose", FAILED, "--json", cwd=tmp_path)
    data = json.loads(done.stdout)
    assert done.returncode == 1
    probabilities = [c["probability"] for c in data["causes"]]
    assert set(data["causes"][0]) >= {"id", "title", "probability", "severity", "stage"}
    assert probabilities[0] == max(probabilities)
    assert Diagnosis.from_json(data).to_json() == data
    assert list(tmp_path.iterdir()) == []


def test_ticket_prints_markdown(tmp_path: Path) -> None:
    done = ftdoctor("diagnose", FAILED, "--ticket", cwd=tmp_path)
    assert done.stdout.startswith("**")
    assert len(done.stdout) < 30_000
    assert list(tmp_path.iterdir()) == []


def test_a_healthy_run_exits_with_0_and_names_what_was_not_checked(tmp_path: Path) -> None:
    done = ftdoctor("diagnose", HEALTHY, cwd=tmp_path)
    assert done.returncode == 0
    assert "could not be made" in done.stdout


def test_wrong_usage_exits_with_2(tmp_path: Path) -> None:
    assert ftdoctor("diagnose", "--nonsense", cwd=tmp_path).returncode == 2
    assert ftdoctor("explain", "no-such-cause", cwd=tmp_path).returncode == 2


def test_a_folder_that_is_no_run_gets_help_and_3(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = ftdoctor("diagnose", "empty", cwd=tmp_path)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "empty" in done.stderr
    assert "trainer_state.json" in done.stderr


def test_a_place_that_does_not_exist_is_named(tmp_path: Path) -> None:
    done = ftdoctor("diagnose", "nowhere", cwd=tmp_path)
    assert done.returncode in (2, 3)
    assert "nowhere" in done.stderr


def test_a_pasted_log_is_read_from_standard_input(tmp_path: Path) -> None:
    log = (
        "Traceback (most recent call last):\n"
        '  File "train.py", line 3, in <module>\n'
        "    model.to('cuda')\n"
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"
        " capacity of 23.65 GiB of which 1.06 GiB is free.\n"
    )
    done = ftdoctor("diagnose", "-", "--json", cwd=tmp_path, stdin=log)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["causes"][0]["id"].startswith("cuda-oom")


def test_a_ticket_from_standard_input_is_taken_apart_as_in_a_file(tmp_path: Path) -> None:
    rows = "".join(
        f"{{'loss': {2.2 - 0.02 * i:.3f}, 'grad_norm': 1.1, 'learning_rate': 0.0002, 'epoch': 0.{i}}}\n"
        for i in range(10, 40)
    )
    ticket = (
        "Hi, my fine-tuning of Mistral on our tickets looks fine, but the model never stops.\n\n"
        "```python\nfrom trl import SFTTrainer\n"
        "model = AutoModelForCausalLM.from_pretrained('mistralai/Mistral-7B-v0.1')\n"
        "SFTTrainer(model=model, train_dataset=rows).train()\n```\n\nIt logs\n\n```\n"
        f"{rows}```\n"
    )
    (tmp_path / "ticket.md").write_text(ticket, encoding="utf-8")
    by_file = ftdoctor("diagnose", "ticket.md", "--json", cwd=tmp_path)
    piped = ftdoctor("diagnose", "-", "--json", cwd=tmp_path, stdin=ticket)
    found, same = json.loads(piped.stdout), json.loads(by_file.stdout)
    assert [a["kind"] for a in found["artifacts"]] == ["ticket"]
    assert [(c["id"], c["probability"]) for c in found["causes"]] == [
        (c["id"], c["probability"]) for c in same["causes"]
    ]


def test_a_log_with_sentences_stays_a_log_on_standard_input(tmp_path: Path) -> None:
    rows = "".join(f"step {i} loss {2.2 - 0.02 * i:.3f}\n" for i in range(40))
    sample = "Sample: I think that we should meet at the station.\n"
    done = ftdoctor("diagnose", "-", "--json", cwd=tmp_path, stdin=rows + sample + rows)
    assert [a["path"] for a in json.loads(done.stdout)["artifacts"]] == ["stdin.log"]


@pytest.mark.parametrize("name", ["lr-too-high", "loss-divergence"])
def test_explain_reads_as_prose(name: str, tmp_path: Path) -> None:
    done = ftdoctor("explain", name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout
    assert "Defined in signatures/" in done.stdout


def test_signatures_are_listed_and_checked(tmp_path: Path) -> None:
    listed = json.loads(ftdoctor("signatures", "list", "--json", cwd=tmp_path).stdout)
    assert sum(row["kind"] == "cause" for row in listed) >= 30
    done = ftdoctor("signatures", "check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_wrong_signature_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("cause: x-y\ntitel: X\n")
    done = ftdoctor("diagnose", FAILED, "--signatures", "own.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "own.yaml:2:1: unknown key `titel`; did you mean `title`?" in done.stderr


def test_show_lists_what_was_read(tmp_path: Path) -> None:
    done = ftdoctor("show", FAILED, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "trainer_state.json" in done.stdout
    data = json.loads(ftdoctor("show", FAILED, "--json", cwd=tmp_path).stdout)
    assert data["artifacts"]
