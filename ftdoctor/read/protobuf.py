"""The few rules of protobuf's wire format that TensorBoard and W&B files need."""

from __future__ import annotations

import struct
from collections.abc import Iterator

Value = int | float | bytes
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def fields(data: bytes) -> Iterator[tuple[int, int, Value]]:
    """Yield (field number, wire type, value) of a message; ValueError if it is cut or none.

    Fixed-width values come as raw bytes' integers; `as_double` and `as_float` give the numbers.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield number, wire, value
        elif wire == BYTES:
            size, at = _varint(data, at)
            if size > end - at:
                raise ValueError("a field is longer than its message")
            yield number, wire, data[at : at + size]
            at += size
        elif wire in (FIXED64, FIXED32):
            width = 8 if wire == FIXED64 else 4
            if width > end - at:
                raise ValueError("a number is cut")
            yield number, wire, data[at : at + width]
            at += width
        else:
            raise ValueError(f"unknown wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value & (1 << 64) - 1, at
        shift += 7
    raise ValueError("a number is cut or too long")


def signed(value: Value) -> int:
    """Return a varint as the signed 64-bit number that it stands for; ValueError for no varint."""
    if not isinstance(value, int):
        raise ValueError("a field is of the wrong type")
    return value - (1 << 64) if value >= 1 << 63 else value


def as_float(value: Value) -> float:
    """Return the number in four little-endian bytes."""
    return float(struct.unpack("<f", _bytes(value, 4))[0])


def as_double(value: Value) -> float:
    """Return the number in eight little-endian bytes."""
    return float(struct.unpack("<d", _bytes(value, 8))[0])


def text(value: Value) -> str:
    """Return bytes as text."""
    return _bytes(value).decode("utf-8", errors="replace")


def _bytes(value: Value, size: int | None = None) -> bytes:
    if not isinstance(value, bytes) or (size is not None and len(value) != size):
        raise ValueError("a field is of the wrong type")
    return value
