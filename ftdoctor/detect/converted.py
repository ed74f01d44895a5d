"""Detector on logs of converters: which folder became the GGUF, the merged model or its base."""

from __future__ import annotations

import re

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.log import log_of
from ftdoctor.detect.wording import shown
from ftdoctor.model import Observation, Run

# llama.cpp: convert_hf_to_gguf.py
_LOADS = [r"hf-to-gguf:Loading model: \S"]
_NAME = re.compile(r"hf-to-gguf:Loading model: (.+?)\s*$")
_LOG = "log of convert_hf_to_gguf.py"


@detector("converted.base_for_merged")
def base_for_merged(run: Run) -> Observation:
    """Find that a converter was given the very folder that the adapter names as its base.

    An adapter that is served beside it (its own GGUF, `ADAPTER` in a Modelfile) needs no merge.
    """
    found = log_of(run).find(_LOADS)
    named = run.fact("adapter.base_model_name_or_path")
    if not found or named is None:
        return unobservable("No log of a converter beside an adapter was found", _LOG)
    if (beside := run.fact("modelfile.adapter")) is not None:
        return absent("The adapter is served beside its base", beside)
    if run.fact("gguf.adapter_type") is not None or log_of(run).find([r"lora-to-gguf:"]):
        return absent("The adapter was converted by itself", found[0].fact)
    loaded = [m[1] for text in found if (m := _NAME.search(text.text))]
    base = _last(str(named.value))
    text = f"the converter loaded {shown(loaded[-1]) if loaded else 'nothing'}"
    if loaded and all(_last(name) == base for name in loaded):
        said = f"{text}, which the adapter names as its base ({named.where})"
        return present(said, found[-1].fact, named)
    return absent(f"{text}; the adapter's base is {shown(base)}", found[-1].fact)


def _last(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].casefold()
