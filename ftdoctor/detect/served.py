"""Detector on configuration files that use the trained model in another format than training."""

from __future__ import annotations

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.families import families, find_family
from ftdoctor.model import Fact, Observation, Run

_CONFIGURATIONS = "configuration of training and of inference"
_SETTINGS = ("template", "chat_template")


@detector("served.template_differs", of_text=True)
def template_differs(run: Run) -> Observation:
    """Find that a configuration for inference or export names another template than training's.

    Templates of the same format under two names (`llama3` and `llama31`) are one.
    """
    uses = {fact.where.path for fact in run.facts.get("config.use", ())}
    named = [
        fact
        for name in _SETTINGS
        for fact in run.settings.get(name, ())
        if isinstance(fact.value, str) and "{" not in fact.value
    ]
    trained = next((fact for fact in named if fact.where.path not in uses), None)
    served = next((fact for fact in named if fact.where.path in uses), None)
    if trained is None or served is None:
        return unobservable("No two configurations name the template", _CONFIGURATIONS)
    models = {_family(run, fact.where.path) for fact in (trained, served)}
    if len(models - {""}) > 1:
        return unobservable(
            f"{served.where.path} is for another model than training", _CONFIGURATIONS
        )
    said = f"training has `{trained.value}` ({trained.where}), inference `{served.value}`"
    text = f"{said} ({served.where})"
    if trained.value == served.value:
        return absent(text, trained, served)
    one, other = _formats(trained), _formats(served)
    if not one or not other:
        return unobservable(f"{text}: one of the two is not known", "the templates' source")
    if one & other:
        return absent(f"{text}: of one format", trained, served)
    return present(text, served, trained)


def _family(run: Run, path: str) -> str:
    """Return the family of the model that a file names, "" if it names none that is known."""
    named = (f for f in run.settings.get("model_name_or_path", ()) if f.where.path == path)
    found = next((find_family(str(fact.value)) for fact in named), None)
    return found.id if found is not None else ""


def _formats(fact: Fact) -> set[str]:
    """Return the formats of the families that call one of theirs so."""
    name = str(fact.value).lower()
    return {form for family in families() if name in family.templates for form in family.formats}
