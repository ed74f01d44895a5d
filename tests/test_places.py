"""Archives and remote prefixes become sources; bombs and climbing names do not."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from ftdoctor import places
from ftdoctor.errors import UnreadableRunError

FILES = {"run/trainer_state.json": b'{"a": 1}', "run/checkpoint-2/x.log": b"one\ntwo\n" * 1000}


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = 1_760_000_000
            archive.addfile(info, io.BytesIO(content))
    return path


def opened(path: Path) -> dict[str, bytes]:
    place = places.open_place(str(path))
    assert place is not None
    return {source.path: source.data() for source in place[1]}


EXPECTED = {"trainer_state.json": FILES["run/trainer_state.json"],
            "checkpoint-2/x.log": FILES["run/checkpoint-2/x.log"]}  # fmt: skip


def test_zip_members_are_sources_without_the_common_folder(tmp_path: Path) -> None:
    assert opened(make_zip(tmp_path / "run.zip", FILES)) == EXPECTED


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".txz", "w:xz")])
def test_tar_members_are_sources(tmp_path: Path, suffix: str, mode: str) -> None:
    path = make_tar(tmp_path / f"run{suffix}", FILES, mode)
    assert opened(path) == EXPECTED
    place = places.open_place(str(path))
    assert place is not None
    assert place[1][0].modified == 1_760_000_000


def test_zstandard_archive(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    tar = make_tar(tmp_path / "run.tar", FILES, "w")
    path = tmp_path / "run.tar.zst"
    path.write_bytes(zstandard.compress(tar.read_bytes()))
    assert opened(path) == EXPECTED


def test_member_is_read_in_pieces_and_seekable(tmp_path: Path) -> None:
    place = places.open_place(str(make_zip(tmp_path / "run.zip", FILES)))
    assert place is not None
    source = next(s for s in place[1] if s.path.endswith("x.log"))
    with source.open() as stream:
        stream.seek(4)
        assert stream.read(4) == b"two\n"
        stream.seek(0)
        assert stream.read(4) == b"one\n"
    assert [text for _, text in source.lines()][:2] == ["one", "two"]


def test_single_compressed_log_has_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "train.log.gz"
    path.write_bytes(gzip.compress(b"{'loss': 1.0}\n"))
    assert opened(path) == {"train.log": b"{'loss': 1.0}\n"}


def test_plain_files_and_folders_are_no_places(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("x")
    assert places.open_place(str(tmp_path)) is None
    assert places.open_place(str(tmp_path / "train.log")) is None
    assert places.open_place(str(tmp_path / "absent.zip")) is None


def test_names_that_climb_out_are_left_out(tmp_path: Path) -> None:
    names = {"../evil.log": b"x", "/etc/passwd": b"x", "a/../../b.log": b"x", "ok.log": b"y",
             "C:\\x.log": b"x"}  # fmt: skip
    assert opened(make_zip(tmp_path / "run.zip", names)) == {"ok.log": b"y"}
    assert opened(make_tar(tmp_path / "run.tar", names, "w")) == {"ok.log": b"y"}


def test_links_in_a_tar_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "run.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("train.log")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert opened(path) == {}


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SMALL", 1 << 20)
    monkeypatch.setattr(places, "RATIO_LIMIT", 100)
    zeros = b"\0" * (8 << 20)
    archive = make_zip(tmp_path / "bomb.zip", {"a": zeros})
    packed = tmp_path / "bomb.log.gz"
    packed.write_bytes(gzip.compress(zeros))
    for path in (archive, packed):
        with pytest.raises(UnreadableRunError, match="unpack"):
            places.open_place(str(path))


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MEMBER_LIMIT", 1)
    for path in (make_zip(tmp_path / "a.zip", FILES), make_tar(tmp_path / "a.tar", FILES, "w")):
        with pytest.raises(UnreadableRunError, match="files"):
            places.open_place(str(path))


@pytest.mark.parametrize("name", ["run.zip", "run.tar.gz", "run.tar", "run.log.gz", "run.tar.zst"])
def test_damaged_archives_say_so(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x1f\x8bnothing of the kind" * 40)
    with pytest.raises(UnreadableRunError):
        places.open_place(str(path))


def test_member_with_a_wrong_checksum_is_an_os_error(tmp_path: Path) -> None:
    path = tmp_path / "run.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("train.log", b"A" * 100)
    path.write_bytes(path.read_bytes().replace(b"A" * 100, b"A" * 99 + b"B"))
    place = places.open_place(str(path))
    assert place is not None
    with pytest.raises(OSError, match="damaged"):
        place[1][0].data()


def test_remote_prefix_by_fsspec() -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/run1/train.log": b"x\n", "/bucket/run1/checkpoint-1/a.json": b"{}"})
    place = places.open_place("memory://bucket/run1")
    assert place is not None
    assert {s.path: s.data() for s in place[1]} == {
        "train.log": b"x\n",
        "checkpoint-1/a.json": b"{}",
    }
    with pytest.raises(UnreadableRunError, match="check the address"):
        places.open_place("memory://bucket/absent")
