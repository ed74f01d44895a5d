"""Runs that do not lie in a folder of this machine: archives, compressed files, remote prefixes.

Nothing is unpacked to disk: members become sources that are opened, bounded, from the archive.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from ftdoctor.errors import UnreadableRunError
from ftdoctor.read.source import Source

MEMBER_LIMIT = 20_000  # files taken of one archive or prefix
TOTAL_LIMIT = 4 << 30  # bytes of all members together, unpacked
PACKED_LIMIT = 2 << 30  # bytes of a compressed stream that must be unpacked to be listed
RATIO_LIMIT = 1000  # unpacked to packed; deflate cannot exceed 1032, text logs reach about 100
SMALL = 64 << 20  # bytes; below this no ratio is suspicious
SPOOL = (
    32 << 20
)  # bytes of an unpacked stream kept in memory, the rest in an unnamed temporary file

ZIP_NAMES = (".zip",)
TAR_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
PACKED_NAMES = (".gz", ".bz2", ".xz", ".zst")
REMOTE = re.compile(r"^(?P<protocol>[a-z][a-z0-9+.-]+)://", re.IGNORECASE)


def open_place(text: str) -> tuple[str, list[Source]] | None:
    """Return (name for display, files) of an archive, compressed file or remote prefix.

    None if `text` is none of these: a folder or plain file of this machine. UnreadableRunError if
    it is one and cannot be listed.
    """
    if REMOTE.match(text):
        return text, _remote(text)
    path = Path(text).expanduser()
    if not path.is_file():
        return None
    name = path.name.lower()
    try:
        if name.endswith(ZIP_NAMES):
            return str(path), _zip_members(path)
        if name.endswith(TAR_NAMES):
            return str(path), _tar_members(path)
        if name.endswith(PACKED_NAMES):
            return str(path), [_unpacked(path)]
    except UnreadableRunError:
        raise
    except Exception as error:  # zipfile, tarfile, zlib, lzma and zstandard have their own errors
        raise UnreadableRunError(
            f"{path}: the archive is damaged or cut ({error}); copy it again or unpack what is left"
        ) from error
    return None


# --- bounds -----------------------------------------------------------------------------------


def safe_member(name: str) -> str | None:
    """Return a member's path below the archive, None if it is absolute or climbs out of it."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part != "."]
    escapes = path.is_absolute() or ".." in parts or (parts and parts[0].endswith(":"))
    return None if escapes or not parts else "/".join(parts)


def _check_sizes(place: Path, sizes: Iterable[int], packed: int) -> None:
    """Refuse decompression bombs before anything is unpacked."""
    total = 0
    for count, size in enumerate(sizes, start=1):
        total += size
        if count > MEMBER_LIMIT:
            raise UnreadableRunError(
                f"{place}: more than {MEMBER_LIMIT:,} files; unpack it and name the run's folder"
            )
    if total > TOTAL_LIMIT:
        raise UnreadableRunError(
            f"{place}: unpacks to {total:,} bytes, more than {TOTAL_LIMIT:,}; "
            "unpack it and name the run's folder"
        )
    if total > SMALL and total > RATIO_LIMIT * max(1, packed):
        raise UnreadableRunError(
            f"{place}: {packed:,} bytes that unpack to {total:,}: refused as a decompression bomb"
        )


def _without_common_folder(sources: list[Source]) -> list[Source]:
    """Drop the one folder that most archives put around everything."""
    tops = {source.path.partition("/")[0] for source in sources}
    if len(tops) != 1 or any("/" not in source.path for source in sources):
        return sources
    return [
        Source(s.path.partition("/")[2], s.size, s.modified, s.opener, s.local) for s in sources
    ]


# --- archives ---------------------------------------------------------------------------------


def _zip_members(path: Path) -> list[Source]:
    with zipfile.ZipFile(path) as archive:
        members = [
            m for m in archive.infolist()
            if not m.is_dir() and not stat.S_ISLNK(m.external_attr >> 16)
        ]  # fmt: skip
    if any(m.flag_bits & 1 for m in members):
        raise UnreadableRunError(f"{path}: the archive is encrypted; unpack it first")
    _check_sizes(path, (m.file_size for m in members), path.stat().st_size)
    found = []
    for member in members:
        name = safe_member(member.filename)
        if name is not None:
            opener = _zip_opener(path, member)
            found.append(Source(name, member.file_size, _zip_time(member), opener))
    return _without_common_folder(found)


