"""Runs that do not lie in a folder of this machine: archives, compressed files, remote prefixes.

Nothing is unpacked to disk: members become sources that are opened, bounded, from the archive.
"""

from __future__ import annotations

import bz2
import gzip
import io
import logging
import lzma
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from ftdoctor.errors import UnreadableRunError
from ftdoctor.read.source import Source, local_source

MEMBER_LIMIT = 20_000  # files taken of one archive or prefix
TOTAL_LIMIT = 4 << 30  # bytes of all members together, unpacked
PACKED_LIMIT = 2 << 30  # bytes of a compressed stream that must be unpacked to be listed
INSIDE_LIMIT = 256 << 20  # the same of an archive that lies in a run or in a remote place
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
        # What follows the question mark of a signed address is a credential.
        place = text.partition("?")[0]
        sources = _remote(text, place)
        lone = len(sources) == 1 and place.endswith(sources[0].path)
        return place, (_members(sources[0], place, INSIDE_LIMIT) if lone else None) or sources
    path = Path(text).expanduser()
    if not path.is_file():
        return None
    members = _members(local_source(path.parent, path), str(path), PACKED_LIMIT)
    return None if members is None else (str(path), members)


@dataclass(frozen=True, slots=True)
class Inside:
    """What an archive holds, or why it was left closed; `damaged` if that is its own fault."""

    members: tuple[Source, ...] = ()
    reason: str = ""
    damaged: bool = False


def inside(source: Source, limit: int = INSIDE_LIMIT) -> Inside | None:
    """Return what a compressed file or archive inside a run holds, None if the file is neither.

    Packed and unpacked it may have `limit` bytes. A compressed log goes by its own name without the
    suffix, members of an archive by theirs below the archive's.
    """
    name = source.name.lower()
    if not name.endswith((*ZIP_NAMES, *TAR_NAMES, *PACKED_NAMES)):
        return None
    if source.size > limit:
        return Inside(reason=f"an archive of {source.size:,} bytes: unpack it to have it read")
    try:
        members = _members(source, source.path, limit) or []
    except UnreadableRunError as error:
        return Inside(reason=str(error).removeprefix(f"{source.path}: "), damaged=True)
    if sum(member.size for member in members) > limit:
        return Inside(reason=f"holds more than {limit:,} bytes: unpack it to have it read")
    top = f"{source.path}/" if name.endswith((*ZIP_NAMES, *TAR_NAMES)) else ""
    folder = "" if top else source.path.rpartition("/")[0] + "/"
    return Inside(tuple(replace(m, path=f"{top or folder}{m.path}".lstrip("/")) for m in members))


def _members(source: Source, place: str, limit: int) -> list[Source] | None:
    """Return the files in an archive or compressed file, None if it is neither.

    A compressed stream is unpacked to be listed, up to `limit` bytes; of a zip and of a plain tar
    only directory and headers are read.
    """
    name = source.name.lower()
    try:
        if name.endswith(ZIP_NAMES):
            return _zip_members(source, place)
        if name.endswith(TAR_NAMES):
            return _tar_members(source, place, limit)
        if name.endswith(PACKED_NAMES):
            return [_unpacked(source, place, limit)]
    except UnreadableRunError:
        raise
    except Exception as error:  # zipfile, tarfile, zlib, lzma and zstandard have their own errors
        raise UnreadableRunError(
            f"{place}: the archive is damaged or cut ({error}); copy it again or unpack what is "
            "left"
        ) from error
    return None


# --- bounds -----------------------------------------------------------------------------------


def safe_member(name: str) -> str | None:
    """Return a member's path below the archive, None if it is absolute or climbs out of it."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part != "."]
    escapes = path.is_absolute() or ".." in parts or (parts and parts[0].endswith(":"))
    return None if escapes or not parts else "/".join(parts)


def _check_sizes(place: str, sizes: Iterable[int], packed: int) -> None:
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


def _zip_members(source: Source, place: str) -> list[Source]:
    with source.open() as stream, zipfile.ZipFile(stream) as archive:
        members = [
            m for m in archive.infolist()
            if not m.is_dir() and not stat.S_ISLNK(m.external_attr >> 16)
        ]  # fmt: skip
    if any(m.flag_bits & 1 for m in members):
        raise UnreadableRunError(f"{place}: the archive is encrypted; unpack it first")
    _check_sizes(place, (m.file_size for m in members), source.size)
    found = []
    for member in members:
        name = safe_member(member.filename)
        if name is not None:
            opener = _zip_opener(source, member)
            found.append(Source(name, member.file_size, _zip_time(member), opener))
    return _without_common_folder(found)


def _zip_opener(source: Source, member: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
    def opener() -> BinaryIO:
        # The member keeps the archive's handle open until it is closed itself.
        with zipfile.ZipFile(source.local or source.open()) as archive:
            stream = archive.open(member)
        return _buffered(cast(BinaryIO, stream), 0, member.file_size, owned=True)

    return opener


def _zip_time(member: zipfile.ZipInfo) -> float | None:
    """Return the member's time (no zone is stored: taken as UTC); None for the 1980 placeholder."""
    with suppress(ValueError):
        moment = datetime(*member.date_time, tzinfo=UTC)
        return moment.timestamp() if moment.year > 1980 else None
    return None


