"""From a path to a `Diagnosis`: read, detect, rank, and put the result into words."""

from __future__ import annotations

import hashlib
import math
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ftdoctor.compare import Comparison, compare
from ftdoctor.conflicts import conflicts
from ftdoctor.curves import thin
from ftdoctor.detect.engine import MORE_TIME, detect_all
from ftdoctor.discover import NOT_OPENED
from ftdoctor.fixes import edit_for, fitting, fix_text, place_text
from ftdoctor.library import calls_of, load
from ftdoctor.limits import ASSEMBLY_SHARE, NEVER, READING_SHARE, Deadline
from ftdoctor.model import (
    Artifact,
    ArtifactState,
    Call,
    Curve,
    Diagnosis,
    Fact,
    Finding,
    Library,
    Moment,
    RankedCause,
    Run,
    RunSummary,
    Severity,
    Span,
    State,
    Status,
    Symptom,
    Unchecked,
    Verdict,
    Where,
)
from ftdoctor.nextcheck import next_checks
from ftdoctor.observations import observations
from ftdoctor.panels import panels
from ftdoctor.rank import TROUBLE, Ranked, Ranking, rank
from ftdoctor.read.items import UNREAD
from ftdoctor.schedule import intended_rate
from ftdoctor.versions import affected

STATED = 0.90  # from here on the verdict states the cause (REPORT: words follow the posterior)
PROBABLE = 0.70
POSSIBLE = 0.40  # below this no known cause is likely
FEW_CHECKS = 60  # of some 650; less than this was read out of a pasted text: judgement
LISTED = 0.02  # causes below this are left out of the diagnosis
TIMELINE_ROWS = 12
# Stages whose causes exist in some kinds of training only; other stages concern every run.
STAGE_KINDS = {"preference": ("preference", "reward"), "reinforcement": ("rl",)}

