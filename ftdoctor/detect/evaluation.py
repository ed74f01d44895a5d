"""Detectors on evaluations: whether they ran, how they move, and how they stand to training."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from ftdoctor.detect import absent, detector, onset, present, stats, unobservable
from ftdoctor.detect.classes import labels_learnt
from ftdoctor.detect.points import (
    EVAL_FILES,
    LIKELIHOOD,
    TRAIN_FILES,
    Points,
    curve,
    effective,
    fact_number,
    kind_of,
    number,
    points,
    setting_number,
)
from ftdoctor.detect.script import facts_named
from ftdoctor.detect.solved import success
from ftdoctor.model import Fact, Observation, Run, Span
from ftdoctor.render.text import plural

LOWER_IS_BETTER = ("loss", "perplexity", "ppl", "wer", "cer", "error", "nll", "mse", "mae", "rmse")
HIGHER_IS_BETTER = (
    "accuracy", "acc", "f1", "bleu", "rouge", "reward", "exact_match", "precision", "recall",
    "map", "ndcg",
)  # fmt: skip
EVAL_SPLITS = ("eval", "test")
_SCRIPT_ROLES = ("train", "data", "other")  # callbacks often have a file of their own
BASELINE = "scores of the base model (--baseline EVAL.json)"
INITIAL_MOST = 6.0  # loss above which a pretrained model hardly ever begins (5 of 40 public runs)
SUM_FROM = 3.5  # train/eval loss above which nothing but a sum remains (judgement)
HOUSEKEEPING = (
    "runtime",
    "per_second",
    "epoch",
    "num_tokens",
    "entropy",
    "samples",
    "learning_rate",
)


def eval_losses(run: Run) -> list[Points]:
    """Return every evaluation loss curve: `eval_loss`, or one per set (`eval_<set>_loss`)."""
    names = [(n, s) for n, s in run.series_names() if s in EVAL_SPLITS and n.endswith("loss")]
    main = [(n, s) for n, s in names if n == "loss"]
    found = [run.series(n, s) for n, s in (main or names)]
    return [p for s in found if s is not None and len(p := effective(s).finite)]


def task_metrics(run: Run) -> list[Points]:
    """Return evaluation curves of task metrics (accuracy, F1, ROUGE, ...), higher is better."""
    found = []
    for name, split in run.series_names():
        lowered = name.lower()
        forced = "token_accuracy" in lowered  # teacher-forced: another view of the loss
        if split in EVAL_SPLITS and not forced and any(h in lowered for h in HIGHER_IS_BETTER):
            series = run.series(name, split)
            if series is not None and len(p := effective(series).finite):
                found.append(p)
    return found


def _no_eval(minimum: int, longest: int) -> Observation:
    if longest == 0:
        return unobservable("no evaluation loss was logged", *EVAL_FILES)
    return unobservable(
        f"{longest} evaluations; {minimum} are needed", "a run with smaller eval_steps"
    )


def _enough(run: Run, minimum: int) -> list[Points] | Observation:
    """Return the evaluation curves with `minimum` points, or why there are none."""
    every = eval_losses(run)
    long = [p for p in every if len(p) >= minimum]
    return long or _no_eval(minimum, max((len(p) for p in every), default=0))


def eval_noise(found: Points) -> float:
    """Return the scatter of an evaluation curve from its second differences (0 below 4 points)."""
    import numpy as np

    if len(found) < 4:
        return 0.0
    return float(stats.MAD_TO_SIGMA * np.median(np.abs(np.diff(found.values, 2))) / math.sqrt(6))


@detector("evaluation.never_ran")
def never_ran(run: Run, *, after_steps: int = 20) -> Observation:
    """Find a training of more than `after_steps` steps without one evaluation row."""
    for name, split in run.series_names():
        if split in EVAL_SPLITS and not any(h in name for h in HOUSEKEEPING):
            return absent(f"{split} {name} was logged")
    loss = points(run, "loss") or points(run, "reward")
    if loss is None:
        return unobservable(
            "no training rows, so nothing tells whether evaluation ran", *TRAIN_FILES
        )
    last = loss.step(-1)
    if any(name.startswith("summary.eval") for name in run.facts):
        return absent("evaluation results are summarised")
    if last <= after_steps:
        return unobservable(f"only {last} steps were logged", "a longer log")
    return present(f"no evaluation row up to step {last}", loss.fact(-1))


@detector("evaluation.rises")
def rises(
    run: Run, *, share: float = 0.03, minimum: int = 4, train_falls: bool = True
) -> Observation:
    """Find an evaluation loss that ends above its minimum by `share` and twice its own noise.

    The minimum must lie before the last fifth of the evaluations. With several sets, half of them
    must do so. `train_falls`: and the training loss kept falling meanwhile.
    """
    found = _enough(run, minimum)
    if isinstance(found, Observation):
        return found
    hits = [p for p in found if _is_rising(p, share)]
    worst = max(found, key=lambda p: float(p.values[-1] / max(p.values.min(), 1e-12)))
    best = int(worst.values.argmin())
    text = (
        f"{worst.label} rises from {number(float(worst.values[best]))} at step {worst.step(best)} "
        f"to {number(float(worst.values[-1]))} at step {worst.step(-1)}"
    )
    if 2 * len(hits) < len(found) or not hits:
        if best == len(worst) - 1:
            text = f"{worst.label} is lowest at the end, {number(float(worst.values[best]))} at "
            return absent(f"{text}step {worst.step(best)}", worst.fact(best))
        return absent(f"{text}: within its noise", worst.fact(best))
    train = points(run, "loss")
    curves = [worst.curve]
    if train is not None and train_falls:
        later = train.finite.values[train.finite.steps > worst.step(best)]
        earlier = train.finite.values[train.finite.steps <= worst.step(best)]
        if len(later) >= 3 and len(earlier) >= 3:
            end, then = stats.level(later, "last-third"), stats.level(earlier, "last-third")
            if end > 1.02 * then:
                return absent(f"{text}, but train loss rises too ({number(then)} to {number(end)})")
            text += f" while train loss goes from {number(then)} to {number(end)}"
            curves.append("loss")
    if len(found) > 1:
        text += f" ({len(hits)} of {len(found)} evaluation sets)"
    return present(
        text,
        worst.fact(-1),
        worst.fact(best),
        curves=curves,
        span=_since_best(worst),
    )


def _since_best(found: Points) -> Span:
    """Return where a curve whose best value is not its last begins to rise."""
    best = int(found.values.argmin())
    span = onset.change(found) or onset.at(found, best + 1)
    return replace(span, last_good=found.step(best))


def _is_rising(found: Points, share: float) -> bool:
    best = int(found.values.argmin())
    lowest, last = float(found.values[best]), float(found.values[-1])
    early = best < 0.8 * (len(found) - 1)
    return early and last - lowest > max(share * abs(lowest), 2 * eval_noise(found))


@detector("evaluation.task_improves")
def task_improves(run: Run, *, minimum: int = 4) -> Observation:
    """Find a task metric (accuracy, F1, ...) whose best value is in the last third."""
    found = [p for p in task_metrics(run) if len(p) >= minimum]
    if not found:
        return unobservable("no task metric was evaluated often enough", *EVAL_FILES)
    late = [p for p in found if int(p.values.argmax()) >= 2 * len(p) / 3]
    shown = (late or found)[0]
    best = int(shown.values.argmax())
    text = f"{shown.label} is best ({number(float(shown.values[best]))}) at step {shown.step(best)}"
    return present(text, shown.fact(best), curves=(shown.curve,)) if late else absent(text)


@detector("evaluation.task_lags")
def task_lags(run: Run, *, falls_by: float, minimum: int = 3, gain: float = 0.01) -> Observation:
    """Find an evaluation loss that falls by `falls_by` while no task metric gains `gain`."""
    metrics = [p for p in task_metrics(run) if len(p) >= minimum]
    losses = _enough(run, minimum)
    if isinstance(losses, Observation):
        return losses
    if not metrics:
        return unobservable("no task metric was evaluated often enough", *EVAL_FILES)
    first, lowest = float(losses[0].values[0]), float(losses[0].values.min())
    gains = [float(p.values[1:].max() - p.values[0]) for p in metrics]
    best = metrics[max(range(len(gains)), key=gains.__getitem__)]
    text = (
        f"{losses[0].label} goes from {number(first)} to {number(lowest)}; {best.label} gains at "
        f"most {number(max(gains))} on {number(float(best.values[0]))}"
    )
    scale = max(gain, gain * float(abs(best.values[0])))
    if first <= 0 or first - lowest < falls_by * first or max(gains) > scale:
        return absent(text)
    if float(best.values[0]) > 0.95:
        return absent(f"{text}: it began at its ceiling")
    return present(text, best.fact(-1), losses[0].fact(-1), curves=(best.curve, losses[0].curve))


@detector("evaluation.flat")
def flat(run: Run, *, share: float = 0.01, level: bool = False, minimum: int = 3) -> Observation:
    """Find an evaluation loss that never falls by more than `share` below its first value.

    `level`: nor rises by more than that above it.
    """
    found = _enough(run, minimum)
    if isinstance(found, Observation):
        return found
    main = found[0]
    first, lowest = float(main.values[0]), float(main.values.min())
    text = f"{main.label} starts at {number(first)}, lowest {number(lowest)}"
    if first <= 0 or (first - lowest) / first >= share:
        return absent(text)
    highest = float(main.values.max())
    if level and (highest - first) / first >= share:
        return absent(f"{text}, highest {number(highest)}")
    return present(text, main.fact(0), curves=(main.curve,))


@detector("evaluation.identical")
def identical(run: Run, *, minimum: int = 3) -> Observation:
    """Find an evaluation loss that is the same to its last digit each time: no weight has changed.

    A value of fewer than five significant digits may be equal by rounding, and says nothing.
    """
    found = _enough(run, minimum)
    if isinstance(found, Observation):
        return found
    main = found[0]
    first = f"{float(main.values[0]):.10g}"
    if float(main.values.max()) != float(main.values.min()):
        text = f"{main.label} is {first} at the first of {len(main)} evaluations and differs later"
        return absent(text, curves=(main.curve,))
    said = f"{main.label} is exactly {first} at all {len(main)} evaluations"
    if len(first.replace(".", "").lstrip("0")) < 5:
        return unobservable(f"{said}, with too few digits to tell", *EVAL_FILES)
    return present(said, main.fact(0), main.fact(-1), curves=(main.curve,))


@detector("evaluation.nan_alone")
def nan_alone(run: Run) -> Observation:
    """Find a non-finite evaluation loss in a run that shows no training loss beside it."""
    losses = points(run, "loss", split="eval")
    if losses is None:
        return unobservable("no evaluation loss was logged", *EVAL_FILES)
    bad = [i for i, value in enumerate(losses.values) if not math.isfinite(value)]
    if not bad:
        return absent("every evaluation loss is finite")
    if run.series("loss") is not None:
        return absent("training losses were logged beside the evaluations")
    text = "the evaluation loss is no finite number, and no training loss is shown"
    return present(text, losses.fact(bad[0]), curves=("eval/loss",))


@detector("evaluation.still_falling")
def still_falling(
    run: Run, *, share: float, kept: float, left: float, minimum: int = 3
) -> Observation:
    """Find an evaluation loss that falls all the way and still steeply at the end.

    Over the last third it must fall by `share`, at `kept` of the pace of the first third, and be
    above `left` at the end: below it nothing is left to gain. Of a run that did not come to its
    end nothing is said.
    """
    import numpy as np

    found = _enough(run, minimum)
    if isinstance(found, Observation):
        return found
    main = found[0]
    planned = fact_number(run, "progress.max_steps")
    if planned is not None and main.step(-1) < 0.85 * planned[0]:
        return unobservable("The last evaluation lies well before the planned end", *EVAL_FILES)
    values, back = main.values, max(1, len(main) // 3)
    fall = float(values[-1 - back] - values[-1])
    pace = fall / max(1, main.step(-1) - main.step(-1 - back))
    early = float(values[0] - values[back]) / max(1, main.step(back) - main.step(0))
    lost = fall / float(values[-1 - back]) if values[-1 - back] > 0 else 0.0
    text = f"{main.label} falls by {lost:.1%} over the last {back} of {len(main)} evaluations"
    if lost < share or early <= 0 or pace < kept * early or bool((np.diff(values) > 0).any()):
        return absent(text, curves=(main.curve,))
    if values[-1] <= left:
        return absent(f"{text}, to {values[-1]:.3g}", curves=(main.curve,))
    said = f"{text}, at {pace / early:.0%} of its first pace"
    return present(said, main.fact(-1), main.fact(-1 - back), curves=(main.curve,))


@detector("evaluation.noisy")
def noisy(run: Run, *, share: float = 0.02, minimum: int = 6) -> Observation:
    """Find an evaluation loss that alternates up and down by over `share` (median)."""
    import numpy as np

    found = _enough(run, minimum)
    if isinstance(found, Observation):
        return found
    main = found[0]
    steps = np.diff(main.values)
    turning = float((np.sign(steps[1:]) * np.sign(steps[:-1]) < 0).mean())
    typical = float(np.median(np.abs(steps)) / max(abs(stats.level(main.values)), 1e-12))
    text = f"{main.label} turns at {turning:.0%} of its points, by {typical:.1%} each time"
    if turning <= 0.6 or typical <= share:
        return absent(text)
    return present(text, main.fact(0), curves=(main.curve,))


@detector("evaluation.best_at")
def best_at(run: Run, *, end: Literal["first", "last"], minimum: int = 3) -> Observation:
    """Find that the lowest evaluation loss is the first or the last one."""
    found = _enough(run, minimum)
    if isinstance(found, Observation):
        return found
    main = found[0]
    best = int(main.values.argmin())
    text = f"{main.label} is lowest at evaluation {best + 1} of {len(main)}, step {main.step(best)}"
    wanted = 0 if end == "first" else len(main) - 1
    if best == wanted:
        return present(text, main.fact(best), curves=(main.curve,))
    return absent(text, main.fact(best))


@detector("evaluation.best_not_last")
def best_not_last(run: Run, *, share: float = 0.01, minimum: int = 3) -> Observation:
    """Find a best evaluation before the last, better by `share` and twice the noise."""
    found = _enough(run, minimum)
    if isinstance(found, Observation):
        return found
    main = found[0]
    best = int(main.values.argmin())
    lowest, last = float(main.values[best]), float(main.values[-1])
    text = (
        f"{main.label} is {number(lowest)} at step {main.step(best)} and {number(last)} at the "
        f"last evaluation, step {main.step(-1)}"
    )
    reload = run.setting("load_best_model_at_end")
    if reload is not None and reload.value is True:
        return absent(f"{text}; load_best_model_at_end is on", reload)
    if best == len(main) - 1 or last - lowest <= max(share * abs(lowest), 2 * eval_noise(main)):
        return absent(text)
    return present(
        text,
        main.fact(best),
        main.fact(-1),
        curves=(main.curve,),
        span=_since_best(main),
    )


@detector("evaluation.best_is_worst")
def best_is_worst(run: Run) -> Observation:
    """Find a recorded best_metric that is the worst value that the metric ever had."""
    known = fact_number(run, "state.best_metric")
    if known is None:
        return unobservable("no best metric was recorded", "trainer_state.json")
    value, fact = known
    for name, split in run.series_names():
        series = run.series(name, split)
        if split not in EVAL_SPLITS or series is None or len(series) < 2:
            continue
        found = effective(series).finite
        low, high = float(found.values.min()), float(found.values.max())
        lowered = name.lower()
        tolerance = 1e-6 * max(1.0, abs(value))
        if high - low <= tolerance or any(h in lowered for h in HOUSEKEEPING):
            continue
        falling = any(w in lowered for w in LOWER_IS_BETTER)
        rising = any(w in lowered for w in HIGHER_IS_BETTER) and not falling
        worst = high if falling else low
        best = low if falling else high
        if (falling or rising) and abs(value - worst) <= tolerance < abs(value - best):
            return present(
                f"best_metric {number(value)} is the worst {found.label} of {len(found)}; the best "
                f"was {number(best)}",
                fact,
                curves=(found.curve,),
            )
    return absent(f"best_metric {number(value)} is no metric's worst value", fact)


@detector("evaluation.kept_direction")
def kept_direction(run: Run) -> Observation:
    """Find a flag, a callback or a comparison that keeps the largest loss or smallest accuracy."""
    known = list(_kept_by(run))
    if not known:
        return unobservable(
            "It is not known by which metric, and in which direction, the best is kept",
            "training configuration",
            "training script",
        )
    for metric, mode, fact in known:
        words = {word for word in re.split(r"[^a-z0-9]+", metric.lower()) if word}
        falls = bool(words & {*LOWER_IS_BETTER, "err"})
        rises = not falls and any(
            word in (*HIGHER_IS_BETTER, "match") or re.match(r"rouge|(?:sacre)?bleu", word)
            for word in words
        )
        if (falls and mode == "max") or (rises and mode == "min"):
            kept = "largest" if mode == "max" else "smallest"
            return present(f"By {fact.where} the best is what has the {kept} {metric}", fact)
    metric, mode, fact = known[0]
    return absent(f"The best is what has the {mode}imum of {metric}", fact)


def _kept_by(run: Run) -> Iterator[tuple[str, str, Fact]]:
    """Yield (metric, min or max, fact) of settings and of what a script itself says."""
    greater, metric = run.setting("greater_is_better"), run.setting("metric_for_best_model")
    if greater is not None and metric is not None and isinstance(greater.value, bool):
        yield str(metric.value), "max" if greater.value else "min", greater
    for fact in facts_named(run, *(f"script.{role}.kept_best" for role in _SCRIPT_ROLES)):
        if isinstance(fact.value, list | tuple) and len(fact.value) == 2:
            yield str(fact.value[0]), str(fact.value[1]), fact


@detector("evaluation.best_missing")
def best_missing(run: Run) -> Observation:
    """Find load_best_model_at_end set, evaluations run, and no best checkpoint recorded."""
    asked = run.setting("load_best_model_at_end")
    if asked is None:
        return unobservable("load_best_model_at_end is not known", "training configuration")
    if asked.value is not True:
        return absent("load_best_model_at_end is off", asked)
    recorded = run.fact("state.best_model_checkpoint")
    if recorded is not None and recorded.value:
        return absent(f"the best checkpoint is {recorded.value}", recorded)
    if not run.has("trainer_state") and recorded is None:
        return unobservable("no trainer_state.json tells the best checkpoint", "trainer_state.json")
    if not eval_losses(run) and not task_metrics(run):
        return absent("no evaluation has run yet")
    return present("load_best_model_at_end is on, yet no best checkpoint was recorded", asked)


def _train_before(run: Run, step: int, rows: int = 10) -> float | None:
    """Return the median training loss of the rows up to `step`."""
    import numpy as np

    train = points(run, "loss")
    if train is None:
        return None
    before = train.finite.values[train.finite.steps <= step][-rows:]
    return float(np.median(before)) if len(before) else None


def _ratios(run: Run) -> list[tuple[float, float, float, Points, int]] | Observation:
    """Return (eval/train, train, eval, curve, position) for each evaluation during training."""
    found = eval_losses(run)
    if not found:
        return _no_eval(1, 0)
    main = found[0]
    ratios = []
    for position in range(len(main)):
        train = _train_before(run, main.step(position))
        value = float(main.values[position])
        if train is not None and train > 0 and value > 0:
            ratios.append((value / train, train, value, main, position))
    return ratios or unobservable("no training rows before an evaluation", *TRAIN_FILES)


@detector("evaluation.lower_than_train")
def lower_than_train(run: Run, *, ratio: float = 0.9, minimum: int = 3) -> Observation:
    """Find evaluation losses below `ratio` of the training loss around them, in the last half."""
    found = _ratios(run)
    if isinstance(found, Observation):
        return found
    if len(found) < minimum:
        return _no_eval(minimum, len(found))
    late = found[len(found) // 2 :]
    share, train, value, main, position = sorted(late, key=lambda r: r[0])[len(late) // 2]
    step = main.step(position)
    text = f"{main.label} {number(value)} against train loss {number(train)} (step {step})"
    if share >= ratio:
        return absent(text)
    return present(text, main.fact(position), curves=("loss", main.curve))


def _last_eval(run: Run) -> tuple[float, Fact] | None:
    """Return the last evaluation loss, else the one of a summary (`eval_results.json`)."""
    losses = eval_losses(run)
    if losses:
        return float(losses[0].values[-1]), losses[0].fact(-1)
    return fact_number(run, "summary.eval_loss")


@detector("evaluation.final_above_train")
def final_above_train(run: Run, *, ratio: float, gap: float) -> Observation:
    """Find a last evaluation loss above `ratio` times the training loss and by `gap` nats."""
    train = curve(run, "loss", minimum=5)
    known = _last_eval(run)
    if isinstance(train, Observation) or known is None:
        return train if isinstance(train, Observation) else _no_eval(1, 0)
    value, fact = known
    level = stats.level(train.values, "last-tenth")
    text = f"the last eval loss is {number(value)}, train loss ended at {number(level)}"
    if value <= ratio * level or value - level <= gap:
        return absent(text, fact)
    return present(text, fact, train.fact(-1), curves=("loss", "eval/loss"))


def _may_be_sum(run: Run, train: float, evaluated: float) -> bool:
    """Say whether a train loss is too far above an eval loss for anything but a sum over batches.

    It begins above what a pretrained model has, and is still several times the evaluation's.
    """
    found = points(run, "loss")
    if found is None or not len(found.finite):
        return False
    return bool(found.finite.values[0] > INITIAL_MOST) and train > SUM_FROM * evaluated


@detector("evaluation.final_far_below_train")
def final_far_below_train(run: Run, *, ratio: float = 0.6) -> Observation:
    """Find a last evaluation loss far below the training loss, however many there are.

    Only a mean likelihood compares: losses of pairs and classes go to 0 on the easy ones at once.
    """
    if kind_of(run) not in (*LIKELIHOOD, ""):
        return unobservable("this tells something of a run that maximises likelihood only")
    train = curve(run, "loss", minimum=5)
    known = _last_eval(run)
    if isinstance(train, Observation) or known is None:
        return train if isinstance(train, Observation) else _no_eval(1, 0)
    value, fact = known
    level = stats.level(train.values, "last-tenth")
    text = f"the last eval loss is {number(value)}, train loss ended at {number(level)}"
    if level < 0.05 or value >= ratio * level:
        return absent(text, fact)
    if _may_be_sum(run, level, value):
        return absent(f"{text}, as if it were a sum over batches", fact)
    return present(text, fact, train.fact(-1), curves=("loss", "eval/loss"))


@detector("evaluation.gap_grows")
def gap_grows(run: Run, *, ratio: float = 1.5, minimum: int = 4) -> Observation:
    """Find eval/train above `ratio` at the end and growing (rank correlation above 0.7)."""
    import numpy as np

    found = _ratios(run)
    if isinstance(found, Observation):
        return found
    if len(found) < minimum:
        return _no_eval(minimum, len(found))
    shares = np.array([r[0] for r in found])
    trend = stats.spearman(np.arange(len(shares), dtype=float), shares)
    course = f"{shares[0]:.2f} to {shares[-1]:.2f}"
    text = f"eval/train loss goes from {course} over {plural(len(shares), 'evaluation')}"
    if shares[-1] <= ratio or trend <= 0.7:
        return absent(text)
    return present(text, found[-1][3].fact(-1), curves=("loss", found[-1][3].curve))


@detector("evaluation.both_tiny")
def both_tiny(run: Run, *, below: float = 0.02) -> Observation:
    """Find training and evaluation losses that both end below `below`; not of a solved task.

    Absent if the first evaluation was above five times that: it was learnt, and not there at once.
    """
    train = curve(run, "loss", minimum=5, kinds=LIKELIHOOD)
    if isinstance(train, Observation):
        return train
    if labels := labels_learnt(run):
        return unobservable(f"A loss near zero is success here: {labels}")
    found = eval_losses(run)
    if not found:
        return _no_eval(1, 0)
    end, last = stats.level(train.values, "last-fifth"), float(found[0].values[-1])
    text = f"train loss ends at {number(end)} and {found[0].label} at {number(last)}"
    if (first := float(found[0].values[0])) > 5 * below:
        return absent(f"{text}, from {number(first)} at the first evaluation", found[0].fact(-1))
    if end < below and last < below:
        if why := success(run):
            return unobservable(f"A loss near zero is success here: {why}")
        return present(text, found[0].fact(-1), train.fact(-1), curves=("loss", found[0].curve))
    return absent(text)


@detector("evaluation.one_class_by_f1")
def one_class_by_f1(run: Run, *, above: float, up_to: float, classes_to: int = 50) -> Observation:
    """Find an accuracy and a macro F1 that only a model with one answer for everything has.

    Who always answers a class of the share a has the accuracy a, and the macro F1 over k classes is
    2a / (1 + a) / k. The accuracy must be above `above` and at most `up_to`.
    """
    scores = {p.series.name.lower(): p for p in task_metrics(run)}
    accuracy = next((p for name, p in scores.items() if name.endswith(("accuracy", "acc"))), None)
    macro = next((p for name, p in scores.items() if "f1" in name and "macro" in name), None)
    if accuracy is None or macro is None:
        return unobservable("Accuracy and macro F1 were not both evaluated", *EVAL_FILES)
    hit, score = float(accuracy.values[-1]), float(macro.values[-1])
    whole = 2 * hit / (1 + hit) if hit > 0 else 0.0
    text = f"accuracy ends at {hit:.4g} and macro F1 at {score:.4g}"
    count = next((k for k in range(2, classes_to + 1) if abs(score - whole / k) < SAME_SCORE), None)
    if count is None or not above < hit <= up_to:
        return absent(text, accuracy.fact(-1), macro.fact(-1))
    said = f"{text}: those of one answer for everything among {count} classes"
    return present(said, accuracy.fact(-1), macro.fact(-1))


SAME_SCORE = 0.0015  # scores are logged with four digits or more (judgement)


@detector("evaluation.held_out_below")
def held_out_below(run: Run, *, below: float) -> Observation:
    """Find an evaluation loss that ends below a limit on rows that are not those of training.

    Absent too where nothing was evaluated, so that it can be excluded from a condition.
    """
    found = eval_losses(run)
    if not found:
        return absent("No evaluation loss was logged")
    last = float(found[0].values[-1])
    text = f"{found[0].label} ends at {number(last)}"
    overlap = run.fact("data.overlap.eval")
    if overlap is not None and overlap.value.get("shared", 0) * 10 > overlap.value.get("rows", 0):
        return absent(f"{text}, on rows of training", overlap)
    return present(text, found[0].fact(-1)) if last < below else absent(text, found[0].fact(-1))


@detector("evaluation.at_chance")
def at_chance(run: Run, *, classes_to: int = 50, loss_within: float = 0.03) -> Observation:
    """Find a classifier that ends at chance: loss ln(k) and accuracy 1/k for one k.

    k is the configured number of labels, else any from 2 to `classes_to` that fits both.
    """
    found = eval_losses(run)
    train = points(run, "loss")
    loss = found[0] if found else train.finite if train is not None else None
    if loss is None or len(loss) < 2:
        return unobservable("too few losses to judge", *TRAIN_FILES)
    accuracy = [p for p in task_metrics(run) if "acc" in p.series.name.lower()]
    labels = fact_number(run, "model.num_labels")
    if kind_of(run) == "reward":
        return unobservable("this run ranks two answers, it has no classes")
    if not accuracy or (kind_of(run) not in ("classification", "") and labels is None):
        return unobservable("no accuracy of a classifier was evaluated", *EVAL_FILES)
    end = stats.level(loss.values, "last-third")
    hit_rate = stats.level(accuracy[0].values, "last-third")
    counts = [int(labels[0])] if labels else list(range(2, classes_to + 1))
    for count in counts:
        chance = 1 / count
        near = abs(end - math.log(count)) < loss_within
        if near and abs(hit_rate - chance) < max(0.03, 0.15 * chance):
            return present(
                f"{loss.label} ends at {end:.3f} = ln {count} and accuracy at {hit_rate:.2f} = "
                f"1/{count}: chance",
                loss.fact(-1),
                accuracy[0].fact(-1),
                curves=(loss.curve, accuracy[0].curve),
            )
    return absent(f"{loss.label} ends at {end:.3f} with accuracy {hit_rate:.2f}")


@detector("evaluation.train_is_multiple")
def train_is_multiple(
    run: Run, *, of: Literal["gradient_accumulation_steps", "world_size"], within: float = 0.2
) -> Observation:
    """Find train/eval loss equal to gradient accumulation steps, or to 1/processes.

    Two evaluations must agree, or one if the factor is 8 or more; factors below 4 (2 for
    processes) are too near to ordinary ratios.
    """
    names = (of,) if of != "world_size" else ("environment.world_size", "environment.gpu_count")
    known = fact_number(run, *names)
    if known is None:
        return unobservable(f"{of} is not known", "training configuration")
    factor, fact = known
    if factor < (4 if of == "gradient_accumulation_steps" else 2):
        return absent(f"{of} is {factor:g}", fact)
    found = _ratios(run)
    if isinstance(found, Observation):
        return found
    expected = factor if of == "gradient_accumulation_steps" else 1 / factor
    near = [r for r in found if abs((1 / r[0]) / expected - 1) <= within]
    shown = found[-1]
    step = shown[3].step(shown[4])
    text = f"train/eval loss is {1 / shown[0]:.2f} at step {step}; {of} is {factor:g}"
    wanted = 1 if factor >= 8 else 2
    if len(near) < wanted or len(near) < 0.6 * len(found):
        return absent(text, fact)
    return present(text, shown[3].fact(shown[4]), fact, curves=("loss", shown[3].curve))


@detector("evaluation.train_loss_dwarfs_eval")
def train_loss_dwarfs_eval(run: Run, *, times: float = 3.5, minimum: int = 2) -> Observation:
    """Find a training loss that is a steady multiple of the eval loss (whole run, within 15 %).

    One evaluation is enough where the training loss begins above what a pretrained model has.
    """
    found = _ratios(run)
    if isinstance(found, Observation):
        return found
    if len(found) < minimum and not _may_be_sum(run, found[0][1], found[0][2]):
        return _no_eval(minimum, len(found))
    shares = sorted(1 / r[0] for r in found)
    middle = shares[len(shares) // 2]
    text = f"train loss is {middle:.1f} times eval loss at {plural(len(shares), 'evaluation')}"
    steady = shares[-1] - shares[0] <= 0.3 * middle
    if middle < times or not steady:
        return absent(text)
    return present(text, found[-1][3].fact(-1), curves=("loss", found[-1][3].curve))


@detector("evaluation.no_baseline")
def no_baseline(run: Run) -> Observation:
    """Find evaluations, but none before the first step (of the base model)."""
    given = next((f for name, f in run.facts.items() if name.startswith("baseline.")), None)
    if given:
        return absent(f"scores of the base model were given, as {given[0].name[9:]}", given[0])
    found = eval_losses(run) or task_metrics(run)
    if not found:
        return unobservable("no evaluation was logged", BASELINE, *EVAL_FILES)
    first = min(p.step(0) for p in found)
    if first <= 1:
        return absent(f"the first evaluation is at step {first}")
    return present(f"the first evaluation is at step {first}", found[0].fact(0))


@detector("evaluation.no_better_than_base")
def no_better_than_base(run: Run, *, margin: float) -> Observation:
    """Find that no score at the end is better than the base model's by a share of `margin`."""
    compared = []
    for found in (*eval_losses(run), *task_metrics(run)):
        base = fact_number(run, f"baseline.{found.series.name.lower()}")
        if base is not None:
            compared.append((found, *base))
    if not compared:
        return unobservable("No score of the base model to compare with", BASELINE)
    texts, better = [], False
    for found, base_value, _ in compared:
        last = float(found.values[-1])
        falls = any(w in found.series.name.lower() for w in LOWER_IS_BETTER)
        gain = base_value - last if falls else last - base_value
        better = better or gain > margin * abs(base_value)
        texts.append(
            f"{found.label} ends at {number(last)}, the base model has {number(base_value)}"
        )
    text = "; ".join(texts[:2])
    if better:
        return absent(text, compared[0][2])
    return present(text, compared[0][0].fact(-1), compared[0][2], curves=(compared[0][0].curve,))


