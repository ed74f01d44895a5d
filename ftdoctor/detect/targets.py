"""Detectors of targets that a script cuts where it encodes them apart from the inputs."""

from __future__ import annotations

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import no_rows, of_split
from ftdoctor.model import Observation, Run


@detector("targets.cut_by_script")
def cut_by_script(run: Run, *, share: float) -> Observation:
    """Find a limit on the target's tokens below the words of more than `share` of the answers.

    A tokenizer makes a token or more of each word, so that words are the fewest there can be.
    """
    limit = run.fact("script.train.target_limit")
    if limit is None or not isinstance(limit.value, int):
        return unobservable("No limit of the targets was found in a script", "training script")
    answers = of_split(run, "train")["response"].drop_nulls()
    if not len(answers):
        return no_rows("train")
    longer = sum(len(str(a).split()) > limit.value for a in answers)
    text = (
        f"{longer:,} of {len(answers):,} answers have more words than the {limit.value} tokens at "
        f"which targets are cut ({limit.where})"
    )
    return (present if longer > share * len(answers) else absent)(text, limit)
