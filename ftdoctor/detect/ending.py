"""Detectors on how a run ended: its last words, and whether it reached the planned steps."""

from __future__ import annotations

import re
from itertools import groupby

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.log import LOG, has_text, log_of, shorten
from ftdoctor.model import Fact, Observation, Run


@detector("ending.last_lines")
def last_lines(run: Run, *, patterns: list[str], within: int) -> Observation:
    """Find one of the patterns in the last lines of a log, of `within` lines of each file."""
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    log = log_of(run)
    matching = {id(t) for t in log.find(patterns)}
    for path, group in groupby(log.texts, key=lambda t: t.path):
        tail = [t for t in group if t.text.strip()][-within:]
        found = [t for t in tail if id(t) in matching]
        if found and not log.survived(found[-1]):
            quoted = f"“{shorten(found[-1].text, 140)}”"
            return present(f"{path} ends with {quoted}", found[-1].fact)
    return absent("The log ends with something else")


@detector("ending.stops_short")
def stops_short(run: Run, *, below: float) -> Observation:
    """Find a log that stops before the share `below` of the planned steps, with no error in it."""
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    done, planned = run.fact("progress.global_step"), run.fact("progress.max_steps")
    if done is None or planned is None or not _positive(planned):
        return unobservable("The planned number of steps is not known", "trainer_state.json")
    share = float(done.value) / float(planned.value)
    said = f"{done.value} of {planned.value} planned steps ({share:.0%})"
    if share >= below:
        return absent(f"The run took {said}", done)
    log = log_of(run)
    ended = [t for p in sorted(log.fatal) for t in log.known[p] if not log.survived(t)]
    ended += [t.exception for t in log.tracebacks if not log.survived(t.exception)]
    if ended:
        return absent(f"An error ended the run after {said}", ended[0].fact)
    return present(f"The log stops without an error after {said}", done, planned)


def _positive(fact: Fact) -> bool:
    return isinstance(fact.value, int | float) and fact.value > 0


# `model-00001-of-00004.safetensors: 36%|...`: the last state of a bar, as the log reader keeps it.
_DOWNLOAD = re.compile(
    r"(?P<what>\S*(?:\.safetensors|\.bin|\.gguf|\.pth?)\S*|(?i:download|fetch)ing[^:|]{0,60})"
    r":\s+(?P<percent>\d{1,3})%\|"
)


@detector("ending.downloading")
def downloading(run: Run) -> Observation:
    """Find a log whose last word is a download that has not ended, and no step of training."""
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    started = run.fact("progress.started")
    if run.series("loss") is not None or (started is not None and started.value):
        return absent("Training had begun")
    if run.has("trainer-state", "tensorboard", "adapter-config", "training-args"):
        return absent("The run left files that only training writes")
    log = log_of(run)
    bars = [(t, found) for t in log.texts if (found := _DOWNLOAD.search(t.text))]
    open_ = [(t, found) for t, found in bars if int(found["percent"]) < 100]
    if not open_:
        return absent("No download was under way at the end")
    if any(not log.survived(t.exception) for t in log.tracebacks):
        return absent("An error ended the run")
    text, found = open_[-1]
    return present(
        f"The log ends while {found['what']} is at {found['percent']} %; no training line follows",
        text.fact,
    )


# lightning/pytorch/trainer/connectors/checkpoint_connector.py and loops/fit_loop.py
_RESTORED = re.compile(r"Restored all states from the checkpoint")
_REACHED = re.compile(r"Trainer\.fit\W+stopped: \W?max_(?:epochs|steps)=\d+\W? reached")


@detector("ending.stops_when_restored")
def stops_when_restored(run: Run) -> Observation:
    """Find a Lightning log in which the restored run has reached its end, and no training row."""
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    texts = log_of(run).texts
    restored = [t for t in texts if _RESTORED.search(t.text)]
    if not restored:
        return absent("No run of Lightning was restored")
    last = restored[-1]
    ends = [
        t for t in texts
        if t.path == last.path and t.line > last.line and _REACHED.search(t.text)
    ]  # fmt: skip
    if not ends:
        return absent("The restored run did not stop at its limit", last.fact)
    if run.series("loss") is not None:
        return absent("Training rows were logged", last.fact)
    text = (
        f"“{shorten(ends[0].text, 100)}” follows “{shorten(last.text, 100)}”, and no training row"
    )
    return present(text, ends[0].fact, last.fact)
