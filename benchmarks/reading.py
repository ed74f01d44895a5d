"""Reading speed and memory against floors measured in the same run, printed as JSON lines.

    python benchmarks/reading.py --scale 1 --repeat 5

At `--scale 1` the inputs are those of the targets: 500 MB of output noisy with progress bars,
200 MB of metrics.jsonl with and without NaN literals, a GGUF header with 150,000 tokens, 2 GB of
safetensors. Every measurement runs in a process of its own, reader and floor in turn; the best of
each counts, since anything else on the machine only adds. `ok` compares with the target.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MEMORY_LIMIT = 500  # MB
TOKENS = 150_000


# --- inputs -----------------------------------------------------------------------------------


def write_console(path: Path, size: int, processes: int) -> None:
    """Write standard output as a file catches it: every process redraws its bar at every step.

    One of them logs a row every ten steps, as the Trainer does, and warns now and then.
    """
    steps = max(100, size // (118 * processes))
    with path.open("wb") as stream:
        stream.write(b"***** Running training *****\n  Num examples = 64,000\n")
        batch: list[str] = []
        written = step = 0
        while written < size:
            step += 1
            percent = min(100, 100 * step // steps)
            clock = f"{step // 3600:02d}:{step // 60 % 60:02d}"
            bar = f"\r{percent:3d}%|{'█' * (percent // 10):<10}| {step}/{steps} [{clock}<11:22:33, "
            batch += [f"{bar} {1.5 + (step + n) % 7 / 10:.2f}s/it]" for n in range(processes)]
            if step % 10 == 0:
                batch.append(
                    f"\r{' ' * 80}\r{{'loss': {2 + 1 / step:.4f}, "
                    f"'grad_norm': {step % 13 / 7:.4f}, "
                    f"'learning_rate': {2e-4 * (1 - step / steps):.6e}, "
                    f"'epoch': {3 * step / steps:.2f}}}\n"
                )
            if step % 5000 == 0:
                batch.append("WARNING: token indices sequence length is longer than 2048\n")
            if len(batch) > 10_000:
                written += stream.write("".join(batch).encode())
                batch.clear()
        stream.write("".join(batch).encode())


def row_per_step(n: int, steps: int) -> str:
    """Return a redraw of the bar and a row, as with `logging_steps=1`."""
    bar = f"\r{100 * n // steps:3d}%|{'█' * (10 * n // steps):<10}| {n}/{steps} [{n // 60}:{n % 60:02d}"
    return (f"{bar}<11:22:33,  {1.5 + n % 7 / 10:.2f}s/it]\r{' ' * 40}\r{{'loss': "
            f"{2 + n % 9973 / 9973:.4f}, 'grad_norm': {n % 13 / 7:.4f}, 'learning_rate': "
            f"{2e-4 * (1 - n / steps):.6e}, 'epoch': {3 * n / steps:.2f}}}\n")  # fmt: skip


def warnings_mostly(n: int, steps: int) -> str:
    """Return one of three warnings with numbers in it, now and then a redraw or a row."""
    warning = (
        f"WARNING: token indices sequence length is longer than the maximum ({n % 997} > 2048)\n",
        f"/site-packages/torch/utils/checkpoint.py:{n % 997}: UserWarning: None of the inputs have "
        "requires_grad=True. Gradients will be None\n",
        f"[2024-05-01 12:{n // 60 % 60:02d}:{n % 60:02d},{n % 997:03d}] [WARNING] [stage3.py:"
        f"{n % 9973}:step] {n % 10} pytorch allocator cache flushes since last step\n",
    )[n % 3]
    bar = f"\r{100 * n // steps:3d}%|█████     | {n}/{steps} [00:10<00:20,  1.50s/it]\n"
    row = f"{{'loss': {2 + n % 9973 / 9973:.4f}, 'learning_rate': 1e-4, 'epoch': {n / 1e5:.4f}}}\n"
    return warning + (bar if n % 10 == 0 else "") + (row if n % 50 == 0 else "")


def without_steps(n: int, steps: int) -> str:
    """Return a row that tells neither step nor epoch, and no bar."""
    return f"loss: {2 + n % 9973 / 9973:.4f} grad_norm: {n % 13 / 7:.4f} lr: {1 - n / steps:.3e}\n"


def distinct_messages(n: int, steps: int) -> str:
    """Return a message that no other line repeats."""
    words = " ".join(hex(n * k)[2:].translate(LETTERS) for k in (3, 7919, 104729, 1299709))
    return f"WARNING: row {n} of {steps}: {words} is longer than the limit, skipped\n"


LETTERS = str.maketrans("0123456789", "ghijklmnop")
DENSE = {"row per step": row_per_step, "warnings": warnings_mostly, "rows without steps":
         without_steps, "distinct messages": distinct_messages}  # fmt: skip


def write_dense(path: Path, size: int, line: Callable[[int, int], str]) -> None:
    """Write a log of such lines."""
    steps = size // len(line(1, size))
    with path.open("w") as stream:
        written = n = 0
        while written < size:
            written += stream.write("".join(line(k, steps) for k in range(n, n + 1000)))
            n += 1000


def write_metrics(path: Path, size: int, *, nan: bool) -> None:
    """Write rows of a metrics.jsonl; with `nan`, every hundredth loss is a NaN literal."""
    chance = random.Random(0)
    with path.open("w") as stream:
        written = step = 0
        while written < size:
            step += 1
            loss = "NaN" if nan and step % 100 == 0 else f"{2 + chance.random():.16f}"
            written += stream.write(
                f'{{"step": {step}, "epoch": {step / 1e5:.6f}, "loss": {loss}, '
                f'"grad_norm": {chance.random():.16f}, "learning_rate": {2e-4 / step:.12e}, '
                f'"num_tokens": {step * 4096}}}\n'
            )


def write_gguf(path: Path, tokens: int) -> None:
    """Write a header with a BPE vocabulary and one small tensor."""

    def text(value: str) -> bytes:
        data = value.encode()
        return struct.pack("<Q", len(data)) + data

    def array(kind: int, count: int, data: bytes) -> bytes:
        return struct.pack("<IIQ", 9, kind, count) + data

    words = [f"token{n:07d}" for n in range(tokens)]
    merges = [f"{n % 977} {n}" for n in range(tokens)]
    pairs = [
        (b"general.architecture", struct.pack("<I", 8) + text("llama")),
        (b"llama.context_length", struct.pack("<II", 4, 4096)),
        (b"tokenizer.ggml.model", struct.pack("<I", 8) + text("gpt2")),
        (b"tokenizer.ggml.tokens", array(8, tokens, b"".join(map(text, words)))),
        (b"tokenizer.ggml.token_type", array(5, tokens, struct.pack("<i", 1) * tokens)),
        (b"tokenizer.ggml.merges", array(8, tokens, b"".join(map(text, merges)))),
        (b"tokenizer.ggml.eos_token_id", struct.pack("<II", 4, 2)),
    ]
    with path.open("wb") as stream:
        stream.write(b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)))
        for key, value in pairs:
            stream.write(struct.pack("<Q", len(key)) + key + value)
        stream.write(text("token_embd.weight") + struct.pack("<IQQIQ", 2, 8, 8, 0, 0))
        stream.write(b"\0" * (-stream.tell() % 32) + b"\0" * 256)


def write_safetensors(path: Path, size: int) -> None:
    """Write bfloat16 tensors of 64 MB with ordinary values."""
    each = min(size, 64 << 20) // 2 * 2
    count = max(1, size // each)
    header = {
        f"model.layers.{n}.mlp.up_proj.weight": {
            "dtype": "BF16", "shape": [each // 2], "data_offsets": [n * each, (n + 1) * each],
        }
        for n in range(count)
    }  # fmt: skip
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    chunk = random.Random(0).randbytes(1 << 20)
    # The exponent's high bit cleared: no NaN, no Inf.
    block = bytes(b & 0xBF if i % 2 else b for i, b in enumerate(chunk))
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(raw)) + raw)
        left = each * count
        while left:
            left -= stream.write(block[:left])


# --- what is measured, each in its own process ------------------------------------------------


def read_whole(path: Path) -> dict[str, Any]:
    """Read a file as `ftdoctor show` does: discovered, read, redacted and assembled."""
    from ftdoctor.read import read_run

    run = read_run(path)
    return {"values": run.metrics.height}


def read_alone(path: Path) -> dict[str, Any]:
    """Read a file by its reader."""
    from ftdoctor.kinds import Found, classify
    from ftdoctor.read.items import read_one
    from ftdoctor.read.source import local_source

    source = local_source(path.parent, path)
    reading = read_one(Found(source, classify(source)))
    return {"rows": len(reading.metrics), "taken": reading.taken}


def read_ndjson(path: Path) -> dict[str, Any]:
    import polars as pl

    return {"rows": pl.read_ndjson(path).height}


def read_gguf(path: Path) -> dict[str, Any]:
    from ftdoctor.read.gguf import read_gguf as read
    from ftdoctor.read.source import local_source

    reading = read(local_source(path.parent, path))
    facts = {fact.name: fact.value for fact in reading.facts}
    return {"tokens": facts["gguf.vocab_size"], "eos": facts["gguf.eos_token_id"],
            "eos_text": facts["gguf.eos_token"], "architecture": facts["gguf.architecture"],
            "context": facts["gguf.context_length"]}  # fmt: skip


def read_gguf_library(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"]
    eos = int(fields["tokenizer.ggml.eos_token_id"].contents())
    return {"tokens": len(tokens.data), "eos": eos,
            "eos_text": str(tokens.contents(eos)),
            "architecture": fields["general.architecture"].contents(),
            "context": int(fields["llama.context_length"].contents())}  # fmt: skip


def scan_safetensors(path: Path) -> dict[str, Any]:
    from ftdoctor.read.safetensors import read_header
    from ftdoctor.read.source import local_source
    from ftdoctor.read.tensor_values import tensor_stats

    source = local_source(path.parent, path)
    stats = tensor_stats(source, read_header(source).tensors)
    return {"tensors": len(stats), "values": sum(s.count for s in stats.values()),
            "nan": sum(s.nan for s in stats.values())}  # fmt: skip


TASKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "read_whole": read_whole,
    "read_alone": read_alone,
    "read_ndjson": read_ndjson,
    "read_gguf": read_gguf,
    "read_gguf_library": read_gguf_library,
    "scan_safetensors": scan_safetensors,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """The best of several runs of one task: seconds by the clock and of CPU, and peak memory."""

    seconds: float
    cpu: float
    memory_mb: float
    result: dict[str, Any]


def run_task(name: str, path: Path) -> Measured:
    """Run one task in a fresh process; imports and the start of Python are not counted."""
    command = [sys.executable, str(Path(__file__).resolve()), "--task", name, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    return Measured(found["seconds"], found["cpu"], found["memory_mb"], found["result"])


def run_command(command: str, path: Path) -> Measured:
    """Run a shell command on a file; its output goes through a pipe."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "LC_ALL": "C"}
    # Not to /dev/null: GNU grep stops at the first match when nobody can read the count.
    subprocess.run(["sh", "-c", command, "sh", str(path)], capture_output=True,
                   check=True, env=environment)  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(time.perf_counter() - start, cpu, 0.0, {})