def _zip_opener(path: Path, member: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
    def opener() -> BinaryIO:
        # The member keeps the archive's handle open until it is closed itself.
        with zipfile.ZipFile(path) as archive:
            stream = archive.open(member)
        return _buffered(cast(BinaryIO, stream), 0, member.file_size, owned=True)

    return opener


def _zip_time(member: zipfile.ZipInfo) -> float | None:
    """Return the member's time (no zone is stored: taken as UTC); None for the 1980 placeholder."""
    with suppress(ValueError):
        moment = datetime(*member.date_time, tzinfo=UTC)
        return moment.timestamp() if moment.year > 1980 else None
    return None


def _tar_members(path: Path) -> list[Source]:
    packed = not path.name.lower().endswith(".tar")
    plain = _unpack_stream(path) if packed else None
    with tarfile.open(fileobj=plain) if plain else tarfile.open(path) as archive:
        members = [m for m in islice(archive, MEMBER_LIMIT + 1) if m.isreg()]
    _check_sizes(path, (m.size for m in members), path.stat().st_size)
    found = []
    for member in members:
        name = safe_member(member.name)
        if name is not None and not member.issparse():
            opener = _slice_opener(path, plain, member.offset_data, member.size)
            found.append(Source(name, member.size, member.mtime or None, opener))
    return _without_common_folder(found)


def _slice_opener(
    path: Path, plain: BinaryIO | None, offset: int, size: int
) -> Callable[[], BinaryIO]:
    """Return an opener of one member: a range of the tar file, or of its unpacked form."""

    def opener() -> BinaryIO:
        if plain is not None:
            return _buffered(plain, offset, size, owned=False)
        return _buffered(path.open("rb"), offset, size, owned=True)

    return opener


class _Slice(io.RawIOBase):
    """A range of another stream as a file of its own; damage inside it is an OSError."""

    def __init__(self, stream: BinaryIO, offset: int, size: int, *, owned: bool) -> None:
        super().__init__()
        self._stream, self._offset, self._size = stream, offset, size
        self._owned, self._at = owned, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        want = min(len(buffer), max(0, self._size - self._at))
        try:
            self._stream.seek(self._offset + self._at)
            piece = self._stream.read(want)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise OSError(f"damaged inside the archive: {error}") from error
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        if self._owned and not self.closed:
            self._stream.close()
        super().close()


def _buffered(stream: BinaryIO, offset: int, size: int, *, owned: bool) -> BinaryIO:
    return io.BufferedReader(_Slice(stream, offset, size, owned=owned), 1 << 18)


# --- compressed streams -----------------------------------------------------------------------


def _unpacked(path: Path) -> Source:
    """Return the one file inside `train.log.gz` and the like, under its own name."""
    plain = _unpack_stream(path)
    size = plain.seek(0, io.SEEK_END)
    opener = _slice_opener(path, plain, 0, size)
    return Source(path.name[: path.name.rindex(".")], size, path.stat().st_mtime, opener)


def _unpack_stream(path: Path) -> BinaryIO:
    """Unpack a compressed file into an unnamed temporary file, within the limits."""
    packed = path.stat().st_size
    with _decompressor(path) as stream:
        spool = cast(BinaryIO, tempfile.SpooledTemporaryFile(SPOOL))  # noqa: SIM115
        total = 0
        while piece := stream.read(1 << 20):
            total += len(piece)
            if total > PACKED_LIMIT or (total > SMALL and total > RATIO_LIMIT * max(1, packed)):
                spool.close()
                raise UnreadableRunError(
                    f"{path}: {packed:,} bytes that unpack to more than {total:,}; "
                    "unpack it yourself if you trust it"
                )
            spool.write(piece)
    spool.seek(0)
    return spool


def _decompressor(path: Path) -> BinaryIO:
    name = path.name.lower()
    if name.endswith((".gz", ".tgz")):
        return cast(BinaryIO, gzip.open(path, "rb"))
    if name.endswith((".bz2", ".tbz2")):
        return cast(BinaryIO, bz2.open(path, "rb"))
    if name.endswith((".xz", ".txz")):
        return cast(BinaryIO, lzma.open(path, "rb"))
    try:
        import zstandard
    except ImportError:
        raise UnreadableRunError(
            f"{path}: reading Zstandard needs `pip install 'ftdoctor-forensics[zstd]'`; "
            "or unpack it with `zstd -d` first"
        ) from None
    return cast(BinaryIO, zstandard.open(path, "rb"))


# --- remote -----------------------------------------------------------------------------------


def _remote(text: str) -> list[Source]:
    """Return the files below a remote prefix, or the one file it names, through fsspec."""
    try:
        import fsspec
    except ImportError:
        raise UnreadableRunError(
            f"{text}: reading remote places needs `pip install 'ftdoctor-forensics[remote]'`; "
            "or copy the run here first"
        ) from None
    try:
        system, root = fsspec.core.url_to_fs(text)
        found = list(_remote_files(system, str(root)))
    except UnreadableRunError:
        raise
    except Exception as error:  # each protocol has its own errors: network, rights, packages
        raise UnreadableRunError(
            f"{text}: cannot be listed ({type(error).__name__}: {error}); "
            "check the address and your credentials, or copy the run here first"
        ) from error
    if not found:
        raise UnreadableRunError(f"{text}: nothing lies there; check the address")
    return found


def _remote_files(system: Any, root: str) -> Iterator[Source]:
    info = system.info(root)
    if info.get("type") == "file":
        yield _remote_source(system, root.rsplit("/", 1)[-1], info)
        return
    base = root.rstrip("/") + "/"
    listed = system.find(root, detail=True)
    for count, (name, detail) in enumerate(sorted(listed.items())):
        if count >= MEMBER_LIMIT:
            return
        relative = safe_member(str(name).removeprefix(base).lstrip("/"))
        if relative is not None and detail.get("type", "file") == "file":
            yield _remote_source(system, relative, {**detail, "name": name})


def _remote_source(system: Any, relative: str, info: dict[str, Any]) -> Source:
    name = info["name"]

    def opener() -> BinaryIO:
        return cast(BinaryIO, system.open(name, "rb"))

    return Source(relative, int(info.get("size") or 0), _remote_time(info), opener)


def _remote_time(info: dict[str, Any]) -> float | None:
    for key in ("mtime", "LastModified", "last_modified", "updated", "last_commit"):
        value = info.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, datetime):
            return value.timestamp()
    return None
