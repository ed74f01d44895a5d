"""Walk the messages of an Arrow IPC stream or file, so that no damaged length is believed.

The library that decodes a stream allocates what its metadata asks for, and ends the process when
there is not so much memory. Layout: Arrow columnar format, "IPC streaming format", and
format/Message.fbs; the metadata is a FlatBuffer, of which only tables and vectors are needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"ARROW1"
CONTINUED = b"\xff\xff\xff\xff"
DICTIONARY, BATCH = 2, 3  # MessageHeader
RATIO_LIMIT = 1_000  # unpacked to packed, of one compressed buffer
EMPTY_LIMIT = 1_000_000  # rows of a batch whose columns hold nothing


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a FlatBuffer at its place; what lies outside raises struct.error or ValueError."""

    data: memoryview
    at: int

    @classmethod
    def root(cls, data: memoryview) -> Table:
        """Return the table that a buffer holds."""
        return cls(data, *_unpack("<I", data, 0))

    def _place(self, field: int) -> int:
        (back,) = _unpack("<i", self.data, self.at)
        fields = self.at - back
        (size,) = _unpack("<H", self.data, fields)
        if 4 + 2 * field >= size:
            return 0
        (offset,) = _unpack("<H", self.data, fields + 4 + 2 * field)
        return self.at + offset if offset else 0

    def number(self, field: int, form: str) -> int:
        """Return a scalar; 0 where it is left out."""
        place = self._place(field)
        return int(_unpack(form, self.data, place)[0]) if place else 0

    def table(self, field: int) -> Table | None:
        """Return a table that a field points to."""
        place = self._place(field)
        return Table(self.data, place + _unpack("<I", self.data, place)[0]) if place else None

    def structs(self, field: int, form: str) -> Iterator[tuple[int, ...]]:
        """Yield the structs of a vector."""
        place = self._place(field)
        if not place:
            return
        start = place + _unpack("<I", self.data, place)[0]
        (count,) = _unpack("<I", self.data, start)
        size = struct.calcsize(form)
        if count * size > len(self.data):
            raise ValueError("more entries than its metadata can hold")
        for n in range(count):
            yield _unpack(form, self.data, start + 4 + size * n)


def _unpack(form: str, data: memoryview, at: int) -> tuple[int, ...]:
    if at < 0:
        raise ValueError("a place before its beginning")
    return struct.unpack_from(form, data, at)


def whole_messages(data: bytes) -> tuple[int, str]:
    """Return the end of the last sound message of a stream, and what is wrong after it."""
    view, at = memoryview(data), 0
    while at < len(data):
        start = at + 4 if data[at : at + 4] == CONTINUED else at  # before Arrow 0.15 without
        try:
            (size,) = _unpack("<i", view, start)
            if size == 0:
                return at, ""
            body = start + 4 + size
            if size < 0 or body > len(data):
                return at, f"is cut or damaged at byte {at:,}"
            end = body + _checked(view[start + 4 : body], view[body:])
        except (struct.error, ValueError) as error:
            return at, f"is damaged at byte {at:,}: {error}"
        at = end
    return at, ""


def index_problem(data: bytes) -> str:
    """Return what is wrong with the messages that the index at the end of an IPC file names."""
    view = memoryview(data)
    try:
        if not data.endswith(MAGIC):
            return "is cut: its index is missing"
        (size,) = _unpack("<i", view, len(data) - len(MAGIC) - 4)
        end = len(data) - len(MAGIC) - 4
        if not 0 < size <= end:
            return "is damaged in its index"
        index = Table.root(view[end - size : end])
        for field in (2, 3):  # dictionaries, batches
            for at, length, _ in index.structs(field, "<qi4xq"):
                if at < 0 or length < 8 or at + length > end:
                    return "is damaged: its index points outside of it"
                prefix = 8 if data[at : at + 4] == CONTINUED else 4
                _checked(view[at + prefix : at + length], view[at + length : end])
    except (struct.error, ValueError) as error:
        return f"is damaged: {error}"
    return ""


def _checked(metadata: memoryview, rest: memoryview) -> int:
    """Return the length of a message's body; ValueError if it asks for more than there is."""
    message = Table.root(metadata)
    kind, length = message.number(1, "<B"), message.number(3, "<q")
    if not 0 <= length <= len(rest):
        raise ValueError("a body longer than the file")
    header = message.table(2)
    batch = header.table(1) if header and kind == DICTIONARY else header
    if batch is not None and kind in (DICTIONARY, BATCH):
        _check_batch(batch, rest[:length])
    return length


def _check_batch(batch: Table, body: memoryview) -> None:
    most = 8 * len(body) + EMPTY_LIMIT  # a value takes a bit at least
    packed = batch.table(3) is not None
    sizes = [batch.number(0, "<q"), *(count for count, _ in batch.structs(1, "<qq"))]
    if not all(0 <= size <= most for size in sizes):
        raise ValueError("more rows than its batch can hold")
    for offset, length in batch.structs(2, "<qq"):
        if offset < 0 or length < 0 or offset + length > len(body):
            raise ValueError("a column outside of its batch")
        if packed and length >= 8:
            (unpacked,) = _unpack("<q", body, offset)
            if not -1 <= unpacked <= RATIO_LIMIT * length:
                raise ValueError("a column that unpacks to too much")
