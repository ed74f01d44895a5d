"""Detectors on checkpoints: expiry, wrong paths, stale or interrupted saves, a best one lost."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.points import resume_borders
from ftdoctor.model import Fact, Observation, Run, Span, Where
from ftdoctor.render.text import plural

RECORDS = "checkpoints.jsonl"
FOLDERS = "checkpoint-N folders"
LOG_TIME = "log.time"
SCRIPT_ROLES = ("test", "inference", "convert")


def day(moment: float) -> str:
    """Return a Unix time as a date."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


# --- Tinker -----------------------------------------------------------------------------------


@detector("checkpoints.expired")
def expired(run: Run, *, assumed: bool) -> Observation:
    """Find that every checkpoint recorded by Tinker has ended by `run.now`.

    A record without expiry (the final one) makes it absent. With `assumed`, the time to live is
    the service's default because no file gives it; without, it must be recorded. Where nobody
    gave `run.now`, the latest dated line of a log is a moment that has passed: it can show that
    the checkpoints had ended by then, never that they have not.
    """
    lasting = run.fact("checkpoint.lasting")
    if lasting is None:
        return unobservable("No record of saved checkpoints", RECORDS)
    if lasting.value:
        return absent(f"kept without expiry: {plural(lasting.value, 'checkpoint')}", lasting)
    end, guess = run.fact("checkpoint.expires_at"), run.fact("checkpoint.ttl_assumed")
    if end is None:
        return unobservable("When the checkpoints were saved is not known", "config.json, logs.log")
    if bool(guess and guess.value) is not assumed:
        return unobservable("The time to live is not recorded", "config.json with ttl_seconds")
    now = run.fact("run.now")
    if now is None:
        now = _last_time(run)
        if now is None or now.value < end.value:
            return unobservable(f"The last checkpoint expires by {day(end.value)}", "today's date")
    note = " (service default of 7 days)" if assumed else ""
    if now.value >= end.value:
        days = (now.value - end.value) / 86_400
        since = f"{days:.0f} days ago"
        if now.name == LOG_TIME:
            since = f"{days:.0f} days before the last dated line ({now.where})"
        text = f"The last checkpoint expired by {day(end.value)}{note}, {since}"
        return present(text, end, *([guess] if guess else []), *([now] if now.where.path else []))
    return absent(f"The last checkpoint is kept until {day(end.value)} at the latest{note}", end)


def _tinker_paths(run: Run) -> Iterator[tuple[str, Fact]]:
    """Yield each `tinker://` path that a setting or a script uses, with what it is used for."""
    named = {
        "resume_from_checkpoint": "state",
        "load_checkpoint_path": "state",
        "load_state": "state",
        "model_path": "sampler",
        "sampler_path": "sampler",
        "policy_path": "sampler",
    }
    for name, facts in (*run.settings.items(), *run.facts.items()):
        last = name.rpartition(".")[2]
        if name.startswith("checkpoint.") or last not in named:
            continue
        for fact in facts:
            if isinstance(fact.value, str) and fact.value.startswith("tinker://"):
                yield named[last], fact


@detector("checkpoints.path_of_wrong_kind")
def path_of_wrong_kind(run: Run) -> Observation:
    """Find a training-state path used for sampling, or a sampler path used to resume.

    `…/weights/…` is for resuming only, `…/sampler_weights/…` for sampling only.
    """
    used = list(_tinker_paths(run))
    for purpose, fact in used:
        path = str(fact.value)
        if purpose == "sampler" and "/weights/" in path:
            return present(f"A training-state path is used for sampling: {path[-60:]}", fact)
        if purpose == "state" and "/sampler_weights/" in path:
            return present(f"A sampler path is used to resume training: {path[-60:]}", fact)
    if used:
        return absent("Every tinker:// path is of the kind that its use needs", used[0][1])
    return unobservable("No script or setting uses a tinker:// path", "test or inference script")


@detector("checkpoints.base_sampled")
def base_sampled(run: Run) -> Observation:
    """Find a test script that samples the base model although the run saved sampler weights."""
    saved = run.fact("checkpoint.sampler_path")
    if saved is None:
        return unobservable("No record of sampler weights", RECORDS)
    bases = _script_facts(run, "base_model")
    paths = _script_facts(run, "model_path")
    if bases and not any("tinker://" in str(f.value) for f in paths):
        text = f"The script samples base_model {bases[0].value}, not the run's sampler weights"
        return present(text, bases[0], saved)
    if bases or paths:
        return absent("The script names a model path", (paths or bases)[0])
    return unobservable("No script that samples", "test or inference script")


