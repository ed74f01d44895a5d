"""Examine one run: diagnose it, keep what a fleet needs of the diagnosis, and what it shares."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftdoctor.codec import encode
from ftdoctor.errors import FtdoctorError, UnreadableRunError
from ftdoctor.fleet.record import FAILED, Ask, Place, Record
from ftdoctor.model import Curve, Diagnosis, Library, Run, State, Verdict

if TYPE_CHECKING:
    from ftdoctor.discover import Discovery
    from ftdoctor.redact import Redactor

CURVES = 2  # curves kept of a diagnosis
POINTS = 160  # points kept of a curve
FACTS = 3  # facts kept of a finding
MECHANISM = 600  # characters kept of a cause's prose: `ftdoctor explain` has all of it
CAUSES = 5  # causes kept in full


def examine(place: Place, ask: Ask, known: str = "") -> Record:
    """Return what became of one run; never raises for what the run holds.

    `known` is the input digest of its last record: if the content still has it, the answer is
    only that (`reuse`).
    """
    started = time.perf_counter()
    try:
        record = _examine(place, ask, known)
    except UnreadableRunError as error:
        record = Record(place, "unreadable", _one_line(error))
    except FtdoctorError as error:
        record = Record(place, FAILED, _one_line(error), lasting=False)
    except MemoryError:
        record = Record(place, FAILED, "needs more memory than the limit for one run")
    except Exception as error:  # a defect of ours in one run must not cost the others
        record = Record(place, FAILED, f"internal error: {type(error).__name__}: {error}"[:300])
    return replace(record, seconds=time.perf_counter() - started)


def _examine(place: Place, ask: Ask, known: str) -> Record:
    from ftdoctor.diagnose import Options, diagnose_run, gather, with_given
    from ftdoctor.fleet.factors import factors_of

    library = _library(ask.signatures)
    if ask.digest and library.digest != ask.digest:
        raise FtdoctorError(
            "this worker has other signatures than the caller: install the same version and let it "
            "see the folders given by --signatures"
        )
    if known and _content_digest(place) == known:
        return Record(place, "", input_digest=known, reuse=True)
    options = Options(choose=place.choose, now=ask.now, price=ask.price)
    if place.only:
        run = with_given(_read_only(place), options)
    else:
        run = gather(place.path, options, library)
    diagnosis = diagnose_run(run, library)
    html = ""
    if ask.report:
        from ftdoctor.render.html import render_html

        html = render_html(diagnosis)
    verdict = diagnosis.verdict
    return Record(
        place=place,
        kind=verdict.kind,
        reason=_unreadable(verdict) if verdict.kind == "unreadable" else "",
        diagnosis=reduced(diagnosis),
        absent=tuple(f.symptom for f in diagnosis.findings if f.state is State.ABSENT),
        factors=factors_of(run),
        input_digest=diagnosis.input_digest,
        html=html,
    )


def _unreadable(verdict: Verdict) -> str:
    return f"{verdict.text.rstrip('.')}: {verdict.lead}"[:400] if verdict.lead else verdict.text


@lru_cache(maxsize=4)
def _library(signatures: tuple[str, ...]) -> Library:
    from ftdoctor.library import load

    return load(tuple(Path(place) for place in signatures))


def _read_only(place: Place) -> Run:
    """Read some files of a local folder that holds logs of several runs."""
    from ftdoctor.read.assemble import assemble
    from ftdoctor.read.items import read_items
    from ftdoctor.redact import Redactor

    redactor = Redactor()
    discovery = _discovered(place, redactor)
    return assemble(discovery, read_items(discovery.found, redactor), redactor)


def _discovered(place: Place, redactor: Redactor) -> Discovery:
    """Return the files of a place under the names by which they are read."""
    from ftdoctor.discover import Discovery, discover
    from ftdoctor.kinds import Found, classify
    from ftdoctor.read.items import clean_paths
    from ftdoctor.read.source import local_source

    if not place.only:
        return clean_paths(discover(place.path, choose=place.choose), redactor)
    root = Path(place.path)
    sources = [local_source(root, root / name) for name in place.only]
    found = tuple(Found(source, classify(source)) for source in sources)
    return clean_paths(Discovery(f"{place.path}/{place.only[0]}", found), redactor)


def _content_digest(place: Place) -> str:
    """Return the input digest that a diagnosis of this place would have, without making it."""
    import hashlib

    from ftdoctor.redact import Redactor

    discovery = _discovered(place, Redactor())
    named = [(source.path, source.digest()) for source in discovery.sources]
    named += [(artifact.path, artifact.digest) for artifact in discovery.skipped]
    digest = hashlib.sha256()
    for path, content in sorted(named):
        digest.update(f"{path}\0{content}\n".encode())
    return digest.hexdigest()


def reduced(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as plain data of some 20 kB; `Diagnosis.from_json` reads it.

    Findings that are not there or could not be made, long curves and long prose are left out.
    """
    present = [f for f in diagnosis.findings if f.state is State.PRESENT]
    kept = replace(
        diagnosis,
        causes=tuple(
            replace(c, mechanism=c.mechanism[:MECHANISM]) for c in diagnosis.causes[:CAUSES]
        ),
        advice=(),
        findings=tuple(replace(f, facts=f.facts[:FACTS]) for f in present),
        unchecked=(),
        curves=tuple(_thinned(curve) for curve in diagnosis.curves[:CURVES]),
        panels=tuple(p for p in diagnosis.panels if p.kind == "cost"),
    )
    plain = encode(kept, sparse=True)
    assert isinstance(plain, dict)
    return plain


def _thinned(curve: Curve) -> Curve:
    """Keep every n-th point and the last, to five digits: enough for a line as wide as a word."""
    step = max(1, -(-len(curve.values) // POINTS))
    index = sorted({*range(0, len(curve.values), step), len(curve.values) - 1})
    return replace(
        curve,
        steps=tuple(curve.steps[i] for i in index),
        values=tuple(float(f"{curve.values[i]:.5g}") for i in index),
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
