"""Files are whole or absent, and names are harmless."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from ftdoctor.errors import FtdoctorError
from ftdoctor.output import (
    FORMATS,
    file_stem,
    parse_formats,
    render,
    write_reports,
    write_whole,
)
from tests.render.samples import SAMPLES, one_cause


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    write_whole(target, "one")
    write_whole(target, b"two")
    assert target.read_bytes() == b"two"
    assert os.listdir(target.parent) == ["report.html"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FtdoctorError, match=r"file/report.html could not be written.*-o"):
        write_whole(tmp_path / "file" / "report.html", "x")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("my run/7", "my-run-7"), ("../../etc", "etc"), ("", "run"), ("<img src=x>", "img-src-x")],
)
def test_run_names_become_safe_file_names(name: str, expected: str) -> None:
    assert file_stem(name) == expected


def test_several_formats_are_written_side_by_side(tmp_path: Path) -> None:
    written = write_reports(one_cause(), tmp_path, FORMATS)
    assert [p.suffix for p in written] == [".html", ".md", ".json", ".sarif"]
    assert len({p.stem for p in written}) == 1
    assert json.loads(written[2].read_text()) == one_cause().to_json()
    assert json.loads(written[3].read_text())["version"] == "2.1.0"


def test_a_named_file_gives_its_name_to_all_formats(tmp_path: Path) -> None:
    assert write_reports(one_cause(), tmp_path / "a.html") == (tmp_path / "a.html",)
    written = write_reports(one_cause(), tmp_path / "b.html", ("html", "md"))
    assert [p.name for p in written] == ["b.html", "b.md"]


def test_the_archive_is_the_same_every_time(tmp_path: Path) -> None:
    (first,) = write_reports(one_cause(), tmp_path / "a", ("html", "md"), zipped=True)
    (second,) = write_reports(one_cause(), tmp_path / "b", ("html", "md"), zipped=True)
    assert first.name == "a.zip"
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == ["a.html", "a.md"]
    with zipfile.ZipFile(second) as archive:
        assert archive.read("b.html") == render(one_cause(), "html").encode()


def test_formats_are_read_from_a_list() -> None:
    assert parse_formats("html, MD,html") == ("html", "md")
    for wrong in ("pdf", "", "html,pdf"):
        with pytest.raises(FtdoctorError, match="--format takes html, md, json, sarif"):
            parse_formats(wrong)


def test_without_quotes_in_every_format() -> None:
    for form in FORMATS:
        assert "FileNotFoundError: Unable" not in render(
            SAMPLES["crash_before_first_step"](), form, quotes=False
        )


def test_a_name_that_is_no_unicode_is_written_as_its_escape(tmp_path: Path) -> None:
    d = replace(one_cause(), run=replace(one_cause().run, name="a\udc80b"))
    (path,) = write_reports(d, tmp_path / "x.json", ("json",))
    assert json.loads(path.read_text())["run"]["name"] == "a\udc80b"