# What a script says that gets at the trained weights by other ways, or tests the base on purpose.
_OTHER_WAYS = re.compile(
    r"(?i)peft|lora|adapter|load_state_dict|safe_open|load_file|output_dir|argv|argparse|environ"
    r"|checkpoint|ckpt|finetuned|fine_tuned|merged|tuned_model"
)
_ON_PURPOSE = re.compile(r"(?i)base|before|zero.?shot|compare|vanilla|original")


@detector("checkpoints.base_tested")
def base_tested(run: Run) -> Observation:
    """Find that the only test scripts load the model that training began with, and nothing else.

    A script that names an adapter, a checkpoint or the output folder in any way is left alone, and
    so is one whose name says that it tests the base.
    """
    bases = [f for f in run.facts.get("script.train.model_path", ()) if isinstance(f.value, str)]
    written = run.fact("script.train.output_path") or run.setting("output_dir")
    if not bases or written is None:
        return unobservable("What training began with and wrote is not known", "training script")
    loaded = run.facts.get("script.test.model_path", ())
    if not loaded:
        return unobservable("No script that tests", "test or inference script")
    for fact in loaded:
        source = run.texts.get(fact.where.path, "")
        if fact.value not in [b.value for b in bases] or fact.value == written.value:
            return absent(f"A test script loads {fact.value}", fact)
        named = re.search(rf"\b{re.escape(str(written.value).strip('./'))}/", source)
        if not source or named or _OTHER_WAYS.search(source):
            return absent(f"{fact.where.path} gets at more than {fact.value}", fact)
        if _ON_PURPOSE.search(fact.where.path):
            return absent(f"{fact.where.path} tests the base on purpose", fact)
    fact = loaded[0]
    text = f"{fact.where.path} loads {fact.value}, with which training began, and nothing of "
    return present(f"{text}what it wrote to {written.value}", fact, written)


def _script_facts(run: Run, name: str) -> list[Fact]:
    return [f for role in SCRIPT_ROLES for f in run.facts.get(f"script.{role}.{name}", ())]


# --- which checkpoint is used -----------------------------------------------------------------


@detector("checkpoints.beyond_plan")
def beyond_plan(run: Run) -> Observation:
    """Find checkpoint folders of steps that this run never planned: an earlier run left them.

    Of several logs, as of a run that was extended, the one that planned most counts; what a
    checkpoint itself says of its plan does not.
    """
    planned = _most_planned(run)
    if planned is None or planned.value <= 0:
        return unobservable("The planned number of steps is not known", "trainer_state.json")
    steps = [f for f in run.facts.get("checkpoint.folder", ()) if isinstance(f.value, dict)]
    if not steps:
        return unobservable("No checkpoint folder to look at", FOLDERS)
    beyond = [f for f in steps if f.value.get("step", 0) > planned.value]
    if beyond:
        step = beyond[-1].value["step"]
        text = f"`{beyond[-1].where.path}` is of step {step}, but the run planned {planned.value:g}"
        return present(text, *beyond[-3:], planned)
    return absent(f"No checkpoint lies beyond the {planned.value:g} planned steps", planned)


def _most_planned(run: Run) -> Fact | None:
    """Return the largest number of planned steps, leaving out what checkpoint folders say."""
    folders = tuple(f"{f.where.path}/" for f in run.facts.get("checkpoint.folder", ()))
    first, *others = run.facts.get("progress.max_steps", ()) or (None,)
    outside = [f for f in others if not f.where.path.startswith(folders)]
    numbers = [f for f in (first, *outside) if f and isinstance(f.value, int | float)]
    return max(numbers, key=lambda f: float(f.value), default=None)


@detector("checkpoints.weights_older_than_log")
def weights_older_than_log(run: Run, *, seconds: float) -> Observation:
    """Find that the newest output weights were written before the log's first dated line.

    Copies get the time of copying, which is never earlier; so only "older" is judged.
    """
    newest = run.fact("weights.modified")
    if newest is None:
        return unobservable("No output weights with a date", "adapter or model weights")
    start = _first_time(run)
    if start is None:
        return unobservable("No log line has a date", "stdout log with timestamps")
    if start.value - newest.value > seconds:
        text = (
            f"`{newest.where.path}` was written {_moment(newest.value)}, "
            f"before the log begins ({_moment(start.value)})"
        )
        return present(text, newest, start)
    return absent("The newest weights were written after the log began", newest, start)


def _first_time(run: Run) -> Fact | None:
    """Return the earliest Unix time in logged rows and lines, and its place."""
    return min(_times(run), key=lambda f: float(f.value), default=None)


