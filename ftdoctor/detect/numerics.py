"""Detectors on mixed precision and batches: skipped steps, the dynamic loss scale, batch size."""

from __future__ import annotations

import re
from typing import Literal

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.points import number, points, setting_number
from ftdoctor.model import Fact, Observation, Run, Span, Where

LOG = "training log (stdout)"
# DeepSpeed: "step=23650, skipped=23650, lr=[1e-05]"; counts are totals since the start.
SKIPPED = re.compile(r"step=(\d{1,12}),\s*skipped=(\d{1,12})")
# DeepSpeed: "OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 64, reducing to 32"
OVERFLOW = re.compile(
    r"OVERFLOW!.{0,80}?loss scale: ?([\d.]{1,20}).{0,20}?reducing to ([\d.]{1,20})"
)
AT_MINIMUM = "loss scale already at minimum"
LINE_LIMIT = 1_000_000  # lines looked at; a log of more is longer than any run seen


def _matching(run: Run, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], Fact]]:
    """Return matches of a pattern in log lines and events, with their places, in order."""
    found = []
    for frame in (run.lines, run.events):
        if frame.is_empty():
            continue
        columns = frame.select("path", "line", "text").head(LINE_LIMIT)
        for path, line, text in columns.iter_rows():
            match = pattern.search(text or "")
            if match:
                where = Where(str(path), line=int(line) if line else None)
                found.append((match, Fact("log", match.group(0), where)))
    return found


@detector("numerics.steps_skipped")
def steps_skipped(run: Run, *, share: float = 0.5, minimum: int = 20) -> Observation:
    """Find that over `share` of the optimizer steps were skipped, by DeepSpeed's or Megatron's count."""
    found = _matching(run, SKIPPED)
    if found:
        match, fact = found[-1]
        steps, skipped = int(match.group(1)), int(match.group(2))
        text = f"{skipped} of {steps} optimizer steps were skipped"
        if steps < minimum:
            return unobservable(f"{text}; {minimum} steps are needed", "a longer log")
        if skipped > share * steps:
            return present(text, fact, span=Span(0))
        return absent(text, fact)
    counted = points(run, "skipped_steps")
    if counted is None:
        return unobservable("no count of skipped steps was logged", LOG)
    values, last = counted.finite.values, counted.step(-1)
    # DeepSpeed counts from the start, Megatron anew for each logging interval.
    rising = len(values) > 1 and bool((values[1:] >= values[:-1]).all())
    total = float(values[-1]) if rising or len(values) == 1 else float(values.sum())
    text = f"{number(total)} of {last} optimizer steps were skipped"
    if last < minimum:
        return unobservable(f"{text}; {minimum} steps are needed", "a longer log")
    if total > share * last:
        return present(text, counted.finite.fact(-1), curves=("skipped_steps",))
    return absent(text, counted.finite.fact(-1))


@detector("numerics.loss_scale_collapses")
def loss_scale_collapses(run: Run, *, floor: float = 1.0) -> Observation:
    """Find a dynamic loss scale that falls to `floor` or below: every fp16 step overflows."""
    scale = points(run, "loss_scale")
    if scale is not None and len(scale.finite) >= 2:
        scale = scale.finite
        text = f"loss scale goes from {number(float(scale.values[0]))} to {number(float(scale.values[-1]))}"
        if float(scale.values.max()) > 16 and float(scale.values[-1]) <= floor:
            first = int((scale.values <= floor).argmax())
            return present(
                text, scale.fact(first), curves=("loss_scale",), span=Span(scale.step(first))
            )
        return absent(text, scale.fact(-1))
    minimum = _matching(run, re.compile(re.escape(AT_MINIMUM)))
    if minimum:
        return present("DeepSpeed stops: the loss scale is at its minimum", minimum[0][1])
    overflows = _matching(run, OVERFLOW)
    if not overflows:
        return unobservable("no loss scale was logged", LOG)
    low = [(m, f) for m, f in overflows if float(m.group(2).rstrip(".") or 1) <= floor]
    text = f"{len(overflows)} overflow lines, the last reduces the scale to {overflows[-1][0].group(2)}"
    if low:
        return present(text, low[0][1])
    return absent(text, overflows[-1][1])


@detector("numerics.batch")
def batch(run: Run, *, at_most: int) -> Observation:
    """Find an effective batch (rows x accumulation x processes) of `at_most` rows.

    Accumulation and processes count as 1 where no file gives them.
    """
    rows = setting_number(run, "per_device_train_batch_size")
    if rows is None:
        return unobservable("the batch size is not known", "training configuration")
    accumulation = setting_number(run, "gradient_accumulation_steps")
    world = run.fact("environment.world_size") or run.fact("environment.gpu_count")
    processes = float(world.value) if world and isinstance(world.value, int | float) else 1.0
    steps = accumulation[0] if accumulation else 1.0
    size = rows[0] * steps * processes
    text = f"an optimizer step sees {size:.0f} rows ({rows[0]:g} x {steps:g} x {processes:g})"
    if accumulation is None and size <= at_most:
        return unobservable(f"{text} without gradient_accumulation_steps", "training configuration")
    facts = [rows[1]] + ([accumulation[1]] if accumulation else [])
    return present(text, *facts) if 0 < size <= at_most else absent(text, *facts)


@detector("numerics.precision")
def precision(run: Run, *, name: Literal["fp16", "bf16"]) -> Observation:
    """Find the training precision, from fp16/bf16 flags or the names of mixed_precision and dtype.

    A flag that is true decides; flags that are all false mean another precision.
    """
    flags = {n: f for n in ("fp16", "bf16") if (f := run.setting(n)) is not None}
    for found, flag in flags.items():
        if _is_true(flag.value):
            return (present if found == name else absent)(f"{found} is on", flag)
    for other in ("mixed_precision", "precision", "torch_dtype", "dtype"):
        fact = run.setting(other)
        text = str(fact.value).lower() if fact is not None else ""
        said = "bf16" if "bf16" in text or "bfloat16" in text else ""
        said = said or ("fp16" if "16" in text or "half" in text else "")
        if fact is not None and said:
            return (present if said == name else absent)(f"{other} is {fact.value}", fact)
    if name in flags:
        return absent(f"{name} is off", flags[name])
    return unobservable("the training precision is not known", "training configuration")


def _is_true(value: object) -> bool:
    return value is True or str(value).lower() == "true"


@detector("numerics.device")
def device(run: Run, *, name: str) -> Observation:
    """Find the device that training ran on."""
    fact = run.fact("environment.device")
    if fact is not None:
        return (present if str(fact.value) == name else absent)(f"device is {fact.value}", fact)
    asked = run.setting("use_mps_device")
    if asked is not None and name == "mps":
        used = _is_true(asked.value)
        return (present if used else absent)(f"use_mps_device is {asked.value}", asked)
    return unobservable("the device is not known", LOG)
