"""Damage files at random and read them: no exception, no hang, bounded memory, no bolder verdict.

    python benchmarks/fuzz.py --inputs 120000 --runs 1500 --out benchmarks/fuzz.json
    python benchmarks/fuzz.py --guided 120        # coverage-guided, needs `pip install atheris`

The seeds are the files of `fixtures/` and, where it lies beside the project, the collection of
samples in `../shared/formats/samples`. `--inputs` damaged files go through the reader of their kind,
each alone; an exception that leaves a reader is a failure even though the caller would catch it.
`--runs` fixtures are diagnosed with one file damaged: a cause that the whole run does not have may
not become probable by that, unless damage is what the cause is about (`ABOUT_DAMAGE`). The same
seed gives the same inputs. Exit status 1 if anything failed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SAMPLES = ROOT.parent / "shared" / "formats" / "samples"
SEED_LIMIT = 200 << 10  # bytes; larger seeds only make fewer inputs
SECONDS = 10
MEMORY = 2 << 30  # bytes that one worker may hold
PROBABLE = 0.70  # from here on a report says "probably"
# Causes whose evidence is the damage itself: a cut weights file or template is of no use to whoever
# loads it next, however it came to be cut. Of every other cause damage is no evidence.
ABOUT_DAMAGE = frozenset({
    "safetensors-truncated-or-corrupt", "gguf-truncated-or-tensor-count-wrong",
    "chat-template-syntax-or-runtime-error",
})  # fmt: skip
# What is left of a known exception when its words are cut: the report says less, not something else.
SAYS_LESS = frozenset({"uncaught-exception"})
INTERESTING = (
    b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"9" * 400, b"-1", b"1e999", b"NaN",
    b"[" * 3000, b'{"a":' * 3000, b"(" * 3000, b"{{" * 500, b"\n" * 300, b"\r", b'"', b"\\", b"\\u0000",
    b"\xed\xa0\x80", b"\xf0\x9f", b"null", b"true", b"[]", b"{}", b'""', b"0", b"&a [*a, *a]", b"\x1b[2J",
)  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """A file as it is in a run: its path there, the folder that it is from, its kind's reader."""

    path: str
    data: bytes
    kind: str
    reader: str


@dataclass
class Outcome:
    """What was tried and what went wrong."""

    tried: int = 0
    states: Counter[str] = field(default_factory=Counter)
    damages: Counter[str] = field(default_factory=Counter)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    slowest: float = 0.0

    def fail(self, key: str, about: dict[str, Any]) -> None:
        """Note a failure once, with how often it came."""
        known = self.failures.setdefault(key, {**about, "times": 0})
        known["times"] += 1


class TooSlowError(BaseException):
    """The alarm rang."""


# --- seeds and damage -------------------------------------------------------------------------


def seeds() -> list[Seed]:
    """Return the distinct files that some reader takes, in a fixed order."""
    from ftdoctor.kinds import classify
    from ftdoctor.read.source import local_source

    found: dict[bytes, Seed] = {}
    runs = sorted(path for path in (ROOT / "fixtures").rglob("run") if path.is_dir())
    samples = sorted(p for p in SAMPLES.iterdir() if p.is_dir()) if SAMPLES.is_dir() else []
    for run in [*samples, *runs]:
        for path in sorted(p for p in run.rglob("*") if p.is_file()):
            if not 0 < path.stat().st_size <= SEED_LIMIT:
                continue
            source = local_source(run, path)
            kind = classify(source)
            if kind is not None and kind.reader:
                data = path.read_bytes()
                found.setdefault(data, Seed(source.path, data, kind.id, kind.reader))
    return list(found.values())


def flip(chance: random.Random, data: bytearray, _: bytes) -> None:
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def overwrite(chance: random.Random, data: bytearray, _: bytes) -> None:
    at, piece = chance.randrange(len(data)), chance.choice(INTERESTING)
    data[at : at + len(piece)] = piece


def insert(chance: random.Random, data: bytearray, _: bytes) -> None:
    at = chance.randrange(len(data))
    data[at:at] = chance.choice(INTERESTING)


def cut(chance: random.Random, data: bytearray, _: bytes) -> None:
    del data[len(data) * chance.randrange(100) // 100 :]


def drop(chance: random.Random, data: bytearray, _: bytes) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.choice((1, 2, 7, 64, 1024))]


def splice(chance: random.Random, data: bytearray, other: bytes) -> None:
    data[chance.randrange(len(data)) :] = other[chance.randrange(len(other)) :]


def repeat(chance: random.Random, data: bytearray, _: bytes) -> None:
    at, size = chance.randrange(len(data)), chance.choice((1, 16, 256, 4096))
    data[at:at] = data[at : at + size] * chance.choice((2, 8, 64))


DAMAGES: tuple[Callable[[random.Random, bytearray, bytes], None], ...] = (
    flip, overwrite, insert, cut, drop, splice, repeat,
)  # fmt: skip