_WRITTEN_BY_HAND = (".py", ".ipynb", ".yaml", ".yml", ".toml", ".sh")
# Stages whose faults may begin during training; others are wrong from the first step on.
_LATE_STAGES = ("optimisation", "numerics", "evaluation", "preference", "reinforcement",
                "infrastructure", "distributed")  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What the caller may add: signature folders, the run to choose, the time to judge expiry by.

    `now` is in Unix seconds. `added` are files outside the run, each with its role: production,
    benchmark, gold (ground truth) or baseline. `observed` are outcomes that the user knows of, as
    `never-stops` or `not:never-stops`. `price` is money per device hour, in the user's currency.
    `good` is a run that worked, or a checkpoint of this one, to compare with. After the deadline
    the diagnosis is made of what was read and checked until then.
    """

    signatures: tuple[Path, ...] = ()
    choose: str = ""
    now: float | None = None
    added: tuple[tuple[str, Path], ...] = ()
    observed: tuple[str, ...] = ()
    price: float | None = None
    good: str = ""
    deadline: Deadline = NEVER


def diagnose(path: str | Path, options: Options | None = None) -> Diagnosis:
    """Diagnose one run folder, file or archive.

    Raises UnreadableRunError if nothing there can be read, SignatureError for a wrong signature,
    FtdoctorError for an added file that is not there or an outcome that nobody knows.
    """
    options = options or Options()
    library = load(options.signatures)
    return diagnose_run(gather(path, options, library), library, options.deadline)


def diagnose_pair(path: str | Path, options: Options) -> tuple[Comparison, Diagnosis]:
    """Diagnose a run against the good one of the options; errors as of `diagnose`."""
    library = load(options.signatures)
    run = gather(path, replace(options, good=""), library)
    comparison = compare(gather_good(options), run)
    run = with_comparison(run, comparison)
    return comparison, diagnose_run(run, library, options.deadline)


def gather(path: str | Path, options: Options, library: Library) -> Run:
    """Read a run with everything that the caller adds to it."""
    return gather_with(path, options, observations(options.observed, library))


def gather_with(path: str | Path, options: Options, told: Sequence[Fact]) -> Run:
    """Read a run as `gather` does, with the outcomes that the user told as facts already."""
    from ftdoctor.read import Options as ReadOptions
    from ftdoctor.read import read_run

    deadline = options.deadline.earlier(READING_SHARE)
    run = read_run(path, options=ReadOptions(options.choose or None, options.added, deadline))
    run = with_given(replace(run, facts=dict(run.facts) | {f.name: (f,) for f in told}), options)
    return with_comparison(run, compare(gather_good(options), run)) if options.good else run


def with_given(run: Run, options: Options) -> Run:
    """Return the run with the time and the price by which it is judged among its facts."""
    facts = dict(run.facts)
    if options.now is not None:  # detectors have no clock of their own
        facts["run.now"] = (Fact("run.now", options.now, Where("the clock of this diagnosis")),)
    if options.price is not None:
        facts["run.price"] = (Fact("run.price", options.price, Where("--price-per-device-hour")),)
    return replace(run, facts=facts)


def gather_good(options: Options) -> Run:
    """Read the run that worked; nothing that the caller adds to the failed one is added to it."""
    from ftdoctor.read import Options as ReadOptions
    from ftdoctor.read import read_run

    deadline = options.deadline.earlier(READING_SHARE).later(ASSEMBLY_SHARE)
    return read_run(options.good, options=ReadOptions(deadline=deadline))


def with_comparison(run: Run, comparison: Comparison) -> Run:
    """Return the run with what differs from a good one among its facts."""
    return replace(run, facts=dict(run.facts) | {f.name: (f,) for f in comparison.facts()})


def diagnose_run(run: Run, library: Library, deadline: Deadline = NEVER) -> Diagnosis:
    """Diagnose evidence that has been read already."""
    findings = detect_all(run, library, deadline=deadline)
    fitting = applicable(library, run)
    ranking = rank(findings, fitting)
    told = (_ranked_cause(r, run, library, findings) for r in ranking.ranked)
    ranked = tuple(r for r in told if r.probability >= LISTED)
    ranked = _beneath(_ended_first(ranked, run, findings, library), library)
    causes = tuple(r for r in ranked if r.severity is not Severity.LOW)
    advice = tuple(r for r in ranked if r.severity is Severity.LOW)
    verdict = _verdict(causes, ranking, findings, run, library)
    return Diagnosis(
        run=summarise(run),
        verdict=verdict,
        causes=causes,
        advice=advice,
        findings=findings,
        unexplained=ranking.unexplained,
        no_known_cause=ranking.no_known_cause,
        next_checks=next_checks(ranking, fitting, findings, run),
        unchecked=_unchecked(findings, library),
        timeline=_timeline(run, causes, findings),
        curves=_curves(run, causes, findings),
        panels=panels(run, causes[0].span if causes else None),
        artifacts=run.artifacts,
        redactions=run.redactions,
        versions=_versions(),
        input_digest=_input_digest(run),
        signature_digest=library.digest,
        status={"cause": 1, "unreadable": 3}.get(verdict.kind, 0),
        conflicts=conflicts(run),
    )


def applicable(library: Library, run: Run) -> Library:
    """Leave out the causes of other kinds of training, of other versions, and retired ones."""
    kind = run.fact("run.kind")
    causes = {
        name: cause
        for name, cause in library.causes.items()
        if (kind is None or kind.value in STAGE_KINDS.get(cause.stage, (kind.value,)))
        and cause.status is not Status.DEPRECATED
        and affected(run, cause.affects)
    }
    return replace(library, causes=causes)


# --- causes -----------------------------------------------------------------------------------


def _ranked_cause(
    ranked: Ranked, run: Run, library: Library, findings: Sequence[Finding]
) -> RankedCause:
    cause = ranked.cause
    trainer = run.fact("run.trainer")
    fitted = fitting(cause, run)
    named = str(trainer.value) if trainer else ""
    experimental = cause.status is Status.EXPERIMENTAL
    edit, setting_fix = edit_for(fitted, run), fix_text(fitted, named)
    return RankedCause(
        id=cause.id,
        title=f"{cause.title} (experimental)" if experimental else cause.title,
        probability=round(ranked.probability, 4),
        severity=cause.severity,
        stage=cause.stage,
        prior=cause.prior,
        weights=ranked.weights,
        unseen=ranked.unseen,
        mechanism=cause.mechanism,
        fix=cause.fix,
        verdict=cause.verdict,
        edit=edit,
        setting_fix=setting_fix + (place_text(fitted, run) if setting_fix and not edit else ""),
        explained_by=ranked.explained_by,
        leads_to=tuple(library.causes[c].title for c in cause.leads_to if c in library.causes),
        next_check=cause.next_check,
        references=cause.references,
        span=_span(ranked, findings),
    )


def _span(ranked: Ranked, findings: Sequence[Finding]) -> Span | None:
    """Return where the strongest dated evidence for the cause begins."""
    spans = {f.symptom: f.span for f in findings if f.state is State.PRESENT and f.span}
    supporting = [w for w in ranked.weights if w.role in ("for", "risk") and w.symptom in spans]
    if not supporting:
        return None
    return spans[max(supporting, key=lambda w: w.decibans).symptom]


def _ended_first(
    ranked: tuple[RankedCause, ...], run: Run, findings: Sequence[Finding], library: Library
) -> tuple[RankedCause, ...]:
    """Of a run that took no step put what its log says ended it before what files alone tell.

    What a setting would have done wrong later, however plain, is not why this run ended.
    """
    started = run.fact("progress.started")
    if run.series("loss") is not None or (started is not None and started.value):
        return ranked
    seen = {f.symptom for f in findings if f.state is State.PRESENT}
    calls = {s: list(calls_of(library.symptoms[s].call)) for s in seen}
    fatal = {s for s, made in calls.items() if any(c.parameters.get("fatal") is True for c in made)}
    logged = {s for s, made in calls.items() if any(c.detector == "log.matches" for c in made)}
    likely = [r for r in ranked if r.probability >= POSSIBLE]
    if not any(fatal & library.causes[r.id].shows.keys() for r in likely):
        return ranked
    told = [r for r in likely if logged & library.causes[r.id].shows.keys()]
    return (*told, *(r for r in ranked if r not in told))


def _beneath(ranked: tuple[RankedCause, ...], library: Library) -> tuple[RankedCause, ...]:
    """Put a cause right after the likely cause that leads to it and did not begin after it."""
    likely = {r.id: r for r in ranked if r.probability >= POSSIBLE}
    parent: dict[str, str] = {}
    for r in likely.values():
        for child in library.causes[r.id].leads_to:
            if child in likely and parent.get(r.id) != child and not _after(r, likely[child]):
                parent.setdefault(child, r.id)
    ordered: list[RankedCause] = []

    def place(item: RankedCause) -> None:
        if any(o.id == item.id for o in ordered):
            return
        above = parent.get(item.id, "")
        ordered.append(replace(item, beneath=above))
        for child in ranked:
            if parent.get(child.id) == item.id:
                place(child)

    for item in ranked:
        root = item.id
        seen = {root}
        while root in parent and parent[root] not in seen:
            root = parent[root]
            seen.add(root)
        place(next(r for r in ranked if r.id == root))
    for item in ranked:
        place(item)
    return tuple(ordered)


def _after(cause: RankedCause, effect: RankedCause) -> bool:
    return bool(effect.span and cause.span and effect.span.precedes(cause.span))


# --- words ------------------------------------------------------------------------------------


def _verdict(
    causes: Sequence[RankedCause],
    ranking: Ranking,
    findings: Sequence[Finding],
    run: Run,
    library: Library,
) -> Verdict:
    if causes and causes[0].probability >= POSSIBLE:
        return _verdict_of_cause(causes, findings, run)
    if not any(a.state in (ArtifactState.READ, ArtifactState.PARTIAL) for a in run.artifacts):
        reasons = sorted({a.reason for a in run.artifacts if a.reason})
        return Verdict(
            "unreadable",
            "None of the files here could be read.",
            lead="; ".join(reasons[:3]),
        )
    unchecked = sum(f.state is State.UNOBSERVABLE for f in findings)
    checked = len(findings) - unchecked
    by_name = {f.symptom: f for f in findings}
    open_ones = [
        s for s in (*ranking.unexplained, *_told(findings)) if _is_failure(library.symptoms[s])
    ]
    faults = [by_name[s] for s in open_ones if by_name[s].group == TROUBLE]
    if open_ones:
        strongest = (faults or [by_name[s] for s in open_ones])[0]
        said = (
            "A fault is seen, but its cause is not known" if faults else "No known cause is likely"
        )
        return Verdict(
            "unknown",
            f"{said}. Strongest symptom: {in_sentence(strongest.title)}.",
            lead=strongest.text,
            action="Add the files named under “What could not be checked” and diagnose again.",
        )
    unreached = [f"{a.path}: {a.reason}" for a in run.artifacts if a.reason.startswith(UNREAD)]
    if unreached or any(MORE_TIME in f.missing for f in findings):
        return Verdict(
            "unknown",
            f"No known failure found until a limit was reached: {len(unreached)} of "
            f"{len(run.artifacts)} files were not read, {unchecked} checks not made.",
            lead=next(iter(unreached), "The time limit was over before every check was made."),
            action="Diagnose again with a higher --timeout or --max-memory, or a part of the run.",
        )
    if unread := _unread(run):
        many = "1 file" if len(unread) == 1 else f"{len(unread)} files"
        curve = "" if _trained_visibly(run) else " No training curve was readable."
        return Verdict(
            "healthy",
            f"No known failure found in what could be read; {many} could not be read whole, and "
            f"{unchecked} of {len(findings)} checks could not be made.",
            lead="Not whole: "
            + "; ".join(f"{a.path} ({a.reason})" for a in unread[:3])
            + f".{curve}",
            action="Mend or add the files that could not be read and diagnose again.",
        )
    if not _trained_visibly(run):
        if run.fact("run.pasted") and checked < FEW_CHECKS:
            return Verdict(
                "unknown",
                f"Too little was pasted to tell: {checked} of {len(findings)} checks could be "
                "made.",
                lead="Nothing that was read shows a known failure, nor that the run is sound.",
                action="Add the log, the configuration and the script, and diagnose again.",
            )
        return Verdict(
            "healthy",
            "No known failure found, but there is no training curve long enough to judge: "
            f"{unchecked} of {len(findings)} checks could not be made.",
            lead=f"{checked} checks were made on what is here.",
        )
    return Verdict(
        "healthy",
        f"No known failure found; {unchecked} checks could not be made.",
        lead=f"{checked} checks were made; the likeliest cause stays below "
        f"{math.floor(max([0.04, *(c.probability for c in causes)]) * 100) + 1}%.",
    )


def _unread(run: Run) -> list[Artifact]:
    """Return the files that may matter and were not read: they cannot speak for the run's health.

    A file cut short is read up to there, but what was lost may have told of a failure.
    """
    return [
        artifact
        for artifact in run.artifacts
        if artifact.state in (ArtifactState.DAMAGED, ArtifactState.PARTIAL)
        or (artifact.state is ArtifactState.SKIPPED and artifact.reason.startswith(NOT_OPENED))
    ]


_SET_UP = ("config", "facts", "lora", "script")  # detectors of what somebody had chosen
_OUTCOMES = ("progress.", "merge.", "summary.", "adapter.")  # facts that a run leaves behind


def _is_failure(symptom: Symptom) -> bool:
    """Say whether a symptom tells of what happened, not only of what somebody had chosen."""
    return any(_tells_outcome(call) for call in calls_of(symptom.call))


def _tells_outcome(call: Call) -> bool:
    chosen = call.detector.partition(".")[0] in _SET_UP
    return not chosen or str(call.parameters.get("fact", "")).startswith(_OUTCOMES)


def _told(findings: Sequence[Finding]) -> list[str]:
    """Return the symptoms that the user has seen: a run that shows one is not called healthy."""
    return [
        f.symptom
        for f in findings
        if f.state is State.PRESENT and any(x.name.startswith("observed.") for x in f.facts)
    ]


def _verdict_of_cause(
    causes: Sequence[RankedCause], findings: Sequence[Finding], run: Run
) -> Verdict:
    top = causes[0]
    clause = (top.verdict or top.title).rstrip(".")
    if top.span is not None and "step" not in clause and _inside(top.span.step, run):
        vague = (top.span.within or 0) * 2 > top.span.step
        since = f"about step {top.span.step:,}" if vague else str(top.span)
        if run.fact("progress.global_step") is None and run.fact("log.rows_counted"):
            since = since.replace("step", "logged row")
        clause = f"{clause}, from {since} on"
    if top.probability >= STATED:
        text = f"{clause[:1].upper()}{clause[1:]}."
    else:
        hedge = "Probably" if top.probability >= PROBABLE else "Possibly"
        text = f"{hedge}: {in_sentence(clause)}."
    second = next((c for c in causes[1:] if c.probability >= PROBABLE and not c.beneath), None)
    lead = f"{_percent(top)} probability that “{top.title}” is a root cause."
    if second:
        lead += f" A second fault is likely too: “{second.title}” ({_percent(second)})."
    elif top.probability < STATED and (sign := _strongest(top, findings)):
        lead += f" Strongest symptom: {sign.text.rstrip('.')}."
    return Verdict("cause", text, lead=lead, action=_action(top, run, findings))


def _strongest(cause: RankedCause, findings: Sequence[Finding]) -> Finding | None:
    """Return the finding that speaks most for a cause."""
    speaking = {w.symptom: w.decibans for w in cause.weights if w.role == "for"}
    seen = [f for f in findings if f.symptom in speaking and f.state is State.PRESENT]
    return max(seen, key=lambda f: speaking[f.symptom], default=None)


def _percent(cause: RankedCause) -> str:
    return ">99%" if cause.probability > 0.995 else f"{cause.probability:.0%}"


def in_sentence(clause: str) -> str:
    """Return a clause as it goes on after a colon; an acronym or a name keeps its capitals."""
    first = clause.partition(" ")[0]
    lowered = first == first.capitalize() and first.isalpha()
    return clause[:1].lower() + clause[1:] if lowered else clause


def _inside(step: int, run: Run) -> bool:
    """Say whether a step lies within the training: only then does it tell when something began."""
    curve = run.series("loss") or run.series("reward")
    return curve is None or not len(curve) or int(curve.steps[0]) < step < int(curve.steps[-1])


def _action(top: RankedCause, run: Run, findings: Sequence[Finding]) -> str:
    look = ""
    if top.edit is None and (place := _place(top, findings)):
        look = f" See `{place}`."
    elif top.edit is None and (place := _own_frame(top, run, findings)):
        look = f" Raised at `{place}`."
    fix = _restart(top, run, findings) + (top.setting_fix or first_sentence(top.fix)) + look
    if top.probability >= PROBABLE or not top.next_check:
        return fix
    # A repair is not the first thing to do for a cause that may as well be another.
    confirm = first_sentence(top.next_check).rstrip(".")
    return f"Confirm it: {in_sentence(confirm)}. If so: {in_sentence(fix)}"


def _place(top: RankedCause, findings: Sequence[Finding]) -> str:
    """Return the line of code or configuration that speaks most for a cause, "" without one."""
    weight = {w.symptom: w.decibans for w in top.weights if w.role in ("for", "risk")}
    seen = [f for f in findings if weight.get(f.symptom, 0) > 0 and f.state is State.PRESENT]
    places = (
        str(fact.where)
        for finding in sorted(seen, key=lambda f: -weight[f.symptom])
        for fact in finding.facts
        if fact.where.line is not None and fact.where.path.endswith(_WRITTEN_BY_HAND)
    )
    return next(places, "")


def _own_frame(top: RankedCause, run: Run, findings: Sequence[Finding]) -> str:
    """Return the line of the run's own script at which the exception was raised, if one tells."""
    speaking = _speaking(top)
    raised = {str(x.where) for f in findings if f.symptom in speaking for x in f.facts}
    for row in run.events.iter_rows(named=True):
        frame = re.search(r'^  File "(?:.*/)?([^"/]+)", line (\d+)', row["text"] or "", re.M)
        if row["kind"] == "traceback" and frame and f"{row['path']}:{row['line']}" in raised:
            script = next((p for p in sorted(run.texts) if p.rsplit("/", 1)[-1] == frame[1]), "")
            return f"{script}:{frame[2]}" if script else ""
    return ""


