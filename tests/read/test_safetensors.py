"""Headers, damage, adapters and values of safetensors files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.reading import Reading
from ftdoctor.read.safetensors import read_header, read_index, read_safetensors
from ftdoctor.read.source import local_source, memory_source

SAMPLES = Path(__file__).parents[3] / "shared" / "formats" / "samples" / "safetensors"

BF16_NAN = 0x7FC0


def pack(tensors: dict[str, tuple[str, tuple[int, ...], bytes]], *, pad: int = 0) -> bytes:
    """Return a safetensors file of name → (dtype, shape, bytes)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode() + b" " * pad
    return struct.pack("<Q", len(text)) + text + data


def f32(*values: float) -> bytes:
    return np.array(values, dtype="<f4").tobytes()


def lora(b: float = 0.5, rank: int = 2) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    return {
        f"{name}.lora_A.weight": ("F32", (rank, 4), f32(*[0.1] * 4 * rank)),
        f"{name}.lora_B.weight": ("F32", (4, rank), f32(*[b] * 4 * rank)),
    }


def read(content: bytes, name: str = "model.safetensors") -> Reading:
    return read_safetensors(memory_source(name, content))


def facts(reading: Reading) -> dict[str, Any]:
    return {fact.name: fact.value for fact in reading.facts}


GOOD = pack({"a": ("F32", (2,), f32(1, 2)), "b": ("F16", (2, 2), b"\0" * 8)})


def test_sound_file() -> None:
    reading = read(GOOD)
    assert reading.state is ArtifactState.READ
    assert [(t.name, t.dtype, t.shape, t.nbytes) for t in reading.tensors] == [
        ("a", "F32", (2,), 8),
        ("b", "F16", (2, 2), 8),
    ]
    assert reading.tensors[0].offset == len(GOOD) - 16
    assert "weights.damage" not in facts(reading)


def test_header_padding_is_allowed() -> None:
    assert read(pack(lora(), pad=7)).state is ArtifactState.READ


def test_first_header_byte_that_looks_like_a_web_page_is_no_damage() -> None:
    for pad in range(256):
        content = pack(lora(), pad=pad)
        if content[:1] == b"<":
            assert read(content).state is ArtifactState.READ
            return
    pytest.fail("no header length gave the byte")


def test_cut_data_names_bytes_and_lost_tensors() -> None:
    reading = read(GOOD[:-5])
    assert reading.state is ArtifactState.DAMAGED
    assert "5 bytes early" in reading.reason
    assert facts(reading)["weights.truncated_bytes"] == 5
    assert facts(reading)["weights.lost_tensors"] == ["b"]
    assert len(reading.tensors) == 2


def test_cut_header_counts_what_is_missing() -> None:
    reading = read(GOOD[:40])
    assert facts(reading)["weights.damage_form"] == "truncated-header"
    assert facts(reading)["weights.truncated_bytes"] > 0


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"", "empty"),
        (b"abc", "truncated-header"),
        (b"\0" * 500, "zeros"),
        (struct.pack("<Q", 1 << 40) + b"{}", "bad-header-length"),
        (struct.pack("<Q", 10) + b"{not json}", "bad-header"),
        (struct.pack("<Q", 4) + b"\0" * 4, "bad-header"),
        (b"<!DOCTYPE html><html>Not found</html>", "html"),
        (b"PK\x03\x04" + b"\0" * 100, "torch-zip"),
        (b"GGUF\x03\0\0\0" + b"\0" * 100, "gguf"),
        (GOOD + b"x", "trailing"),
        (pack({"a": ("F32", (3,), b"\0" * 8)}), "bad-entry"),
        (struct.pack("<Q", 9) + b'{"a": {}}', "bad-entry"),
    ],
)
def test_forms_of_damage(content: bytes, form: str) -> None:
    reading = read(content)
    assert reading.state is ArtifactState.DAMAGED
    assert facts(reading)["weights.damage_form"] == form
    assert reading.reason


def test_hole_and_overlap_are_named() -> None:
    for second in ([16, 24], [4, 12]):
        header = json.dumps({
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": second},
        }).encode()  # fmt: skip
        content = struct.pack("<Q", len(header)) + header + b"\0" * second[1]
        assert facts(read(content))["weights.damage_form"] == "offsets"


