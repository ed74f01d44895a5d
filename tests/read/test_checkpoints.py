"""Tinker records and expiry, step folders, exports, shards, merges: facts over several files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftdoctor.model import ArtifactState, Fact
from ftdoctor.read.checkpoints import (
    DEFAULT_TTL,
    moment,
    read_tinker_checkpoints,
    read_tinker_listing,
    survey,
)
from ftdoctor.read.source import Source, local_source, memory_source

SAMPLES = Path(__file__).parents[3] / "shared" / "formats" / "samples"
SAVED = moment("2026-01-10T12:00:00Z") or 0.0


def surveyed(files: dict[str, str | bytes], modified: float | None = None) -> dict[str, list[Any]]:
    sources = [
        memory_source(path, text if isinstance(text, bytes) else text.encode(), modified)
        for path, text in files.items()
    ]
    found: dict[str, list[Any]] = {}
    for fact in survey(sources).facts:
        found.setdefault(fact.name, []).append(fact.value)
    return found


# --- Tinker -----------------------------------------------------------------------------------


def record(name: str, **more: Any) -> str:
    base = "tinker://run:train:0"
    return json.dumps({
        "name": name, "batch": 20, "state_path": f"{base}/weights/{name}",
        "sampler_path": f"{base}/sampler_weights/{name}", **more,
    })  # fmt: skip


CONFIG = json.dumps({"model_name": "Qwen/Qwen3-8B", "ttl_seconds": DEFAULT_TTL})


def test_records_and_newest_paths() -> None:
    content = f"{record('000020')}\n\n{record('final', batch=40)}\n".encode()
    reading = read_tinker_checkpoints(memory_source("checkpoints.jsonl", content))
    facts = {fact.name: fact for fact in reading.facts}
    assert facts["checkpoint.sampler_path"].value.endswith("/sampler_weights/final")
    assert facts["checkpoint.sampler_path"].where.line == 3
    assert facts["checkpoint.last_step"].value == 40


def test_cut_line_keeps_the_others() -> None:
    content = f"{record('000020')}\n{record('000040')[:50]}".encode()
    reading = read_tinker_checkpoints(memory_source("checkpoints.jsonl", content))
    assert reading.state is ArtifactState.PARTIAL
    assert "line 2" in reading.reason


def test_expiry_is_save_time_plus_recorded_life() -> None:
    found = surveyed({"config.json": CONFIG, "checkpoints.jsonl": record("000020", time=SAVED)})
    assert found["checkpoint.expires_at"] == [SAVED + DEFAULT_TTL]
    assert found["checkpoint.ttl_assumed"] == [False]
    assert found["checkpoint.lasting"] == [0]


def test_expiry_by_modification_time_is_the_latest_possible() -> None:
    found = surveyed({"config.json": CONFIG, "checkpoints.jsonl": record("000020")}, SAVED)
    assert found["checkpoint.expires_at"] == [SAVED + DEFAULT_TTL]


def test_modification_time_from_before_the_service_is_no_save_time() -> None:
    found = surveyed({"config.json": CONFIG, "checkpoints.jsonl": record("000020")}, 315_532_800.0)
    assert "checkpoint.expires_at" not in found


def test_expiry_by_dated_log() -> None:
    log = f"2026-01-10 12:00:00 [INFO] Saved checkpoints: {json.loads(record('000020'))}"
    files = {"config.json": CONFIG, "checkpoints.jsonl": record("000020"), "logs.log": log}
    assert surveyed(files)["checkpoint.expires_at"] == [SAVED + DEFAULT_TTL]


def test_latest_of_several_decides() -> None:
    text = "\n".join(record(f"{n:06}", time=SAVED + n) for n in (10, 30, 20))
    found = surveyed({"config.json": CONFIG, "checkpoints.jsonl": text})
    assert found["checkpoint.expires_at"] == [SAVED + 30 + DEFAULT_TTL]


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (CONFIG, record("final", time=SAVED)),
        (CONFIG, record("000040", final=True, time=SAVED)),
        (json.dumps({"ttl_seconds": None}), record("000020", time=SAVED)),
        (CONFIG, record("000020", ttl_seconds=None, time=SAVED)),
    ],
)
def test_checkpoints_without_time_to_live(config: str, line: str) -> None:
    found = surveyed({"config.json": config, "checkpoints.jsonl": line})
    assert found["checkpoint.lasting"] == [1]
    assert "checkpoint.expires_at" not in found


def test_final_with_its_own_life_does_expire() -> None:
    line = record("final", ttl_seconds=3600, time=SAVED)
    found = surveyed({"config.json": CONFIG, "checkpoints.jsonl": line})
    assert found["checkpoint.expires_at"] == [SAVED + 3600]


def test_unrecorded_life_is_assumed() -> None:
    found = surveyed({"checkpoints.jsonl": record("000020", time=SAVED)})
    assert found["checkpoint.ttl_assumed"] == [True]


def test_listing_of_the_service_decides() -> None:
    path = "tinker://run:train:0/sampler_weights/000020"
    listing = json.dumps([{"tinker_path": path, "expires_at": "2026-03-01T00:00:00Z"}])
    files = {"checkpoints.jsonl": record("000020", time=SAVED), "listing.json": listing}
    found = surveyed(files)
    assert found["checkpoint.expires_at"] == [moment("2026-03-01T00:00:00+00:00")]
    assert found["checkpoint.ttl_assumed"] == [False]
    reading = read_tinker_listing(memory_source("listing.json", listing.encode()))
    assert [fact.name for fact in reading.facts] == ["checkpoint.listed"]


def test_moments() -> None:
    assert moment("2026-01-10T12:00:00Z") == moment("2026-01-10 12:00:00") == moment(SAVED * 1000)
    assert moment("soon") is None
    assert moment(True) is None


@pytest.mark.skipif(not SAMPLES.exists(), reason="needs the shared samples")
def test_samples() -> None:
    def of(name: str) -> dict[str, list[Any]]:
        root = SAMPLES / name
        sources = [local_source(root, p) for p in sorted(root.iterdir()) if p.is_file()]
        return {f.name: [f.value] for f in survey(sources).facts}

    assert of("tinker-sft")["checkpoint.lasting"] == [1]
    assert of("tinker-sft-old")["checkpoint.ttl_assumed"] == [True]


# --- folders ----------------------------------------------------------------------------------


def test_folders_are_taken_stock_of() -> None:
    files = {
        "checkpoint-100/model.safetensors": "x", "checkpoint-100/trainer_state.json": "{}",
        "checkpoint-100/optimizer.pt": "x", "checkpoint-20/trainer_state.json": "{}",
    }  # fmt: skip
    found = surveyed(files)
    assert found["checkpoint.steps"] == [[20, 100]]
    assert found["checkpoint.last_step"] == [100]
    assert [f["weights"] for f in found["checkpoint.folder"]] == [False, True]
    assert "checkpoint.interrupted_save" not in found


def test_weights_without_state_beside_a_whole_sibling_are_an_interrupted_save() -> None:
    files = {
        "out/checkpoint-1/adapter_model.safetensors": "x",
        "out/checkpoint-1/trainer_state.json": "{}",
        "out/checkpoint-2/adapter_model.safetensors": "x",
    }  # fmt: skip
    assert surveyed(files)["checkpoint.interrupted_save"] == ["out/checkpoint-2"]
    del files["out/checkpoint-1/trainer_state.json"]
    assert "checkpoint.interrupted_save" not in surveyed(files)


def test_folders_copied_without_weights_are_not_interrupted() -> None:
    files = {
        "checkpoint-1/adapter_model.safetensors": "x", "checkpoint-1/trainer_state.json": "{}",
        "checkpoint-2/tokenizer_config.json": "{}",
    }  # fmt: skip
    assert "checkpoint.interrupted_save" not in surveyed(files)


def test_export_lists_what_lies_beside() -> None:
    found = surveyed({"merged/model.safetensors": "x", "merged/config.json": "{}"})
    assert found["export.missing_files"] == [
        ["tokenizer_config.json", "tokenizer.json", "generation_config.json"]
    ]
    assert "export.missing_files" not in surveyed({"checkpoint-1/model.safetensors": "x"})
    assert "export.missing_files" not in surveyed({"adapter_model.safetensors": "x"})


# --- shards -----------------------------------------------------------------------------------


def save(path: Path, tensors: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)


def facts_below(root: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for fact in survey(sources_below(root)).facts:
        found.setdefault(fact.name, []).append(fact.value)
    return found


def sources_below(root: Path) -> list[Source]:
    return [local_source(root, path) for path in sorted(root.rglob("*")) if path.is_file()]


def sharded(root: Path, present: tuple[int, ...]) -> None:
    names = {f"layers.{n}.w": f"model-{n:05d}-of-00003.safetensors" for n in (1, 2, 3)}
    (root / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    for n in present:
        save(root / f"model-{n:05d}-of-00003.safetensors", {f"layers.{n}.w": np.ones(4)})


def test_missing_shards_are_named(tmp_path: Path) -> None:
    sharded(tmp_path, (1, 3))
    found = facts_below(tmp_path)
    assert found["weights.missing_shards"] == [["model-00002-of-00003.safetensors"]]


def test_index_without_any_shard_was_merely_copied(tmp_path: Path) -> None:
    sharded(tmp_path, ())
    found = facts_below(tmp_path)
    assert found["weights.not_copied"] == [3]
    assert "weights.missing_shards" not in found


def test_whole_set_and_leftovers(tmp_path: Path) -> None:
    sharded(tmp_path, (1, 2, 3))
    assert facts_below(tmp_path)["weights.shards_complete"] == [3]
    save(tmp_path / "model-00004-of-00004.safetensors", {"layers.4.w": np.ones(4)})
    assert facts_below(tmp_path)["weights.extra_shards"] == [["model-00004-of-00004.safetensors"]]


def test_name_not_in_its_shard(tmp_path: Path) -> None:
    sharded(tmp_path, (1, 2, 3))
    save(tmp_path / "model-00002-of-00003.safetensors", {"other": np.ones(4)})
    found = facts_below(tmp_path)
    assert found["weights.names_not_in_shard"] == [
        ["layers.2.w (model-00002-of-00003.safetensors)"]
    ]


def test_first_part_of_a_split_gguf_alone_was_merely_copied() -> None:
    assert surveyed({"m-00001-of-00003.gguf": "GGUF"})["weights.not_copied"] == [2]
    files: dict[str, str | bytes] = {
        "m-00001-of-00003.gguf": "GGUF",
        "m-00003-of-00003.gguf": "GGUF",
    }
    assert surveyed(files)["weights.missing_shards"] == [["m-00002-of-00003.gguf"]]


# --- merges: table 0.8 of the catalogue -------------------------------------------------------

RANK, SIZE = 8, 64
MODULES = [f"model.layers.{n}.self_attn.q_proj" for n in range(3)]


def merged_run(
    root: Path, *, factor: float = 1.0, other: bool = False, b: float = 1.0, **config: Any
) -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    base, adapter, merged = {}, {}, {}
    alpha = 16
    scale = alpha / (np.sqrt(RANK) if config.get("use_rslora") else RANK)
    for name in MODULES:
        weights = rng.normal(size=(SIZE, SIZE)).astype(np.float32)
        a = rng.normal(size=(RANK, SIZE)).astype(np.float32) * 0.05
        up = rng.normal(size=(SIZE, RANK)).astype(np.float32) * 0.05 * b
        base[f"{name}.weight"] = weights
        adapter[f"base_model.model.{name}.lora_A.weight"] = a
        adapter[f"base_model.model.{name}.lora_B.weight"] = up
        start = rng.normal(size=(SIZE, SIZE)).astype(np.float32) if other else weights
        merged[f"{name}.weight"] = (start + factor * scale * (up @ a)).astype(np.float32)
    save(root / "base" / "model.safetensors", base)
    save(root / "merged" / "model.safetensors", merged)
    save(root / "adapter" / "adapter_model.safetensors", adapter)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": alpha, "target_modules": ["q_proj"]}
    (root / "adapter" / "adapter_config.json").write_text(json.dumps(settings | config))
    return facts_below(root)


def test_correct_merge(tmp_path: Path) -> None:
    found = merged_run(tmp_path)
    assert found["merge.ratio"][0] == pytest.approx(1.0, abs=0.01)
    assert found["merge.residual"][0] < 0.1
    assert found["merge.identical"] == [False]
    assert found["adapter.fits_base"]


def test_merge_never_applied(tmp_path: Path) -> None:
    found = merged_run(tmp_path, factor=0.0)
    assert (found["merge.identical"], found["merge.ratio"]) == ([True], [0.0])


def test_merge_applied_twice(tmp_path: Path) -> None:
    assert merged_run(tmp_path, factor=2.0)["merge.ratio"][0] == pytest.approx(2.0, abs=0.01)


def test_rslora_scale_is_known(tmp_path: Path) -> None:
    found = merged_run(tmp_path, use_rslora=True)
    assert found["merge.ratio"][0] == pytest.approx(1.0, abs=0.01)
    assert found["merge.rank"] == [RANK]


def test_merge_on_other_weights(tmp_path: Path) -> None:
    assert merged_run(tmp_path, other=True)["merge.residual"][0] > 1.2


def test_untold_folders_are_put_in_order_by_the_sign(tmp_path: Path) -> None:
    merged_run(tmp_path)
    (tmp_path / "base").rename(tmp_path / "b")
    (tmp_path / "merged").rename(tmp_path / "a")
    assert facts_below(tmp_path)["merge.ratio"][0] == pytest.approx(1.0, abs=0.01)


def test_zero_adapter_gives_no_ratio(tmp_path: Path) -> None:
    assert "merge.ratio" not in merged_run(tmp_path, b=0.0)


def test_base_alone_gives_the_size_of_the_update(tmp_path: Path) -> None:
    merged_run(tmp_path)
    (tmp_path / "merged" / "model.safetensors").unlink()
    found = facts_below(tmp_path)
    assert 1e-3 < found["adapter.update_size"][0] < 1.0
    assert "merge.ratio" not in found


def test_rank_of_config_and_file(tmp_path: Path) -> None:
    found = merged_run(tmp_path, r=16)
    assert (found["adapter.rank_in_file"], found["adapter.rank_in_config"]) == ([RANK], [16])
    found = merged_run(tmp_path, r=16, rank_pattern={"q_proj": 8})
    assert "adapter.rank_in_file" not in found


def test_adapter_of_another_size(tmp_path: Path) -> None:
    merged_run(tmp_path)
    wide = {f"{name}.weight": np.ones((SIZE * 2, SIZE * 2), dtype=np.float32) for name in MODULES}
    save(tmp_path / "base" / "model.safetensors", wide)
    (tmp_path / "merged" / "model.safetensors").unlink()
    assert "adapter.base_shape_mismatch" in facts_below(tmp_path)


def test_identical_checkpoints(tmp_path: Path) -> None:
    array = np.arange(4096, dtype=np.float32)
    for step in (100, 200):
        save(tmp_path / f"checkpoint-{step}" / "adapter_model.safetensors", {"a.lora_A.w": array})
    assert facts_below(tmp_path)["checkpoint.identical"] == [["checkpoint-100", "checkpoint-200"]]
    save(tmp_path / "checkpoint-200" / "adapter_model.safetensors", {"a.lora_A.w": array + 1})
    found = facts_below(tmp_path)
    assert found["checkpoint.compared"] == [True]
    assert "checkpoint.identical" not in found


def test_age_of_output_weights(tmp_path: Path) -> None:
    for folder, when in (("out", 2_000_000_000), ("base", 2_100_000_000)):
        save(tmp_path / folder / "model.safetensors", {"w": np.ones(4)})
        os.utime(tmp_path / folder / "model.safetensors", (when, when))
    (tmp_path / "out" / "training_args.bin").write_bytes(b"x")
    facts: tuple[Fact, ...] = survey(sources_below(tmp_path)).facts
    modified = next(f for f in facts if f.name == "weights.modified")
    assert (modified.value, modified.where.path) == (2_000_000_000, "out/model.safetensors")