def _restart(top: RankedCause, run: Run, findings: Sequence[Finding]) -> str:
    """Say from where to go on, if a fault that began during training left checkpoints behind."""
    saved = _checkpoint_before(top, run, findings)
    if saved:
        return f"Restart from the checkpoint of step {saved:,}, after this change. "
    damaging = top.severity in (Severity.HIGH, Severity.CRITICAL) and top.stage in _LATE_STAGES
    if not damaging or not _checkpoint_steps(run) or top.span is None or not top.span.within:
        return ""
    first = min(span.step for span in (top.span, *_onsets(top, findings)))
    return (
        f"Start again from the base model: no checkpoint is older than the damage of step "
        f"{first:,}. "
    )


def _checkpoint_before(cause: RankedCause, run: Run, findings: Sequence[Finding]) -> int | None:
    """Return the last checkpoint that is older than every onset of a cause's evidence.

    None if the fault was there from the first step on, as it is with wrong data or templates.
    """
    if cause.span is None or cause.span.last_good is None or cause.stage not in _LATE_STAGES:
        return None
    good = min(cause.span.last_good, cause.span.step - 1)
    good = min([good, *(span.step - 1 for span in _onsets(cause, findings))])
    return max((s for s in _checkpoint_steps(run) if s <= good), default=None)


