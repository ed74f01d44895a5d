"""A run folder in which everything that could act would leave a marker, and what it must not read.

Each canary is a file that creates `marker` if it is executed, imported, unpickled or rendered by
something that lets it act. What lies beside the run, in `outside`, must not be opened.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import socket
import sqlite3
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOG = "".join(
    f"{{'loss': {2.5 - n / 20}, 'grad_norm': 1.0, 'learning_rate': 1e-05, 'epoch': {n / 10}}}\n"
    for n in range(1, 20)
)
STATE = {
    "best_metric": None, "epoch": 2.0, "global_step": 20, "max_steps": 20, "num_train_epochs": 2,
    "log_history": [{"step": n, "loss": 2.5 - n / 20, "epoch": n / 10} for n in range(1, 21)],
}  # fmt: skip
# Modules that ftdoctor itself imports, and names that Python imports on its own.
MODULES = (
    "sitecustomize", "usercustomize", "polars", "numpy", "transformers", "yaml", "json", "re2",
    "jinja2", "matplotlib", "ftdoctor_signatures", "conftest", "setup", "tokenizers",
    "evil_module", "modeling_evil", "tokenization_evil", "configuration_evil", "train", "signal",
)  # fmt: skip
TEMPLATES = (
    "{{ cycler.__init__.__globals__.os.system('touch MARKER') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__.__builtins__.__import__('os').system('touch MARKER') }}",
    "{{ lipsum.__globals__['os'].popen('touch MARKER').read() }}",
    "{{ raise_exception.__globals__['os'].system('touch MARKER') }}",
    "{{ (messages|attr('__class__')).__base__.__subclasses__() }}",
    "{% set x = namespace() %}{{ x.__init__.__globals__ }}",
    "{% include 'OUTSIDE/secret.txt' %}{% import 'OUTSIDE/secret.txt' as s %}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{% for i in range(999999999) %}{% for j in range(999999999) %}x{% endfor %}{% endfor %}",
    "{{ 'x' * 999999999999 }}{{ 9 ** 9 ** 9 }}",
    "{{ strftime_now('%s').__class__.__base__.__subclasses__() }}",
)


class Acting:
    """Unpickled, it runs a shell command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def pickled(marker: Path) -> bytes:
    return pickle.dumps({"args": Acting(f"touch {marker}")}, protocol=2)


