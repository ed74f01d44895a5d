"""The chunked integer tests agree with numpy's own on every format and every kind of value."""

from __future__ import annotations

import numpy as np
import pytest

from ftdoctor.read import tensor_values
from ftdoctor.read.reading import Tensor
from ftdoctor.read.source import memory_source
from ftdoctor.read.tensor_values import LAYOUTS, Stats, tensor_stats

FORMATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
SPECIAL = [0.0, -0.0, 1.5, -1.5, 2.0, -60000.0, np.inf, -np.inf, np.nan, -np.nan]


def stats(dtype: str, raw: bytes) -> Stats:
    width = LAYOUTS[dtype].width
    tensor = Tensor("t", dtype, (len(raw) // width,), 3, len(raw))
    return tensor_stats(memory_source("m", b"abc" + raw), [tensor])["t"]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("chunk", [8, 64, 1 << 19])
def test_counts_agree_with_numpy(dtype: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_values, "CHUNK", chunk)
    random = np.random.default_rng(0)
    for chosen in (SPECIAL[:2], SPECIAL[:4], SPECIAL[:6], SPECIAL):
        values = random.choice(np.array(chosen), 501).astype(FORMATS[dtype])
        found = stats(dtype, values.tobytes())
        assert (found.count, found.whole) == (501, True)
        assert found.nan == int(np.isnan(values).sum())
        assert found.inf == int(np.isinf(values).sum())
        assert found.all_zero == (not values.any())


def test_bfloat16_and_float8() -> None:
    words = np.array([0x7F80, 0xFF80, 0x7FC0, 0xFF81, 0x3F80, 0x4000, 0x8000], dtype="<u2")
    found = stats("BF16", words.tobytes())
    assert (found.nan, found.inf) == (2, 2)
    assert stats("F8_E4M3", bytes([0x7E, 0xFE, 0x7F, 0xFF, 0x40])).nan == 2
    assert stats("F8_E4M3", bytes([0x7E, 0xFE])).inf == 0
    assert stats("BF16", words[-1:].tobytes()).all_zero


def test_only_the_beginning_is_no_proof_of_zeros() -> None:
    tensor = Tensor("t", "F32", (64,), 0, 256)
    found = tensor_stats(memory_source("m", bytes(256)), [tensor], sample=16)["t"]
    assert (found.count, found.whole, found.all_zero) == (4, False, False)