@detector("evaluation.too_few_rows")
def too_few_rows(run: Run, *, below: int = 100) -> Observation:
    """Find an evaluation set of under `below` rows."""
    known = fact_number(run, "data.eval.rows", "summary.eval_samples", "max_eval_samples")
    if known is None:
        return unobservable("the size of the evaluation set is not known", "evaluation data")
    rows, fact = known
    text = f"the evaluation set has {rows:.0f} rows"
    return present(text, fact) if 0 < rows < below else absent(text, fact)


@detector("evaluation.perplexity_wrong")
def perplexity_wrong(run: Run) -> Observation:
    """Find a perplexity that is non-finite, below 1, above the vocabulary, or not exp(loss)."""
    pairs: list[tuple[float, float | None, Fact]] = []
    losses = eval_losses(run)
    for name in ("perplexity", "ppl"):
        found = points(run, name, "eval")
        if found is not None:
            same = losses[0].values[-1] if losses else None
            pairs.append((float(found.values[-1]), same, found.fact(-1)))
        pairs += _beside_eval_loss(run, name, losses)
    summary = run.fact("summary.perplexity")
    if summary is not None and isinstance(summary.value, int | float):
        known = fact_number(run, "summary.eval_loss")
        pairs.append((float(summary.value), known[0] if known else None, summary))
    if not pairs:
        return unobservable("no perplexity was reported", "evaluation results")
    size = fact_number(run, "model.vocab_size", "tokenizer.vocab_size")
    for value, loss, fact in pairs:
        text = f"perplexity is {number(value)}"
        if not math.isfinite(value) or value < 1 or (size and value > size[0]):
            return present(text, fact)
        if loss is not None and 0 < loss < 20 and abs(value / math.exp(loss) - 1) > 0.05:
            return present(f"{text} but exp(eval loss) is {number(math.exp(loss))}", fact)
    return absent(f"perplexity is {number(pairs[0][0])}", pairs[0][2])