def damaged(chance: random.Random, data: bytes, other: bytes) -> tuple[bytes, str]:
    """Return the data after one to three kinds of damage, and their names."""
    found, names = bytearray(data), []
    for damage in chance.choices(DAMAGES, k=chance.choice((1, 1, 1, 2, 3))):
        if not found:
            break
        damage(chance, found, other)
        names.append(damage.__name__)
    return bytes(found[: 4 * SEED_LIMIT]), "+".join(names)


# --- one file at a time -----------------------------------------------------------------------


@contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Raise TooSlowError in what takes longer."""

    def ring(*_: Any) -> None:
        raise TooSlowError

    signal.signal(signal.SIGPROF, ring)
    # CPU seconds: on a busy machine any input may wait.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def read_alone(seed: Seed, data: bytes, outcome: Outcome, how: str) -> None:
    """Read damaged content by the reader of the seed's kind, and redact what it gave."""
    from ftdoctor.kinds import Found, classify
    from ftdoctor.read.items import clean_reading, read_one, reader_named
    from ftdoctor.read.source import memory_source
    from ftdoctor.redact import Redactor

    about = {"path": seed.path, "kind": seed.kind, "damage": how}
    start = time.perf_counter()
    try:
        with alarm(SECONDS):
            source = memory_source(seed.path, data)
            kind = classify(source)
            try:
                reading = clean_reading(reader_named(seed.reader)(source), Redactor())
            except BaseException as error:
                # A panic of Polars is no fault of a reader; `read_one` has to hold it.
                if type(error).__name__ != "PanicException":
                    raise
                reading = read_one(Found(source, kind))
                outcome.states["panic of a library"] += 1
        outcome.states[str(reading.state)] += 1
    except TooSlowError:
        outcome.fail(f"{seed.kind}: hang", about)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = next((f for f in reversed(traceback.extract_tb(error.__traceback__))
                      if "ftdoctor/" in f.filename), last)  # fmt: skip
        name = f"{seed.kind}: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        outcome.fail(name, {**about, "message": str(error)[:200]})
    outcome.tried += 1
    outcome.damages.update(how.split(" ", maxsplit=1)[0].split("+"))
    outcome.slowest = max(outcome.slowest, time.perf_counter() - start)


