"""What the user has seen of the model and told: outcomes that no file of a run holds."""

from __future__ import annotations

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.model import Observation, Run


@detector("observed.told")
def told(run: Run, *, outcome: str) -> Observation:
    """Find that the user told an outcome (`--observed`), or told that it does not happen."""
    fact = run.fact(f"observed.{outcome}")
    if fact is None:
        return unobservable(
            "Nobody has told whether this is so", f"your own test (tell it: --observed {outcome})"
        )
    if fact.value:
        how = f"--observed {outcome}" if fact.where.path.startswith("--") else str(fact.where)
        return present(f"You have seen it (`{how}`)", fact)
    return absent(f"You have seen that it is not so (`--observed not:{outcome}`)", fact)
