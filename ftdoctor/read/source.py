"""One file to be read, wherever it lies: bounded and forgiving access to its bytes and lines."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

TEXT_LIMIT = 64 << 20  # bytes; a settings file or tokenizer is far smaller (largest seen: 17 MB)
LINE_LIMIT = 1 << 20  # characters kept of one line; the rest is dropped and counted


@dataclass(frozen=True)
class Source:
    """A file of a run: its path relative to the run (posix), size, mtime, and how to open it.

    `local` is the file on this machine if there is one (for mmap); remote and archived files have
    none and are opened through `opener`.
    """

    path: str
    size: int
    modified: float | None
    opener: Callable[[], BinaryIO]
    local: Path | None = None

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    def open(self) -> BinaryIO:
        """Open for reading bytes; the caller closes."""
        return self.opener()

    def head(self, size: int = 4096) -> bytes:
        """Return the first bytes."""
        with self.open() as stream:
            return stream.read(size)

    def data(self, limit: int = TEXT_LIMIT) -> bytes:
        """Return the whole content; ValueError if it is larger than `limit`."""
        if self.size > limit:
            raise ValueError(f"larger than the limit of {limit:,} bytes")
        with self.open() as stream:
            return stream.read(limit + 1)

    def text(self, limit: int = TEXT_LIMIT) -> str:
        """Return the whole content decoded by `decode`."""
        return decode(self.data(limit))

    def digest(self, limit: int = 1 << 20) -> str:
        """Return SHA-256 of size, first and last `limit` bytes: cheap on weights, exact on logs."""
        digest = hashlib.sha256(str(self.size).encode())
        with self.open() as stream:
            digest.update(stream.read(limit))
            if self.size > limit:
                stream.seek(max(limit, self.size - limit))
                digest.update(stream.read(limit))
        return digest.hexdigest()

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield (line number from 1, text without its end) for LF, CRLF; CR stays inside the text.

        UTF-8 with BOM, UTF-16 with BOM and undecodable bytes are accepted; NUL runs are removed.
        A line longer than LINE_LIMIT is cut.
        """
        with self.open() as raw:
            start = raw.read(4)
        encoding = encoding_of(start)
        with self.open() as raw:
            stream = io.TextIOWrapper(raw, encoding=encoding, errors="replace", newline="\n")
            for number, line in enumerate(stream, start=1):
                text = line.rstrip("\r\n")
                if "\0" in text:
                    text = text.replace("\0", "")
                yield number, text[:LINE_LIMIT]


def encoding_of(start: bytes) -> str:
    """Guess the encoding from a byte order mark, UTF-8 if there is none."""
    if start.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    return "utf-8"


def decode(data: bytes) -> str:
    """Decode by `encoding_of`, replacing what cannot be decoded."""
    return data.decode(encoding_of(data[:4]), errors="replace")


def local_source(root: Path, path: Path) -> Source:
    """Return a source for a local file below `root`."""
    stat = path.stat()
    return Source(
        path=path.relative_to(root).as_posix(),
        size=stat.st_size,
        modified=stat.st_mtime,
        opener=partial(_open, path),  # unlike a lambda it goes to another process
        local=path,
    )


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def memory_source(path: str, content: bytes, modified: float | None = None) -> Source:
    """Return a source for bytes in memory (examples, archives, standard input)."""
    return Source(path, len(content), modified, lambda: io.BytesIO(content))
