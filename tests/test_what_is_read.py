"""The page of what is read is complete, and adding a reader works as its page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from ftdoctor.kinds import KINDS, Found, Kind, added_kinds
from ftdoctor.read import read_run
from ftdoctor.read.items import read_one, reader_named
from ftdoctor.read.source import memory_source

ROOT = Path(__file__).parents[1]
TABLE = re.findall(
    r"^\| (.+?) \| (.+?) \| (read/\w+\.py) \| (\S+\.py) \|$",
    (ROOT / "docs" / "what-is-read.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
# Read for a wider thing or only by their presence; no artefact of their own.
OTHER = {"tinker-listing", "processor-config"}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_a_row_has_its_kinds_reader_and_tests(row: tuple[str, str, str, str]) -> None:
    _, kinds, reader, tests = row
    known = {kind.id: kind for kind in KINDS}
    for name in kinds.split(", "):
        assert known[name].reader
        assert callable(reader_named(known[name].reader))
    assert (ROOT / "ftdoctor" / reader).is_file()
    assert (ROOT / "tests" / tests).is_file()


SPOILT = {
    "zeros": b"\0" * 200,
    "no text": b"\xff\x80\x9f" * 50,
    "an open brace": b'{"a": [1, ',
    "a web page": b"<!DOCTYPE html><html><title>404</title></html>\n",
    "a lone mark": b"\xef\xbb\xbf",
    "UTF-16 cut in a character": "loss: 1\n".encode("utf-16")[:-1],
    "a zip cut short": b"PK\x03\x04\x14\x00" + b"\x08" * 40,
    "brackets": b"[" * 5000,
}


@pytest.mark.parametrize("kind", [k for k in KINDS if k.reader], ids=lambda k: f"{k.id}-{k.reader}")
def test_no_reader_raises_on_what_is_spoilt(kind: Kind) -> None:
    path = (kind.names or ("file.json",))[0].replace("*", "x")
    for form, content in SPOILT.items():
        reading = read_one(Found(memory_source(path, content), kind))
        assert not re.match(r"\w+(Error|Exception|Warning): ", reading.reason), (
            form,
            reading.reason,
        )


def test_every_kind_with_a_reader_has_a_row() -> None:
    listed = {name for row in TABLE for name in row[1].split(", ")}
    assert {kind.id for kind in KINDS if kind.reader} - listed - OTHER == set()


def test_the_page_on_adding_a_reader_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "adding-a-reader.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    points = re.search(r'```toml\n\[project\.entry-points\."(.+?)"\]\n([\w-]+) = "(.+?)"', page)
    assert points is not None
    group, name, target = points.groups()
    site = tmp_path / "site"
    module = target.partition(":")[0]
    (site / module).mkdir(parents=True)
    (site / module / "__init__.py").write_text(blocks[2])
    (site / module / "progress.py").write_text(blocks[0])
    about = site / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    added_kinds.cache_clear()
    try:
        run = tmp_path / "run"
        run.mkdir()
        (run / "progress.tsv").write_text("step\tloss\n1\t2.5\n2\t2.25\nbroken\n")
        series = read_run(run).series("loss")
    finally:
        added_kinds.cache_clear()
    assert series is not None
    assert [(int(s), float(v)) for s, v in zip(series.steps, series.values, strict=True)] == [
        (1, 2.5), (2, 2.25),
    ]  # fmt: skip
