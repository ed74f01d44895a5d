"""Detector on a training configuration of any trainer that names no model at all."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.wording import said
from ftdoctor.families import find_family
from ftdoctor.model import Fact, Observation, Run

# What trainers call the weights that they start from: torchtune's `checkpointer.checkpoint_dir`,
# OpenRLHF's `pretrain`, H2O's `llm_backbone`, NeMo's `restore_from_path`, Megatron's `load`, and
# the word for a model in the European languages.
_NAMES_WEIGHTS = re.compile(
    r"model|mod[eè]l|checkpoint|ckpt|pretrain|backbone|weights|restore|init_from"
    r"|(?:^|[._])(?:load(?:_from|_path|_dir)?|base|llm|lm|arch\w*|network|policy|actor|student"
    r"|hf_path|_component_)$",
    re.IGNORECASE,
)
# Where weights go to, what is said of a model without naming one, and models beside it.
_NAMES_ANOTHER = re.compile(
    r"save|output|out_dir|dtype|best_model|metric|max_len|parallel|teacher|reward|judge|ref_model"
    r"|dataset|run_name|project|loss|optim|scheduler|tokenizer",
    re.IGNORECASE,
)


@detector("unnamed.model")
def model(run: Run, *, known_if: list[str]) -> Observation:
    """Find that the settings of a training (`known_if` lists some) name nothing to be trained.

    Any key that may mean weights to start from counts, and any value that names a model family:
    a trainer's own word for it must not be taken for a gap.
    """
    if (pasted := run.fact("run.pasted")) is not None:
        return unobservable(f"{pasted.where} need not show the model", "training configuration")
    witness = next((f for name in known_if if (f := run.known(name)) is not None), None)
    if witness is None:
        return unobservable("No training settings were found", "training configuration")
    found = next(_named(run), None)
    if found is not None:
        return absent(said(found), found)
    text = f"the model is named nowhere, though `{witness.name}` is given in {witness.where}"
    return present(text, witness)


def _named(run: Run) -> Iterator[Fact]:
    """Yield settings whose name or value stands for a model."""
    for name, facts in run.settings.items():
        for fact in () if _NAMES_ANOTHER.search(name) else facts:
            if not isinstance(fact.value, str) or not fact.value.strip():
                continue
            if _NAMES_WEIGHTS.search(name) or find_family(fact.value) is not None:
                yield fact
