"""Measure triage: rate, growth, memory of the parent, page, cluster speed-up, and the floor.

    python benchmarks/triage.py OUT --runs 10000 --workers 2

makes the runs below OUT (once), then prints one JSON object per measurement. Times are wall times
of the real command; other load on the machine makes them longer, so the load is printed too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

STEPS = 200
HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
FAULTS = ("healthy", "rate-too-high", "nan", "memory", "memorised", "cut-short")


def make(folder: Path, index: int) -> None:
    """Write one small run: state, log, configuration and script; the fault goes by the index."""
    rng = random.Random(index)
    fault = FAULTS[index % len(FAULTS)]
    rate = 5e-2 if fault == "rate-too-high" else 2e-4
    rows = list(_rows(rng, fault, rate))
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "global_step": rows[-1]["step"], "max_steps": STEPS, "epoch": rows[-1]["epoch"],
        "num_train_epochs": 3, "logging_steps": 1, "log_history": rows,
    }  # fmt: skip
    (folder / "trainer_state.json").write_text(json.dumps(state))
    log = [f"{{'loss': {r['loss']}, 'epoch': {r['epoch']}}}" for r in rows if "loss" in r]
    if fault == "memory":
        log += [
            "Traceback (most recent call last):", '  File "train.py", line 9, in <module>',
            "    loss.backward()", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate "
            f"{rng.randint(1, 9)}.00 GiB. GPU 0 has a total capacity of 79.15 GiB",
        ]  # fmt: skip
    (folder / "train.log").write_text("\n".join(log) + "\n")
    (folder / "config.yaml").write_text(
        f"learning_rate: {rate}\nnum_train_epochs: 3\nper_device_train_batch_size: 8\n"
        f"model_name_or_path: Qwen/Qwen2.5-{rng.choice((1, 3, 7))}B\nseed: {index}\n"
    )
    shared = "return a + eos" if fault != "memorised" else "return a"
    (folder / "train.py").write_text(
        "from transformers import Trainer\n\n\ndef format_row(a, eos):\n"
        f"    {shared}\n\n\nTrainer(model=None).train()\n"
    )


def _rows(rng: random.Random, fault: str, rate: float) -> Iterator[dict[str, Any]]:
    last = STEPS // 2 if fault in ("memory", "cut-short") else STEPS
    for step in range(1, last + 1):
        expected = 0.6 + 2 * math.exp(-step / 40)
        loss = expected + rng.gauss(0, 0.03)
        norm = 0.8 + rng.random() / 4
        if fault == "rate-too-high" and step > 30:
            loss, norm = 6.5 + rng.random(), 40 + 9 * rng.random()
        if fault == "nan" and step > 120:
            loss, norm = 0.0, float("nan")
        if fault == "memorised":
            loss = 2.2 * math.exp(-step / 25) + 0.01 * rng.random()
        yield {"step": step, "epoch": round(3 * step / STEPS, 4), "loss": round(loss, 4),
               "grad_norm": norm, "learning_rate": rate * (1 - step / STEPS)}  # fmt: skip
        if step % 50 == 0:
            held_out = {
                "rate-too-high": 7.0, "memorised": 1.0 + step / 60,
                "nan": float("nan") if step > 120 else expected + 0.1,
            }.get(fault, expected + 0.1)  # fmt: skip
            yield {"step": step, "epoch": round(3 * step / STEPS, 4),
                   "eval_loss": round(held_out + rng.random() / 50, 4)}  # fmt: skip


def generate(root: Path, count: int) -> None:
    """Make what is missing of the runs."""
    for index in range(count):
        folder = root / f"team-{index % 20:02d}" / f"exp-{index:05d}"
        if not (folder / "train.py").exists():
            make(folder, index)


def measure(
    name: str, roots: list[str], out: Path, *more: str, fresh: bool = True
) -> dict[str, Any]:
    """Run the command; return seconds, rate, memory of the parent, and sizes of what it wrote."""
    for old in out.glob("ftdoctor-triage.*") if fresh else ():
        old.unlink()
    listed = out / "paths.txt"
    out.mkdir(parents=True, exist_ok=True)
    listed.write_text("\n".join(roots) + "\n")
    load = os.getloadavg()[0]
    started, used = time.perf_counter(), os.times()
    process = subprocess.Popen(
        [sys.executable, "-m", "ftdoctor", "triage", f"@{listed}", "-o", str(out), "--json", *more],
        env=HERE, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
    watcher.start()
    told, _ = process.communicate()
    seconds = time.perf_counter() - started
    spent = os.times()
    cpu = spent.children_user + spent.children_system - used.children_user - used.children_system
    summary = json.loads(told)
    page = out / "ftdoctor-triage.html"
    return {
        "measured": name, "runs": summary["runs"], "not_diagnosed": summary["not_diagnosed"],
        "seconds": round(seconds, 1), "runs_per_second": round(summary["runs"] / seconds, 2),
        "cpu_seconds": round(cpu, 1),
        "runs_per_core_second": round(summary["runs"] / cpu, 2) if cpu > 1 else None,
        "parent_peak_mb": round(peak[0] / 1e6), "page_mb": round(page.stat().st_size / 1e6, 3),
        "jsonl_mb": round((out / "ftdoctor-triage.jsonl").stat().st_size / 1e6, 1),
        "clusters": {c["cause"]: c["runs"] for c in summary["clusters"][:8]},
        "load_before": round(load, 2),
    }  # fmt: skip


def _watch(process: subprocess.Popen[str], peak: list[int]) -> None:
    while process.poll() is None:
        with suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            line = next(line for line in lines if line.startswith("VmHWM"))
            peak[0] = max(peak[0], int(line.split()[1]) * 1024)
        time.sleep(0.2)


def floor(roots: list[str]) -> dict[str, Any]:
    """Read each state's curve with one `polars.read_json`, and do nothing with it."""
    import polars as pl

    started = time.perf_counter()
    refused = 0
    for root in roots:
        try:
            pl.read_json(Path(root) / "trainer_state.json")
        except pl.exceptions.ComputeError:  # bare NaN, as the Trainer writes it
            refused += 1
    seconds = time.perf_counter() - started
    return {
        "measured": "floor: polars.read_json of each state",
        "runs": len(roots),
        "refused": refused,
        "seconds": round(seconds, 2),
        "runs_per_second": round(len(roots) / seconds),
    }


