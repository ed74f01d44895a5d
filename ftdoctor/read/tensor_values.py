"""Test the values of stored tensors in chunks, as integers, at memory speed whatever the size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from ftdoctor.read.reading import Tensor
from ftdoctor.read.source import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK = 1 << 19  # bytes read at once: they stay in the processor's cache for all the tests
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
    """Counts over the values looked at of one tensor; `whole` says whether that was all of it.

    `only_zeros` says whether all values looked at are zero, of either sign.
    """

    count: int
    nan: int
    inf: int
    only_zeros: bool
    whole: bool

    @property
    def all_zero(self) -> bool:
        """Say whether every value looked at is zero (and all were looked at)."""
        return self.whole and self.count > 0 and self.only_zeros


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
    """Read and test a tensor piece by piece; only a piece that may hold a NaN is counted through.

    All bits joined by OR tell of most pieces that they do not: a NaN or infinity has the highest
    bit of the exponent, which weights below 2 have not. For the others, the largest value without
    its sign is the larger of two maxima: as signed integers the positive values come out on top,
    as unsigned ones the negative.
    """
    import numpy as np

    stream.seek(tensor.offset)
    buffer = bytearray(min(CHUNK, size))
    whole = np.frombuffer(buffer, dtype=f"<u{layout.width}", count=len(buffer) // layout.width)
    sign = layout.magnitude + 1
    count = nan = inf = 0
    only_zeros = True
    left = size
    while left > 0 and (got := stream.readinto(memoryview(buffer)[: min(CHUNK, left)])):  # type: ignore[attr-defined]
        left -= got
        values = whole[: got // layout.width]
        if not values.size:
            break
        count += values.size
        joined = int(np.bitwise_or.reduce(values)) & layout.magnitude
        only_zeros = only_zeros and joined == 0
        if joined & (sign >> 1) and _largest(values, sign) >= layout.infinity:
            magnitudes = values & np.asarray(layout.magnitude, dtype=values.dtype)
            nan += int(np.count_nonzero(magnitudes > layout.infinity))
            if layout.has_infinity:
                inf += int(np.count_nonzero(magnitudes == layout.infinity))
    if left > 0:
        raise OSError("the file became shorter while it was read: read it again when it is at rest")
    return Stats(count, nan, inf, only_zeros, whole=size >= tensor.nbytes)


def _largest(values: NDArray[np.unsignedinteger[Any]], sign: int) -> int:
    """Return the largest of the values without their sign bit."""
    signed = values.view(values.dtype.str.replace("u", "i"))
    return max(int(signed.max()), int(values.max()) - sign)


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
