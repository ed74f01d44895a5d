"""README.md as trainers write it: hyperparameters, results table, versions, the axolotl config."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ftdoctor.model import Fact, Where
from ftdoctor.read.located import Entry, entries_of, yaml_scalar
from ftdoctor.read.reading import MetricRow, Reading
from ftdoctor.read.source import Source

CARD_LIMIT = 1 << 20  # bytes
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*$")
ITEM = re.compile(r"^\s*-\s+`?([A-Za-z_][\w ]*?)`?\s*:\s+(.+?)\s*$")
VERSION = re.compile(r"^\s*-\s+\**([A-Za-z][\w.-]*)\**:?\s+v?(\d[\w.+-]*)\s*$")
AXOLOTL_VERSION = re.compile(r"axolotl version:\s*`?v?([\w.+-]+)`?")
OPTIMIZER = re.compile(r"Use (?:OptimizerNames\.)?(\w+)", re.IGNORECASE)
# Names that the Trainer's card uses, and the arguments they were written from.
NAMES = {
    "train_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "optimizer": "optim",
    "lr_scheduler_warmup_ratio": "warmup_ratio",
    "lr_scheduler_warmup_steps": "warmup_steps",
    "num_epochs": "num_train_epochs",
    "training_steps": "max_steps",
}
TRAINER_TAGS = ("unsloth", "axolotl", "llama-factory", "trl", "mlx")
FRONT_SETTINGS = {"base_model": "model_name_or_path", "datasets": "dataset"}


def read_card(source: Source) -> Reading:
    """Read a model card; what people wrote in prose is left alone."""
    lines = source.text(CARD_LIMIT).lstrip("\ufeff").splitlines()
    settings: list[Fact] = []
    facts: list[Fact] = []
    end = _front_matter_end(lines)
    for entry in _parsed(lines[1:end], 1):
        settings += _front_setting(entry, source.path)
        facts += _front_facts(entry, source.path)
    config = list(_axolotl_config(lines))
    settings += [Fact(e.name, e.value, Where(source.path, line=e.line)) for e in config]
    if config:
        facts.append(Fact("config.dialect", "axolotl", Where(source.path, line=config[0].line)))
    rows: tuple[MetricRow, ...] = ()
    for heading, start, stop in _sections(lines, end):
        if "hyperparameter" in heading:
            settings += _hyperparameters(lines, start, stop, source.path)
        elif "framework versions" in heading:
            facts += _versions(lines, start, stop, source.path)
        elif "training results" in heading:
            rows = tuple(_results(lines, start, stop))
    for number, line in enumerate(lines, start=1):
        if match := AXOLOTL_VERSION.search(line):
            where = Where(source.path, line=number)
            facts.append(Fact("environment.package.axolotl", match.group(1), where))
            break
    taken = f"{len(settings)} settings, {len(rows)} rows of results"
    return Reading(
        taken=taken, settings=tuple(settings), facts=tuple(facts), metrics=rows, curve="card"
    )


# --- YAML parts -------------------------------------------------------------------------------


def _front_matter_end(lines: Sequence[str]) -> int:
    if not lines or lines[0].strip() != "---":
        return 0
    return next((i for i, line in enumerate(lines[1:], start=1) if line.strip() == "---"), 0)


def _parsed(lines: Sequence[str], skipped: int) -> list[Entry]:
    """Return the entries of a YAML piece after `skipped` lines of text; none if it is broken."""
    if not lines:
        return []
    try:
        entries = entries_of("\n".join(lines), "yaml")
    except (ValueError, RecursionError):
        return []
    return [Entry(e.name, e.value, e.line + skipped, e.number_as_text) for e in entries]


def _front_setting(entry: Entry, path: str) -> Iterator[Fact]:
    name = FRONT_SETTINGS.get(entry.name)
    if name:
        value: Any = entry.value
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, str):
            yield Fact(name, value, Where(path, line=entry.line))
    elif entry.name == "library_name" and entry.value == "peft":
        yield Fact("adapter", "lora", Where(path, line=entry.line))


def _front_facts(entry: Entry, path: str) -> Iterator[Fact]:
    if entry.name == "tags" and isinstance(entry.value, list):
        for tag in TRAINER_TAGS:
            if tag in entry.value:
                yield Fact("run.trainer", tag, Where(path, line=entry.line))


def _axolotl_config(lines: Sequence[str]) -> Iterator[Entry]:
    """Yield the entries of the configuration that axolotl embeds in the card (train.py, 0.19)."""
    summary = next((i for i, line in enumerate(lines) if "See axolotl config" in line), None)
    if summary is None:
        return
    start = next(
        (i for i in range(summary, len(lines)) if lines[i].strip().startswith("```yaml")), None
    )
    if start is None:
        return
    stop = next((i for i in range(start + 1, len(lines)) if lines[i].strip() == "```"), len(lines))
    yield from _parsed(lines[start + 1 : stop], start + 1)


# --- sections ---------------------------------------------------------------------------------


def _sections(lines: Sequence[str], start: int) -> Iterator[tuple[str, int, int]]:
    """Yield (heading in lower case, first line, end) as indices of the lines below each heading."""
    heading, first = "", start
    for index in range(start, len(lines)):
        if match := HEADING.match(lines[index]):
            yield heading, first, index
            heading, first = match.group(1).lower(), index + 1
    yield heading, first, len(lines)


def _hyperparameters(lines: Sequence[str], start: int, stop: int, path: str) -> Iterator[Fact]:
    for index in range(start, stop):
        match = ITEM.match(lines[index])
        if not match:
            continue
        name, text = match.group(1), match.group(2)
        where = Where(path, line=index + 1)
        if name == "mixed_precision_training":
            yield Fact("mixed_precision", text, where)
        elif name == "optimizer":
            # Before 4.46 the card says "Adam with betas", whatever the optimizer was.
            if named := OPTIMIZER.match(text):
                yield Fact("optim", named.group(1).lower(), where)
        else:
            yield Fact(NAMES.get(name, name), yaml_scalar(text), where)


def _versions(lines: Sequence[str], start: int, stop: int, path: str) -> Iterator[Fact]:
    for index in range(start, stop):
        if match := VERSION.match(lines[index]):
            package = {"pytorch": "torch"}.get(match.group(1).lower(), match.group(1).lower())
            where = Where(path, line=index + 1)
            yield Fact(f"environment.package.{package}", match.group(2), where)


def _results(lines: Sequence[str], start: int, stop: int) -> Iterator[MetricRow]:
    """Yield the rows of the Trainer's table: training loss, epoch, step, evaluation metrics."""
    columns: list[str] = []
    for index in range(start, stop):
        if not lines[index].lstrip().startswith("|"):
            continue
        cells = [cell.strip() for cell in lines[index].strip().strip("|").split("|")]
        if not columns:
            columns = [cell.lower() for cell in cells]
            if not {"epoch", "step"} <= set(columns):
                return
            continue
        yield from _result_rows(dict(zip(columns, cells, strict=False)), index + 1)


def _result_rows(cells: dict[str, str], line: int) -> Iterator[MetricRow]:
    step, epoch = _number(cells.pop("step", "")), _number(cells.pop("epoch", ""))
    if step is None:
        return
    training = _number(cells.pop("training loss", ""))
    if training is not None:
        yield MetricRow({"loss": training}, line, int(step), epoch, split="train")
    values = {}
    for name, cell in cells.items():
        value = _number(cell)
        if value is not None:
            values["loss" if name == "validation loss" else name.replace(" ", "_")] = value
    if values:
        yield MetricRow(values, line, int(step), epoch, split="eval")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