def _beside_eval_loss(
    run: Run, name: str, losses: list[Points]
) -> list[tuple[float, float | None, Fact]]:
    """Return a perplexity without prefix that was logged at the steps of the evaluations alone."""
    found = points(run, name)
    if found is None or not losses or list(found.steps) != list(losses[0].steps):
        return []
    value, loss = float(found.values[-1]), float(losses[0].values[-1])
    trained = points(run, "loss")
    # One of the training loss at that step is no perplexity of the evaluation.
    if trained is not None and len(trained.finite):
        near = float(trained.finite.values[-1])
        if _is_exp(value, near) and not _is_exp(value, loss):
            return []
    return [(value, loss, found.fact(-1))]


def _is_exp(value: float, loss: float) -> bool:
    return 0 < loss < 20 and abs(value / math.exp(loss) - 1) <= 0.05


@detector("evaluation.summary_mismatch")
def summary_mismatch(run: Run, *, share: float = 0.5) -> Observation:
    """Find a final `train_loss` below `share` of the mean of the logged losses."""
    known = fact_number(run, "summary.train_loss")
    if known is None:
        return unobservable("no final train_loss was reported", "trainer_state.json", "stdout log")
    value, fact = known
    train = curve(run, "loss", minimum=3)
    if isinstance(train, Observation):
        return train
    mean = float(train.values.mean())
    text = f"the final train_loss is {number(value)}, the logged losses average {number(mean)}"
    if mean > 0.05 and value < share * mean:
        return present(text, fact, train.fact(-1))
    return absent(text, fact)


