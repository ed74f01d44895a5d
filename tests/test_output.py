"""Files are whole or absent, and names are harmless."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftdoctor.errors import FtdoctorError
from ftdoctor.output import file_stem, write_whole


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
