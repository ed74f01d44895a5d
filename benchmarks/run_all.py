"""Every figure of speed in one command, as JSON lines, each as a ratio to a floor of the same run.

    python benchmarks/run_all.py --out benchmarks/speed.json --svg docs/growth.svg

Start-up against a bare Typer program, a typical run and a folder of large files against the targets,
ranking with the whole library, and growth with log size, data rows and tensors. `reading.py` and
`triage.py` beside this measure the readers and the fleet. The floor of what is measured in seconds is
a fixed piece of pure Python, so that the ratio tells of the program and not of the machine's load.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# Compiled modules are kept as an installation keeps them: the first of several runs makes them.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)
BARE = (
    "import typer\napp = typer.Typer()\n@app.command()\ndef one(name: str): ...\n"
    "@app.command()\ndef two(name: str): ...\napp()"
)


@dataclass(frozen=True)
class Taken:
    """What a command took: seconds by the clock, seconds of CPU."""

    wall: float
    cpu: float


def spent(*command: str) -> Taken:
    """Run a command to its end (its exit status does not count) and say what it took."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, _, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    return Taken(wall, used.ru_utime + used.ru_stime)


def best(times: int, *command: str) -> Taken:
    """Return the least of several runs: other load on the machine only adds."""
    runs = [spent(*command) for _ in range(times)]
    return Taken(min(r.wall for r in runs), min(r.cpu for r in runs))


def held(*command: str) -> float:
    """Return the peak memory in MB of a command and, beside it, of the processes that it starts.

    Of those only pages of their own count: they share the others with it. Looked at every 10 ms.
    """
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    most = 0
    while process.poll() is None:
        with contextlib.suppress(OSError):  # a process has ended in the meantime
            started = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            others = sum(_pages(pid, "Private_Clean", "Private_Dirty") for pid in started)
            most = max(most, _pages(str(process.pid), "Rss") + others)
        time.sleep(0.01)
    return most / 1024