def torch_file(marker: Path) -> bytes:
    """Return what `torch.save` writes, with a pickle that acts."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(marker))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/data/0", b"\0" * 64)
    return stream.getvalue()


def plant(root: Path, outside: Path, marker: Path) -> None:
    """Write the run into `root`."""
    outside.mkdir()
    (outside / "secret.txt").write_text("OUTSIDE-SECRET learning_rate: 77\n")
    (outside / "secret.log").write_text("{'loss': 77.0, 'learning_rate': 77.0}\n" * 20)
    (outside / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    (outside / "folder").mkdir()
    (outside / "folder" / "train.log").write_text("{'loss': 77.0, 'learning_rate': 77.0}\n" * 20)
    root.mkdir()
    (root / "trainer_state.json").write_text(json.dumps(STATE))
    (root / "stdout.log").write_text(LOG + f"$(touch {marker})\n`touch {marker}`\n")
    for part in (code, pickles, settings, templates, data, databases, links, specials, archives):
        part(root, outside, marker)


def code(root: Path, outside: Path, marker: Path) -> None:
    """Code under names that Python or our own imports would find."""
    act = f"open({str(marker)!r}, 'a').write(__name__)\n"
    for name in MODULES:
        (root / f"{name}.py").write_text(act)
    (root / "evil.pth").write_text(f"import os; os.system('touch {marker}')\n")
    (root / "encodings").mkdir()
    (root / "encodings" / "__init__.py").write_text(act)
    (root / "run.sh").write_text(f"#!/bin/sh\ntouch {marker}\npython train.py --lr 1e-4\n")
    (root / "run.sh").chmod(0o755)
    (root / "Makefile").write_text(f"all:\n\ttouch {marker}\n")
    cells = [{"cell_type": "code", "metadata": {}, "execution_count": 1, "outputs": [],
              "source": source}
             for source in (f"!touch {marker}", f"%%bash\ntouch {marker}", act,
                            "from transformers import Trainer\nTrainer(model).train()")]  # fmt: skip
    (root / "train.ipynb").write_text(
        json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    # Matplotlib takes a file of this name from the current folder.
    (root / "matplotlibrc").write_text("backend: module://evil_module\ntext.usetex: True\n")
    (root / "requirements.txt").write_text(f"--index-url http://127.0.0.1:9/\n-r {outside}/x.txt\n")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text(f"[core]\n\tfsmonitor = touch {marker}\n")


def pickles(root: Path, outside: Path, marker: Path) -> None:
    """Pickles under every name that training leaves."""
    for name in ("training_args.bin", "pytorch_model.bin", "optimizer.pt", "scheduler.pt",
                 "rng_state.pth", "model.pt"):  # fmt: skip
        (root / name).write_bytes(torch_file(marker))
    for name in ("state.pkl", "dump.joblib", "legacy.pt", "adapter_model.bin", "x.safetensors"):
        (root / name).write_bytes(pickled(marker))
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    (root / "array.npy").write_bytes(
        b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + pickled(marker)
    )


def settings(root: Path, outside: Path, marker: Path) -> None:
    """Configurations that ask for code or for files elsewhere."""
    (root / "config.yaml").write_text(
        f"learning_rate: 1e-4\na: !!python/object/apply:os.system ['touch {marker}']\n"
        f"b: !!python/object/new:subprocess.Popen [['touch', '{marker}']]\n"
        f"c: !!python/name:os.system\nd: !!python/module:evil_module\n"
        f"e: !include {outside}/secret.txt\ndataset: {outside}/secret.log\n"
    )
    (root / "bombs.yaml").write_text(
        "num_train_epochs: 3\na: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{n}: &{n} [{', '.join(['*' + m] * 9)}]\n"
                  for m, n in zip("abcdefgh", "bcdefghi", strict=True))
    )  # fmt: skip
    auto = {"AutoConfig": "configuration_evil.Evil", "AutoModel": "modeling_evil.Evil",
            "AutoTokenizer": ["tokenization_evil.Evil", None]}  # fmt: skip
    (root / "config.json").write_text(
        json.dumps({"model_type": "evil", "auto_map": auto, "trust_remote_code": True,
                    "architectures": ["Evil"], "_name_or_path": str(outside)})
    )  # fmt: skip
    (root / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 8, "base_model_name_or_path": str(outside),
                    "auto_mapping": {"parent_library": "evil_module", "base_model_class": "Evil"}})
    )  # fmt: skip
    weights = {"weight_map": {"a": "../outside/secret.log", "b": f"{outside}/secret.log"}}
    (root / "model.safetensors.index.json").write_text(json.dumps(weights))
    (root / "Modelfile").write_text(f"FROM {outside}/secret.txt\nADAPTER ../outside/secret.log\n")
    deep = "[" * 100_000 + "]" * 100_000
    (root / "all_results.json").write_text(deep)
    (root / "eval_results.json").write_text('{"eval_loss": ' + "9" * 100_000 + "}")


def templates(root: Path, outside: Path, marker: Path) -> None:
    """Chat templates that break out, never end, or grow."""
    filled = [t.replace("MARKER", str(marker)).replace("OUTSIDE", str(outside)) for t in TEMPLATES]
    tokenizer = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
                 "added_tokens": [{"id": 2, "content": "</s>", "special": True}]}  # fmt: skip
    (root / "tokenizer.json").write_text(json.dumps(tokenizer))
    for number, template in enumerate(filled):
        folder = root / "checkpoints" / f"checkpoint-{number + 1}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(json.dumps(STATE))
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"chat_template": template, "eos_token": "</s>", "tokenizer_class": "Evil",
                        "auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", None]}})
        )  # fmt: skip
    (root / "chat_template.jinja").write_text("\n".join(filled[:9]))
    (root / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": filled[0], "eos_token": "</s>"})
    )


def data(root: Path, outside: Path, marker: Path) -> None:
    """Training rows that name files elsewhere, and templates inside rows."""
    rows = [
        {"messages": [{"role": "user", "content": TEMPLATES[0].replace("MARKER", str(marker))},
                      {"role": "assistant", "content": f"$(touch {marker}) =cmd|' /C calc'!A0"}],
         "images": [f"{outside}/secret.png", "../outside/secret.png", "file:///etc/passwd",
                    "http://127.0.0.1:9/x.png"],
         "image": f"{outside}/secret.png"}
        for _ in range(30)
    ]  # fmt: skip
    (root / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def databases(root: Path, outside: Path, marker: Path) -> None:
    """An SQLite file whose tables are views that never end or attach other files."""
    with sqlite3.connect(root / "mlflow.db") as database:
        database.executescript(
            "CREATE VIEW runs AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n)"
            " SELECT i AS run_uuid, 'FINISHED' AS status, i AS end_time, i AS start_time FROM n;"
            "CREATE VIEW metrics AS SELECT * FROM runs;"
            "CREATE VIEW params AS SELECT load_extension('/tmp/evil.so');"
        )


def links(root: Path, outside: Path, marker: Path) -> None:
    """Links out of the run: to files, folders, through each other, relative and absolute."""
    (root / "link.log").symlink_to(outside / "secret.log")
    (root / "metrics.jsonl").symlink_to("../outside/secret.log")
    (root / "linked").symlink_to(outside / "folder")
    (root / "second.log").symlink_to("link.log")
    (root / "through.log").symlink_to("linked/train.log")
    (root / "passwd.log").symlink_to("/etc/passwd")
    (root / "loop.log").symlink_to("loop.log")
    (root / "blobs").symlink_to(outside)
    (root / "gone.log").symlink_to("nowhere.log")


def specials(root: Path, outside: Path, marker: Path) -> None:
    """Files that are none: FIFOs, sockets, and devices where the tests may make them."""
    os.mkfifo(root / "train.log")
    os.mkfifo(root / "model.safetensors")
    os.mkfifo(root / "nvidia.log")
    here = Path.cwd()
    os.chdir(root)  # the name of a socket has at most 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("training.jsonl")
    finally:
        os.chdir(here)
    if os.geteuid() == 0:
        for name, device in (("zero.log", 5), ("random.jsonl", 8)):
            try:
                os.mknod(root / name, stat.S_IFCHR | 0o666, os.makedev(1, device))
            except PermissionError:
                return  # root of a container without the right


def archives(root: Path, outside: Path, marker: Path) -> None:
    """Archives whose members climb out, link out, or unpack to far more than they are."""
    with zipfile.ZipFile(root / "logs.zip", "w") as archive:
        for name in ("../outside/written.log", f"{outside}/written.log", "a/../../written.log"):
            archive.writestr(name, LOG)
    with tarfile.open(root / "logs.tar", "w") as archive:
        for name, kind, target in _members(outside):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = len(LOG) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(LOG.encode()) if member.size else None)
    (root / "big.log.gz").write_bytes(gzip.compress(b"\0" * (72 << 20), 9))
    with zipfile.ZipFile(root / "big.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.log", b"\0" * (72 << 20))


def _members(outside: Path) -> Iterator[tuple[str, bytes, str]]:
    yield "link.log", tarfile.SYMTYPE, str(outside / "secret.log")
    yield "hard.log", tarfile.LNKTYPE, "../outside/secret.log"
    yield "folder", tarfile.SYMTYPE, str(outside)
    yield "folder/written.log", tarfile.REGTYPE, ""
    yield "../written.log", tarfile.REGTYPE, ""
    yield "device.log", tarfile.CHRTYPE, ""
    yield "fifo.log", tarfile.FIFOTYPE, ""
