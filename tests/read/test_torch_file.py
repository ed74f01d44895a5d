"""Torch files are read by their opcodes: names, shapes, values, and nothing is ever run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from typing import Any

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.pickle_walk import PickleError, walk_pickle
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import memory_source
from ftdoctor.read.torch_file import read_torch_file

ran: list[str] = []


class Bomb:
    """Unpickling this would leave a trace."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("echo ran > /tmp/never",)


class FakeTensor:
    """Pickles as torch does, without torch."""

    def __init__(self, key: str, shape: tuple[int, ...], storage: str = "FloatStorage") -> None:
        self.key, self.shape, self.storage = key, shape, storage

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        stride = tuple(
            int(__import__("math").prod(self.shape[i + 1 :])) for i in range(len(self.shape))
        )
        arguments = (Storage(self), 0, self.shape, stride, False, OrderedDict())
        return sys.modules["torch._utils"]._rebuild_tensor_v2, arguments  # type: ignore[attr-defined]


class Storage:
    def __init__(self, tensor: FakeTensor) -> None:
        self.tensor = tensor


class TorchPickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        kind = getattr(sys.modules["torch"], obj.tensor.storage)
        return ("storage", kind, obj.tensor.key, "cpu", 99)


@pytest.fixture(autouse=True)
def fake_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "BFloat16Storage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*args: Any) -> None:
        ran.append("rebuild")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    TorchPickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def archive(value: Any, storages: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as out:
        out.writestr("adapter_model/data.pkl", pickled(value))
        for key, raw in storages.items():
            out.writestr(f"adapter_model/data/{key}", raw)
    return buffer.getvalue()


def read(content: bytes, name: str = "adapter_model.bin") -> Reading:
    return read_torch_file(memory_source(name, content))


def facts(reading: Reading) -> dict[str, Any]:
    return {fact.name: fact.value for fact in reading.facts}


NAME = "base_model.model.layers.0.q_proj"


def lora_file(b: float) -> bytes:
    state = OrderedDict({
        f"{NAME}.lora_A.weight": FakeTensor("0", (2, 4)),
        f"{NAME}.lora_B.weight": FakeTensor("1", (4, 2)),
    })  # fmt: skip
    return archive(state, {"0": struct.pack("<8f", *[1.0] * 8), "1": struct.pack("<8f", *[b] * 8)})


def test_names_shapes_and_values_of_a_zip() -> None:
    reading = read(lora_file(0.0))
    assert [(t.name, t.dtype, t.shape) for t in reading.tensors] == [
        (f"{NAME}.lora_A.weight", "F32", (2, 4)),
        (f"{NAME}.lora_B.weight", "F32", (4, 2)),
    ]
    assert facts(reading)["weights.lora_b_zero"] == 1
    assert facts(read(lora_file(0.5)))["weights.lora_b_zero"] == 0
    assert facts(read(lora_file(float("nan"))))["weights.nan_tensors"] == [f"{NAME}.lora_B.weight"]
    assert ran == []


def test_nested_checkpoint_and_legacy_form() -> None:
    state = {"model": {"w": FakeTensor("0", (3,), "BFloat16Storage")}, "epoch": 2}
    assert [(t.name, t.dtype) for t in read(archive(state, {})).tensors] == [("model.w", "BF16")]
    system = {"protocol_version": 1001, "little_endian": True}
    legacy = pickled(0x1950A86A20F9469CFC6C) + pickled(1001) + pickled(system) + pickled(state)
    assert [t.name for t in read(legacy).tensors] == ["model.w"]


def test_dangerous_globals_are_named_and_not_run() -> None:
    found = facts(read(pickle.dumps({"w": Bomb()})))
    assert found["security.pickle_globals"] == [f"{os.system.__module__}.system"]
    assert "security.pickle_globals" not in facts(read(lora_file(0.5)))


def test_empty_adapter() -> None:
    content = archive(OrderedDict(), {})
    assert facts(read(content))["weights.empty_file"] == len(content)
    assert "weights.empty_file" not in facts(read(content, "data.pt"))


@pytest.mark.parametrize("cut", [30, 200])
def test_cut_zip(cut: int) -> None:
    reading = read(lora_file(0.5)[:-cut])
    assert reading.state is ArtifactState.DAMAGED
    assert facts(reading)["weights.damage_form"] == "truncated"


@pytest.mark.parametrize(
    "content", [b"\0" * 64, b"<html>", b"hello", b"\x80\x02}", b"\x80\x02\x95"]
)
def test_other_content_is_damage(content: bytes) -> None:
    assert read(content).state is ArtifactState.DAMAGED


def test_lfs_pointer() -> None:
    assert "weights.lfs_pointer" in facts(read(b"version https://git-lfs.github.com/spec/v1\n"))


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "x", b"y"], "b": (1,), "c": {"d": (1, 2, 3, 4)}},
        [set(), frozenset({1}), 10**30, -1],
    ],
)
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_walk_follows_every_protocol(value: Any, protocol: int) -> None:
    root, names = walk_pickle(pickle.dumps(value, protocol))
    assert type(root) is type(value)
    assert len(root) == len(value)
    assert not any(name.dangerous for name in names)


def test_walk_gives_plain_values() -> None:
    value = {"a": [1, 2.5, None, True], "b": {"c": (1, "x")}}
    assert walk_pickle(pickle.dumps(value, 2))[0] == value


def test_nested_keys_do_not_explode() -> None:
    # ((((…),(…)),…) doubles in size 60 times when printed; the memo makes it a few bytes.
    opcodes = b"\x80\x02}(" + b")" + b"q\x00" + b"h\x00\x86q\x00" * 60 + b"Nu."
    root, _ = walk_pickle(opcodes)
    assert list(root) == ["<tuple>"]


def test_garbage_after_any_prefix_raises_only_pickle_error() -> None:
    raw = pickled({"w": FakeTensor("0", (2, 2)), "x": [1, 2, 3]})
    for end in range(2, len(raw)):
        try:
            walk_pickle(raw[:end] + b"\xff\xff")
        except PickleError:
            continue