def _tar_members(source: Source, place: str, limit: int) -> list[Source]:
    packed = not source.name.lower().endswith(".tar")
    plain = _unpack_stream(source, place, limit) if packed else None
    stream = plain or source.open()
    with tarfile.open(fileobj=stream) as archive:
        members = [m for m in islice(archive, MEMBER_LIMIT + 1) if m.isreg()]
    if plain is None:
        stream.close()
    _check_sizes(place, (m.size for m in members), source.size)
    found = []
    for member in members:
        name = safe_member(member.name)
        if name is not None and not member.issparse():
            opener = _slice_opener(source, plain, member.offset_data, member.size)
            found.append(Source(name, member.size, member.mtime or None, opener))
    return _without_common_folder(found)


def _slice_opener(
    source: Source, plain: BinaryIO | None, offset: int, size: int
) -> Callable[[], BinaryIO]:
    """Return an opener of one member: a range of the tar file, or of its unpacked form."""

    def opener() -> BinaryIO:
        if plain is not None:
            return _buffered(plain, offset, size, owned=False)
        return _buffered(source.open(), offset, size, owned=True)

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


def _unpacked(source: Source, place: str, limit: int) -> Source:
    """Return the one file inside `train.log.gz` and the like, under its own name."""
    plain = _unpack_stream(source, place, limit)
    size = plain.seek(0, io.SEEK_END)
    opener = _slice_opener(source, plain, 0, size)
    return Source(source.name[: source.name.rindex(".")], size, source.modified, opener)


def _unpack_stream(source: Source, place: str, limit: int) -> BinaryIO:
    """Unpack a compressed file into an unnamed temporary file, within the limits."""
    if source.size > limit:
        raise UnreadableRunError(
            f"{place}: {source.size:,} bytes that must be unpacked to be listed: copy it here and "
            "unpack it"
        )
    with source.open() as raw, _decompressor(source.name.lower(), raw, place) as stream:
        spool = cast(BinaryIO, tempfile.SpooledTemporaryFile(SPOOL))  # noqa: SIM115
        total = 0
        while piece := stream.read(1 << 20):
            total += len(piece)
            if total > limit or (total > SMALL and total > RATIO_LIMIT * max(1, source.size)):
                spool.close()
                raise UnreadableRunError(
                    f"{place}: {source.size:,} bytes that unpack to more than {total:,}; "
                    "unpack it yourself if you trust it"
                )
            spool.write(piece)
    spool.seek(0)
    return spool


def _decompressor(name: str, raw: BinaryIO, place: str) -> BinaryIO:
    if name.endswith((".gz", ".tgz")):
        return cast(BinaryIO, gzip.open(raw, "rb"))
    if name.endswith((".bz2", ".tbz2")):
        return cast(BinaryIO, bz2.open(raw, "rb"))
    if name.endswith((".xz", ".txz")):
        return cast(BinaryIO, lzma.open(raw, "rb"))
    try:
        import zstandard
    except ImportError:
        raise UnreadableRunError(
            f"{place}: reading Zstandard needs `pip install 'ftdoctor-forensics[zstd]'`; "
            "or unpack it with `zstd -d` first"
        ) from None
    return cast(BinaryIO, zstandard.open(raw, "rb"))


# --- remote -----------------------------------------------------------------------------------

