"""Detectors on the learning rate: its size for the method, and whether its schedule is as meant.

Traps: transformers 4.x logs the rate of the next step (last row 0.0), 5.x the one used (first row
0.0 under warm-up); so a zero at either end is healthy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ftdoctor.detect import absent, detector, onset, present, unobservable
from ftdoctor.detect.points import (
    KINDS_IN_WORDS,
    REPLAYED,
    TRAIN_FILES,
    Points,
    curve,
    kind_of,
    number,
    points,
    resume_borders,
    setting_number,
)
from ftdoctor.model import Fact, Observation, Run, Series, Span
from ftdoctor.render.text import plural

if TYPE_CHECKING:
    import numpy as np

# (low, high) of peak rates for AdamW by objective and method; judgement after the ranges that
# axolotl's training_stability, TRL's trainer docs and tinker-cookbook's hyperparams give.
_METHODS = {"full": "full ", "lora": "LoRA ", "": ""}
_OBJECTIVES = {
    "sft": "fine-tuning",
    "preference": "preference training",
    "rl": "reinforcement learning",
    "reward": "training of a reward model",
}
RANGES: dict[tuple[str, str], tuple[float, float]] = {
    ("sft", "full"): (1e-6, 1e-4),
    ("sft", "lora"): (2e-5, 1e-3),
    ("preference", "full"): (1e-7, 1e-5),
    ("preference", "lora"): (1e-6, 5e-5),
    ("rl", "full"): (1e-7, 1e-5),
    ("rl", "lora"): (1e-6, 1e-4),
    ("reward", "full"): (1e-6, 1e-4),
    ("reward", "lora"): (1e-6, 1e-3),
}
OTHER_SCALES = ("lion", "sgd", "muon", "prodigy", "adafactor", "dadapt", "galore", "schedule_free")
CYCLIC = ("cosine_with_restarts", "cosine_with_min_lr_restarts", "cyclic", "one_cycle", "cycle")
DECAYING = ("linear", "cosine", "polynomial")


def method_of(run: Run) -> str:
    """Return lora or full, or "" if nothing tells which parameters were trained."""
    if any(name.startswith(("lora.", "adapter.")) for name in (*run.settings, *run.facts)):
        return "lora"
    said = str(getattr(run.setting("adapter"), "value", "")).lower()
    if said in ("full", "none", "lora", "qlora", "dora"):
        return "full" if said in ("full", "none") else "lora"
    if kind_of(run) == "classification" and run.fact("model.architecture") is not None:
        return "full"  # a saved config.json without an adapter's: the whole classifier was trained
    trainable, total = run.fact("log.trainable_parameters"), run.fact("log.total_parameters")
    if trainable is not None and total is not None and total.value:
        return "full" if float(trainable.value) > 0.5 * float(total.value) else "lora"
    return ""


def peak_rate(run: Run) -> tuple[float, Fact] | None:
    """Return the highest rate logged (of three rows or more), else the configured one.

    One or two rows may both lie at the end of the schedule.
    """
    found = points(run, "learning_rate")
    if found is not None and len(found.finite) >= 3:
        place = int(found.finite.values.argmax())
        return float(found.finite.values[place]), found.finite.fact(place)
    return setting_number(run, "learning_rate")


# The rate that a model takes falls with about the cube root of its size: table 2.1 of
# https://arxiv.org/abs/2005.14165 (6e-4 for 125 M parameters, 2e-4 for 1.3 B).
LARGE = 1e9  # parameters from which on the usual rates are taken as they are


@detector("lr.beyond")
def beyond(
    run: Run, *, side: Literal["high", "low"], times: float = 1.0, kinds: tuple[str, ...] = ()
) -> Observation:
    """Find a peak rate more than `times` outside the usual range of its objective and method.

    Where the method is unknown both ranges are allowed; optimisers of another scale (Lion, SGD,
    Adafactor, Prodigy, ...) are not judged.
    """
    known = peak_rate(run)
    if known is None:
        return unobservable("no learning rate was logged or configured", *TRAIN_FILES)
    rate, fact = known
    optimiser = run.setting("optim")
    if optimiser is not None and any(o in str(optimiser.value).lower() for o in OTHER_SCALES):
        return unobservable(f"{optimiser.value} uses learning rates of another scale")
    kind = kind_of(run) or "sft"
    if kinds and kind not in kinds:
        return unobservable(f"this range is not for {KINDS_IN_WORDS.get(kind, kind)}")
    objective = kind if kind in ("preference", "rl", "reward") else "sft"
    method = method_of(run)
    spans = [RANGES[objective, m] for m in ([method] if method else ["full", "lora"])]
    low, high = min(s[0] for s in spans), max(s[1] for s in spans)
    what = f"{_METHODS[method]}{_OBJECTIVES[objective]}"
    if side == "low" and _still_rising(run):
        return unobservable("the learning rate was still warming up", "a longer log")
    text = f"peak learning rate {number(rate)}; {number(low)} to {number(high)} is usual for {what}"
    if rate <= 0:
        return unobservable("no learning rate above 0 was logged", "training configuration")
    if (side == "high" and rate > times * high) or (side == "low" and rate < low / times):
        return present(text, fact, curves=("learning_rate",))
    if side == "high" and rate > times * min(s[1] for s in spans):
        return unobservable(f"{text}, but less for full training", "adapter_config.json")
    return absent(text, fact)


def _still_rising(run: Run) -> bool:
    """Say whether the highest logged rate is the last of a rise, so that the peak is not known."""
    found = points(run, "learning_rate")
    if found is None or len(found.finite) < 3:
        return False
    values = found.finite.values
    return bool(int(values.argmax()) == len(values) - 1 and values[-1] > values[0])


@detector("lr.full_with_lora_rate")
def full_with_lora_rate(run: Run, *, above: float = 1e-4) -> Observation:
    """Find full fine-tuning (known as such) at a rate that only adapters take."""
    known = peak_rate(run)
    if known is None:
        return unobservable("no learning rate was logged or configured", *TRAIN_FILES)
    method = method_of(run)
    if not method:
        return unobservable(
            "nothing tells whether all weights were trained", "training log (stdout)"
        )
    rate, fact = known
    trained = "all weights" if method == "full" else "LoRA"
    text = f"peak learning rate {number(rate)}, trained: {trained}"
    size = run.fact("log.total_parameters") or run.fact("log.trainable_parameters")
    facts = (fact,) if size is None else (fact, size)
    if size is not None and isinstance(size.value, int | float) and 0 < size.value < LARGE:
        above *= (LARGE / size.value) ** (1 / 3)
        text += f" of {size.value / 1e6:,.3g} M parameters, which take {number(above)}"
    return present(text, *facts) if method == "full" and rate >= above else absent(text, *facts)


@detector("lr.warmup_covers_run")
def warmup_covers_run(run: Run) -> Observation:
    """Find a configured warm-up of as many steps as the run has.

    A file that gives rate and schedule but no warm-up has none: trainers write it beside them.
    """
    steps, share = setting_number(run, "warmup_steps"), setting_number(run, "warmup_ratio")
    if steps is None or steps[0] <= 0:
        schedule, rate = run.setting("lr_scheduler_type"), run.setting("learning_rate")
        if share is not None and share[0] < 1:
            return absent(f"the warm-up is {share[0]:.0%} of the run", share[1])
        if steps is not None:
            return absent("no warm-up is configured", steps[1])
        if schedule and rate and schedule.where.path == rate.where.path:
            return absent(f"{rate.where.path} gives rate and schedule, and no warm-up", schedule)
        return unobservable("no warm-up is known", "training configuration")
    total = run.known("progress.max_steps")
    if total is None or not isinstance(total.value, int | float):
        return unobservable("the number of steps is not known", "trainer_state.json")
    text = f"warm-up takes {steps[0]:g} of {total.value:g} steps"
    return (present if steps[0] >= total.value else absent)(text, steps[1], total)


@detector("lr.equals_default")
def equals_default(run: Run, *, defaults: tuple[float, ...]) -> Observation:
    """Find a peak rate that is exactly a framework's default while no file sets one."""
    known = peak_rate(run)
    if known is None:
        return unobservable("no learning rate was logged or configured", *TRAIN_FILES)
    rate, fact = known
    hits = [d for d in defaults if abs(rate / d - 1) < 0.02]
    if not hits:
        return absent(f"peak learning rate {rate:.3g} is no framework default", fact)
    return present(f"peak learning rate {rate:.3g} is a framework default", fact)