def _steps_by_rate(run: Run, seconds: float) -> tuple[float, Fact] | None:
    """Return the steps that a reported rate makes of a runtime."""
    rate = fact_number(run, "summary.train_steps_per_second")
    return (rate[0] * seconds, rate[1]) if rate else None


# No model takes less for an optimizer step; two-layer toys on a CPU take 9 ms (measured).
LEAST_STEP_SECONDS = 0.002


@detector("evaluation.zero_steps")
def zero_steps(run: Run, *, seconds: float = 5.0) -> Observation:
    """Find a session that ended in `seconds`, too short for the steps that its log holds."""
    runtimes = [
        fact
        for fact in run.facts.get("summary.train_runtime", ())
        if isinstance(fact.value, int | float)
    ]
    if not runtimes:
        return unobservable("no train_runtime was reported", "trainer_state.json", "stdout log")
    fact = min(runtimes, key=lambda f: float(f.value))
    value = float(fact.value)
    done = fact_number(run, "progress.global_step") or _steps_by_rate(run, value)
    text = f"train_runtime is {number(value)} s"
    if done is None:
        return unobservable(f"{text}; the number of steps is not known", *TRAIN_FILES)
    if value < seconds and done[0] >= 20 and value / done[0] < LEAST_STEP_SECONDS:
        return present(f"{text} for {done[0]:.0f} steps", fact, done[1])
    return absent(f"{text} for {done[0]:.0f} steps", fact)