FETCHED_WHOLE = 4 << 20  # bytes; smaller files are fetched once and kept, of others only ranges
FETCHED_KEPT = 32
BLOCK = 1 << 20  # bytes asked for at once; S3's own default of 50 MB is for reading on
CONNECT_SECONDS, ANSWER_SECONDS = 15, 60
GCS_SECONDS = 6  # until the first answer: gcsfs asks again for half a minute, whatever is wrong
_IN_EXTRA = frozenset({"http", "https", "s3", "s3a", "gs", "gcs", "hf"})
_TALKATIVE = ("fsspec", "s3fs", "gcsfs", "huggingface_hub", "asyncio", "botocore", "google")
# What the errors of the protocols' packages mean, by the name of their class.
_HINTS = (
    (r"NoCredentials|PartialCredentials|DefaultCredentials|TokenRetrieval|Anonymous caller",
     "no credentials were found: set them as for the protocol's own tools"),
    (r"Permission|Forbidden|AccessDenied|Unauthorized|SignatureDoesNotMatch|Gated",
     "access was denied: check the credentials"),
    (r"Connect|Timeout|DNS|Unreachable|gaierror|ServerDisconnected",
     "the place cannot be reached: check the address and the network"),
    (r"NotFound|NoSuch|\b404\b", "nothing lies there: check the address"),
)  # fmt: skip


def _remote(text: str, place: str) -> list[Source]:
    """Return the files below a remote prefix, or the one file it names, through fsspec."""
    protocol, _, name = text.partition("://")
    protocol = protocol.lower()
    if not name.strip("/"):
        raise UnreadableRunError(f"{place}: names no place behind {protocol}://; check the address")
    for package in _TALKATIVE:  # they log tracebacks of what is told here in one line
        logging.getLogger(package).setLevel(logging.CRITICAL + 1)
    try:
        import fsspec

        system, root = fsspec.core.url_to_fs(text, **_options(protocol))
    except ImportError as error:
        extra = "`pip install 'ftdoctor-forensics[remote]'`"
        need = extra if protocol in _IN_EXTRA else "install it"
        raise UnreadableRunError(
            f"{place}: a package for {protocol}:// is missing ({_one_line(error)}): "
            f"{need}, or copy the run here first"
        ) from None
    except ValueError as error:
        raise UnreadableRunError(f"{place}: {_one_line(error)}; check the address") from None
    except Exception as error:  # some packages ask the place already here
        raise _unlisted(place, error) from error
    try:
        found = list(_remote_files(system, str(root), protocol))
    except UnreadableRunError:
        raise
    except Exception as error:  # each protocol has its own errors: network, rights, names
        raise _unlisted(place, error) from error
    if not found:
        raise UnreadableRunError(f"{place}: nothing lies there; check the address")
    return found


def _unlisted(place: str, error: Exception) -> UnreadableRunError:
    told = f"{place}: {_hint(error)} ({_one_line(error)}), or copy the run here first"
    return UnreadableRunError(told)


def _options(protocol: str) -> dict[str, Any]:
    """Return options that keep a place that does not answer from holding up for minutes."""
    if protocol in ("http", "https"):
        from aiohttp import ClientTimeout

        limit = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS)
        return {"client_kwargs": {"timeout": limit}}
    if protocol in ("s3", "s3a"):
        limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": ANSWER_SECONDS}
        return {"config_kwargs": {**limits, "retries": {"max_attempts": 1}}}
    if protocol in ("gs", "gcs"):
        return {"requests_timeout": ANSWER_SECONDS, "token": _gcs_token()}
    return {}


def _gcs_token() -> str:
    """Return which credentials gcsfs is to use: those set up, or those of a cloud machine, or none.

    Left to itself it waits a quarter of a minute for a cloud machine's where there are none.
    """
    try:
        import google.auth
    except ImportError:
        return "anon"  # gcsfs, which needs it, is missing too, and that is told
    try:
        google.auth.default()
    except google.auth.exceptions.GoogleAuthError:
        return "anon"
    return "google_default"


def _hint(error: Exception) -> str:
    # fsspec says of any trouble with a web server that the file was not found; the cause says more.
    cause = error.__cause__ or error
    named = f"{type(error).__name__} {error} {type(cause).__name__} {cause}"
    return next((hint for mark, hint in _HINTS if re.search(mark, named)), "cannot be listed")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _remote_files(system: Any, root: str, protocol: str) -> Iterator[Source]:
    limit = {"timeout": GCS_SECONDS} if protocol in ("gs", "gcs") else {}
    info = system.info(root, **limit)
    # A web server answers for a folder with a page that lists it.
    page = str(info.get("url", "")).endswith("/") and "html" in str(info.get("mimetype"))
    if info.get("type") == "file" and not page:
        yield _remote_source(system, root.partition("?")[0].rsplit("/", 1)[-1], info)
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
