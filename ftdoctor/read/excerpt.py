"""A few lines that someone chose out of a log, with the words and the code that they put around.

Who pastes an excerpt has picked the rows that show the trouble: one row stands for many, and the
order of the lines is theirs. Prose in it is the user's word on the model, as with `--observed`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ftdoctor.model import Fact, Where

if TYPE_CHECKING:
    from ftdoctor.read.curve import Point
    from ftdoctor.read.items import Item
    from ftdoctor.read.reading import Line

MOST_BYTES, MOST_ROWS = 4_096, 5  # judgement: what people quote in a ticket

_NOT = (
    r"(?:do(?:es)?\s?n[o']?t|doesnt|not|never|won'?t|will not|cannot|can'?t|fails? to|refuses? to)"
)
_SAY = r"(?:output|generat|produc|answer|respon|talk|writ|return|speak)"
_SAYS = r"(?:outputs?|returns?|generates?|produces?|answers?)"
_BAD = r"(?:gibberish|garbage|nonsense|garbled|rubbish|random (?:tokens|words|characters))"
# What people write of a model, by the outcome that it tells (`ftdoctor explain --observations`).
PHRASES: dict[str, re.Pattern[str]] = {
    outcome: re.compile(f"(?i){pattern}")
    for outcome, pattern in {
        "never-stops": rf"\b{_NOT} (?:seem to |know when to )?(?:stop|end)\b(?! (?:early|train))"
        r"|\bkeeps? (?:on )?(?:generating|going|producing)|\bgoes on (?:until|generating|forever)"
        rf"|\b{_NOT} (?:produces?|emits?|outputs?|generates?|predicts?) (?:the |an |any )?"
        r"(?:eos|end.of|stop token|</s>|<\|)"
        r"|\b(?:endless|infinite|never.ending)(?:ly)? (?:generat|output|text|loop)"
        r"|\bgenerat\w+ (?:\w+ ){0,3}(?:until|up to) (?:\w+ ){0,3}\W?max",
        "repeats-itself": r"\brepeat(?:s|ing) (?:itself|the same|forever|over)"
        r"|\brepetitive (?:out|ans|t)",
        "gguf-broken": rf"\b(?:gguf|ollama|llama\.?cpp)\b.{{0,120}}\b{_BAD}"
        rf"|\b{_BAD}\b.{{0,60}}\b(?:gguf|ollama|llama\.?cpp)\b",
        "gibberish": rf"\b{_SAY}\w*\b.{{0,30}}\b{_BAD}",
        "empty-answers": rf"\b{_SAYS} (?:is |are |with )?(?:nothing|empty|blank|an empty)",
        "same-as-base": r"\b(?:same|identical(?:ly)?) (?:as|to|like) "
        r"(?:the )?(?:base|original|pre-?trained)"
        r"|\bno (?:effect|difference|change)\b.{0,40}\b(?:base|original|fine-?tun)",
        "always-the-same-answer": r"\balways (?:predict|output|return|answer|generat)\w* the same",
        "echoes-prompt": r"\b(?:repeats?|echo(?:e?s)?|copies) (?:back )?"
        r"(?:the|my) (?:prompt|question|input)",
    }.items()
}
_PADS_WITH_EOS = re.compile(r"\bpad_token\s*=\s*[\w.]*\beos_token\b")
_SPECIAL = re.compile(r"special_tokens=(\{[^{}]*\})")
_TOKEN = re.compile(r"['\"]((?:bos|eos|pad|unk)_token)['\"]\s*:\s*['\"]([^'\"]*)['\"]")


def is_excerpt(points: Sequence[Point], items: Sequence[Item]) -> bool:
    """Say whether all that there is of a run is a short text with a handful of rows."""
    if len(items) != 1 or items[0].artifact.kind != "console":
        return False
    rows = {point.line for point in points}
    return items[0].artifact.size <= MOST_BYTES and len(rows) <= MOST_ROWS


def told_facts(item: Item) -> Iterator[Fact]:
    """Yield what the prose and the code in an excerpt say, each once."""
    for outcome, pattern in PHRASES.items():
        line = next((each for each in item.reading.lines if pattern.search(each.text)), None)
        if line is not None:
            yield Fact(f"observed.{outcome}", True, _where(item, line))
    for line in item.reading.lines:
        if _PADS_WITH_EOS.search(line.text):
            yield Fact("script.train.pad_token", "eos_token", _where(item, line))
            return


def printed_tokenizer(items: Iterable[Item]) -> Iterator[Fact]:
    """Yield the special tokens of the first tokenizer that a script printed into its log."""
    for item in items:
        for line in item.reading.lines:
            found = _SPECIAL.search(line.text)
            if found:
                for name, value in _TOKEN.findall(found[1]):
                    yield Fact(f"tokenizer.{name}", value, _where(item, line))
                return


def _where(item: Item, line: Line) -> Where:
    return Where(item.artifact.path, line=line.line or None)