@detector("evaluation.stopped_early")
def stopped_early(run: Run, *, share: float = 0.9) -> Observation:
    """Find early stopping configured and a run that finished under `share` of its planned steps."""
    patience = setting_number(run, "early_stopping_patience")
    if patience is None:
        return unobservable(
            "early stopping is not known to be configured", "training configuration"
        )
    done, planned = fact_number(run, "progress.global_step"), fact_number(run, "progress.max_steps")
    if done is None or planned is None or planned[0] <= 0:
        return unobservable("the planned number of steps is not known", *TRAIN_FILES)
    text = f"training ended at step {done[0]:.0f} of {planned[0]:.0f}, patience {patience[0]:g}"
    finished = run.fact("progress.finished")
    if done[0] < share * planned[0] and finished is not None and finished.value is True:
        return present(text, done[1], patience[1])
    return absent(text, done[1])


@detector("evaluation.never_shown")
def never_shown(run: Run, *, rows: int = 5) -> Observation:
    """Find a run of 20 steps and more that logged fewer than `rows` training losses."""
    done = fact_number(run, "progress.global_step")
    if done is None:
        return unobservable("the number of steps is not known", *TRAIN_FILES)
    loss = points(run, "loss") or points(run, "reward")
    count = len(loss) if loss is not None else 0
    text = f"rows logged: {count}, for {plural(int(done[0]), 'step')} of training"
    if done[0] >= 20 and count < rows:
        return present(text, done[1])
    return absent(text, done[1])


@detector("evaluation.too_few_steps")
def too_few_steps(run: Run, *, below: int = 50) -> Observation:
    """Find a finished training of fewer than `below` optimiser steps."""
    done = fact_number(run, "progress.global_step")
    planned = fact_number(run, "progress.max_steps")
    loss = points(run, "loss")
    if done is None and loss is None:
        return unobservable("the number of steps is not known", *TRAIN_FILES)
    if done is not None:
        steps, fact = done
    else:
        assert loss is not None
        if run.fact("log.rows_counted") is not None:
            return unobservable("the log numbers no steps", *TRAIN_FILES)
        steps, fact = float(loss.step(-1)), loss.fact(-1)
    text = f"training made {steps:.0f} optimiser steps"
    if planned is not None and planned[0] > 1.1 * steps:
        return absent(f"{text} of {planned[0]:.0f} planned: it did not end there by plan", fact)
    return present(text, fact) if 0 < steps < below else absent(text, fact)
