"""Write results so that a file is whole or absent."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from ftdoctor.errors import FtdoctorError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file through a temporary one beside it; FtdoctorError says why it could not be."""
    data = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise FtdoctorError(
            f"{path} could not be written: {error.strerror or error}; choose another place with -o"
        ) from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def file_stem(name: str) -> str:
    """Return a run's name as part of a file name: letters, digits, `.`, `_` and `-` only."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
    return stem or "run"