def _rates(run: Run, minimum: int) -> Points | Observation:
    """Return the logged rates without a zero first or last row."""
    found = curve(run, "learning_rate", minimum=minimum)
    if isinstance(found, Observation):
        return found
    keep = slice(1 if found.values[0] == 0 else 0, -1 if found.values[-1] == 0 else len(found))
    trimmed = Points(found.series, found.index[keep])
    return trimmed if len(trimmed) >= 2 else found


def _rises(rates: Points) -> np.typing.NDArray[np.int64]:
    """Return the positions, after the first peak, at which the rate rose by over 10 %."""
    import numpy as np

    peak = _first_peak(rates)
    before, after = rates.values[:-1], rates.values[1:]
    rising = (after > 1.1 * before) & (after - before > 0.02 * rates.values.max())
    return np.flatnonzero(rising & (np.arange(len(before)) >= peak)) + 1


def _first_peak(rates: Points) -> int:
    """Return where the first rise ends: the end of warm-up."""
    import numpy as np

    falls = np.flatnonzero(np.diff(rates.values) < 0)
    return int(falls[0]) if len(falls) else len(rates) - 1


@detector("lr.oscillates")
def oscillates(run: Run, *, rises: int = 2) -> Observation:
    """Find a rate that goes up again at least twice after its first peak, without being meant to.

    A cyclic scheduler in the configuration makes it absent; without a configuration a regular
    saw-tooth (cycles of 4 rows and more, of one length, falling within) may be meant: unobservable.
    """
    rates = _rates(run, 10)
    if isinstance(rates, Observation):
        return rates
    ups = _rises(rates)
    if len(ups) < rises:
        return absent(f"the learning rate rises {plural(len(ups), 'time')} after its peak")
    declared = run.setting("lr_scheduler_type")
    name = str(declared.value).lower() if declared is not None else ""
    steps = ", ".join(str(rates.step(int(i))) for i in ups[:3])
    text = f"the learning rate rises again {plural(len(ups), 'time')} after its first peak"
    text += f" (steps {steps})"
    if declared is not None and any(c in name for c in CYCLIC):
        return absent(f"{text}, as lr_scheduler_type {declared.value} asks", declared)
    if declared is None and _is_sawtooth(rates, ups):
        return unobservable(f"{text}, regularly: this may be meant", "training configuration")
    if declared is not None:
        text += f", though lr_scheduler_type is {declared.value}"
    first = int(ups[0])
    facts = [rates.fact(first), rates.fact(first - 1)] + ([declared] if declared else [])
    return present(text, *facts, curves=("learning_rate", "loss"), span=onset.at(rates, first))


