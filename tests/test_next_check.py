"""The proposed next check: concrete, cheap, and leading to the cause in a few steps."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from ftdoctor.diagnose import Options, diagnose_run, gather
from ftdoctor.evaluate import Label, load_labels
from ftdoctor.library import load
from ftdoctor.model import Diagnosis, NextCheck
from ftdoctor.nextcheck import source_of

FIXTURES = Path(__file__).parents[1] / "fixtures"
LIBRARY = load()
LABELS = {label.id: label for label in load_labels(FIXTURES)}
STEPS_ALLOWED = 6
GIVE_UP = STEPS_ALLOWED + 1
MEAN_ALLOWED = 3.0

# What a user has who is asked for it: by the words of the check, the files of the run it means.
FILES = (
    ("training log", ("*.log", "**/*.log")),
    ("trainer state", ("**/trainer_state.json", "trainer_state.json")),
    ("training data", ("data/*", "train.jsonl")),
    ("tokenizer", ("**/tokenizer*.json", "**/chat_template.jinja")),
    ("script", ("*.py",)),
    ("weights", ("**/*.safetensors", "**/*.gguf")),
    ("training configuration", ("*.yaml", "*.yml", "**/training_args.bin", "train.py")),
)
# Runs of which only one or two files were sent at first, and those files.
SENT = [
    ("compound/qwen-never-stops", ("gguf/*",)),
    ("compound/qwen-never-stops", ("stdout.log",)),
    ("compound/gpt2-as-phi", ("*.yaml",)),
    ("compound/tinyllama", ("stdout.log",)),
    ("eos-absent-from-training-text/formatting", ("train.py",)),
    ("eos-masked-because-pad-equals-eos/collator", ("train.py",)),
    ("all-labels-masked/marker-never-found", ("out/trainer_state.json",)),
    ("nan-weights-one-bad-batch/empty-answer", ("out/trainer_state.json",)),
    ("lr-too-low/full", ("out/trainer_state.json",)),
    ("overfit-too-many-epochs/forty-epochs", ("out/trainer_state.json",)),
    ("truncation-cuts-answer/short-window", ("data/*",)),
    ("contradictory-labels/same-question", ("stdout.log",)),
    ("warmup-longer-than-run/steps", ("stdout.log",)),
    ("chat-template-missing/export", ("out/tokenizer*",)),
]


def copy(run: Path, here: Path, patterns: Iterable[str]) -> bool:
    """Add files of the whole run to the copy; False if that adds nothing."""
    added = False
    for pattern in patterns:
        for path in sorted(run.glob(pattern)):
            target = here / path.relative_to(run)
            if path.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
                added = True
    return added


def follow(check: NextCheck, label: Label, here: Path, told: set[str]) -> bool:
    """Do what a check asks for, as far as the whole run allows; False if it cannot be done."""
    source, how = source_of(check.need)
    if source.key == "own test":
        known = set(label.given.get("observed", ())) - told
        asked = how.split("--observed ")[1].split("`")[0]
        answers = {asked, f"not:{asked}", f"{asked.removesuffix('-broken')}-ok"} & known
        told.update(answers)
        return bool(answers)
    wanted = [globs for words, globs in FILES if words == source.key or words in check.need]
    return copy(label.path, here, [pattern for globs in wanted for pattern in globs])


def found(diagnosis: Diagnosis, label: Label) -> bool:
    top = diagnosis.causes[0] if diagnosis.causes else None
    return top is not None and top.id in label.causes and diagnosis.verdict.kind == "cause"


def steps(label: Label, sent: Iterable[str], here: Path) -> int:
    """Return how many checks it takes until the right cause leads, GIVE_UP if it never does."""
    told: set[str] = set()
    here.mkdir()
    assert copy(label.path, here, sent)
    for step in range(GIVE_UP):
        diagnosis = diagnose_run(
            gather(here, Options(observed=tuple(sorted(told))), LIBRARY), LIBRARY
        )
        if found(diagnosis, label):
            return step
        if not any(follow(check, label, here, told) for check in diagnosis.next_checks):
            return GIVE_UP
    return GIVE_UP


def test_following_the_checks_leads_to_the_cause_in_few_steps(tmp_path: Path) -> None:
    table = {
        f"{name} from {', '.join(sent)}": steps(LABELS[name], sent, tmp_path / str(index))
        for index, (name, sent) in enumerate(SENT)
        if name in LABELS
    }
    told = "\n".join(f"{count} {name}" for name, count in table.items())
    assert sum(table.values()) / len(table) <= MEAN_ALLOWED, told
    assert max(table.values()) < GIVE_UP, told


@pytest.mark.parametrize(
    ("need", "key", "words"),
    [
        ("your own test (tell it: --observed never-stops)", "own test", "--observed never-stops`"),
        ("a good run (--good GOOD)", "good run", "ftdoctor diagnose RUN --good GOOD"),
        ("scores of the base model (--baseline EVAL.json)", "baseline", "--baseline EVAL.json"),
        ("a log with smaller logging_steps", "rerun", "Run again"),
        ("training log (stdout)", "training log", "diagnose again"),
        ("stdout log", "training log", "diagnose again"),
        ("requirements.txt", "requirements.txt", "Add requirements.txt to"),
    ],
)
def test_every_check_says_what_to_do(need: str, key: str, words: str) -> None:
    source, how = source_of(need)
    assert source.key == key
    assert words in how


@pytest.mark.parametrize("name", ["lr-too-high/lora", "overfit-too-many-epochs/forty-epochs"])
def test_one_way_to_evidence_is_proposed_once(name: str) -> None:
    diagnosis = diagnose_run(gather(LABELS[name].path, Options(), LIBRARY), LIBRARY)
    keys = [source_of(check.need)[0].key for check in diagnosis.next_checks]
    assert len(keys) == len(set(keys))
