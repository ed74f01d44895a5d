"""Detector of a script that takes an adapter off again and saves what is left as the result."""

from __future__ import annotations

import re

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.model import Fact, Observation, Run, Where

_ADAPTED = re.compile(r"\b(?:PeftModel|AutoPeftModel\w*|get_peft_model)\b")
_MERGES = re.compile(r"\b(?:merge_and_unload|merge_adapter|save_pretrained_merged|merge_lora\w*)\b")
_TAKEN_OFF = re.compile(
    r"(?m)^[^#\n]*?(?:\b(?P<name>\w+)\s*=\s*)?[\w.]+\.(?P<call>unload|get_base_model)\(\s*\)"
)


@detector("merging.saves_without_merge")
def saves_without_merge(run: Run) -> Observation:
    """Find a script that merges nothing and saves what `unload` or `get_base_model` gave back.

    `PeftModel.unload` removes the adapter and leaves the weights as they were.
    """
    scripts = {p: t for p, t in run.texts.items() if p.endswith(".py") and _ADAPTED.search(t)}
    if not scripts:
        return unobservable("No script that loads an adapter was found", "script of the export")
    for path, text in scripts.items():
        if _MERGES.search(text):
            continue
        for found in _TAKEN_OFF.finditer(text):
            after = text[found.end() :]
            chained = after.startswith(".save_pretrained(")
            named = found["name"] and re.search(rf"\b{found['name']}\.save_pretrained\(", after)
            if chained or named:
                place = Where.in_text(path, text, found.start("call"))
                said = f"`{found['call']}()` gives the model without its adapter, and that is saved"
                return present(f"{place}: {said}", Fact("script.merge", found["call"], place))
    return absent("No script saves a model whose adapter was taken off unmerged")