def _is_sawtooth(rates: Points, ups: np.typing.NDArray[np.int64]) -> bool:
    """Say whether the rises cut the series into falling cycles of one length."""
    import numpy as np

    starts = np.concatenate([[_first_peak(rates)], ups])
    lengths = np.diff(starts)
    lengths = lengths[lengths > 1] if (lengths > 1).any() else lengths
    return bool(lengths.min() >= 4 and lengths.std() <= 0.25 * lengths.mean())


@detector("lr.loss_follows")
def loss_follows(run: Run, *, times: float = 1.05, rows: int = 10) -> Observation:
    """Find a rate jump of over 2 after which the loss level is `times` that before."""
    import numpy as np

    rates = _rates(run, 2 * rows)
    loss = points(run, "loss")
    if isinstance(rates, Observation) or loss is None:
        return rates if isinstance(rates, Observation) else unobservable("no loss", *TRAIN_FILES)
    jumps = [int(i) for i in _rises(rates) if rates.values[i] > 2 * rates.values[i - 1]]
    for jump in jumps:
        step = rates.step(jump)
        before = loss.finite.values[loss.finite.steps < step][-rows:]
        after = loss.finite.values[loss.finite.steps >= step][: 2 * rows]
        if min(len(before), len(after)) < rows // 2:
            continue
        low, high = float(np.median(before)), float(np.median(after))
        if low > 0 and high > times * low:
            text = f"loss rises from {number(low)} to {number(high)} after the learning rate goes "
            text += f"from {rates.values[jump - 1]:.2g} to {rates.values[jump]:.2g} at step {step}"
            return _present_at(rates, jump, text)
    return absent(f"{plural(len(jumps), 'jump')} of the learning rate, the loss follows none")


