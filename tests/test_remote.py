"""Remote runs on loopback: a web server with ranges, a real S3 endpoint, places out of reach."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from ftdoctor.errors import UnreadableRunError
from ftdoctor.model import Run
from ftdoctor.read import read_run

fsspec = pytest.importorskip("fsspec")
ROOT = Path(__file__).parents[1]
BIG = 40 << 20  # bytes of weights of which only the header may be fetched
METRICS = "".join(f'{{"step": {n}, "loss": {2 - n / 10}}}\n' for n in range(1, 6))


def make_run(folder: Path, half: int = 2 * BIG) -> Path:
    (folder / "checkpoint-5").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(METRICS)
    (folder / "config.yaml").write_text("learning_rate: 2e-4\nnum_train_epochs: 1\n")
    (folder / "checkpoint-5" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}')
    # More than is tested in remote places.
    header = json.dumps({
        "a": {"dtype": "F16", "shape": [half // 2], "data_offsets": [0, half]},
    }).encode()  # fmt: skip
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + half)
    return folder


def check(run: Run) -> None:
    series = run.series("loss")
    assert series is not None
    assert [int(step) for step in series.steps] == [1, 2, 3, 4, 5]
    setting = run.setting("learning_rate")
    assert setting is not None
    assert setting.value == 2e-4
    assert run.tensors["name"].to_list() == ["a"]
    assert {a.path for a in run.artifacts} == {
        "metrics.jsonl", "config.yaml", "checkpoint-5/adapter_config.json", "model.safetensors",
    }  # fmt: skip


# --- HTTP -------------------------------------------------------------------------------------


class Ranges(SimpleHTTPRequestHandler):
    """A server of files that honours `Range: bytes=a-b` and counts the bytes it sends."""

    sent: dict[str, int]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not path.is_file() or not asked:
            if path.is_file():
                self.sent[path.name] = self.sent.get(path.name, 0) + path.stat().st_size
            super().do_GET()
            return
        size = path.stat().st_size
        first, last = int(asked[1]), min(int(asked[2] or size), size - 1)
        with path.open("rb") as stream:
            stream.seek(first)
            content = stream.read(last - first + 1)
        self.sent[path.name] = self.sent.get(path.name, 0) + len(content)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Serve a run on a free port; yield its address and the bytes sent by file name."""
    pytest.importorskip("aiohttp")
    make_run(tmp_path / "runs" / "one")
    sent: dict[str, int] = {}
    handler = type("Counting", (Ranges,), {"sent": sent})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/runs/one", sent
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_on_a_web_server(web: tuple[str, dict[str, int]], end: str) -> None:
    address, sent = web
    check(read_run(address + end))
    assert sent["model.safetensors"] < BIG / 2
    assert sent["metrics.jsonl"] == len(METRICS)


def test_one_file_on_a_web_server(web: tuple[str, dict[str, int]]) -> None:
    run = read_run(web[0] + "/metrics.jsonl")
    assert [a.path for a in run.artifacts] == ["metrics.jsonl"]
    assert run.metrics.height == 5


def test_what_is_not_on_the_server_is_said(web: tuple[str, dict[str, int]]) -> None:
    with pytest.raises(UnreadableRunError, match="check the address"):
        read_run(web[0] + "/absent.log")


def pack(folder: Path, form: str) -> Path:
    """Pack a run's folder beside it: zip, tar, tar.gz; zeros that compress well are a bomb."""
    if form != ".tar":
        shutil.rmtree(folder)
        make_run(folder, half=1 << 20)
    shape = {".zip": "zip", ".tar": "tar", ".tar.gz": "gztar"}[form]
    return Path(shutil.make_archive(str(folder), shape, folder.parent, folder.name))


@pytest.mark.parametrize("form", [".zip", ".tar", ".tar.gz"])
def test_an_archive_on_a_web_server(
    web: tuple[str, dict[str, int]], tmp_path: Path, form: str
) -> None:
    address, sent = web
    packed = pack(tmp_path / "runs" / "one", form)
    check(read_run(address + form))
    check(read_run(f"{address}{form}?token=of-a-signed-address"))
    if form == ".tar":
        assert sent[packed.name] < 2 * BIG  # two readings of an archive of that size