def best(runs: list[Measured]) -> Measured:
    """Return the fastest, with the greatest memory of all."""
    first = min(runs, key=lambda run: run.seconds)
    memory = max(run.memory_mb for run in runs)
    return Measured(first.seconds, min(run.cpu for run in runs), memory, first.result)


def alternate(
    repeat: int, reader: Callable[[], Measured], floor: Callable[[], Measured]
) -> tuple[Measured, Measured]:
    """Measure reader and floor in turn, so that both meet the same load of the machine."""
    pairs = [(floor(), reader()) for _ in range(repeat)]
    return best([one for _, one in pairs]), best([one for one, _ in pairs])


def perform(task: str, path: Path) -> None:
    """Run a task in this process and print what it took."""
    import gguf  # noqa: F401
    import numpy  # noqa: F401
    import polars  # noqa: F401

    import ftdoctor.read.assemble
    import ftdoctor.read.console
    import ftdoctor.read.safetensors  # noqa: F401

    start, cpu = time.perf_counter(), time.process_time()
    result = TASKS[task](path)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"seconds": seconds, "cpu": cpu, "memory_mb": memory, "result": result}
    print(json.dumps(found))


# --- the figures ------------------------------------------------------------------------------


def compared(
    name: str, reader: Measured, floor: Measured, *, at_most: float, unit: str, megabytes: float
) -> dict[str, Any]:
    """Return one line of the outcome; the ratio is that of times, reader to floor."""
    own, other = (reader.cpu, floor.cpu) if unit == "cpu" else (reader.seconds, floor.seconds)
    ratio = own / max(other, 1e-9)
    return {
        "figure": name,
        "ratio": round(ratio, 5),
        "at_most": at_most,
        "of": unit,
        "cpu_ratio": round(reader.cpu / max(floor.cpu, 1e-9), 5),
        "reader_s": round(own, 4),
        "floor_s": round(other, 4),
        "memory_mb": round(reader.memory_mb),
        "memory_limit_mb": MEMORY_LIMIT,
        "input_mb": round(megabytes, 1),
        "ok": ratio <= at_most and reader.memory_mb < MEMORY_LIMIT,
        "result": reader.result,
    }


