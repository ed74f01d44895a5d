"""Which folders are runs."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from ftdoctor.errors import FtdoctorError
from ftdoctor.fleet.find import find_runs
from tests.triage.conftest import MakeRun, write_state

LOSSES = [2.0, 1.8, 1.7, 1.5, 1.4, 1.3]
LOG = "{'loss': 2.0, 'learning_rate': 0.0001, 'epoch': 0.1}\n" * 5


def found(*roots: Path | str) -> list[str]:
    places = find_runs([str(root) for root in roots])
    return [f"{p.path}#{p.part}" if p.part else p.path for p in places]


def below(root: Path, *roots: Path | str) -> list[str]:
    return [os.path.relpath(key, root) for key in found(*(roots or (root,)))]


def test_checkpoints_belong_to_their_run(tmp_path: Path) -> None:
    for step in (3, 6):
        write_state(tmp_path / "a" / f"checkpoint-{step}", LOSSES[:step])
        write_state(tmp_path / "b" / "out" / f"checkpoint-{step}", LOSSES[:step], seed=0.1)
    (tmp_path / "b" / "stdout.log").write_text(LOG)
    write_state(tmp_path / "c", LOSSES, seed=0.2)
    assert below(tmp_path) == ["a", "b", "c"]


def test_folders_inside_a_run_are_its_parts(tmp_path: Path) -> None:
    run = tmp_path / "fleet" / "job-17"
    write_state(run / "outputs", LOSSES)
    (run / "logs").mkdir()
    (run / "logs" / "train.log").write_text(LOG)
    (run / "data").mkdir()
    (run / "data" / "train.jsonl").write_text('{"text": "a"}\n' * 9)
    write_state(tmp_path / "fleet" / "job-18", LOSSES, seed=0.1)
    assert below(tmp_path / "fleet") == ["job-17", "job-18"]
    assert below(run) == ["."]


def test_a_script_beside_several_runs_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("from transformers import Trainer\nTrainer().train()\n")
    for index in range(3):
        write_state(tmp_path / f"sweep-{index}", LOSSES, seed=index / 10)
    assert below(tmp_path) == ["sweep-0", "sweep-1", "sweep-2"]


def test_runs_of_one_tool_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    for version in (0, 1):
        folder = tmp_path / "lightning_logs" / f"version_{version}"
        folder.mkdir(parents=True)
        rows = "".join(f"{i},{i},{2 - i / 10 - version}\n" for i in range(9))
        (folder / "metrics.csv").write_text("epoch,step,train_loss\n" + rows)
    assert len(found(tmp_path)) == 2


def test_each_named_log_is_a_run_and_its_error_stream_belongs_to_it(tmp_path: Path) -> None:
    for number in (101, 102):
        (tmp_path / f"slurm-{number}.out").write_text(LOG)
        (tmp_path / f"slurm-{number}.err").write_text(LOG + "RuntimeError: no\n")
    places = list(find_runs([str(tmp_path)]))
    assert [place.only for place in places] == [
        ("slurm-101.err", "slurm-101.out"),
        ("slurm-102.err", "slurm-102.out"),
    ]


def test_logs_of_one_job_are_one_run(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    for name in ("stdout.log", "stderr.log", "train.log"):
        (tmp_path / "job" / name).write_text(LOG)
    assert below(tmp_path) == ["job"]


def test_archives_are_runs(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_state(tmp_path / "src" / name, LOSSES)
        (tmp_path / "packed").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / "packed" / f"{name}.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "src" / name, name)
    assert below(tmp_path / "packed") == ["a.tar.gz", "b.tar.gz"]


def test_globs_lists_and_overlapping_roots(tmp_path: Path, make_run: MakeRun) -> None:
    paths = [make_run(name) for name in ("x-1", "x-2", "y-1")]
    root = tmp_path / "runs"
    assert below(root, root / "x-*") == ["x-1", "x-2"]
    listed = tmp_path / "paths.txt"
    listed.write_text(f"# failed last night\n{paths[0]}\n\n{tmp_path}/gone\n")
    assert found(listed) == [str(paths[0]), f"{tmp_path}/gone"]
    assert found(f"@{listed}") == found(listed)
    assert len(found(root, paths[0], root / "x-*")) == 3


def test_a_log_is_not_taken_for_a_list(tmp_path: Path) -> None:
    log = tmp_path / "run.txt"
    log.write_text(LOG)
    assert found(log) == [str(log)]


def test_nothing_matches(tmp_path: Path) -> None:
    with pytest.raises(FtdoctorError, match="nothing matches"):
        found(tmp_path / "*.none")
    with pytest.raises(FtdoctorError, match="no such list"):
        found(f"@{tmp_path}/none")


def test_a_root_without_a_run_becomes_a_row_of_its_own(tmp_path: Path) -> None:
    assert below(tmp_path) == ["."]


def test_our_own_output_is_no_evidence(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run("a")
    before = next(find_runs([str(run)])).stamp
    (run / "ftdoctor-triage.csv").write_text("a,b\n")
    (run / "ftdoctor-reports").mkdir()
    assert next(find_runs([str(run)])).stamp == before


def test_a_stamp_changes_with_any_file_of_the_run(make_run: MakeRun) -> None:
    run = make_run("a")
    write_state(run / "checkpoint-3", LOSSES)
    first = next(find_runs([str(run)])).stamp
    write_state(run / "checkpoint-3", [*LOSSES, 1.0])
    assert next(find_runs([str(run)])).stamp != first


def test_remote_prefix_like_a_folder(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    write_state(tmp_path / "a", LOSSES)
    state = (tmp_path / "a" / "trainer_state.json").read_bytes()
    for name in ("a/checkpoint-3", "a/checkpoint-6", "b"):
        memory.pipe_file(f"/fleet/{name}/trainer_state.json", state)
    try:
        assert found("memory://fleet") == ["memory:///fleet/a", "memory:///fleet/b"]
    finally:
        memory.rm("/fleet", recursive=True)


def test_the_fixtures_are_found_one_by_one(fixtures: Path) -> None:
    labels = sorted(str(path.parent / "run") for path in fixtures.rglob("expected.json"))
    runs = [label for label in labels if Path(label).is_dir()]
    assert set(runs) <= set(found(fixtures))