@contextmanager
def dask(workers: int, out: Path) -> Iterator[str]:
    """Start a scheduler and workers of one thread each on loopback; give the address."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    commands = [["scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]]
    commands += [
        ["worker", address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard",
         "--local-directory", str(out / f"dask-{i}")]
        for i in range(workers)
    ]  # fmt: skip
    started = [
        subprocess.Popen([sys.executable, "-m", "dask", *command], env=HERE,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         start_new_session=True)
        for command in commands
    ]  # fmt: skip
    try:
        from distributed import Client

        with Client(address, timeout="60s", set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address
    finally:
        for process in reversed(started):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def main() -> None:
    """Make the runs and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dask-runs", type=int, default=1000)
    options = parser.parse_args()
    root, out = options.out / "runs", options.out / "results"
    generate(root, options.runs)
    paths = [str(root / f"team-{i % 20:02d}" / f"exp-{i:05d}") for i in range(options.runs)]
    workers = ("--workers", str(options.workers))
    sizes = [n for n in (100, 1000, 10_000) if n <= options.runs]
    for size in sizes:
        print(json.dumps(measure(f"local, {size}", paths[:size], out, *workers)), flush=True)
    half = paths[: options.runs // 2]
    told = measure("repeat, half of them, unchanged", half, out, *workers, fresh=False)
    print(json.dumps(told), flush=True)
    if options.dask_runs:
        for count in (1, 2):
            with dask(count, options.out) as address:
                some, to = paths[: options.dask_runs], options.out / f"dask-results-{count}"
                told = measure(f"Dask, {count} workers", some, to, "--cluster", address)
                del told["cpu_seconds"], told["runs_per_core_second"]  # not those of the workers
                print(json.dumps(told), flush=True)
    print(json.dumps(floor(paths)), flush=True)


if __name__ == "__main__":
    main()
