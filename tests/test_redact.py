"""What is taken out of texts, and what must stay."""

from __future__ import annotations

import time

import pytest

from ftdoctor.redact import Redactor

HEX40 = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "expected", "kind"),
    [
        ("token hf_" + "A1b2" * 8, "token [key]", "key"),
        ("OPENAI sk-proj-" + "a1B2" * 8, "OPENAI [key]", "key"),
        ("id AKIAABCDEFGHIJKLMNOP end", "id [key] end", "key"),
        ("ghp_" + "a1" * 18, "[key]", "key"),
        ("xoxb-1234567890-abc", "[key]", "key"),
        ("wandb login " + HEX40, "wandb login [key]", "key"),
        ("Authorization: Bearer " + "x" * 20, "Authorization: Bearer [key]", "key"),
        ("https://me:pw@host.org/x", "https://[password]@host.org/x", "password in URL"),
        ("password = 'correct-horse'", "password = '[password]'", "password"),
        ("mail a.b+c@example.co.uk now", "mail [email] now", "e-mail"),
        ("tcp://10.1.2.3:29500", "tcp://[ip]:29500", "address"),
        ("from fe80::1ff:fe23:4567:890a ok", "from [ip] ok", "address"),
        ("/home/jane/run/x.py", "~/run/x.py", "home folder"),
        ('File "/Users/jane.doe/x.py"', 'File "~/x.py"', "home folder"),
        ("C:\\Users\\Jane\\x", "~\\x", "home folder"),
        ("  host      : gpu-node-17", "  host      : [host]", "host"),
        ("MASTER_ADDR=node-3", "MASTER_ADDR=[host]", "host"),
        ("runs/Nov03_12-32-12_bobs-PC", "runs/Nov03_12-32-12_[host]", "host"),
        (
            "events.out.tfevents.1703720982.gpu7.lab.org.1234.0",
            "events.out.tfevents.1703720982.[host].1234.0",
            "host",
        ),
        ("srun: error: node012: task 0", "srun: error: [host]: task 0", "host"),
    ],
)
def test_removed_and_counted(text: str, expected: str, kind: str) -> None:
    redactor = Redactor()
    assert redactor.clean(text) == expected
    assert dict(redactor.counts) == {kind: 1}


@pytest.mark.parametrize(
    "text",
    [
        "nvidia-cudnn-cu12==8.9.2.26",
        "driver version v1.2.3.4",
        "    Found existing installation: nvidia-cudnn-cu12 9.3.0.75",
        "Requirement satisfied: nvidia-nccl-cu12 in ./lib (from torch->peft) (9.1.0.70)",
        "listening on 127.0.0.1:29500",
        "commit " + HEX40,
        "eos_token: <|endoftext|>, pad_token=<pad>",
        "num_tokens: 12345678",
        "git@github.com:owner/repo.git",
        "ruff@0.9.1 installed",
        "std::vector c10::Error at 12:34:56",
        "https://huggingface.co/docs/home/index",
        "password=$PASSWORD",
        "api_key = os.environ['KEY']",
        "host: localhost",
        "the ghost: 3 of them",
        "no memory on host: cudaErrorMemoryAllocation",
        "srun: error: Node failure on node012",
        "step 10/100 loss 2.5e-4",
        "{% if messages[0]['role'] == 'system' %}",
        "sk-learn and hf_transfer",
    ],
)
def test_kept(text: str) -> None:
    redactor = Redactor()
    assert redactor.clean(text) == text
    assert not redactor.counts


def test_private_key_goes_and_line_numbers_stay() -> None:
    text = "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----\nb"
    cleaned = Redactor().clean(text)
    assert "MIIE" not in cleaned
    assert cleaned.split("\n").index("b") == 5


def test_values_inside_lists_and_mappings() -> None:
    redactor = Redactor()
    value = {"path": "/home/ann/x", "list": ["a@b.org", 3, None, True]}
    assert redactor.clean_value(value) == {"path": "~/x", "list": ["[email]", 3, None, True]}


def test_a_hundred_thousand_lines_in_seconds() -> None:
    line = "{'loss': 1.2345, 'grad_norm': 0.5, 'learning_rate': 2e-05, 'epoch': 1.25}"
    redactor = Redactor()
    start = time.perf_counter()
    for _ in range(20_000):
        redactor.clean(line)
    assert time.perf_counter() - start < 2.0


def test_what_spares_the_rules_never_spares_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass over a text may only pass over what no rule would have changed."""
    import random
    import re

    from ftdoctor import redact

    pieces = [
        "hf_", "sk-", "A" * 40, HEX40, "wandb", "login", "@", "a.b", "://", "me:pw", "1.2.3.4", "fe80:",
        "2001:db8::1", ":", "/home/bob", "C:\\Users\\bob", "host", "host      : ", "'hostname': '",
        "password", "=", "x" * 20, "api_key", "Bearer ", "eyJ", "a" * 12, ".", "ghp_", "USER=",
        "-----BEGIN PRIVATE KEY-----", "\n", "logged in as ", "MASTER_ADDR=", "srun: error: n1: task 3",
        "$", "#", "~", "AKIA" + "B" * 16, " ", "\u212a", "\u017f", "\ud800", "\u0661.\u0661.\u0661.\u0661", "'",
    ]  # fmt: skip
    chance = random.Random(2)
    texts = ["".join(chance.choices(pieces, k=chance.randint(1, 6))) for _ in range(8000)]
    quick = [(r.clean(t), r.counts) for t in texts for r in [Redactor()]]
    monkeypatch.setattr(redact, "_possible", lambda: re.compile(b""))
    assert quick == [(r.clean(t), r.counts) for t in texts for r in [Redactor()]]