def test_a_compressed_log_on_a_web_server(web: tuple[str, dict[str, int]], tmp_path: Path) -> None:
    packed = tmp_path / "runs" / "train.log.gz"
    packed.write_bytes(gzip.compress(b"{'loss': 1.5, 'epoch': 0.5}\n"))
    run = read_run(web[0].replace("/one", "/train.log.gz"))
    assert [a.path for a in run.artifacts] == ["train.log"]
    series = run.series("loss")
    assert series is not None
    assert list(series.values) == [1.5]


def test_an_archive_in_a_remote_folder(web: tuple[str, dict[str, int]], tmp_path: Path) -> None:
    one = tmp_path / "runs" / "one"
    (one / "old.log.gz").write_bytes(gzip.compress(b"{'eval_loss': 1.5, 'epoch': 0.5}\n"))
    run = read_run(web[0])
    assert "old.log" in {a.path for a in run.artifacts}


def test_a_damaged_archive_on_a_web_server(web: tuple[str, dict[str, int]], tmp_path: Path) -> None:
    packed = pack(tmp_path / "runs" / "one", ".tar.gz")
    packed.write_bytes(packed.read_bytes()[:500])
    with pytest.raises(UnreadableRunError, match="damaged or cut"):
        read_run(web[0] + ".tar.gz")