def _checkpoint_steps(run: Run) -> list[int]:
    fact = run.fact("checkpoint.steps")
    return [s for s in fact.value if isinstance(s, int) and s > 0] if fact else []


def _speaking(cause: RankedCause) -> set[str]:
    """Return the symptoms that speak for a cause."""
    return {w.symptom for w in cause.weights if w.role == "for" and w.decibans > 0}


def _onsets(cause: RankedCause, findings: Sequence[Finding]) -> list[Span]:
    """Return when what speaks for a cause began, as far as that is known."""
    speaking = _speaking(cause)
    return [
        f.span
        for f in findings
        if f.symptom in speaking and f.state is State.PRESENT and f.span and f.span.within
    ]


def first_sentence(text: str) -> str:
    """Return the first sentence of a paragraph; a stop in code or in brackets ends none."""
    flat = " ".join(text.split())
    plain = flat
    for whole in (r"`[^`]*`", r"\([^()]*\)"):
        plain = re.sub(whole, lambda inner: "x" * len(inner[0]), plain)
    end = next(
        (i for i, c in enumerate(plain) if c in ".;" and plain[i + 1 : i + 2] in (" ", "")), -1
    )
    return (flat if end < 0 else flat[:end]) + "."


# --- the rest of the page ---------------------------------------------------------------------


