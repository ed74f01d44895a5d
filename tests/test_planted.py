"""Secrets planted in every kind of file reach no output in any format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ftdoctor.diagnose import Options, diagnose_run, gather
from ftdoctor.library import load
from ftdoctor.model import Diagnosis, Run
from ftdoctor.output import FORMATS, render
from ftdoctor.pseudonyms import hide_names, names_of
from ftdoctor.render.html import render_cell
from ftdoctor.render.terminal import render_terminal
from ftdoctor.show import describe, render_show

HEX40 = "b7e1" * 10
# Made up at run time, so that no scanner of this repository takes them for real ones.
SECRETS = {
    "hugging face": "hf_" + "aB3d" * 9,
    "openai": "sk-proj-" + "Zx9k" * 10,
    "anthropic": "sk-ant-" + "api03-" + "Qw7e" * 10,
    "aws": "AKIA" + "Q3EGZ7XW5T2JHBNM",
    "aws secret": "wJalrXUtnFEMI" + "K7MDENG" + "bPxRfiCYzzAMPLEKEYz",
    "github": "ghp_" + "k2J9" * 9,
    "gitlab": "glpat-" + "x9Y8z7W6v5U4t3S2r1Q0",
    "slack": "xoxb-" + "123456789012-abcdefGHIJKL",
    "google": "AIza" + "SyD" + "a1B2c3D4" * 4,
    "wandb": HEX40,
    "tinker": "tml-" + "mN4b" * 8,
    "stripe": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "npm": "npm_" + "a8B7" * 9,
    "jwt": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3In0." + "dozjgNryP4J3jVmNHl0w5N",
    "url": "s3cr3tpw",
    "password": "hunter2hunter2",
    "e-mail": "jane.roe@initech.example",
    "ip": "10.47.11.8",
    "host": "gpu-cellar-07",
    "home": "/home/janeroe",
    "user": "janeroe",
}


@dataclass(frozen=True)
class Planted:
    """A run folder and what was read from it."""

    run: Run
    diagnosis: Diagnosis


def lines() -> list[str]:
    """Return lines of a log or of a shell history with each secret in its usual surroundings."""
    s = SECRETS
    return [
        f"Token is valid: {s['hugging face']}",
        f"export OPENAI_API_KEY={s['openai']}",
        f"ANTHROPIC_API_KEY: {s['anthropic']}",
        f"aws_access_key_id = {s['aws']}",
        f"aws_secret_access_key = {s['aws secret']}",
        f"git clone https://{s['github']}@github.com/o/r.git && echo {s['gitlab']}",
        f"posting to slack with {s['slack']} and {s['google']}",
        f"wandb login {s['wandb']}",
        f"TINKER_API_KEY={s['tinker']} {s['stripe']} {s['npm']}",
        f"Authorization: Bearer {s['jwt']}",
        f"mirror https://builder:{s['url']}@files.initech.example/simple",
        f"db_password = '{s['password']}'",
        f"mail {s['e-mail']} when done",
        f"init_process_group tcp://{s['ip']}:29500",
        f"  host      : {s['host']}",
        f"MASTER_ADDR={s['host']}",
        f"saved to {s['home']}/runs/out",
        f"wandb: Currently logged in as: {s['user']} (initech). Use `wandb login --relogin`",
        f"USER={s['user']}",
        f"{s['user']}@{s['host']}:~/work$ python train.py",
    ]


def comment(mark: str) -> str:
    return "".join(f"{mark} {line}\n" for line in lines())


def plant(root: Path) -> None:
    """Write one file of each kind, all with the secrets in them."""
    s = SECRETS
    root.mkdir()
    (root / "out").mkdir()
    (root / "stdout.log").write_text(
        "\n".join(lines()) + "\n"
        + "".join(f"{{'loss': {2 - i / 10}, 'learning_rate': 1e-4, 'epoch': {i / 10}}}\n"
                  for i in range(12))
        + f"Traceback (most recent call last):\n  File \"{s['home']}/train.py\", line 3, in <m>\n"
        f"RuntimeError: CUDA error at {s['host']} for {s['e-mail']}, token {s['hugging face']}\n"
    )  # fmt: skip
    (root / "config.yaml").write_text(
        f"model_name_or_path: {s['home']}/models/llama\nhub_token: {s['hugging face']}\n"
        f"wandb_api_key: {s['wandb']}\npassword: {s['password']}\nlearning_rate: 3.0\n"
        f"notify: {s['e-mail']}\ndataset: {s['home']}/data/train.jsonl\n" + comment("#")
    )
    (root / "train.py").write_text(
        "import os\nfrom transformers import TrainingArguments\n"
        f"os.environ['WANDB_API_KEY'] = '{s['wandb']}'\n"
        f"HF_TOKEN = '{s['hugging face']}'\nfp16 = True\n"
        f"PROMPT = '### Call {s['e-mail']}\\n{{instruction}}\\n### Response:\\n{{output}}'\n"
        f"args = TrainingArguments('{s['home']}/out', learning_rate=3.0, hub_token="
        f"'{s['hugging face']}')\n" + comment("#")
    )
    cell = {"cell_type": "code", "metadata": {}, "source": (root / "train.py").read_text(),
            "execution_count": 1,
            "outputs": [{"output_type": "stream", "name": "stdout",
                         "text": (root / "stdout.log").read_text()}]}  # fmt: skip
    (root / "train.ipynb").write_text(
        json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    files = root / "wandb" / "run-20260101_101010-abc123de" / "files"
    files.mkdir(parents=True)
    (files / "wandb-metadata.json").write_text(
        json.dumps({"host": s["host"], "username": s["user"], "email": s["e-mail"],
                    "executable": f"{s['home']}/venv/bin/python", "python": "3.11.4",
                    "git": {"remote": f"https://{s['user']}:{s['github']}@github.com/x/y"},
                    "args": ["--hub_token", s["hugging face"], "--password", s["password"]],
                    "env": {"OPENAI_API_KEY": s["openai"]}})
    )  # fmt: skip
    (files / "config.yaml").write_text(
        f"learning_rate:\n  value: 3.0\nhub_token:\n  value: {s['hugging face']}\n"
        f"output_dir:\n  value: {s['home']}/out\n"
    )
    (root / ".bash_history").write_text("\n".join(lines()) + "\npython train.py\n")
    (root / "run.sh").write_text(
        "#!/bin/bash\r\n" + "\r\n".join(lines()) + "\r\npython train.py --learning_rate 3.0\r\n"
    )
    rows = [{"instruction": f"What is {n}? {line}", "output": f"{line} is {n}."}
            for n, line in enumerate(lines() * 3)]  # fmt: skip
    (root / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "requirements.txt").write_text(
        f"torch\n--extra-index-url https://builder:{s['url']}@files.initech.example/simple\n"
    )
    (root / f"notes-{s['e-mail']}.txt").write_text("x")
    (root / f"key-{s['hugging face']}.log").write_text("step 1 loss 2.0\n")
    (root / "out" / "trainer_state.json").write_text(
        json.dumps({"global_step": 12, "max_steps": 12, "log_history": [
            {"step": i + 1, "loss": 2 - i / 10, "learning_rate": 3.0} for i in range(12)],
            "best_model_checkpoint": f"{s['home']}/out/checkpoint-5"})
    )  # fmt: skip
    (root / "out" / "README.md").write_text(f"---\nbase_model: {s['home']}/m\n---\n{comment('')}")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    root = tmp_path_factory.mktemp("planted") / "myrun"
    plant(root)
    library = load(())
    run = gather(root, Options(), library)
    return Planted(run, diagnose_run(run, library))


def outputs(planted: Planted) -> Iterator[tuple[str, str]]:
    d = planted.diagnosis
    for form in FORMATS:
        for quotes in (True, False):
            yield f"{form}{'' if quotes else ' without quotes'}", render(d, form, quotes=quotes)
    yield "terminal", render_terminal(d)
    yield "cell", render_cell(d)
    yield "show", render_show(planted.run)
    yield "show --json", json.dumps(describe(planted.run), default=str, ensure_ascii=False)


def test_every_kind_of_file_was_read(planted: Planted) -> None:
    kinds = {a.kind for a in planted.run.artifacts if a.state.value in ("read", "partial")}
    paths = {a.path: a.state.value for a in planted.run.artifacts}
    assert {p for p in paths if paths[p] == "damaged"} == set()
    assert len(kinds) >= 8, kinds
    assert planted.diagnosis.status == 1 or planted.diagnosis.findings


def test_nothing_planted_is_in_any_output(planted: Planted) -> None:
    found = [
        (where, name)
        for where, text in outputs(planted)
        for name, secret in SECRETS.items()
        if secret in text
    ]
    assert found == []


def test_nothing_planted_is_in_the_evidence(planted: Planted) -> None:
    run = planted.run
    parts = {
        "events": str(run.events.rows()), "lines": str(run.lines.rows()),
        "data": str(run.data.rows()), "settings": str(run.settings), "facts": str(run.facts),
        "texts": str(run.texts), "artifacts": str(run.artifacts),
    }  # fmt: skip
    found = [
        (part, name)
        for part, text in parts.items()
        for name, secret in SECRETS.items()
        if secret in text
    ]
    assert found == []


def test_a_second_opinion_finds_nothing(planted: Planted) -> None:
    """Let the provider rules of detect-secrets search our outputs: they are not our rules."""
    pytest.importorskip("detect_secrets", reason="comes with the extra `dev`")
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    rules = [
        cls()
        for name, cls in get_mapping_from_secret_type_to_class().items()
        if issubclass(cls, RegexBasedDetector)
    ]
    assert len(rules) > 15
    assert any(list(rule.analyze_string(SECRETS["aws"])) for rule in rules)
    for where, text in outputs(planted):
        found = {(rule.secret_type, hit) for rule in rules for hit in rule.analyze_string(text)}
        assert found == set(), where


def test_the_page_counts_what_was_removed_by_kind(planted: Planted) -> None:
    page = render(planted.diagnosis, "html")
    removed = page[page.index("Removed:") : page.index("</p>", page.index("Removed:"))]
    for kind in ("key", "password", "e-mail", "address", "host", "home folder"):
        assert f"× {kind}" in removed


def test_without_quotes_no_data_and_no_log_text_is_left(planted: Planted) -> None:
    for form in FORMATS:
        text = render(planted.diagnosis, form, quotes=False)
        for quoted in ("What is 3?", "CUDA error at", "Use `wandb login"):
            assert quoted not in text, (form, quoted)


def test_names_are_replaced_consistently(tmp_path: Path) -> None:
    root = tmp_path / "acme-secret-run"
    root.mkdir()
    (root / "config.yaml").write_text(
        "wandb_project: acme-support\ndataset: acme/ticket-corpus\nrun_name: zebra-7\n"
    )
    (root / "ticket-corpus.jsonl").write_text(
        "".join(json.dumps({"prompt": f"q{i}", "completion": "a"}) + "\n" for i in range(9))
    )
    library = load(())
    run = gather(root, Options(), library)
    names = names_of(run)
    d = hide_names(diagnose_run(run, library), names)
    for form in FORMATS:
        text = render(d, form)
        for name in ("acme-secret-run", "acme-support", "ticket-corpus", "zebra-7"):
            assert name not in text, (form, name)
    assert d.run.name == "run-1"
    assert f"{names['ticket-corpus']}.jsonl" in {a.path for a in d.artifacts}
