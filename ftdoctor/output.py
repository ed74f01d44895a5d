"""Write reports in their formats, each file whole or absent."""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ftdoctor.errors import FtdoctorError
from ftdoctor.model import Diagnosis

FORMATS = ("html", "md", "json", "sarif")
_DATED = (1980, 1, 1, 0, 0, 0)  # the first date that a ZIP file can hold: equal input, equal bytes


def parse_formats(text: str) -> tuple[str, ...]:
    """Return the formats of `html,md`; FtdoctorError for one that is not ours."""
    asked = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    unknown = [name for name in asked if name not in FORMATS]
    if unknown or not asked:
        raise FtdoctorError(
            f"--format takes {', '.join(FORMATS)}, not {', '.join(unknown) or text!r}"
        )
    return asked


def render(diagnosis: Diagnosis, form: str, *, quotes: bool = True) -> str:
    """Return a report as text in one of FORMATS, with or without text of the run's files."""
    from ftdoctor.render.quotes import without_quotes

    shown = diagnosis if quotes else without_quotes(diagnosis)
    if form == "html":
        from ftdoctor.render.html import render_html

        return render_html(diagnosis, quotes=quotes)
    if form == "md":
        from ftdoctor.render.markdown import render_ticket

        return render_ticket(shown)
    if form == "sarif":
        from ftdoctor.render.sarif import render_sarif

        return json.dumps(render_sarif(shown), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return json.dumps(shown.to_json(), ensure_ascii=False, allow_nan=False) + "\n"


def write_reports(
    diagnosis: Diagnosis,
    output: Path | None,
    formats: Sequence[str] = ("html",),
    *,
    quotes: bool = True,
    zipped: bool = False,
) -> tuple[Path, ...]:
    """Write a report per format and return the paths; with `zipped` one archive holds them all.

    `output` is a file, whose suffix each format replaces if there are several, or a folder; by
    default the files go into the current folder under the run's name.
    """
    stem = f"ftdoctor-{file_stem(diagnosis.run.name)}"
    path = Path(".") if output is None else output
    folder, named = (path, "") if path.is_dir() else (path.parent, path.name)
    written = {
        (named if named and len(formats) == 1 and not zipped else
         f"{Path(named).stem if named else stem}.{form}"): render(diagnosis, form, quotes=quotes)
        for form in formats
    }  # fmt: skip
    if zipped:
        archive = folder / f"{Path(named).stem if named else stem}.zip"
        write_whole(archive, _zip(written))
        return (archive,)
    for name, content in written.items():
        write_whole(folder / name, content)
    return tuple(folder / name for name in written)


def _zip(files: Mapping[str, str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _DATED)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, _encoded(content))
    return stream.getvalue()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file through a temporary one beside it; FtdoctorError says why it could not be."""
    data = _encoded(content) if isinstance(content, str) else content
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


def _encoded(text: str) -> bytes:
    """Return UTF-8; half a surrogate pair, from a file name that is no UTF-8, as its escape."""
    return text.encode("utf-8", errors="backslashreplace")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def file_stem(name: str) -> str:
    """Return a run's name as part of a file name: letters, digits, `.`, `_` and `-` only."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
    return stem or "run"
