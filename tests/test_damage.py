"""Runs as they are found: packed, in odd encodings, cut, several in one folder."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from ftdoctor.diagnose import diagnose_run
from ftdoctor.library import load
from ftdoctor.model import ArtifactState, Run
from ftdoctor.read import Options, read_run
from ftdoctor.render.html import render_html
from ftdoctor.render.markdown import render_ticket
from ftdoctor.render.terminal import render_terminal
from ftdoctor.show import describe, render_show

LOSSES = [2.0, 1.5, 1.25]
LOG = "".join(
    f"{{'loss': {loss}, 'learning_rate': 1e-05, 'epoch': {n / 10}}}\n"
    for n, loss in enumerate(LOSSES, start=1)
)
METRICS = "".join(f'{{"step": {n}, "loss": {loss}}}\n' for n, loss in enumerate(LOSSES, start=1))


def losses(run: Run) -> list[float]:
    series = run.series("loss")
    return [] if series is None else [float(value) for value in series.values]


def artifact(run: Run, path: str) -> tuple[ArtifactState, str]:
    [found] = [a for a in run.artifacts if a.path == path]
    return found.state, found.reason


# --- packed -----------------------------------------------------------------------------------


def packed(form: str, content: bytes) -> bytes:
    if form == ".gz":
        return gzip.compress(content)
    if form == ".zst":
        zstandard = pytest.importorskip("zstandard")
        return bytes(zstandard.compress(content))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.log", content)
    return stream.getvalue()


@pytest.mark.parametrize("form", [".gz", ".zst", ".zip"])
@pytest.mark.parametrize("folder", [True, False])
def test_packed_log_alone_and_inside_a_folder(tmp_path: Path, form: str, folder: bool) -> None:
    path = tmp_path / f"train.log{form}"
    path.write_bytes(packed(form, LOG.encode()))
    (tmp_path / "config.yaml").write_text("learning_rate: 1e-5\nepochs: 1\n")
    run = read_run(tmp_path if folder else path)
    assert losses(run) == LOSSES


def test_tar_inside_a_folder_keeps_its_folder_names(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "logs.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("logs/metrics.jsonl")
        info.size = len(METRICS)
        archive.addfile(info, io.BytesIO(METRICS.encode()))
    run = read_run(tmp_path)
    assert losses(run) == LOSSES
    assert artifact(run, "logs.tar.gz/metrics.jsonl")[0] is ArtifactState.READ


def test_cut_archive_inside_a_folder_is_damaged_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(METRICS)
    (tmp_path / "old.log.gz").write_bytes(gzip.compress(os.urandom(5000))[:2000])
    run = read_run(tmp_path)
    assert losses(run) == LOSSES
    state, reason = artifact(run, "old.log.gz")
    assert state is ArtifactState.DAMAGED
    assert "damaged or cut" in reason
    assert str(tmp_path) not in reason


def test_packed_copy_beside_the_file_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(METRICS)
    (tmp_path / "metrics.jsonl.gz").write_bytes(gzip.compress(METRICS.encode()))
    run = read_run(tmp_path)
    assert losses(run) == LOSSES
    assert artifact(run, "metrics.jsonl.gz") == (
        ArtifactState.SKIPPED, "packed copy of a file that lies beside it",
    )  # fmt: skip


# --- encodings and cut ends -------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl", "config.yaml", "log.csv"])
def test_byte_order_marks_and_crlf(tmp_path: Path, encoding: str, name: str) -> None:
    texts = {
        "train.log": LOG,
        "metrics.jsonl": METRICS,
        "config.yaml": "learning_rate: 0.00001\nnum_train_epochs: 1\n",
        "log.csv": "step,loss\n" + "".join(f"{n},{v}\n" for n, v in enumerate(LOSSES, start=1)),
    }
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    (tmp_path / name).write_bytes(mark + texts[name].replace("\n", "\r\n").encode(encoding))
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}')
    run = read_run(tmp_path)
    if name == "config.yaml":
        fact = run.setting("learning_rate")
        assert fact is not None
        assert fact.value == 1e-5
    else:
        assert losses(run) == LOSSES
    assert artifact(run, name)[0] is ArtifactState.READ


def test_nul_tail_of_a_crashed_machine(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_bytes(LOG.encode() + b"\0" * 4096)
    (tmp_path / "metrics.jsonl").write_bytes(METRICS.encode() + b"\0" * 4096)
    assert losses(read_run(tmp_path / "train.log")) == LOSSES
    run = read_run(tmp_path / "metrics.jsonl")
    assert losses(run) == LOSSES
    state, reason = artifact(run, "metrics.jsonl")
    assert state is ArtifactState.PARTIAL
    assert "4096 NUL bytes" in reason


def test_bytes_of_no_known_encoding_do_not_stop_the_reader(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_bytes(b"caf\xe9 \xff\xc3\x28\n" + LOG.encode("latin-1"))
    assert losses(read_run(tmp_path)) == LOSSES


def test_infinities_and_quoted_numbers(tmp_path: Path) -> None:
    given = ('"nan"', "Infinity", '"Infinity"')
    rows = "".join(f'{{"step": {n}, "loss": {v}}}\n' for n, v in enumerate(given, start=1))
    (tmp_path / "metrics.jsonl").write_text(rows)
    found = losses(read_run(tmp_path))
    assert [str(value) for value in found] == ["nan", "inf", "inf"]


@pytest.mark.parametrize(
    "name",
    ["trainer_state.json", "training_args.bin", "events.out.tfevents.1.h.1.0", "run-ab.wandb",
     "mlflow.db", "model.safetensors", "m.gguf", "pytorch_model.bin", "data-00000-of-00001.arrow",
     "train.parquet", "run.ipynb", "adapter_config.json", "tokenizer.json", "config.yaml",
     "checkpoints.jsonl", "result.json", "metrics.csv", "train.py", "requirements.txt"],
)  # fmt: skip
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 64, b"\xff\xfe\x00", b"{", b"PK\x03\x04", b"\x80\x02"]
)
def test_any_rubbish_under_any_name_is_a_state_not_an_exception(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "metrics.jsonl").write_text(METRICS)
    run = read_run(tmp_path)
    assert losses(run) == LOSSES
    state, reason = artifact(run, name)
    assert state is not ArtifactState.READ or name in (
        "train.py",
        "requirements.txt",
        "config.yaml",
    )
    assert "Error:" not in reason or state is ArtifactState.DAMAGED


# --- sessions, runs, disagreement -------------------------------------------------------------


def test_sessions_appended_to_one_log_are_segments(tmp_path: Path) -> None:
    head = "***** Running training *****\n  Total optimization steps = 6\n"

    def session(first: int) -> str:
        rows = (
            f"{{'loss': {3 - n / 10}, 'learning_rate': 1e-05, 'epoch': {n / 6:.4f}, 'step': {n}}}\n"
            for n in range(first, first + 4)
        )
        return head + "".join(rows)

    (tmp_path / "train.log").write_text(session(1) + session(3))
    series = read_run(tmp_path).series("loss")
    assert series is not None
    assert [int(step) for step in series.steps] == [1, 2, 3, 4, 3, 4, 5, 6]
    assert list(series.segments) == [0] * 4 + [1] * 4


def two_runs(root: Path) -> None:
    for name, first, when in (("old", 9.0, 1000), ("new", 2.0, 9000)):
        folder = root / name
        folder.mkdir()
        history = [{"step": n, "loss": first - n / 10, "epoch": n / 10} for n in (1, 2, 3)]
        file = folder / "trainer_state.json"
        file.write_text(json.dumps({"best_metric": None, "global_step": 3, "log_history": history}))
        os.utime(file, (when, when))


def test_of_several_runs_the_newest_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    two_runs(tmp_path)
    run = read_run(tmp_path)
    assert losses(run)[0] == pytest.approx(1.9)
    shown = {a["path"]: a for a in describe(run)["artifacts"]}
    assert shown["old"]["state"] == "skipped"
    assert "--run old" in shown["old"]["reason"]
    assert "--run old" in render_show(run)
    fact = run.fact("run.others")
    assert fact is not None
    assert (fact.value, fact.where.path) == (["old"], "new")
    told = "This is `new`, one of 2 runs in this place; the other: `--run old`."
    diagnosis = diagnose_run(run, load())
    assert told in " ".join(render_terminal(diagnosis, width=100).split())
    assert told in render_ticket(diagnosis)
    assert "--run old</code>" in render_html(diagnosis)


def test_the_run_that_is_named_is_read(tmp_path: Path) -> None:
    two_runs(tmp_path)
    assert losses(read_run(tmp_path, options=Options(choose="old")))[0] == pytest.approx(8.9)


def test_settings_that_disagree_are_all_kept_with_their_places(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("learning_rate: 2e-4\nnum_train_epochs: 3\n")
    (tmp_path / "train.sh").write_text("python train.py --learning_rate 5e-5\n")
    (tmp_path / "train.log").write_text(LOG)
    run = read_run(tmp_path)
    kept = {fact.where.path: fact.value for fact in run.settings["learning_rate"]}
    assert kept == {"train.sh": 5e-5, "config.yaml": 2e-4}
    shown = render_show(run)
    assert "train.sh:1" in shown
    assert "config.yaml:1" in shown
