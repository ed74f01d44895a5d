"""Detectors on mixed precision and batches: skipped steps, the dynamic loss scale, batch size."""

from __future__ import annotations

from typing import Literal

from ftdoctor.detect import absent, detector, onset, present, unobservable
from ftdoctor.detect.points import curve, number, setting_number
from ftdoctor.detect.wording import said as said_in_words
from ftdoctor.detect.wording import shown
from ftdoctor.model import Observation, Run
from ftdoctor.render.text import plural

LOG = "training log (stdout)"
TINY_SCALE = 1e-3  # judgement: fp16 gradients need 2**10 and more


@detector("numerics.steps_skipped")
def steps_skipped(run: Run, *, share: float = 0.5, minimum: int = 20) -> Observation:
    """Find that over `share` of the optimizer steps were skipped, by the log's own count."""
    counted = curve(run, "skipped_steps")
    if isinstance(counted, Observation):
        return unobservable("no count of skipped steps was logged", LOG)
    values, last = counted.values, counted.step(-1)
    # DeepSpeed counts from the start, Megatron anew for each logging interval.
    rising = bool((values[1:] >= values[:-1]).all())
    total = float(values[-1]) if rising else float(values.sum())
    text = f"{total:.0f} of {last} optimizer steps were skipped"
    if last < minimum:
        return unobservable(f"{text}; {minimum} steps are needed", "a longer log")
    if total > share * last:
        return present(text, counted.fact(-1), curves=("skipped_steps",))
    return absent(text, counted.fact(-1))


@detector("numerics.loss_scale_falls")
def loss_scale_falls(
    run: Run, *, to: float | None = None, at_least: int | None = None
) -> Observation:
    """Find a dynamic loss scale that ends at `to` or below, or that fell `at_least` times.

    A scale that never was above 16 was set by hand, unless it is a tiny fraction of one.

    DeepSpeed logs the scale only when a step overflows, so its rows are the overflows.
    """
    scale = curve(run, "loss_scale")
    if isinstance(scale, Observation):
        return scale
    values = scale.values
    falls = int((values[1:] < values[:-1]).sum())
    first, last = float(values[0]), float(values[-1])
    text = f"the loss scale falls {plural(falls, 'time')}, from {number(first)} to {number(last)}"
    fell = float(values.max()) > 16 or last < TINY_SCALE
    ended = to is not None and fell and last <= to
    often = at_least is not None and falls >= at_least
    if not ended and not often:
        return absent(text, scale.fact(-1))
    place = int((values <= to).argmax()) if ended and to is not None else len(scale) - 1
    return present(text, scale.fact(place), curves=("loss_scale",), span=onset.at(scale, place))


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
    text = f"an optimizer step sees {plural(int(size), 'row')}"
    text += f" ({rows[0]:g} x {steps:g} x {processes:g})"
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
            return (present if found == name else absent)(said_in_words(flag), flag)
    for other in ("mixed_precision", "precision", "torch_dtype", "dtype"):
        fact = run.setting(other)
        text = str(fact.value).lower() if fact is not None else ""
        said = "bf16" if "bf16" in text or "bfloat16" in text else ""
        said = said or ("fp16" if "16" in text or "half" in text else "")
        if fact is not None and said:
            return (present if said == name else absent)(said_in_words(fact), fact)
    if name in flags:
        return absent(said_in_words(flags[name]), flags[name])
    return unobservable("the training precision is not known", "training configuration")


def _is_true(value: object) -> bool:
    return value is True or str(value).lower() == "true"


@detector("numerics.device")
def device(run: Run, *, name: str) -> Observation:
    """Find the device that training ran on."""
    fact = run.fact("environment.device")
    if fact is not None:
        return (present if str(fact.value) == name else absent)(
            f"training ran on {shown(fact.value)}", fact
        )
    asked = run.setting("use_mps_device")
    if asked is not None and name == "mps":
        used = _is_true(asked.value)
        return (present if used else absent)(said_in_words(asked), asked)
    return unobservable("the device is not known", LOG)