def console_figures(folder: Path, scale: float, repeat: int) -> Iterator[dict[str, Any]]:
    for processes in (8, 1):
        path = folder / "stdout.log"
        write_console(path, int(scale * 500e6), processes)
        reader, floor = alternate(
            repeat,
            partial(run_task, "read_whole", path),
            partial(run_command, 'grep -c loss "$1"', path),
        )
        yield compared(f"console of {processes} processes against grep -c", reader, floor,
                       at_most=10, unit="clock", megabytes=path.stat().st_size / 1e6)  # fmt: skip


def dense_figures(folder: Path, scale: float, repeat: int) -> Iterator[dict[str, Any]]:
    """Measure logs that hold little else than what has to be read."""
    for name, line in DENSE.items():
        path = folder / "stdout.log"
        write_dense(path, int(scale * 500e6), line)
        reader, floor = alternate(
            repeat,
            partial(run_task, "read_whole", path),
            partial(run_command, 'grep -c loss "$1" || true', path),
        )
        yield compared(f"dense console, {name}, against grep -c", reader, floor,
                       at_most=10, unit="clock", megabytes=path.stat().st_size / 1e6)  # fmt: skip


def metrics_figures(folder: Path, scale: float, repeat: int) -> Iterator[dict[str, Any]]:
    clean, with_nan = folder / "clean" / "metrics.jsonl", folder / "nan" / "metrics.jsonl"
    for path in (clean, with_nan):
        path.parent.mkdir()
        write_metrics(path, int(scale * 200e6), nan=path is with_nan)
    for task in ("read_alone", "read_whole"):
        for path, form in ((clean, "clean"), (with_nan, "with NaN")):
            reader, floor = alternate(
                repeat, partial(run_task, task, path), partial(run_task, "read_ndjson", clean)
            )
            yield compared(f"metrics.jsonl {form}, {task}, against polars read_ndjson of the clean",
                           reader, floor, at_most=2, unit="clock",
                           megabytes=path.stat().st_size / 1e6)  # fmt: skip


