"""Triage of a prefix in S3: found, diagnosed, unchanged the second time, changed the third."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.triage.conftest import MakeRun
from tests.triage.test_session import summary


def test_a_prefix_in_s3(
    tmp_path: Path,
    make_run: MakeRun,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server_module = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
            environment[name] = value
        system = s3fs.S3FileSystem(skip_instance_cache=True)
        bucket = f"team-{port}"
        system.mkdir(bucket)
        runs = [make_run(f"r{i}", dead=i == 0) for i in range(3)]
        (runs[1] / "checkpoint-60").mkdir()
        (runs[1] / "trainer_state.json").rename(runs[1] / "checkpoint-60" / "trainer_state.json")
        system.put(str(tmp_path / "runs"), f"{bucket}/runs", recursive=True)
        root, out = f"s3://{bucket}/runs", tmp_path / "out"

        first = summary(environment, root, "-o", out)
        assert (first["runs"], first["failed"], first["healthy"]) == (3, 1, 2)
        assert summary(environment, root + "/", "-o", out)["unchanged"] == 3
        assert summary(environment, f"s3://{bucket}/runs/r[01]", "-o", tmp_path / "g")["runs"] == 2

        system.put(str(runs[0] / "trainer_state.json"), f"{bucket}/runs/r2/trainer_state.json")
        changed = summary(environment, root, "-o", out)
        assert (changed["diagnosed"], changed["unchanged"], changed["failed"]) == (1, 2, 2)
        missing = summary(environment, f"s3://{bucket}/none", "-o", tmp_path / "m", expect=3)
        assert missing["not_diagnosed"] == 1
    finally:
        server.stop()