def _present_at(rates: Points, place: int, text: str) -> Observation:
    """Return the finding of a loss that changed where the rate rose."""
    return present(
        text,
        rates.fact(place),
        curves=("loss", "learning_rate"),
        span=onset.at(rates, place),
    )


@dataclass(frozen=True, slots=True)
class _Restart:
    """A rise of the rate, to twice its trough and more, with the loss level before and after."""

    trough: int  # position among the rates
    peak: int
    before: float
    after: float


def _restarts(run: Run) -> tuple[Points, Points, list[_Restart]] | Observation:
    """Return rates, losses and the restarts of the rate.

    The level before is that of a cycle's last quarter, the one after that of the next one's first
    half. Jumps and slow rises count alike. One restart may be a resume, so that it counts only
    where a schedule with restarts is configured.
    """
    rates = _rates(run, 10)
    loss = points(run, "loss")
    if isinstance(rates, Observation) or loss is None:
        return rates if isinstance(rates, Observation) else unobservable("no loss", *TRAIN_FILES)
    turns = _turns(rates)
    ends = [*(trough for trough, _ in turns[1:]), len(rates) - 1]
    start = rates.step(_first_peak(rates))
    found = []
    for (trough, peak), end in zip(turns, ends, strict=False):
        low, top, last = (rates.step(i) for i in (trough, peak, end))
        before = _level(loss.finite, low - (low - start) / 4, low)
        after = _level(loss.finite, top, top + (last - top) / 2)
        if before is not None and after is not None and before > 0:
            found.append(_Restart(trough, peak, before, after))
        start = top
    declared = run.setting("lr_scheduler_type")
    meant = declared is not None and any(c in str(declared.value).lower() for c in CYCLIC)
    if found and len(found) < 2 and not meant:
        return unobservable("the rate rises once: this may be a resume", "training configuration")
    return rates, loss.finite, found


def _level(loss: Points, start: float, end: float) -> float | None:
    """Return the median loss from one step to another, None for less than two rows."""
    import numpy as np

    values = loss.values[(loss.steps >= start) & (loss.steps <= end)]
    return float(np.median(values)) if len(values) >= 2 else None


def _turns(rates: Points) -> list[tuple[int, int]]:
    """Return (trough, next peak) where the rate falls to half and rises to twice its trough."""
    values = rates.values
    least = 0.02 * float(values.max())
    found = []
    low = high = _first_peak(rates)
    falling = True
    for i in range(high, len(values)):
        if falling:
            low = i if values[i] <= values[low] else low
            if values[i] > 2 * values[low] + least and values[low] < values[high] / 2:
                falling, high = False, i
        elif values[i] >= values[high]:
            high = i
        elif values[i] < values[high] / 2 or i == len(values) - 1:
            found.append((low, high))
            falling, low = True, i
    return found


@detector("lr.restarts_lift")
def restarts_lift(run: Run, *, times: float = 1.05) -> Observation:
    """Find that the loss is `times` its level before at half of the rate's restarts and more."""
    found = _restarts(run)
    if isinstance(found, Observation):
        return found
    rates, _, restarts = found
    lifted = [r for r in restarts if r.after > times * r.before]
    if not restarts:
        return absent("the rate does not restart")
    text = f"the loss rises at {len(lifted)} of {plural(len(restarts), 'restart')} of the rate"
    if not lifted or 2 * len(lifted) < len(restarts):
        return absent(text)
    first = max(lifted, key=lambda r: r.after / r.before)
    text += f", at step {rates.step(first.peak)} from {number(first.before)}"
    return _present_at(rates, first.peak, f"{text} to {number(first.after)}")


