"""Test the values of stored tensors in chunks, as integers, at memory speed whatever the size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from ftdoctor.read.reading import Tensor
from ftdoctor.read.source import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK = 1 << 24  # bytes read at once
DISTANT = 64 << 20  # bytes; larger files in archives and remote places are not tested
SAMPLE = 1 << 18  # bytes looked at per tensor when a file is too large to be read whole


@dataclass(frozen=True, slots=True)
class Layout:
    """An IEEE-like number format as unsigned integers: width in bytes and the exponent's bits.

    A value without its sign bit above `infinity` is NaN; equal to it, infinite. Formats without
    infinities (F8_E4M3) have the largest finite value there and count it as none.
    """

    width: int
    magnitude: int
    infinity: int
    has_infinity: bool = True


# https://onnx.ai/onnx/technical/float8.html for the two 8-bit formats; E4M3 is the "FN" variant.
LAYOUTS: Mapping[str, Layout] = {
    "F64": Layout(8, 0x7FFF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000),
    "F32": Layout(4, 0x7FFF_FFFF, 0x7F80_0000),
    "F16": Layout(2, 0x7FFF, 0x7C00),
    "BF16": Layout(2, 0x7FFF, 0x7F80),
    "F8_E5M2": Layout(1, 0x7F, 0x7C),
    "F8_E4M3": Layout(1, 0x7F, 0x7E, has_infinity=False),
}


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts over the values looked at of one tensor; `whole` says whether that was all of it."""

    count: int
    nan: int
    inf: int
    zero: int
    whole: bool

    @property
    def all_zero(self) -> bool:
        """Say whether every value looked at is zero (and all were looked at)."""
        return self.whole and self.count > 0 and self.zero == self.count


def tensor_stats(
    source: Source, tensors: Iterable[Tensor], *, sample: int | None = None
) -> dict[str, Stats]:
    """Return counts of NaN, infinite and zero values by tensor name.

    Tensors of formats that hold no NaN (integers, block-quantised) and tensors that reach beyond
    the end of the file are left out. With `sample`, only so many first bytes of each are read.
    """
    found: dict[str, Stats] = {}
    wanted = sorted(tensors, key=lambda t: t.offset)
    with source.open() as stream:
        for tensor in wanted:
            layout = LAYOUTS.get(tensor.dtype)
            if layout is None or tensor.offset + tensor.nbytes > source.size:
                continue
            size = tensor.nbytes if sample is None else min(tensor.nbytes, sample)
            size -= size % layout.width
            found[tensor.name] = _count(stream, tensor, layout, size)
    return found


def affordable_stats(source: Source, tensors: Sequence[Tensor], budget: int) -> dict[str, Stats]:
    """Return stats of whole tensors if they fit the budget of bytes, else of their beginnings.

    A NaN that training wrote fills whole tensors (the clipping factor is shared by all), so the
    beginning of each tells nearly as much as the whole: judgement. Empty for files that would have
    to be fetched or unpacked for it.
    """
    total = sum(t.nbytes for t in tensors)
    if source.local is None and total > DISTANT:
        return {}
    if total <= budget:
        return tensor_stats(source, tensors)
    sample = min(SAMPLE, budget // max(1, len(tensors)))
    return tensor_stats(source, tensors, sample=max(sample, 4096))


def _count(stream: BinaryIO, tensor: Tensor, layout: Layout, size: int) -> Stats:
    import numpy as np

    stream.seek(tensor.offset)
    count = nan = inf = zero = 0
    left = size
    while left > 0:
        piece = stream.read(min(CHUNK, left))
        left -= CHUNK
        values = np.frombuffer(piece, dtype=f"<u{layout.width}", count=len(piece) // layout.width)
        values = values & np.asarray(layout.magnitude, dtype=values.dtype)
        count += values.size
        zero += values.size - int(np.count_nonzero(values))
        if values.size and int(values.max()) >= layout.infinity:
            nan += int(np.count_nonzero(values > layout.infinity))
            if layout.has_infinity:
                inf += int(np.count_nonzero(values == layout.infinity))
    return Stats(count, nan, inf, zero, whole=size >= tensor.nbytes)


def matrix_rows(source: Source, tensor: Tensor, rows: int) -> NDArray[np.float32] | None:
    """Return the first rows of a matrix [rows, columns] as float32; None if its format has none."""
    import numpy as np

    width = LAYOUTS[tensor.dtype].width if tensor.dtype in LAYOUTS else 0
    if width < 2 or len(tensor.shape) != 2 or 0 in tensor.shape:
        return None
    rows = min(rows, tensor.shape[0])
    with source.open() as stream:
        stream.seek(tensor.offset)
        raw = stream.read(rows * tensor.shape[1] * width)
    if len(raw) != rows * tensor.shape[1] * width:
        return None
    if tensor.dtype == "BF16":
        flat = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        flat = np.frombuffer(raw, dtype=f"<f{width}").astype(np.float32)
    return flat.reshape(rows, tensor.shape[1])
