"""The GGUF walk: equal to the gguf library, fast on large vocabularies, honest on damage."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.gguf import AUTO_END_TEXTS, FILE_TYPES, GGML_TYPES, StringArray, read_gguf, walk
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import local_source, memory_source

gguf = pytest.importorskip("gguf")
SHARED = Path(__file__).parents[3] / "shared"
SAMPLES = SHARED / "formats" / "samples" / "gguf"
VOCABULARIES = SHARED / "corpus" / "gguf"


def facts(reading: Reading) -> dict[str, Any]:
    return {fact.name: fact.value for fact in reading.facts}


def write(path: Path, tokens: int = 50, template: str = "", blocks: int = 2) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(2048)
    writer.add_file_type(1)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    names = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    writer.add_token_list(names + [f"t{i}" for i in range(tokens - 5)])
    writer.add_token_types([2, 3, 3, 3, 3] + [1] * (tokens - 5))
    writer.add_token_merges([f"a{i} b{i}" for i in range(tokens)])
    writer.add_eos_token_id(2)
    writer.add_bos_token_id(1)
    writer.add_add_bos_token(False)
    if template:
        writer.add_chat_template(template)
    writer.add_tensor("token_embd.weight", np.ones((tokens, 4), dtype=np.float32))
    for block in range(blocks):
        writer.add_tensor(f"blk.{block}.attn_q.weight", np.ones((4, 4), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read(path: Path) -> Reading:
    return read_gguf(local_source(path.parent, path))


def test_type_table_is_that_of_the_library() -> None:
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {k: v for k, v in GGML_TYPES.items() if k in theirs} == {
        k: v for k, v in theirs.items() if k in GGML_TYPES
    }
    names = {
        int(f): f.name.removeprefix("MOSTLY_").removeprefix("ALL_") for f in gguf.LlamaFileType
    }
    assert {k: v for k, v in FILE_TYPES.items() if names.get(k, v) != v} == {}


def test_equals_the_library_reader(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", template="{{ messages }}<|im_end|>")
    theirs = gguf.GGUFReader(path)
    ours = walk(local_source(tmp_path, path))
    assert [(t.name, t.offset, t.nbytes) for t in ours.tensors] == [
        (t.name, t.data_offset, t.n_bytes) for t in theirs.tensors
    ]
    assert [list(t.shape) for t in ours.tensors] == [
        [int(n) for n in t.shape][::-1] for t in theirs.tensors
    ]
    for name, value in ours.values.items():
        field = theirs.fields[name]
        if isinstance(value, StringArray):
            assert len(value) == len(field.data)
        elif isinstance(value, tuple):
            assert list(value) == list(field.contents())[: len(value)]
        else:
            assert value == field.contents()
    raw = path.read_bytes()
    tokens = theirs.fields["tokenizer.ggml.tokens"].contents()
    for number in (0, 3, 49):
        at = ours.tokens_at[number]
        (length,) = struct.unpack_from("<Q", raw, at)
        assert raw[at + 8 : at + 8 + length].decode() == tokens[number]


def test_vocabulary_facts(tmp_path: Path) -> None:
    found = facts(read(write(tmp_path / "m.gguf", template="x<|im_end|>")))
    assert (found["gguf.eos_token_id"], found["gguf.eos_token"]) == (2, "</s>")
    assert found["gguf.end_texts"] == {"</s>": "control", "<|im_end|>": "control"}
    assert found["gguf.vocab_size"] == found["gguf.embedding_rows"] == 50
    assert found["gguf.chat_template"] == "x<|im_end|>"
    assert found["gguf.file_type"] == "F16"
    assert "gguf.missing_blocks" not in found


def test_missing_block(tmp_path: Path) -> None:
    assert facts(read(write(tmp_path / "m.gguf", blocks=1)))["gguf.missing_blocks"] == [1]


def test_150k_tokens_are_walked_in_a_blink(tmp_path: Path) -> None:
    source = local_source(tmp_path, write(tmp_path / "m.gguf", tokens=150_000))
    begin = time.perf_counter()
    file = walk(source)
    assert len(file.tokens_at) == 150_000
    # Measured 0.08 s for tokens and as many merges; other work on the machine needs room.
    assert time.perf_counter() - begin < 1.5


def test_every_cut_is_reported_and_none_raises(tmp_path: Path) -> None:
    raw = write(tmp_path / "m.gguf").read_bytes()
    for end in range(0, len(raw) - 1, 37):
        reading = read_gguf(memory_source("m.gguf", raw[:end]))
        assert reading.state is ArtifactState.DAMAGED, end


def test_every_corrupt_byte_is_survived(tmp_path: Path) -> None:
    raw = bytearray(write(tmp_path / "m.gguf", tokens=8).read_bytes())
    for at in range(0, 900, 3):
        broken = bytes(raw[:at]) + b"\xff" * 4 + bytes(raw[at + 4 :])
        assert read_gguf(memory_source("m.gguf", broken)).state in tuple(ArtifactState)


def test_cut_in_data_names_bytes_and_tensors(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:-20])
    found = facts(read(path))
    assert found["weights.lost_tensors"] == ["blk.1.attn_q.weight"]
    assert found["weights.truncated_bytes"] == 20


def test_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_context_length(77)
    writer.add_tensor("token_embd.weight", np.ones((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = facts(read(path))
    assert (found["gguf.byte_order"], found["gguf.context_length"]) == ("big", 77)


def test_nan_in_float_tensors(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("output_norm.weight", np.array([1, np.nan], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert facts(read(path))["weights.nan_tensors"] == ["output_norm.weight"]


def test_special_id_out_of_range(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list(["a", "b"])
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert facts(read(path))["gguf.eos_out_of_range"] == 2


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"ggjt" + b"\0" * 50, b"GGUF", b"<html>"])
def test_other_content(content: bytes) -> None:
    assert read_gguf(memory_source("m.gguf", content)).state is ArtifactState.DAMAGED


def test_nested_arrays_are_bounded() -> None:
    raw = (
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<I", 9)
    )
    raw += struct.pack("<IQ", 9, 1) * 40
    assert read_gguf(memory_source("m.gguf", raw)).state is ArtifactState.DAMAGED


def test_end_texts_hold_the_usual_ones() -> None:
    assert {"</s>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>"} <= AUTO_END_TEXTS


@pytest.mark.skipif(not SAMPLES.exists(), reason="needs the shared samples")
def test_samples() -> None:
    for version in (1, 2, 3):
        found = facts(read(SAMPLES / f"tiny_v{version}.gguf"))
        assert found["gguf.version"] == version
        assert found["gguf.vocab_size"] == 7
        assert found["gguf.eos_token_id"] == 2
    assert (
        facts(read(SAMPLES / "truncated_in_metadata.gguf"))["gguf.damage_form"]
        == "truncated-header"
    )
    assert facts(read(SAMPLES / "truncated_in_data.gguf"))["weights.truncated_bytes"] == 100
    assert "gguf.chat_template" not in facts(read(SAMPLES / "no_chat_template.gguf"))
    assert facts(read(SAMPLES / "nan_f32.gguf"))["weights.nan_tensors"] == ["token_embd.weight"]
    assert facts(read(SAMPLES / "model-00001-of-00002.gguf"))["gguf.split_count"] == 2


@pytest.mark.skipif(not VOCABULARIES.exists(), reason="needs the shared corpus")
def test_vocabulary_only_files_are_sound() -> None:
    for path in VOCABULARIES.glob("*.gguf"):
        reading = read(path)
        assert reading.state is ArtifactState.READ
        assert facts(reading)["gguf.tensor_count"] == 0
        assert facts(reading)["gguf.vocab_size"] > 30_000