def test_an_archive_too_large_to_fetch(
    web: tuple[str, dict[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftdoctor.places.INSIDE_LIMIT", 1000)
    pack(tmp_path / "runs" / "one", ".tar.gz")
    with pytest.raises(UnreadableRunError, match="copy it here"):
        read_run(web[0] + ".tar.gz")


# --- S3 ---------------------------------------------------------------------------------------


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start an S3 endpoint on a free port, put a run there, yield its address."""
    server_module = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    # What one server of a process holds, the next one still has.
    name = f"training-{port}"
    system.mkdir(name)
    system.put(str(make_run(tmp_path / "one")), f"{name}/one", recursive=True)
    yield f"s3://{name}/one"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_a_prefix_in_s3(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs.core import S3File

    fetched: list[int] = []
    original = S3File._fetch_range

    def counted(self: Any, start: int, end: int) -> Any:
        content = original(self, start, end)
        fetched.append(len(content))
        return content

    monkeypatch.setattr(S3File, "_fetch_range", counted)
    check(read_run(bucket))
    check(read_run(bucket + "/"))
    assert sum(fetched) < BIG


def test_an_archive_in_s3(bucket: str, tmp_path: Path) -> None:
    from s3fs import S3FileSystem

    S3FileSystem().put(str(pack(tmp_path / "one", ".zip")), bucket.removeprefix("s3://") + ".zip")
    check(read_run(bucket + ".zip"))


def test_an_absent_prefix_in_s3(bucket: str) -> None:
    with pytest.raises(UnreadableRunError, match="nothing lies there"):
        read_run(bucket + "-absent")
    with pytest.raises(UnreadableRunError, match="nothing lies there"):
        read_run("s3://no-such-bucket/one")


def test_missing_credentials_are_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UnreadableRunError, match="credentials"):
        read_run(bucket)


# --- out of reach -----------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ftdoctor", *arguments],
        capture_output=True, text=True, check=False, timeout=120, cwd=ROOT,
        env={"PATH": "", "HOME": "/nonexistent", **environment},
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["diagnose", "show"])
def test_a_place_out_of_reach_is_one_line_and_status_3(verb: str) -> None:
    pytest.importorskip("aiohttp")
    address = f"http://127.0.0.1:{free_port()}/run"
    done = command(verb, address)
    assert done.returncode == 3
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"ftdoctor: {address}: ")
    assert "cannot be reached" in line


def test_an_s3_endpoint_out_of_reach_is_one_line_and_status_3() -> None:
    pytest.importorskip("s3fs")
    done = command(
        "diagnose", "s3://bucket/run", AWS_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}",
        AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x",
    )  # fmt: skip
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert "s3://bucket/run" in line
    assert "cannot be reached" in line


def test_an_unknown_protocol_and_a_missing_package_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for address in ("nowhere://bucket/run", "s3://", "gs:///"):
        with pytest.raises(UnreadableRunError, match="check the address"):
            read_run(address)

    def without_package(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", without_package)
    with pytest.raises(UnreadableRunError, match=r"ftdoctor-forensics\[remote\]"):
        read_run("s3://bucket/run")


# --- Google Cloud Storage and the Hugging Face Hub, by the requests that their clients make ----


class Service(BaseHTTPRequestHandler):
    """What the two clients ask of their services, answered from a folder of files."""

    folder: Path

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, content: bytes, status: int = 200, kind: str = "application/json") -> None:
        size = len(content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and status == 200:
            first, last = int(asked[1]), min(int(asked[2] or size), size - 1)
            content, status = content[first : last + 1], 206
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"0"')
        self.send_header("X-Repo-Commit", "0" * 40)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def files(self) -> dict[str, int]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {p.relative_to(self.folder).as_posix(): p.stat().st_size for p in found}

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        found = re.fullmatch(r"(?:/download/storage/v1/b/bucket/o|/u/m/resolve/\w+)/(.+)", path)
        if found and found[1] in self.files():
            self.answer((self.folder / found[1]).read_bytes(), kind="application/octet-stream")
            return
        answers = {"/storage/v1/b/bucket/o": self.objects, "/api/models/u/m": self.model}
        if path.startswith("/api/models/u/m/tree/main"):
            self.answer(json.dumps(self.tree()).encode())
        elif path in answers:
            self.answer(json.dumps(answers[path]()).encode())
        else:
            self.answer(b'{"error": {"code": 404, "message": "not found"}}', 404)

    do_HEAD = do_GET  # noqa: N815 - the name is the base class's

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        asked = parse_qs(self.rfile.read(length).decode())
        names = [name.strip("/") for name in asked.get("paths", [])]
        self.answer(json.dumps([e for e in self.tree() if e["path"] in names]).encode())

    def objects(self) -> dict[str, Any]:
        prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
        return {"items": [
            {"name": name, "size": str(size), "bucket": "bucket", "updated": "2026-01-01T00:00:00Z"}
            for name, size in self.files().items() if name.startswith(prefix)
        ]}  # fmt: skip

    def model(self) -> dict[str, Any]:
        return {"id": "u/m", "sha": "0" * 40, "private": False, "siblings": []}

    def tree(self) -> list[dict[str, Any]]:
        folders = {str(Path(name).parent) for name in self.files()} - {"."}
        return [{"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
                for folder in sorted(folders)] + [
            {"type": "file", "path": name, "size": size, "oid": "0" * 40}
            for name, size in self.files().items()
        ]  # fmt: skip


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    make_run(tmp_path / "run", half=6 << 20)
    handler = type("Answering", (Service,), {"folder": tmp_path})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def check_shown(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    shown = json.loads(done.stdout)
    assert {a["path"]: a["state"] for a in shown["artifacts"]} == dict.fromkeys(
        ("metrics.jsonl", "config.yaml", "checkpoint-5/adapter_config.json", "model.safetensors"),
        "read",
    )
    assert [s["points"] for s in shown["series"]] == [5]


def test_a_prefix_in_google_cloud_storage(service: str) -> None:
    pytest.importorskip("gcsfs")
    check_shown(command("show", "gs://bucket/run", "--json", STORAGE_EMULATOR_HOST=service))
    done = command("show", "gs://bucket/absent", STORAGE_EMULATOR_HOST=service)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_of_a_repository_on_the_hub(service: str) -> None:
    pytest.importorskip("huggingface_hub")
    check_shown(command("show", "hf://u/m/run", "--json", HF_ENDPOINT=service))
    done = command("show", "hf://u/absent", HF_ENDPOINT=service)
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert "nothing lies there" in line