@detector("lr.ends_above_trough")
def ends_above_trough(run: Run, *, times: float = 1.1) -> Observation:
    """Find a last loss level `times` that before one of the rate's restarts."""
    import numpy as np

    found = _restarts(run)
    if isinstance(found, Observation):
        return found
    rates, loss, restarts = found
    if not restarts:
        return absent("the rate does not restart")
    best = min(restarts, key=lambda r: r.before)
    last = float(np.median(loss.values[-max(2, len(loss) // (4 * len(restarts) + 4)) :]))
    text = f"the loss ends at {number(last)}; before the restart of the rate at step "
    text += f"{rates.step(best.peak)} it was {number(best.before)}"
    if last <= times * best.before:
        return absent(text)
    return _present_at(rates, best.peak, text)


@detector("lr.finishes_early")
def finishes_early(run: Run, *, floor: float = 0.01, share: float = 0.1) -> Observation:
    """Find a rate below `floor` of its peak for more than `share` of the run at its end."""
    rates = curve(run, "learning_rate", minimum=8)
    if isinstance(rates, Observation):
        return rates
    peak = float(rates.values.max())
    low = rates.values < floor * peak
    if peak <= 0 or low.all():
        return absent("the learning rate never rose")
    from ftdoctor.detect.stats import trailing_run

    tail = trailing_run(low)
    where = f"on the last {tail} of {plural(len(rates), 'row')}"
    text = f"the learning rate is below {floor:.0%} of its peak {where}"
    if tail <= share * len(rates):
        return absent(text)
    start = len(rates) - tail
    return present(text, rates.fact(start), curves=("learning_rate",), span=onset.at(rates, start))


@detector("lr.never_decays")
def never_decays(run: Run, *, share: float = 0.5) -> Observation:
    """Find a last rate above `share` of the peak though the scheduler is a decaying one."""
    rates = _rates(run, 10)
    if isinstance(rates, Observation):
        return rates
    scheduler = run.setting("lr_scheduler_type")
    if scheduler is None:
        return unobservable("the scheduler is not known", "training configuration")
    peak, last = float(rates.values.max()), float(rates.values[-1])
    text = f"learning rate {last:.3g} at the last row, peak {peak:.3g}, scheduler {scheduler.value}"
    name = str(scheduler.value).lower().split(".")[-1]
    if peak <= 0 or name not in DECAYING or last <= share * peak:
        return absent(text)
    done, planned = run.fact("progress.global_step"), run.fact("progress.max_steps")
    if done and planned and planned.value and float(done.value) < 0.6 * float(planned.value):
        return absent(f"{text}; the run stopped at step {done.value} of {planned.value}")
    return present(text, rates.fact(-1), scheduler, curves=("learning_rate",))


@detector("lr.stays_level")
def stays_level(run: Run) -> Observation:
    """Find one and the same rate on every row though the scheduler is a decaying one.

    A log that shows it must reach over half of the steps: before, a rounded rate may look level.
    """
    rates = _rates(run, 10)
    if isinstance(rates, Observation):
        return rates
    scheduler = run.setting("lr_scheduler_type")
    if scheduler is None:
        return unobservable("the scheduler is not known", "training configuration")
    low, high = float(rates.values.min()), float(rates.values.max())
    name = str(scheduler.value).lower().split(".")[-1]
    if high <= 0 or low < high or name not in DECAYING:
        text = f"the learning rate goes from {low:.3g} to {high:.3g}, scheduler {scheduler.value}"
        return absent(text)
    text = f"the learning rate is {high:.3g} on all {len(rates)} rows, scheduler {scheduler.value}"
    done, planned = run.fact("progress.global_step"), run.fact("progress.max_steps")
    if done and planned and planned.value:
        if float(done.value) < 0.6 * float(planned.value):
            return unobservable(
                f"{text}; the run stopped at step {done.value} of {planned.value}", "the whole log"
            )
    elif not _reached_its_end(run):
        return unobservable(f"{text}; whether training ended there is not known", "the whole log")
    return present(text, rates.fact(-1), scheduler, curves=("learning_rate",))


@detector("lr.warms_up_to_the_end")
def warms_up_to_the_end(run: Run) -> Observation:
    """Find a rate that only rises, to the last row, though training was not cut short.

    It may rise in stairs, as one that is stepped once per epoch does; a last stair longer than the
    others is where a warm-up came to its end.
    """
    import numpy as np

    rates = curve(run, "learning_rate", minimum=5)
    if isinstance(rates, Observation):
        return rates
    diffs = np.diff(rates.values)
    stairs = np.diff(np.flatnonzero(np.concatenate(([True], diffs != 0, [True]))))
    even = len(stairs) >= 4 and stairs[-1] <= 1.5 * np.median(stairs[:-1])
    rising = bool((diffs >= 0).all() and (diffs[-3:].min() > 0 or even))
    first, last = float(rates.values[0]), float(rates.values[-1])
    text = f"the learning rate goes from {first:.3g} to {last:.3g} over {len(rates)} rows"
    if not rising or last <= 1.2 * first:
        return absent(text)
    done, planned = run.fact("progress.global_step"), run.fact("progress.max_steps")
    if done and planned and planned.value and float(done.value) < 0.9 * float(planned.value):
        return absent(f"{text}; the run stopped at step {done.value} of {planned.value}")
    if not (done and planned) and not _reached_its_end(run):
        return unobservable(f"{text}; whether training ended there is not known", "the whole log")
    return present(f"{text}, rising to the end", rates.fact(-1), curves=("learning_rate",))


def _reached_its_end(run: Run) -> bool:
    """Say whether the log tells of the end of training, or its epochs are all there."""
    if run.fact("progress.finished") or run.fact("summary.train_runtime"):
        return True
    reached, asked = run.fact("progress.epoch"), setting_number(run, "num_train_epochs")
    return reached is not None and asked is not None and float(reached.value) >= 0.9 * asked[0]


@detector("lr.peaks_at_first_row")
def peaks_at_first_row(run: Run) -> Observation:
    """Find that the first logged rate is the highest: no warm-up, or one shorter than a log row."""
    rates = curve(run, "learning_rate", minimum=6)
    if isinstance(rates, Observation):
        return rates
    if float(rates.values[0]) >= float(rates.values.max()) > 0:
        return present(f"the rate is highest at its first row, step {rates.step(0)}", rates.fact(0))
    return absent("the learning rate rises at first")


def _step_at(rates: Points, place: int) -> float:
    """Return the larger of the changes of the rate from and to the rows beside one."""
    beside = rates.values[max(place - 1, 0) : place + 2]
    return float(abs(beside - rates.values[place]).max())


@detector("lr.differs_from_setting")
def differs_from_setting(run: Run, *, tolerance: float = 0.05) -> Observation:
    """Find a highest logged rate that is not the configured one (after warm-up).

    Unobservable where what is configured is but a default of the script's command line.
    """
    rates = _rates(run, 10)
    if isinstance(rates, Observation):
        return rates
    asked = setting_number(run, "learning_rate")
    if asked is None or asked[0] <= 0:
        return unobservable("the configured learning rate is not known", "training configuration")
    peak = float(rates.values.max())
    text = f"the highest logged learning rate is {peak:.3g}, configured is {asked[0]:.3g}"
    if any((f.value, f.where) == (asked[1].name, asked[1].where)
           for f in run.facts.get("script.train.option", ())):  # fmt: skip
        said = f"{asked[0]:.3g} is the script's default, which the command line may override"
        return unobservable(said, "the command line of the run")
    # One row below the setting is the decay that passed before the first row was logged.
    if peak <= 0:
        return unobservable(text, *TRAIN_FILES)
    decayed = peak == rates.values[0] and 0.8 * asked[0] < peak < asked[0]
    place = int(rates.values.argmax())
    rising = place == len(rates) - 1
    if decayed or rising or abs(peak / asked[0] - 1) <= tolerance:
        return absent(text)
    if peak < asked[0] <= peak + _step_at(rates, place):
        return absent(f"{text}, which lies between two logged rows")
    return present(text, rates.fact(place), asked[1], curves=("learning_rate",))


@detector("lr.only_weights_went_on")
def only_weights_went_on(run: Run, *, lower: float = 0.85, jump: float = 1.1) -> Observation:
    """Find a second start that repeats the first one's rates with a loss between its two ends.

    Steps and schedule begin anew, and the loss begins below `lower` of what it first began with
    and above `jump` times what it had come to: the weights were kept, the optimizer's state and
    the scheduler were not. A start from the base model begins with the first loss again.
    """
    import numpy as np

    rates, loss = run.series("learning_rate"), run.series("loss")
    if rates is None or loss is None:
        return unobservable("no loss with its learning rate was logged", *TRAIN_FILES)
    starts = [0, *resume_borders(run, loss), len(loss)]
    anew = [b for b in starts[1:-1] if loss.steps[b] < 0.5 * loss.steps[b - 1]]
    if not anew:
        return unobservable("the log shows no second start")
    for border in anew:
        begin = max(s for s in starts if s < border)
        end = min(s for s in starts if s > border)
        first, second = loss.values[begin:border], loss.values[border:end]
        if min(len(first), len(second)) < REPLAYED or not _same_rates(rates, loss, begin, border):
            continue
        came_to = float(np.median(first[-3:]))
        lost = float(np.median(second[:3])) > jump * came_to
        if second[0] < lower * first[0] and lost:
            place = Points(loss, np.array([border - 1, border], dtype=np.int64))
            return present(
                f"a second start repeats the first one's learning rates; its loss begins with "
                f"{number(second[0])}, the first began with {number(first[0])} and had come to "
                f"{number(came_to)}",
                place.fact(1),
                place.fact(0),
                curves=("loss", "learning_rate"),
                span=Span(int(loss.steps[border]), within=0),
            )
    return absent("no second start begins between the ends of the one before it")


def _same_rates(rates: Series, loss: Series, begin: int, border: int) -> bool:
    """Say whether the rows from `border` on have the falling or rising rates of those from `begin`.

    Rows of rate and loss are matched by their place in the log.
    """
    import numpy as np

    at = {int(line): float(v) for line, v in zip(rates.lines, rates.values, strict=True)}
    pairs = [
        (at.get(int(loss.lines[begin + i])), at.get(int(loss.lines[border + i])))
        for i in range(min(REPLAYED, len(loss) - border, border - begin))
    ]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(known) < REPLAYED:
        return False
    first, second = np.array(known).T
    varies = float(first.max()) > 1.005 * float(first.min())
    return varies and bool(np.allclose(first, second, rtol=0.02))


@detector("lr.jumps_at_resume")
def jumps_at_resume(run: Run, *, ratio: float = 1.5, to_peak: bool = False) -> Observation:
    """Find a rate after a resume that is `ratio` times (or 1/`ratio` of) the rate before it.

    `to_peak`: only a jump back up to where the schedule began, within 10 %.
    """
    import numpy as np

    series = run.series("learning_rate")
    if series is None:
        return unobservable("no learning rate was logged", *TRAIN_FILES)
    borders = resume_borders(run, series)
    if not borders:
        return absent("the log shows no resume")
    borders = [b for b in borders if series.steps[b] >= 0.5 * series.steps[b - 1]]
    if not borders:
        return unobservable("the log shows a second start, whose steps count from the beginning")
    for border in borders:
        before, after = float(series.values[border - 1]), float(series.values[border])
        if before <= 0 or after <= 0:
            continue
        peak = float(np.nanmax(series.values[:border]))
        if to_peak and (after < before or abs(after / peak - 1) > 0.1):
            continue
        if math.fabs(math.log(after / before)) > math.log(ratio):
            place = Points(series, np.array([border - 1, border], dtype=np.int64))
            step = int(series.steps[border])
            return present(
                f"the rate goes from {before:.3g} to {after:.3g} at the resume, step {step}",
                place.fact(1),
                place.fact(0),
                curves=("learning_rate", "loss"),
                span=Span(step, within=0),
            )
    return absent(f"the learning rate is continuous across {len(borders)} resumes")