def _pages(pid: str, *names: str) -> int:
    """Return the KB that a process holds of some kinds."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    told = {name: int(value.split()[0]) for name, _, value in (r.partition(":") for r in rows)}
    return sum(told[name] for name in names)


def floor() -> float:
    """Return the seconds of CPU of a fixed loop in pure Python."""
    found = []
    for _ in range(3):
        start = time.process_time()
        sum(n * n % 7 for n in range(2_000_000))
        found.append(time.process_time() - start)
    return min(found)


def ours(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "ftdoctor", *arguments)


# --- inputs -----------------------------------------------------------------------------------


def write_console(path: Path, size: int) -> None:
    """Write a log as `reading.py` makes it: ten redraws of the bar between two rows."""
    from reading import write_console as write  # beside this file

    write(path, size, 1)


def write_rows(path: Path, count: int) -> None:
    chance = random.Random(0)
    words = [f"word{n}" for n in range(5000)]
    with path.open("w") as stream:
        for n in range(count):
            turns = [
                {"role": "user", "content": " ".join(chance.choices(words, k=20)) + f" {n}?"},
                {"role": "assistant", "content": " ".join(chance.choices(words, k=30)) + "."},
            ]
            stream.write(json.dumps({"messages": turns}) + "\n")


def write_tensors(path: Path, count: int, size: int = 4096) -> None:
    """Write a header of `count` tensors; the values are a hole in the file."""
    header = {
        f"model.layers.{n}.q_proj.weight": {
            "dtype": "BF16", "shape": [size // 2], "data_offsets": [n * size, (n + 1) * size],
        }
        for n in range(count)
    }  # fmt: skip
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(raw)) + raw)
        stream.truncate(8 + len(raw) + count * size)


CONSONANTS, VOWELS = "bcdfghjklmnprstvwxyz", "aeiou"


def syllables() -> list[str]:
    return [c + v for c in CONSONANTS for v in VOWELS]


def write_tokenizer(folder: Path, tokens: int) -> None:
    """Write byte-level BPE as Qwen's or Llama's: letters, syllables, pairs and triples of those."""
    chance = random.Random(0)
    letters = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 324)]]
    one = syllables()
    merges = [(s[0], s[1]) for s in one]
    merges += [("Ġ", c) for c in CONSONANTS] + [("Ġ" + s[0], s[1]) for s in one]
    merges += [(start + a, b) for start in ("", "Ġ") for a in one for b in one]
    two = [a + b for a, b in merges if len(a) > 1 and len(b) > 1]
    seen: set[str] = set()
    while len(letters) + len(merges) < tokens:
        a, b = chance.choice(two), chance.choice(one)
        if a + b not in seen:
            seen.add(a + b)
            merges.append((a, b))
    vocabulary = {token: n for n, token in enumerate([*letters, *(a + b for a, b in merges)])}
    (folder / "tokenizer.json").write_text(
        json.dumps({
            "version": "1.0",
            "added_tokens": [
                {"id": len(vocabulary) + n, "content": text, "special": True, "single_word": False,
                 "lstrip": False, "rstrip": False, "normalized": False}
                for n, text in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
            ],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False,
                              "trim_offsets": True, "use_regex": True},
            "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                        "use_regex": True},
            "model": {"type": "BPE", "vocab": vocabulary, "merges": [f"{a} {b}" for a, b in merges]},
        }, ensure_ascii=False)
    )  # fmt: skip
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>'"
        " + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
        "{% endif %}"
    )
    config = {"chat_template": template, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
              "model_max_length": 32768, "tokenizer_class": "PreTrainedTokenizerFast"}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def write_conversations(path: Path, count: int) -> None:
    """Write chats of words that the tokenizer knows in part, about 550 bytes each."""
    chance, parts = random.Random(1), syllables()
    words = ["".join(chance.choices(parts, k=chance.choice((1, 2, 2, 3, 4)))) for _ in range(8000)]
    with path.open("w") as stream:
        for _ in range(count):
            turns = [
                {"role": "user", "content": " ".join(chance.choices(words, k=20)) + "?"},
                {"role": "assistant", "content": " ".join(chance.choices(words, k=40)) + "."},
            ]
            stream.write(json.dumps({"messages": turns}) + "\n")


def write_trainer_log(path: Path, steps: int) -> None:
    """Write what `python train.py 2>&1 | tee train.log` catches of the Trainer, with few rows.

    The bar redraws itself at every step, a row comes every twenty steps; 60,000 steps make 3,000
    rows among 60,000 redraws, 5 MB in all.
    """
    chance = random.Random(2)
    with path.open("w") as stream:
        stream.write("***** Running training *****\n  Num examples = 10,000\n  Num Epochs = 6\n"
                     "  Instantaneous batch size per device = 1\n  Gradient Accumulation steps = 1\n"
                     f"  Total optimization steps = {steps:,}\n")  # fmt: skip
        for step in range(1, steps + 1):
            done = step / steps
            full, part = divmod(round(done * 80), 8)
            bar = f"{'█' * full}{chr(0x2590 - part) if part else ''}".ljust(10)
            spent, left = step, steps - step
            stream.write(
                f"\r{100 * step // steps:3d}%|{bar}| {step}/{steps} [{spent // 3600}:"
                f"{spent // 60 % 60:02d}:{spent % 60:02d}<{left // 3600}:{left // 60 % 60:02d}:"
                f"{left % 60:02d},  {1 + chance.random() / 10:.2f}s/it]"
            )
            if step % 20 == 0:
                loss = 0.9 + 1.4 * math.exp(-step / 1500) - 0.15 * done + chance.gauss(0, 0.04)
                rate = 2e-4 * min(1, step / 900) * max(0.0, 1 - max(0, step - 900) / (steps - 900))
                row = {"loss": round(loss, 4), "grad_norm": 0.4 + chance.random() / 3,
                       "learning_rate": rate, "epoch": round(6 * done, 2)}  # fmt: skip
                stream.write(f"\r{' ' * 90}\r{row}\n")
        stream.write("{'train_runtime': 30123.4, 'train_loss': 0.93, 'epoch': 6.0}\n")


def write_adapter(folder: Path, layers: int, rank: int, width: int) -> None:
    """Write a LoRA adapter of trained values: float32 of the size that training gives."""
    import numpy as np

    chance = np.random.default_rng(0)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    values, at = [], 0
    for layer in range(layers):
        for module in ("q_proj", "k_proj", "v_proj", "o_proj"):
            for side, shape, size in (("A", [rank, width], 0.02), ("B", [width, rank], 0.004)):
                name = (
                    f"base_model.model.model.layers.{layer}.self_attn.{module}.lora_{side}.weight"
                )
                data = chance.normal(0, size, shape).astype("<f4").tobytes()
                header[name] = {"dtype": "F32", "shape": shape,
                                "data_offsets": [at, at + len(data)]}  # fmt: skip
                values.append(data)
                at += len(data)
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    content = struct.pack("<Q", len(raw)) + raw + b"".join(values)
    (folder / "adapter_model.safetensors").write_bytes(content)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank,
              "lora_dropout": 0.05, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
              "base_model_name_or_path": "base"}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))


def write_typical(folder: Path) -> None:
    """5 MB of log, a LoRA adapter of 29 MB, a tokenizer of 150,000 tokens, 10,000 rows."""
    write_trainer_log(folder / "train.log", 60_000)
    write_conversations(folder / "train.jsonl", 10_000)
    write_tokenizer(folder, 150_000)
    write_adapter(folder, 28, 16, 2048)
    (folder / "config.yaml").write_text(
        "learning_rate: 2e-4\nnum_train_epochs: 6\nper_device_train_batch_size: 1\n"
        "lr_scheduler_type: linear\nwarmup_ratio: 0.03\nmax_length: 2048\n"
    )


def write_large(folder: Path) -> None:
    """2 GB of log as `reading.py` makes it, a row in ten redraws; 15 GB of sparse weights."""
    write_console(folder / "train.log", 20_000_000)
    piece = (folder / "train.log").read_bytes()
    with (folder / "train.log").open("ab") as stream:
        for _ in range(2_000_000_000 // len(piece)):
            stream.write(piece)
    for part in range(3):
        write_tensors(folder / f"model-{part + 1:05d}-of-00003.safetensors", 40, 125 << 20)


# --- figures ----------------------------------------------------------------------------------


def start_up() -> Iterator[dict[str, Any]]:
    bare, own = [], []
    for _ in range(7):  # in turn, so that both meet the same load
        bare.append(spent(sys.executable, "-c", BARE, "--help").cpu)
        own.append(spent(*ours("--help")).cpu)
    yield {"figure": "ftdoctor --help against a bare Typer program, CPU", "seconds": min(own),
           "floor_s": min(bare), "ratio": min(own) / min(bare), "at_most": 2.0}  # fmt: skip


def whole(name: str, write: Callable[[Path], None], times: int, seconds: float,
          megabytes: float | None) -> Iterator[dict[str, Any]]:  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="ftdoctor-benchmark-") as place:
        folder = Path(place) / "run"
        folder.mkdir()
        write(folder)
        unit = floor()
        command = ours("diagnose", str(folder), "-o", f"{place}/r.html")
        taken = best(times, *command)
        memory = held(*command)
    # By the clock on an idle machine; on a busy one the time that others took is not ours.
    ok = min(taken.wall, taken.cpu) <= seconds and (megabytes is None or memory <= megabytes)
    yield {"figure": name, "seconds": taken.wall, "cpu_s": taken.cpu, "floor_s": unit,
           "ratio": taken.cpu / unit, "at_most_s": seconds, "memory_mb": memory,
           "memory_at_most_mb": megabytes, "ok": ok}  # fmt: skip


def ranking() -> Iterator[dict[str, Any]]:
    from ftdoctor.detect.engine import detect_all
    from ftdoctor.diagnose import Options, applicable, gather
    from ftdoctor.library import load
    from ftdoctor.rank import rank

    library, slowest = load(), 0.0
    for run in sorted((ROOT / "fixtures").glob("*/*/run"))[::6]:
        evidence = gather(run, Options(), library)
        findings = detect_all(evidence, library)
        fitting = applicable(library, evidence)
        each = []
        for _ in range(5):
            start = time.process_time()
            rank(findings, fitting)
            each.append(time.process_time() - start)
        slowest = max(slowest, min(each))
    unit = floor()
    yield {"figure": "rank with the full library, slowest fixture", "seconds": slowest,
           "floor_s": unit, "ratio": slowest / unit, "at_most_s": 0.05,
           "causes": len(library.causes), "ok": slowest <= 0.05}  # fmt: skip


GROWTH: dict[str, tuple[Callable[[Path, int], None], str, tuple[int, ...]]] = {
    "log, MB": (lambda p, n: write_console(p / "train.log", n * 1_000_000), "MB",
                (10, 100, 200, 400)),
    "data rows": (lambda p, n: write_rows(p / "train.jsonl", n), "rows",
                  (1000, 10_000, 20_000, 40_000)),
    "tensors": (lambda p, n: write_tensors(p / "model.safetensors", n), "tensors",
                (1000, 10_000, 20_000, 40_000)),
}  # fmt: skip


def growth() -> Iterator[dict[str, Any]]:
    for name, (write, unit, sizes) in GROWTH.items():
        points = []
        for size in sizes:
            with tempfile.TemporaryDirectory(prefix="ftdoctor-benchmark-") as place:
                folder = Path(place)
                write(folder, size)
                points.append((size, best(3, *ours("show", str(folder), "--json")).cpu))
        # Seconds per unit in the last stretch against the one before: 1 is linear, 2 quadratic.
        (x0, y0), (x1, y1), (x2, y2) = points[-3:]
        slope = ((y2 - y1) / (x2 - x1)) / max(1e-12, (y1 - y0) / (x1 - x0))
        yield {"figure": f"growth with {name}", "points": points, "unit": unit,
               "ratio": slope, "at_most": 1.5}  # fmt: skip


def draw(figures: list[dict[str, Any]], path: Path) -> None:
    """Draw the growth curves side by side."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 9})
    curves = [f for f in figures if "points" in f]
    fig, axes = plt.subplots(1, len(curves), figsize=(9, 2.6), layout="constrained")
    for axis, figure in zip(axes, curves, strict=True):
        axis.plot(*zip(*figure["points"], strict=True), marker="o", color="#2563a8")
        axis.set(
            xlabel=figure["unit"], ylabel="CPU seconds", title=figure["figure"], ylim=(0, None)
        )
        axis.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--only", action="append")
    options = parser.parse_args()
    parts: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "start": start_up,
        "typical": lambda: whole("a typical run, start to report", write_typical, 4, 2.0, 300),
        "rank": ranking,
        "large": lambda: whole("2 GB of log and 15 GB of weights", write_large, 1, 10.0, None),
        "growth": growth,
    }
    figures = []
    for name in options.only or parts:
        for figure in parts[name]():
            figure.setdefault("ok", figure["ratio"] <= figure.get("at_most", math.inf))
            figures.append(figure)
            print(json.dumps(figure), flush=True)
    if options.out:
        load = os.getloadavg()[0]
        options.out.write_text(json.dumps({"load": load, "figures": figures}, indent=1) + "\n")
    if options.svg:
        draw(figures, options.svg)
    return int(not all(figure["ok"] for figure in figures))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
