"""Walking, classifying by content before name, and choosing one run of several."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ftdoctor.discover import MAX_DEPTH, discover
from ftdoctor.errors import UnreadableRunError
from ftdoctor.kinds import KINDS, Peek, classify, json_keys
from ftdoctor.read.items import reader_named
from ftdoctor.read.source import memory_source


def kind_of(name: str, content: bytes | str) -> str | None:
    data = content.encode() if isinstance(content, str) else content
    kind = classify(memory_source(name, data))
    return kind.id if kind else None


def state(first_loss: float = 2.0, rows: int = 3) -> str:
    history = [{"loss": first_loss, "step": 1}] + [
        {"loss": 1.0, "step": n + 2} for n in range(rows)
    ]
    return json.dumps({"best_metric": None, "global_step": rows, "log_history": history})


def put(root: Path, path: str, content: str = "x", modified: float | None = None) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    if modified is not None:
        os.utime(file, (modified, modified))


# --- kinds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("trainer_state.json", state(), "trainer-state"),
        ("renamed.json", state(), "trainer-state"),
        ("trainer_state.json", '{"best_metric": null, "epo', "trainer-state"),
        ("nohup.out", "{'loss': 2.1, 'epoch': 0.1}\n", "console"),
        ("notes.txt", "Traceback (most recent call last):\n  File\n", "console"),
        ("run.unknown", "\r 10%|# | 3/30 [00:01<00:10, 2.0s/it]\n{'loss': 1.0}\n", "console"),
        ("notes.txt", "buy milk\n", None),
        ("pretty.json", '{"colour": "red"}', None),
        ("config.json", '{"model_type": "llama", "architectures": ["A"]}', "model-config"),
        ("config.json", '{"learning_rate": 1e-4, "model_name": "x"}', "settings"),
        ("adapter_config.json", '{"peft_type": "LORA", "r": 8}', "adapter-config"),
        ("adapter_config.json", '{"fine_tune_type": "lora", "batch_size": 4}', "settings"),
        ("training_args.bin", '{"learning_rate": 1, "fp16": true}', "settings"),
        ("training_args.bin", b"PK\x03\x04rest", "training-args"),
        ("pytorch_model.bin", b"PK\x03\x04rest", "torch-weights"),
        ("pytorch_model.bin", b"\x01" * 40, "torch-weights"),
        ("data/train.bin", b"\x05\0\x07\0" * 9, "token-ids"),
        ("train_text_document.bin", b"\x05\0\x07\0" * 9, "token-ids"),
        ("train.bin", b"PK\x03\x04rest", "torch-weights"),
        ("features.bin", b"\x05\0\x07\0" * 9, None),
        ("out.txt", "iter 0: loss 4.0595, time 2679.49ms\n", "console"),
        ("story.txt", "epoch 3 was a heavy loss for the 4 of them\n", None),
        ("optimizer.pt", b"PK\x03\x04rest", "training-state"),
        ("model.gguf", b"GGUF\x03\0\0\0", "gguf"),
        ("model.dat", b"GGUF\x03\0\0\0", "gguf"),
        ("trainer_log.jsonl", '{"current_steps": 1, "total_steps": 9, "loss": 1}\n', "trainer-log"),
        ("metrics.jsonl", '{"step": 1, "loss": 1.0}\n' + "\0" * 90, "metrics-jsonl"),
        ("train.jsonl", '{"messages": [{"role": "user", "content": "a"}]}\n', "data-json"),
        ("train.jsonl", "{'messages': [{'role': 'user', 'content': 'a'}]}\n", "data-json"),
        ("metrics.csv", "epoch,step,train_loss\n0,1,2.0\n", "csv-log"),
        ("people.csv", "name,age\nA,3\n", None),
        ("requirements.txt", "torch==2.1\n", "requirements"),
        ("Modelfile", "FROM ./m.gguf\nPARAMETER temperature 1\n", "modelfile"),
        ("checkpoints.jsonl", '{"name": "final", "state_path": "tinker://a/b/c"}\n',
         "tinker-checkpoints"),
        ("wandb/run-20260101_000000-ab/files/config.yaml", "lr:\n  value: 1\n", "wandb-config"),
        ("hparams.yaml", "loss: 1.0\n", "settings"),
        ("notes.md", "we saw loss: 1.0\n", "media"),
        ("code.diff", "+ raise ValueError: x\n", "media"),
        ("launch", "#!/bin/bash\r\npython train.py\r\n", "shell"),
        ("recipe.yaml", "learning_rate: 1e-4\nepochs: 3\n", "settings"),
        ("mlruns/0/0123456789abcdef0123456789abcdef/metrics/loss", "1 2.0 3\n", "mlflow-metric"),
        ("x.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "safetensors"),
    ],
)  # fmt: skip
def test_kind_by_content_then_name(name: str, content: bytes | str, kind: str | None) -> None:
    assert kind_of(name, content) == kind


def test_every_reader_of_the_table_exists() -> None:
    for kind in KINDS:
        assert kind.reader or kind.why, kind.id
        if kind.reader:
            assert callable(reader_named(kind.reader)), kind.reader


def test_json_keys_of_cut_text_and_nested_objects() -> None:
    assert json_keys('{"a": {"b": 1}, "c": [1, {"d": 2}], "e": "x{') == ["a", "c", "e"]
    assert json_keys('[{"a": 1, "b": "}"}, {"c":') == ["a", "b", "c"]
    assert json_keys("no json") == []


def test_a_log_mark_behind_a_long_preamble_is_found() -> None:
    log = "downloading\n" * 5000 + "{'loss': 1.0, 'learning_rate': 1e-4}\n"
    assert kind_of("job.txt", log) == "console"


def test_peek_of_utf16_text_is_no_binary() -> None:
    assert not Peek(memory_source("a.txt", "loss: 1".encode("utf-16"))).binary
    assert Peek(memory_source("a.txt", b"ab\0cd")).binary


# --- walking ----------------------------------------------------------------------------------


def test_folders_that_are_no_run_are_skipped_with_a_reason(tmp_path: Path) -> None:
    put(tmp_path, "trainer_state.json", state())
    for name in (".git", "__pycache__", "venv", "lib/site-packages", "node_modules"):
        put(tmp_path, f"{name}/train.log", "{'loss': 1.0}")
    put(tmp_path, "env311/pyvenv.cfg")
    found = discover(tmp_path)
    assert [source.path for source in found.sources] == ["trainer_state.json"]
    skipped = {artifact.path: artifact.reason for artifact in found.skipped}
    assert skipped[".git"].startswith("version control")
    assert skipped["env311"].startswith("Python environment")
    assert set(skipped) == {
        ".git", "__pycache__", "env311", "lib/site-packages", "node_modules", "venv",
    }  # fmt: skip


def test_links_are_not_followed_out_of_the_run(tmp_path: Path) -> None:
    put(tmp_path, "secret.log", "{'loss': 1.0}")
    run = tmp_path / "run"
    put(run, "trainer_state.json", state())
    (run / "out.log").symlink_to(tmp_path / "secret.log")
    (run / "same.json").symlink_to(run / "trainer_state.json")
    (run / "loop").symlink_to(run)
    found = discover(run)
    assert [source.path for source in found.sources] == ["trainer_state.json"]
    skipped = {artifact.path: artifact.reason for artifact in found.skipped}
    assert "out of the run" in skipped["out.log"]
    assert "read there" in skipped["same.json"]
    assert "not followed" in skipped["loop"]


def test_pipes_and_deep_folders_are_skipped(tmp_path: Path) -> None:
    put(tmp_path, "trainer_state.json", state())
    os.mkfifo(tmp_path / "pipe.log")
    put(tmp_path, "/".join("d" * (MAX_DEPTH + 2)) + "/a.log", "{'loss': 1.0}")
    found = discover(tmp_path)
    assert len(found.sources) == 1
    reasons = [artifact.reason for artifact in found.skipped]
    assert any("no regular file" in reason for reason in reasons)
    assert any("deeper than" in reason for reason in reasons)


def test_one_file_is_a_run(tmp_path: Path) -> None:
    put(tmp_path, "job.out", "{'loss': 1.0}\n")
    put(tmp_path, "other.log", "{'loss': 1.0}\n")
    found = discover(tmp_path / "job.out")
    assert [source.path for source in found.sources] == ["job.out"]


# --- no run -----------------------------------------------------------------------------------


def test_no_run_says_what_was_found_and_what_a_run_is(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "hello")
    put(tmp_path, "b.png", "x")
    with pytest.raises(UnreadableRunError, match=r"found 2 files.*A run is a folder"):
        discover(tmp_path)


def test_empty_missing_and_foreign_code_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRunError, match="it is empty"):
        discover(tmp_path)
    with pytest.raises(UnreadableRunError, match="no such file"):
        discover(tmp_path / "nowhere")
    put(tmp_path, "web.py", "import flask\napp = flask.Flask('x')\n")
    with pytest.raises(UnreadableRunError):
        discover(tmp_path)


def test_a_training_script_alone_is_a_run(tmp_path: Path) -> None:
    put(tmp_path, "go.py", "from transformers import Trainer\n")
    assert len(discover(tmp_path).sources) == 1


# --- which run --------------------------------------------------------------------------------


def test_checkpoints_of_one_run_are_one_run(tmp_path: Path) -> None:
    put(tmp_path, "data/train.jsonl", '{"text": "a"}\n')
    put(tmp_path, "out/checkpoint-10/trainer_state.json", state(rows=2))
    put(tmp_path, "out/checkpoint-20/trainer_state.json", state(rows=4))
    put(tmp_path, "out/final/trainer_state.json", state(rows=4))
    found = discover(tmp_path)
    assert len(found.sources) == 4
    assert found.others == ()


def test_the_newest_of_two_runs_is_chosen_and_the_other_named(tmp_path: Path) -> None:
    put(tmp_path, "train.py", "import torch", 1000)
    put(tmp_path, "a/trainer_state.json", state(2.0, rows=9), 1000)
    put(tmp_path, "b/trainer_state.json", state(3.0), 9000)
    found = discover(tmp_path)
    assert {source.path for source in found.sources} == {"train.py", "b/trainer_state.json"}
    assert (found.chosen, found.others) == ("b", ("a",))
    assert any(a.path == "a" and "--run a" in a.reason for a in found.skipped)
    other = discover(tmp_path, choose="a")
    assert {source.path for source in other.sources} == {"train.py", "a/trainer_state.json"}


def test_of_copies_of_one_age_the_longest_is_chosen(tmp_path: Path) -> None:
    put(tmp_path, "a/trainer_state.json", state(2.0, rows=9), 1000)
    put(tmp_path, "b/trainer_state.json", state(3.0, rows=2), 1001)
    assert discover(tmp_path).chosen == "a"


def test_wandb_runs_are_told_apart_by_id_and_dated_by_name(tmp_path: Path) -> None:
    for stamp, name in (("20260101_000000", "old1"), ("20260103_000000", "new1"),
                        ("20260104_000000", "new1")):  # fmt: skip
        put(tmp_path, f"wandb/run-{stamp}-{name}/files/config.yaml", "lr:\n  value: 1\n")
    put(tmp_path, "train.log", "{'loss': 1.0}")
    found = discover(tmp_path)
    assert found.chosen == "new1"
    assert found.others == ("old1",)
    assert len(found.sources) == 3


def test_a_run_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    put(tmp_path, "a/trainer_state.json", state(2.0))
    with pytest.raises(UnreadableRunError, match="runs found: a"):
        discover(tmp_path, choose="zzz")


def test_a_run_inside_another_keeps_shared_files(tmp_path: Path) -> None:
    put(tmp_path, "trainer_state.json", state(2.0), 1000)
    put(tmp_path, "tokenizer_config.json", '{"tokenizer_class": "X"}', 1000)
    put(tmp_path, "second/trainer_state.json", state(3.0), 9000)
    found = discover(tmp_path)
    paths = {source.path for source in found.sources}
    assert paths == {"tokenizer_config.json", "second/trainer_state.json"}


def test_of_several_projects_only_the_chosen_one_s_files_stay(tmp_path: Path) -> None:
    put(tmp_path, "a/trainer_state.json", state(2.0), 1000)
    put(tmp_path, "b/out/trainer_state.json", state(3.0), 9000)
    put(tmp_path, "b/train.log", "{'loss': 1.0}", 9000)
    put(tmp_path, "c/nohup.out", "{'loss': 1.0}", 9500)
    put(
        tmp_path, "c/trainer_log.jsonl", '{"current_steps": 1, "total_steps": 2, "loss": 1}\n', 9500
    )
    put(tmp_path, "data/train.jsonl", '{"text": "x"}\n', 900)
    put(tmp_path, "wandb/run-20260101_000000-ab/files/config.yaml", "lr:\n  value: 1\n", 9000)
    found = discover(tmp_path)
    assert {source.path for source in found.sources} == {
        "b/out/trainer_state.json", "data/train.jsonl",
        "wandb/run-20260101_000000-ab/files/config.yaml", "b/train.log",
    }  # fmt: skip
    assert found.others == ("a", "c")


def test_runs_of_one_seed_are_told_apart_after_their_first_row(tmp_path: Path) -> None:
    first = {"step": 1, "loss": 2.0, "learning_rate": 0.0}
    for name, second in (("a", 1.9), ("b", 7.0)):
        history = [first, {"step": 2, "loss": second, "learning_rate": 1e-4}]
        text = json.dumps({"log_history": history, "stateful_callbacks": {"x": {"y": name}}})
        put(tmp_path, f"{name}/out/trainer_state.json", text, 1000)
        put(tmp_path, f"{name}/train.py", "import torch", 1000)
        put(tmp_path, f"{name}/data/train.jsonl", '{"text": "x"}\n', 1000)
    put(tmp_path, "b/out/checkpoint-1/trainer_state.json", json.dumps({"log_history": [first]}))
    put(tmp_path, "eval.py", "import torch")
    found = discover(tmp_path, choose="a/out")
    paths = {source.path for source in found.sources}
    assert paths == {"a/out/trainer_state.json", "a/train.py", "a/data/train.jsonl", "eval.py"}
    assert found.others == ("b/out",)


def test_logs_beside_their_programs_are_runs_and_logs_of_ranks_are_not(tmp_path: Path) -> None:
    for name, age in (("a", 1000), ("b", 9000)):
        put(tmp_path, f"{name}/train.py", "import torch", age)
        put(tmp_path, f"{name}/train.log", "{'loss': 1.0}", age)
    found = discover(tmp_path)
    assert {source.path for source in found.sources} == {"b/train.py", "b/train.log"}
    assert found.others == ("a",)
    for rank in (0, 1):
        put(tmp_path / "b", f"attempt_0/{rank}/stdout.log", "{'loss': 1.0}", 9000)
    assert discover(tmp_path / "b").others == ()
    assert len(discover(tmp_path / "b").sources) == 4


def test_a_folder_with_only_a_log_can_be_named(tmp_path: Path) -> None:
    put(tmp_path, "a/trainer_state.json", state(2.0))
    put(tmp_path, "c/nohup.out", "{'loss': 1.0}")
    found = discover(tmp_path, choose="c")
    assert [source.path for source in found.sources] == ["c/nohup.out"]
    assert found.others == ("a",)


def test_a_ticket_alone_is_read_as_a_log_and_prose_is_not(tmp_path: Path) -> None:
    ticket = tmp_path / "issue.md"
    ticket.write_text("Loading fails:\n\nTraceback (most recent call last):\nValueError: no\n")
    assert [item.kind.id for item in discover(ticket).found if item.kind] == ["console"]
    ticket.write_text("Worse after it:\n\n> /x/lib/bnb.py:336: UserWarning: Merge lora module\n")
    assert [item.kind.id for item in discover(ticket).found if item.kind] == ["console"]
    ticket.write_text("It does not work. What can I do?\n")
    with pytest.raises(UnreadableRunError):
        discover(ticket)


def test_prose_beside_a_run_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("{'loss': 1.0, 'epoch': 1.0}\n")
    (tmp_path / "notes.md").write_text("Traceback (most recent call last):\nValueError: no\n")
    kinds = {item.source.path: item.kind.id for item in discover(tmp_path).found if item.kind}
    assert kinds["notes.md"] != "console"


def test_a_card_of_a_trained_model_is_evidence_and_any_readme_is_not(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# output\n\n### Training results\n\n| Epoch | Validation Loss |\n")
    assert discover(tmp_path).found
    card.write_text("# A library\n\nIt trains models.\n")
    with pytest.raises(UnreadableRunError):
        discover(tmp_path)
