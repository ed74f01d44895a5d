"""Detectors on mixed precision and batches: skipped steps, the dynamic loss scale, batch size."""

from __future__ import annotations

from typing import Literal

from ftdoctor.detect import absent, detector, onset, present, stats, unobservable
from ftdoctor.detect.lr import method_of
from ftdoctor.detect.points import curve, number, setting_number
from ftdoctor.detect.wording import said as said_in_words
from ftdoctor.detect.wording import shown
from ftdoctor.model import Fact, Observation, Run
from ftdoctor.render.text import plural

LOG = "training log (stdout)"
UNSCALED = ("sgd", "momentum", "nesterov")  # optimisers whose steps have the gradient's size
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

    A flag that is true decides; flags that are all false mean another precision. MLX computes in
    the type of the stored weights and has no mixed precision.
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
    trainer = run.fact("run.trainer")
    if trainer is not None and trainer.value == "mlx":
        return absent("MLX has no mixed precision", trainer)
    return unobservable("the training precision is not known", "training configuration")


@detector("numerics.weights_trained_in")
def weights_trained_in(run: Run, *, name: Literal["fp16", "bf16"]) -> Observation:
    """Find a script that loads or casts all weights to a 16-bit type and trains them themselves.

    Adapters leave the weights alone; DeepSpeed and FSDP keep a copy in fp32.
    """
    if run.fact("script.train.file") is None:
        return unobservable("no training script was found", "training script")
    if method_of(run) == "lora":
        return absent("an adapter is trained, not the weights")
    for other in ("deepspeed", "fsdp"):
        asked = run.setting(other)
        if asked is not None and asked.value not in (None, "", False, [], {}):
            return unobservable(f"`{other}` may keep a copy of the weights in fp32")
    casts = run.facts.get("script.train.weights_dtype", ())
    loaded = [f for n in ("torch_dtype", "dtype") if (f := run.setting(n)) and _in_script(run, f)]
    fact = max(casts, key=lambda f: f.where.line or 0, default=loaded[0] if loaded else None)
    if fact is None:
        return unobservable("no script says in which type the weights are kept", "training script")
    said = str(fact.value).lower().rsplit(".", 1)[-1]
    text = f"the script keeps all weights in {said} and trains them as they are"
    wanted = {"bf16": ("bfloat16", "bf16"), "fp16": ("float16", "fp16", "half")}[name]
    return present(text, fact) if said in wanted else absent(f"the weights are in {said}", fact)


def _in_script(run: Run, fact: Fact) -> bool:
    return any(fact.where.path == f.where.path for f in run.facts.get("script.train.file", ()))


@detector("numerics.clip_starves")
def clip_starves(run: Run, *, ratio: float, minimum: int = 5) -> Observation:
    """Find a clip limit below `ratio` of the gradient norm under an optimiser without scaling.

    Adam and its kin divide the gradient by its own size, so that the limit hardly matters to them.
    """
    limit, optimiser = setting_number(run, "max_grad_norm"), run.setting("optim")
    if limit is None or limit[0] <= 0:
        return unobservable("no clip limit is known", "training configuration")
    if optimiser is None:
        return unobservable("the optimiser is not known", "training configuration")
    if not any(word in str(optimiser.value).lower() for word in UNSCALED):
        return absent(f"{optimiser.value} divides gradients by their own size", optimiser)
    norms = curve(run, "grad_norm", minimum=minimum)
    if isinstance(norms, Observation):
        return norms
    middle = stats.level(norms.values)
    text = f"gradients of norm {number(middle)} are cut to {limit[0]:g} before every step"
    starved = limit[0] < ratio * middle
    return (present if starved else absent)(text, limit[1], optimiser, curves=("grad_norm",))


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