def _unchecked(findings: Sequence[Finding], library: Library) -> tuple[Unchecked, ...]:
    bearing: dict[str, list[str]] = {}
    for cause in library.causes.values():
        for symptom in (*cause.shows, *cause.risk):
            bearing.setdefault(symptom, []).append(cause.id)
    found = [
        Unchecked(f.symptom, f.title, f.missing, tuple(bearing.get(f.symptom, ())))
        for f in findings
        if f.state is State.UNOBSERVABLE
    ]
    return tuple(sorted(found, key=lambda u: (u.missing, -len(u.causes), u.symptom)))


def _timeline(
    run: Run, causes: Sequence[RankedCause], findings: Sequence[Finding]
) -> tuple[Moment, ...]:
    """Return what happened in order: events, onsets of evidence, first and last logged step."""
    moments = [
        Moment(
            row["step"],
            row["time"],
            _event(row["kind"], row["text"]),
            Where(row["path"], line=row["line"]) if row["path"] else None,
            str(row["kind"]),
        )
        for row in run.events.iter_rows(named=True)
        if row["kind"] in ("resumed", "started", "finished", "killed", "traceback", "exit")
    ][-6:]
    telling = {
        w.symptom for c in causes if c.probability >= POSSIBLE for w in c.weights if w.role == "for"
    }
    for finding in findings:
        if finding.span and finding.symptom in telling and finding.state is State.PRESENT:
            where = finding.facts[0].where if finding.facts else None
            within = finding.span.within or 0
            told = finding.title + (f" (± {within:,} steps)" if within > 1 else "")
            moments.append(Moment(finding.span.step, finding.span.time, told, where, "onset"))
    saved = _checkpoint_before(causes[0], run, findings) if causes else None
    if saved:
        moments.append(Moment(saved, None, "Last checkpoint before the onset", None, "checkpoint"))
    loss = run.series("loss") or run.series("reward")
    if loss is not None and len(loss):
        moments.append(Moment(int(loss.steps[0]), None, "First logged step", loss.where(0), "log"))
        moments.append(Moment(int(loss.steps[-1]), None, "Last logged step", loss.where(-1), "log"))
    unique = list(dict.fromkeys(moments))
    unique.sort(key=lambda m: (m.step is None, m.step or 0, m.kind != "log"))
    return tuple(unique[:TIMELINE_ROWS])


