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
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from ftdoctor.errors import UnreadableRunError
from ftdoctor.read.source import Source

MEMBER_LIMIT = 20_000  # files taken of one archive or prefix
TOTAL_LIMIT = 4 << 30  # bytes of all members together, unpacked
PACKED_LIMIT = 2 << 30  # bytes of a compressed stream that must be unpacked to be listed
INSIDE_LIMIT = 256 << 20  # bytes of an archive that lies in a run, packed and unpacked
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


def inside(source: Source) -> tuple[list[Source], str] | None:
    """Return what a compressed file or archive inside a run holds, or nothing and the reason.

    None if the file is neither. A compressed log goes by its own name without the suffix, members
    of an archive by theirs below the archive's.
    """
    path, name = source.local, source.name.lower()
    if path is None or not name.endswith((*ZIP_NAMES, *TAR_NAMES, *PACKED_NAMES)):
        return None
    if source.size > INSIDE_LIMIT:
        return [], f"an archive of {source.size:,} bytes: unpack it to have it read"
    try:
        found = open_place(str(path))
    except UnreadableRunError as error:
        return [], str(error).removeprefix(f"{path}: ")
    members = found[1] if found else []
    if sum(member.size for member in members) > INSIDE_LIMIT:
        return [], f"holds more than {INSIDE_LIMIT:,} bytes: unpack it to have it read"
    folder = source.path.rpartition("/")[0]
    if not name.endswith((*ZIP_NAMES, *TAR_NAMES)):
        return [replace(m, path=f"{folder}/{m.path}".lstrip("/")) for m in members], ""
    return [replace(m, path=f"{source.path}/{m.path}") for m in members], ""


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

FETCHED_WHOLE = 4 << 20  # bytes; smaller files are fetched once and kept, of others only ranges
FETCHED_KEPT = 32
BLOCK = 1 << 20  # bytes asked for at once; S3's own default of 50 MB is for reading on
CONNECT_SECONDS, ANSWER_SECONDS = 15, 60
# What the errors of the protocols' packages mean, by the name of their class.
_HINTS = (
    (r"NoCredentials|PartialCredentials|DefaultCredentials|TokenRetrieval",
     "no credentials were found: set them as for the protocol's own tools"),
    (r"Permission|Forbidden|AccessDenied|Unauthorized|SignatureDoesNotMatch|Gated",
     "access was denied: check the credentials"),
    (r"Connect|Timeout|DNS|Unreachable|gaierror|ServerDisconnected",
     "the place cannot be reached: check the address and the network"),
    (r"NotFound|NoSuch|\b404\b", "nothing lies there: check the address"),
)  # fmt: skip


def _remote(text: str) -> list[Source]:
    """Return the files below a remote prefix, or the one file it names, through fsspec."""
    protocol = text.partition(":")[0].lower()
    try:
        import fsspec

        system, root = fsspec.core.url_to_fs(text, **_options(protocol))
    except ImportError as error:
        raise UnreadableRunError(
            f"{text}: a package for {protocol}:// is missing ({_one_line(error)}): "
            "`pip install 'ftdoctor-forensics[remote]'`, or copy the run here first"
        ) from None
    except ValueError as error:
        raise UnreadableRunError(f"{text}: {_one_line(error)}; check the address") from None
    try:
        found = list(_remote_files(system, str(root)))
    except UnreadableRunError:
        raise
    except Exception as error:  # each protocol has its own errors: network, rights, names
        raise UnreadableRunError(
            f"{text}: {_hint(error)} ({_one_line(error)}), or copy the run here first"
        ) from error
    if not found:
        raise UnreadableRunError(f"{text}: nothing lies there; check the address")
    return found


def _options(protocol: str) -> dict[str, Any]:
    """Return options that keep a place that does not answer from holding up for minutes."""
    if protocol in ("http", "https"):
        from aiohttp import ClientTimeout

        limit = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS)
        return {"client_kwargs": {"timeout": limit}}
    if protocol in ("s3", "s3a"):
        limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": ANSWER_SECONDS}
        return {"config_kwargs": {**limits, "retries": {"max_attempts": 1}}}
    return {}


def _hint(error: Exception) -> str:
    # fsspec says of any trouble with a web server that the file was not found; the cause says more.
    cause = error.__cause__ or error
    named = f"{type(error).__name__} {error} {type(cause).__name__} {cause}"
    return next((hint for mark, hint in _HINTS if re.search(mark, named)), "cannot be listed")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _remote_files(system: Any, root: str) -> Iterator[Source]:
    info = system.info(root)
    # A web server answers for a folder with a page that lists it.
    page = str(info.get("url", "")).endswith("/") and "html" in str(info.get("mimetype"))
    if info.get("type") == "file" and not page:
        yield _remote_source(system, root.rsplit("/", 1)[-1], info)
        return
    base = (str(info["url"]) if page else root).rstrip("/") + "/"
    listed = system.find(base if page else root, detail=True)
    for count, (name, detail) in enumerate(sorted(listed.items())):
        if count >= MEMBER_LIMIT:
            return
        relative = safe_member(str(name).removeprefix(base).lstrip("/"))
        if relative is not None and detail.get("type", "file") == "file":
            known = detail if detail.get("size") is not None else system.info(name)
            yield _remote_source(system, relative, {**known, "name": name})


def _remote_source(system: Any, relative: str, info: dict[str, Any]) -> Source:
    name, size = info["name"], info.get("size")

    def whole() -> bytes:
        with system.open(name, "rb") as stream:
            return cast(bytes, stream.read(FETCHED_WHOLE + 1))

    def ranged() -> BinaryIO:
        stream = cast(BinaryIO, system.open(name, "rb", block_size=BLOCK))
        if not stream.seekable():
            stream.close()
            raise OSError("the server gives no parts of files: copy the run here first")
        return stream

    if size is None or int(size) <= FETCHED_WHOLE:
        known = len(_kept(whole)) if size is None else int(size)
        return Source(relative, known, _remote_time(info), lambda: io.BytesIO(_kept(whole)))
    return Source(relative, int(size), _remote_time(info), ranged)


@lru_cache(maxsize=FETCHED_KEPT)
def _kept(fetch: Callable[[], bytes]) -> bytes:
    return fetch()


def _remote_time(info: dict[str, Any]) -> float | None:
    for key in ("mtime", "LastModified", "last_modified", "updated", "last_commit"):
        value = info.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, datetime):
            return value.timestamp()
    with suppress(TypeError, ValueError):
        return parsedate_to_datetime(str(info.get("Last-Modified"))).timestamp()
    return None