def test_lfs_pointer_is_no_damage() -> None:
    reading = read(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in reading.reason
    assert "weights.damage" not in facts(reading)
    assert "weights.lfs_pointer" in facts(reading)


def test_empty_list_of_tensors_is_a_fact_not_damage() -> None:
    content = pack({})
    assert read(content, "adapter_model.safetensors").state is ArtifactState.READ
    assert facts(read(content))["weights.empty_file"] == len(content)


def test_unknown_dtype_is_not_damage() -> None:
    assert read(pack({"a": ("F7_NEW", (5,), b"\0" * 3)})).state is ArtifactState.READ


def test_nan_and_inf_are_found_by_tensor() -> None:
    content = pack({
        "fine": ("BF16", (2,), struct.pack("<2H", 0x3F80, 0)),
        "bad": ("BF16", (2,), struct.pack("<2H", 0x3F80, BF16_NAN)),
        "half": ("F16", (1,), struct.pack("<H", 0x7C00)),
        "wide": ("F64", (1,), struct.pack("<d", float("nan"))),
        "eight": ("F8_E4M3", (2,), b"\x7e\x7f"),
        "codes": ("U8", (4,), b"\xff" * 4),
    })  # fmt: skip
    found = facts(read(content))
    assert found["weights.nan_tensors"] == ["bad", "wide", "eight"]
    assert found["weights.inf_tensors"] == ["half"]
    assert found["weights.checked_tensors"] == 5


def test_largest_finite_fp8_is_finite() -> None:
    content = pack({"e4m3": ("F8_E4M3", (1,), b"\x7e"), "e5m2": ("F8_E5M2", (1,), b"\x7b")})
    assert facts(read(content))["weights.nan_tensors"] == []
    assert facts(read(content))["weights.inf_tensors"] == []


def test_adapter_shapes_and_names() -> None:
    found = facts(read(pack(lora(rank=2)), "adapter_model.safetensors"))
    assert found["weights.lora_rank"] == 2
    assert found["weights.lora_modules"] == ["q_proj"]
    assert found["weights.lora_layers"] == 1
    assert (found["weights.lora_b_count"], found["weights.lora_b_zero"]) == (1, 0)


def test_zero_b_is_counted() -> None:
    assert facts(read(pack(lora(b=0.0))))["weights.lora_b_zero"] == 1


def test_single_nonzero_b_value_counts_as_trained() -> None:
    tensors = lora(b=0.0)
    name = next(n for n in tensors if "lora_B" in n)
    tensors[name] = ("F32", (4, 2), f32(*[0.0] * 7, 1e-30))
    assert facts(read(pack(tensors)))["weights.lora_b_zero"] == 0


def test_modules_to_save_are_no_fault() -> None:
    tensors = lora() | {"base_model.model.lm_head.weight": ("F32", (2, 2), f32(1, 2, 3, 4))}
    found = facts(read(pack(tensors)))
    assert found["weights.adapter_other_tensors"] == ["base_model.model.lm_head.weight"]
    assert "weights.lora_unpaired" not in found


def test_unpaired_and_mismatched_matrices() -> None:
    tensors = lora()
    name = next(n for n in tensors if "lora_B" in n)
    del tensors[name]
    assert "weights.lora_unpaired" in facts(read(pack(tensors)))
    tensors[name] = ("F32", (4, 3), f32(*[1.0] * 12))
    assert "weights.lora_bad_shapes" in facts(read(pack(tensors)))


def test_zero_matrix_is_reported_but_zero_bias_and_norm_are_not() -> None:
    content = pack({
        "model.embed_tokens.weight": ("F32", (2,), f32(0, 0)),
        "model.layers.0.q_proj.bias": ("F32", (2,), f32(0, 0)),
        "model.layers.0.input_layernorm.weight": ("F32", (2,), f32(0, 0)),
    })  # fmt: skip
    assert facts(read(content))["weights.zero_tensors"] == ["model.embed_tokens.weight"]


def test_index() -> None:
    text = json.dumps({"metadata": {"total_size": 8}, "weight_map": {"a": "x.safetensors"}})
    reading = read_index(memory_source("model.safetensors.index.json", text.encode()))
    assert facts(reading)["weights.index_total_size"] == 8
    broken = read_index(memory_source("model.safetensors.index.json", text[:30].encode()))
    assert broken.state is ArtifactState.DAMAGED


def test_agrees_with_the_safetensors_library(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    arrays = {f"layer.{i}.weight": np.full((3, i + 1), i, dtype=np.float32) for i in range(5)}
    path = tmp_path / "model.safetensors"
    safetensors.save_file(arrays, path)
    header = read_header(local_source(tmp_path, path))
    assert header.problem == ""
    assert {t.name: t.shape for t in header.tensors} == {n: a.shape for n, a in arrays.items()}


@pytest.mark.skipif(not SAMPLES.exists(), reason="needs the shared samples")
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("ok", None), ("lora_B_all_zero", None), ("nan_bf16", None), ("offset_hole", "offsets"),
        ("huge_header_len", "bad-header-length"), ("truncated_data", "truncated"),
        ("truncated_header", "truncated-header"),
    ],
)  # fmt: skip
def test_samples(name: str, form: str | None) -> None:
    reading = read_safetensors(local_source(SAMPLES, SAMPLES / f"{name}.safetensors"))
    assert facts(reading).get("weights.damage_form") == form


def test_layers_of_an_adapter_inside_a_full_model_are_named() -> None:
    wrapped = "model.layers.0.self_attn.q_proj.base_layer.weight"
    assert facts(read(pack({wrapped: ("F32", (2,), f32(1, 2)), **lora()})))[
        "weights.wrapped_layers"
    ] == [wrapped]
    assert "weights.wrapped_layers" not in facts(read(pack(lora()), "adapter_model.safetensors"))
