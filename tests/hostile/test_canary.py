"""Nothing in a run acts: no canary leaves its marker, nothing outside the run is opened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hostile.canaries import plant

ROOT = Path(__file__).parents[2]
# Run before anything of ours: notes what Python itself reports of opening, running and connecting.
WATCH = """
import sys
wanted = {"open", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.fork",
          "socket.connect", "socket.bind", "socket.getaddrinfo", "pickle.find_class",
          "marshal.loads", "ctypes.dlopen", "exec", "os.symlink", "os.link", "sqlite3.enable_load_extension"}
seen = []
def hook(event, arguments):
    if event in wanted:
        first = arguments[0] if arguments else ""
        if event == "exec":
            first = getattr(first, "co_filename", "")
        elif event == "open" and isinstance(first, int):
            return
        elif event == "marshal.loads":
            first = ""
        seen.append((event, str(first)))
sys.addaudithook(hook)
import atexit, json, os
def report():
    with os.fdopen(int(os.environ["WATCH_HANDLE"]), "w") as stream:
        modules = {m.__name__: str(getattr(m, "__file__", "") or "") for m in list(sys.modules.values())}
        json.dump({"seen": sorted(set(seen)), "modules": modules}, stream)
atexit.register(report)
from ftdoctor.cli import main
main()
"""


@dataclass(frozen=True)
class Watched:
    """What one command did: its exit status and words, what was opened and run, the modules."""

    status: int
    out: str
    err: str
    seen: tuple[tuple[str, str], ...]
    modules: dict[str, str]

    def of(self, *events: str) -> list[str]:
        return [what for event, what in self.seen if event in events]


@dataclass(frozen=True)
class Planted:
    """Where the canaries lie."""

    root: Path
    outside: Path
    marker: Path
    output: Path


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    base = tmp_path_factory.mktemp("canary")
    found = Planted(base / "run", base / "outside", base / "marker", base / "report.html")
    plant(found.root, found.outside, found.marker)
    return found


def watched(arguments: list[str], folder: Path) -> Watched:
    """Run a command as installed (no current folder on the path), watched from the inside."""
    read, write = os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WATCH_HANDLE": str(write),
                   "HF_HUB_OFFLINE": "1"}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", WATCH, *arguments], cwd=folder, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        pass_fds=(write,),
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read) as stream:
        found = json.load(stream)
    out, err = process.communicate(timeout=120)
    seen = tuple((event, what) for event, what in found["seen"])
    return Watched(process.returncode, out, err, seen, found["modules"])


@pytest.fixture(scope="module")
def diagnosed(planted: Planted) -> Watched:
    """Diagnose from inside the run: its folder is the current one."""
    return watched(["diagnose", ".", "--format", "html", "-o", str(planted.output)], planted.root)


@pytest.fixture(scope="module")
def every(planted: Planted, diagnosed: Watched) -> tuple[Watched, ...]:
    return diagnosed, watched(["show", str(planted.root), "--json"], planted.root)


def test_the_run_is_diagnosed_all_the_same(diagnosed: Watched, planted: Planted) -> None:
    assert diagnosed.status in (0, 1), diagnosed.err
    assert "Traceback" not in diagnosed.err
    assert planted.output.stat().st_size > 10_000


def test_no_canary_acted(planted: Planted, every: tuple[Watched, ...]) -> None:
    assert not planted.marker.exists()
    assert sorted(p.name for p in planted.root.parent.iterdir()) == [
        "outside", "report.html", "run",
    ]  # fmt: skip
    assert {p.name for p in planted.outside.iterdir()} == {
        "secret.txt", "secret.log", "secret.png", "folder",
    }  # fmt: skip


def test_nothing_is_started_connected_or_unpickled(every: tuple[Watched, ...]) -> None:
    for command in every:
        assert command.of("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen") == []
        assert command.of("socket.connect", "socket.getaddrinfo", "socket.bind") == []
        assert command.of("os.symlink", "os.link", "sqlite3.enable_load_extension") == []


def test_no_code_of_the_run_is_run_or_imported(
    planted: Planted, every: tuple[Watched, ...]
) -> None:
    inside = str(planted.root)
    for command in every:
        assert [f for f in command.of("exec") if f.startswith((inside, "./"))] == []
        assert [m for m, f in command.modules.items() if f.startswith(inside)] == []
        assert [f for f in command.of("ctypes.dlopen") if f.startswith(inside)] == []


def _forbidden(planted: Planted, command: Watched) -> Iterator[str]:
    """Yield what was opened of the neighbourhood of the run, or by way of a link out of it."""
    base = str(planted.root.parent)
    allowed = (str(planted.root) + os.sep, str(planted.root.parent / ".report.html."))
    for name in command.of("open"):
        path = Path(planted.root, name)
        if (
            (str(path).startswith(base) and not str(path).startswith(allowed))
            or (path.is_symlink() and str(path).startswith(allowed))
            or name == "/etc/passwd"
        ):
            yield name


def test_nothing_outside_the_run_is_opened(planted: Planted, every: tuple[Watched, ...]) -> None:
    for command in every:
        assert list(_forbidden(planted, command)) == []
        assert "OUTSIDE-SECRET" not in command.out
        assert "77.0" not in command.out
    assert "OUTSIDE-SECRET" not in planted.output.read_text()


def test_what_was_passed_over_is_said(planted: Planted, every: tuple[Watched, ...]) -> None:
    shown = json.loads(every[1].out)
    reasons = {a["path"]: a["reason"] for a in shown["artifacts"] if a["reason"]}
    assert "out of the run" in reasons["link.log"]
    assert "out of the run" in reasons["passwd.log"]
    assert "not followed" in reasons["linked"]
    assert reasons["train.log"] == reasons["training.jsonl"] == "no regular file"
    assert "unpack" in reasons["big.log.gz"]
    assert "unpack" in reasons["big.zip"]
    assert "pickle" in reasons["training_args.bin"]


def test_the_module_form_takes_nothing_from_the_current_folder(planted: Planted) -> None:
    """`python -m` puts the current folder on the path: it is taken off before anything else."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "ftdoctor", "show", "stdout.log"], cwd=planted.root,
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not planted.marker.exists()
