"""The nouns of a triage: where a run lies, what is asked of it, and what became of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ftdoctor.redact import Redactor, encodable

FAILED = "failed"  # beside the kinds of a verdict: the run could not be diagnosed at all


@dataclass(frozen=True, slots=True)
class Place:
    """A run beneath a root: its folder, file or address.

    `choose` names one of several runs in one folder; `only` are the files of a run that lies in
    one folder with others' files. `stamp` digests names, sizes and times of its files; `modified`
    is the newest of the times (Unix seconds). `known_as` is the id of a place
    whose path was changed.
    """

    path: str
    choose: str = ""
    only: tuple[str, ...] = ()
    stamp: str = ""
    modified: float | None = None
    known_as: str = ""

    @property
    def part(self) -> str:
        """Return what tells this run from others in its folder, "" if it is the only one."""
        return self.choose or "".join(self.only[:1])

    @property
    def id(self) -> str:
        """Return a digest of path and part, which tells this run from all others."""
        named = f"{self.path}#{self.part}".encode("utf-8", "surrogateescape")
        return self.known_as or hashlib.sha256(named).hexdigest()[:32]

    def without_keys(self) -> Place:
        """Return the place as it may be written down: a path can hold keys, or bytes of no text."""

        def clean(text: str) -> str:
            return Redactor().clean_keys(encodable(text))

        return replace(
            self,
            path=clean(self.path),
            choose=clean(self.choose),
            only=tuple(clean(name) for name in self.only),
            known_as=self.id,
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of every run: further signatures, the library's digest, price, HTML report.

    `signatures` are files or folders that every worker sees; a worker whose library has another
    digest refuses. `now` is the time (Unix seconds) by which expiry is judged.
    """

    signatures: tuple[str, ...] = ()
    digest: str = ""
    price: float | None = None
    report: bool = False
    now: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one run may take: seconds of wall time, bytes of memory."""

    seconds: float = 300.0
    memory: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one run: a reduced diagnosis as plain data, and what groups it with others.

    `kind` is the verdict's (cause, unknown, healthy, unreadable) or `failed`, with the reason.
    `absent` are symptoms that were looked for and not there; `factors` are categorical facts, by
    name; `lasting` is false where another try could end differently (a lost worker). `reuse` says
    that the content is that of the record before, which stays in force. `html` is the run's
    report if it was asked for; it is not stored.
    """

    place: Place
    kind: str
    reason: str = ""
    seconds: float = 0.0
    diagnosis: Mapping[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    factors: Mapping[str, str] = field(default_factory=dict)
    input_digest: str = ""
    lasting: bool = True
    limits: Limits | None = None
    reuse: bool = False
    report: str = ""
    html: str = ""

    def without_keys(self) -> Record:
        """Return the record as it may be written down."""
        reason = Redactor().clean_keys(encodable(self.reason))
        return replace(self, place=self.place.without_keys(), reason=reason)

    def to_json(self) -> dict[str, Any]:
        """Return one line of `ftdoctor-triage.jsonl`: the diagnosis, and the rest as `triage`."""
        own = {
            "place": asdict(self.place),
            "kind": self.kind,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
            "absent": list(self.absent),
            "factors": dict(self.factors),
            "lasting": self.lasting,
            "report": self.report,
        }
        if self.limits is not None:
            own["limits"] = asdict(self.limits)
        return {**self.diagnosis, "input_digest": self.input_digest, "triage": own}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Rebuild a record from `to_json`'s data; KeyError or TypeError if it is none."""
        own = data["triage"]
        place = own["place"]
        limits = own.get("limits")
        return cls(
            place=Place(**{**place, "only": tuple(place["only"])}),
            kind=str(own["kind"]),
            reason=str(own["reason"]),
            seconds=float(own["seconds"]),
            diagnosis={k: v for k, v in data.items() if k != "triage"},
            absent=tuple(own["absent"]),
            factors=dict(own["factors"]),
            input_digest=str(data["input_digest"]),
            lasting=bool(own["lasting"]),
            limits=Limits(**limits) if limits else None,
            report=str(own["report"]),
        )