def _event(kind: str, text: str) -> str:
    """Return an event in a line; a trainer's closing figures are told as what they mean.

    Of a traceback the exception and the user's own frame stay: the reader puts them first.
    """
    if kind == "traceback":
        return "\n".join(line[:160] for line in text.splitlines()[:3])
    return (
        "Training finished" if kind == "finished" and text.lstrip().startswith("{") else text[:160]
    )


def _curves(
    run: Run, causes: Sequence[RankedCause], findings: Sequence[Finding]
) -> tuple[Curve, ...]:
    """Return the curves that a report may plot: proof of the top causes first, then the rest."""
    by_name = {f.symptom: f for f in findings}
    wanted: list[str] = []
    for cause in causes[:3]:
        for weight in cause.weights:
            if weight.role == "for" and weight.symptom in by_name:
                wanted += by_name[weight.symptom].curves
    wanted += ["loss", "eval/loss", "grad_norm", "learning_rate", "reward", "kl", "entropy",
               "completions/mean_length"]  # fmt: skip
    found = []
    for name in dict.fromkeys(wanted):
        split, metric = ("eval", name[5:]) if name.startswith("eval/") else ("train", name)
        series = run.series(metric, split)
        if series is not None and len(series) > 1:
            found.append(thin(series))
    intended = intended_rate(run)
    return (*found, intended) if intended else tuple(found)