def gguf_figures(folder: Path, scale: float, repeat: int) -> Iterator[dict[str, Any]]:
    del scale  # the target names the size of the vocabulary
    path = folder / "model.gguf"
    write_gguf(path, TOKENS)
    reader, floor = alternate(
        min(repeat, 3), partial(run_task, "read_gguf", path),
        partial(run_task, "read_gguf_library", path),
    )  # fmt: skip
    found = compared("GGUF header against gguf.GGUFReader", reader, floor, at_most=0.01,
                     unit="cpu", megabytes=path.stat().st_size / 1e6)  # fmt: skip
    found["equal"] = reader.result == floor.result
    found["ok"] = found["ok"] and found["equal"]
    yield found


def tensor_figures(folder: Path, scale: float, repeat: int) -> Iterator[dict[str, Any]]:
    path = folder / "model.safetensors"
    write_safetensors(path, int(scale * 2e9))
    run_command('cat "$1" > /dev/null', path)
    reader, floor = alternate(
        repeat, partial(run_task, "scan_safetensors", path),
        partial(run_command, 'cat "$1" > /dev/null', path),
    )  # fmt: skip
    yield compared("NaN scan of safetensors against cat", reader, floor, at_most=1 / 0.7,
                   unit="clock", megabytes=path.stat().st_size / 1e6)  # fmt: skip


FIGURES = {
    "console": console_figures,
    "dense": dense_figures,
    "metrics": metrics_figures,
    "gguf": gguf_figures,
    "tensors": tensor_figures,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=0.1, help="share of the targets' sizes")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=FIGURES, action="append")
    parser.add_argument("--task", nargs=2, metavar=("NAME", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        perform(options.task[0], Path(options.task[1]))
        return
    for name in options.only or FIGURES:
        folder = Path(tempfile.mkdtemp(prefix="ftdoctor-benchmark-"))
        try:
            for figure in FIGURES[name](folder, options.scale, options.repeat):
                print(json.dumps(figure), flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