def _last_time(run: Run) -> Fact | None:
    """Return the latest Unix time in logged rows and lines, and its place."""
    return max(_times(run), key=lambda f: float(f.value), default=None)


def _times(run: Run) -> list[Fact]:
    """Return the earliest and the latest time of rows, events and lines, each with its place."""
    found: list[Fact] = []
    for frame in (run.metrics, run.events, run.lines):
        if frame.is_empty() or "time" not in frame.columns:
            continue
        dated = frame.drop_nulls("time").filter(frame.drop_nulls("time")["time"] > 1e9)
        for place in (0, -1) if not dated.is_empty() else ():
            row = dated.sort("time").row(place, named=True)
            where = Where(str(row["path"]), line=row["line"] or None)
            found.append(Fact(LOG_TIME, float(row["time"]), where))
    return found


def _moment(value: float) -> str:
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M")


# --- what was kept ----------------------------------------------------------------------------


@detector("checkpoints.best_not_kept")
def best_not_kept(run: Run, *, margin: float, evaluations: int) -> Observation:
    """Find that no checkpoint of the lowest eval loss is kept, while the last is worse by `margin`.

    `margin` is a share of the lowest loss. Needs at least `evaluations` points.
    """
    series = run.series("loss", "eval")
    steps = run.fact("checkpoint.steps")
    finite = [i for i, v in enumerate(series.values) if math.isfinite(v)] if series else []
    if series is None or len(finite) < evaluations:
        return unobservable("Too few evaluations to name a best checkpoint", "evaluation log")
    if steps is None or not steps.value:
        return unobservable("No checkpoint folder to look at", FOLDERS)
    best = min(finite, key=lambda i: float(series.values[i]))
    lowest, last = float(series.values[best]), float(series.values[finite[-1]])
    at = int(series.steps[best])
    chosen = run.setting("load_best_model_at_end")
    text = f"Eval loss was lowest at step {at} ({lowest:.4g}) and ends at {last:.4g}"
    kept = at in steps.value
    if not kept and last > lowest * (1 + margin) and not (chosen and chosen.value is True):
        left = ", ".join(map(str, steps.value[-3:]))
        return present(
            f"{text}; kept are only steps {left}", steps, curves=("eval/loss",), span=Span(at)
        )
    return absent(f"{text}; {'it is kept' if kept else 'the last is as good'}", steps)


@detector("checkpoints.best_gone")
def best_gone(run: Run) -> Observation:
    """Find that the best checkpoint named by trainer_state.json is not among those kept."""
    best = run.fact("state.best_model_checkpoint")
    steps = run.fact("checkpoint.steps")
    found = re.search(r"checkpoint-(\d+)", str(best.value)) if best else None
    if best is None or found is None:
        return unobservable("trainer_state.json names no best checkpoint", "trainer_state.json")
    if steps is None or len(steps.value) < 2:
        return unobservable("Fewer than two checkpoint folders to look at", FOLDERS)
    text = f"trainer_state.json names checkpoint-{found[1]} as best"
    if int(found[1]) in steps.value:
        return absent(f"{text}, and it is there", best, steps)
    return present(f"{text}; kept are only {', '.join(map(str, steps.value[-3:]))}", best, steps)


@detector("checkpoints.resumed_without_state")
def resumed_without_state(run: Run) -> Observation:
    """Find that the checkpoint at which training was resumed lacks optimizer or scheduler.

    Unobservable if the log shows no resume, or no folder of that step is there.
    """
    series = run.series("learning_rate") or run.series("loss")
    borders = resume_borders(run, series) if series is not None else []
    if series is None or not borders:
        return unobservable("The log shows no resume", "stdout log")
    folders = {
        int(f.value["step"]): f
        for f in run.facts.get("checkpoint.folder", ())
        if isinstance(f.value, dict) and isinstance(f.value.get("step"), int)
    }
    for border in borders:
        last, next_row = int(series.steps[border - 1]), int(series.steps[border])
        at = next((step for step in sorted(folders, reverse=True) if last <= step < next_row), None)
        if at is None:
            continue
        lost = [name for name in ("optimizer", "scheduler") if not folders[at].value.get(name)]
        name = folders[at].where.path or f"checkpoint-{at}"
        if lost:
            text = f"Training went on at step {at}; `{name}` holds no {' and no '.join(lost)}"
            return present(text, folders[at], span=Span(next_row, within=0))
        return absent(f"`{name}`, at which training went on, holds the optimizer", folders[at])
    return unobservable("No checkpoint of the step of the resume is there", FOLDERS)