def fuzz_readers(count: int, chance: random.Random, seconds: float) -> Outcome:
    """Every percent of truncation of each seed first, then random damage up to the count."""
    every, outcome = seeds(), Outcome()
    of_kind: dict[str, list[Seed]] = {}
    for seed in every:
        of_kind.setdefault(seed.kind, []).append(seed)
    kinds = sorted(of_kind)
    end = time.perf_counter() + seconds
    firsts = [group[0] for group in of_kind.values()]
    cuts = ((seed, percent) for seed in firsts for percent in range(1, 100))
    while outcome.tried < count and time.perf_counter() < end:
        if step := next(cuts, None):
            seed, percent = step
            data, how = seed.data[: len(seed.data) * percent // 100], f"cut at {percent} %"
        else:
            # Each kind gets its share, however many files of it there are.
            seed = chance.choice(of_kind[chance.choice(kinds)])
            other = chance.choice(of_kind[seed.kind]).data
            data, how = damaged(chance, seed.data, other)
        read_alone(seed, data, outcome, how)
    return outcome


# --- whole runs -------------------------------------------------------------------------------


@cache
def library() -> Any:
    """Return the signature library, loaded once."""
    from ftdoctor.library import load

    return load(())


def diagnosed(files: dict[str, bytes]) -> Any:
    """Diagnose files in memory as if they lay in a folder; None if they are no run."""
    from ftdoctor.choose import choose_run
    from ftdoctor.diagnose import diagnose_run
    from ftdoctor.discover import Discovery, is_run
    from ftdoctor.kinds import Found, classify
    from ftdoctor.read.assemble import assemble
    from ftdoctor.read.items import clean_paths, read_items
    from ftdoctor.read.source import memory_source
    from ftdoctor.redact import Redactor

    sources = [memory_source(path, data, 1e9) for path, data in files.items()]
    found = tuple(Found(source, classify(source)) for source in sources)
    if not is_run(found):
        return None
    redactor = Redactor()
    discovery = clean_paths(Discovery("run", choose_run(found, "").kept), redactor)
    return diagnose_run(
        assemble(discovery, read_items(discovery.found, redactor), redactor), library()
    )


def probable(diagnosis: Any) -> dict[str, Any]:
    """Return the causes that a report would call probable."""
    return {c.id: c for c in diagnosis.causes if c.probability >= PROBABLE}


def fuzz_runs(count: int, chance: random.Random, seconds: float) -> Outcome:
    """Diagnose fixtures with one file cut or damaged, and compare with the whole run."""
    outcome = Outcome()
    runs = sorted(path for path in (ROOT / "fixtures").rglob("run") if path.is_dir())
    end = time.perf_counter() + seconds
    whole: dict[Path, tuple[dict[str, bytes], dict[str, Any]]] = {}
    while outcome.tried < count and time.perf_counter() < end:
        run = chance.choice(runs)
        if run not in whole:
            files = {p.relative_to(run).as_posix(): p.read_bytes()
                     for p in sorted(run.rglob("*")) if p.is_file()}  # fmt: skip
            whole[run] = files, probable(diagnosed(files))
        files, known = whole[run]
        name = chance.choice([n for n, data in files.items() if data])
        # Half are cut off, as runs in the wild are; the others get every kind of damage in turn.
        if chance.random() < 0.5:
            percent = chance.randrange(1, 100)
            data, how = files[name][: len(files[name]) * percent // 100], f"cut at {percent} %"
        else:
            other = files[chance.choice([n for n, content in files.items() if content])]
            data, how = damaged(chance, files[name][: 4 * SEED_LIMIT], other)
        outcome.damages.update(how.split(" ")[0].split("+"))
        about = {"run": run.relative_to(ROOT).as_posix(), "file": name, "damage": how}
        start = time.perf_counter()
        try:
            with alarm(60):
                found = diagnosed({**files, name: data})
                if found is not None:
                    _compare(known, found, about, outcome)
                    written = json.dumps(found.to_json(), allow_nan=False)
                    again = type(found).from_json(json.loads(written)).to_json()
                    assert again == json.loads(written), "the diagnosis changes on its way"
        except TooSlowError:
            outcome.fail(f"hang: {about['run']}", about)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            outcome.fail(f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}",
                         {**about, "message": str(error)[:200]})  # fmt: skip
        outcome.tried += 1
        outcome.slowest = max(outcome.slowest, time.perf_counter() - start)
    return outcome


def _compare(known: dict[str, Any], found: Any, about: dict[str, Any], outcome: Outcome) -> None:
    new = {c: r for c, r in probable(found).items() if c not in known}
    outcome.states["bolder" if new else "same or weaker"] += 1
    for name, cause in new.items():
        if name not in ABOUT_DAMAGE and not (name in SAYS_LESS and known):
            outcome.fail(f"new cause {name}", {**about, "probability": cause.probability})


# --- coverage-guided --------------------------------------------------------------------------


def guided(seconds: int, seed: int) -> int:
    """Let atheris look for inputs of the binary readers and the log scanner that raise."""
    import atheris

    with atheris.instrument_imports(include=["ftdoctor.read"]):
        import ftdoctor.read.items  # noqa: F401
        from ftdoctor.read import (  # noqa: F401
            arrow,
            console,
            gguf,
            logtext,
            metrics_jsonl,
            mlflow,
            protobuf,
            safetensors,
            tensorboard,
            torch_file,
            trainer_state,
            training_args,
            wandb,
        )  # fmt: skip
    wanted = {"safetensors", "gguf", "torch-file", "training-args", "tensorboard", "wandb-binary",
              "arrow", "mlflow-db", "console"}  # fmt: skip
    by_kind = {s.kind: s for s in seeds()}
    chosen = [by_kind[k] for k in sorted(by_kind) if k in wanted or not _is_text(by_kind[k].data)]
    corpus = Path("/tmp/ftdoctor-fuzz-corpus")
    corpus.mkdir(exist_ok=True)
    for number, item in enumerate(chosen):
        (corpus / f"seed-{number}").write_bytes(bytes([number]) + item.data[: 64 << 10])
    outcome = Outcome()

    def one(data: bytes) -> None:
        if len(data) > 1:
            item = chosen[data[0] % len(chosen)]
            read_alone(item, data[1:], outcome, "guided")
            if outcome.failures:  # the fuzzer keeps the input and ends
                raise RuntimeError(json.dumps(outcome.failures))

    print(f"kinds: {', '.join(item.kind for item in chosen)}", file=sys.stderr)
    atheris.Setup([sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-seed={seed}",
                   "-max_len=65536", "-rss_limit_mb=2048", "-timeout=20"], one)  # fmt: skip
    atheris.Fuzz()
    return 0


def _is_text(data: bytes) -> bool:
    return b"\0" not in data[:4096]


# --- the command ------------------------------------------------------------------------------


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "tried": outcome.tried,
        "states": dict(sorted(outcome.states.items())),
        "damages": dict(sorted(outcome.damages.items())),
        "slowest_s": round(outcome.slowest, 2),
        "failures": outcome.failures,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=120_000)
    parser.add_argument("--runs", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each of the two")
    parser.add_argument("--guided", type=int, default=0, metavar="SECONDS")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.guided:
        return guided(options.guided, options.seed)
    os.environ["HF_HUB_OFFLINE"] = "1"
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with redirect_stdout(io.StringIO()):
        readers = fuzz_readers(options.inputs, random.Random(options.seed), options.seconds)
        runs = fuzz_runs(options.runs, random.Random(options.seed), options.seconds)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    result = {"seed": options.seed, "readers": _plain(readers), "runs": _plain(runs),
              "peak_memory_mb": memory, "memory_limit_mb": MEMORY >> 20}  # fmt: skip
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text)
    return int(bool(readers.failures or runs.failures))


if __name__ == "__main__":
    sys.exit(main())
