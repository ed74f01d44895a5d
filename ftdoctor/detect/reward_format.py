"""Detector of a reward that looks for a format of which no prompt speaks."""

from __future__ import annotations

import re

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import of_split
from ftdoctor.model import Fact, Observation, Run, Where

LOOKED_AT = 200  # prompts
_REWARD = re.compile(r"\bdef \w+\([^)]*\bcompletions\b|reward_funcs?\s*=")
_PATTERN = re.compile(
    r"""\bre\.(?:search|match|fullmatch|findall|compile)\(\s*[rRfFbB]{0,2}(["']{3}|["'])(.+?)\1"""
)
_MARK = re.compile(r"<[A-Za-z_]\w{2,}>|boxed|#{3,}")


@detector("reward_format.never_asked")
def never_asked(run: Run) -> Observation:
    """Find a mark (`<answer>`, `boxed`, `####`) in a reward's pattern that no prompt mentions.

    A prompt is any other text of the scripts, and the prompts of the rows.
    """
    scripts = {p: t for p, t in run.texts.items() if p.endswith(".py") and _REWARD.search(t)}
    if not scripts:
        return unobservable("No script with a reward function was found", "training script")
    marks = {
        mark.group(): Where.in_text(path, text, found.start())
        for path, text in scripts.items()
        for found in _PATTERN.finditer(text)
        for mark in _MARK.finditer(found[2])
    }
    if not marks:
        return absent("No reward function looks for a mark around the answer")
    prompts = of_split(run, "train")["record"].drop_nulls().head(LOOKED_AT).to_list()
    if not prompts:
        return unobservable("No prompts were found", "training prompts")
    others = [_PATTERN.sub("", text) for text in run.texts.values()] + prompts
    unasked = [mark for mark in marks if not any(mark in text for text in others)]
    name = next(iter(unasked or marks))
    if not unasked:
        return absent(f"`{name}`, which the reward looks for, is spoken of elsewhere")
    said = f"the reward looks for `{name}`, which no prompt and no other text asks for"
    return present(f"{marks[name]}: {said}", Fact("script.reward", name, marks[name]))