def summarise(run: Run) -> RunSummary:
    """Return the run in one line."""

    def text(*names: str) -> str:
        found: Fact | None = next((f for n in names if (f := run.known(n))), None)
        return str(found.value) if found and isinstance(found.value, str | int | float) else ""

    def integer(name: str) -> int | None:
        found = run.fact(name)
        return int(found.value) if found and isinstance(found.value, int | float) else None

    adapter = run.setting("lora.r")
    kind = text("run.kind")
    method = " ".join(p for p in (f"LoRA r={adapter.value}" if adapter else "", kind) if p)
    versions = {
        name.removeprefix("environment.package."): str(facts[0].value)
        for name, facts in run.facts.items()
        if name.startswith("environment.package.")
        and name.rsplit(".", 1)[-1] in ("torch", "transformers", "trl", "peft", "accelerate")
    }
    times = run.metrics["time"].drop_nulls() if run.metrics.height else None
    others = run.fact("run.others")
    return RunSummary(
        name=run.name,
        model=text("model_name_or_path", "lora.base_model", "model.type"),
        method=method,
        trainer=text("run.trainer"),
        steps_done=integer("progress.global_step"),
        steps_planned=integer("progress.max_steps"),
        started=float(times[0]) if times is not None and len(times) else None,
        ended=float(times[-1]) if times is not None and len(times) else None,
        ending=_ending(run),
        versions=versions,
        chosen=others.where.path if others else "",
        others=tuple(others.value) if others else (),
    )


def _ending(run: Run) -> str:
    finished = run.fact("progress.finished")
    if finished and finished.value:
        return "finished"
    for row in reversed(run.events.rows(named=True)):
        if row["kind"] == "traceback":
            return "crashed"
        if row["kind"] in ("killed", "finished"):
            return str(row["kind"])
    return ""


def _trained_visibly(run: Run) -> bool:
    series = [run.series(n) for n in ("loss", "reward")]
    return any(s is not None and len(s) >= 5 for s in series)


def _input_digest(run: Run) -> str:
    digest = hashlib.sha256()
    for artifact in sorted(run.artifacts, key=lambda a: a.path):
        digest.update(f"{artifact.path}\0{artifact.digest}\n".encode())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    from ftdoctor import __version__

    return {"ftdoctor": __version__, "python": platform.python_version()}
