"""A few lines that someone chose out of a log, with the words and the code that they put around.

Who pastes an excerpt has picked the rows that show the trouble: one row stands for many, and the
order of the lines is theirs. Prose in it is the user's word on the model, as with `--observed`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ftdoctor.model import Fact, Where
from ftdoctor.read.prose import Said, asks

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
_BASE = r"(?:base|original|pre-?trained|un-?tuned|vanilla|plain|stock)"
_ADAPTER = r"(?:adapter|lora|fine-?tun\w*)"
_MAX = r"max[_ ](?:new[_ ])?(?:tokens|length)"
_TURN = r"\W{0,6}(?:user|human|question|instruction|prompt|frage)"
# What people write of a model in English, German and Chinese, by the outcome that it tells
# (`ftdoctor explain --observations`).
PHRASES: dict[str, re.Pattern[str]] = {
    outcome: re.compile("(?i)" + "|".join(patterns))
    for outcome, patterns in {
        "never-stops": (
            rf"\b{_NOT} (?:seem to |know when to )?(?:stops?|ends?)\b(?! (?:early|train))",
            r"\bkeeps? (?:on )?(?:generating|going|producing|talking|writing)\b",
            r"\b(?:goes|rambles|babbles) on (?:and on|until|generating|for ?ever|endlessly)",
            r"\b(?:rambles|babbles) (?:for ?ever|endlessly)",
            rf"\b{_NOT} (?:produces?|emits?|outputs?|generates?|predicts?) (?:the |an |any )?"
            r"(?:eos|end.of|stop token|</s>|<\|)",
            r"\b(?:endless|infinite|never.ending)(?:ly)? (?:generat|output|text|loop)",
            r"\bgenerat\w+ (?:\w+ ){0,3}(?:until|up to) (?:\w+ ){0,3}\W?max",
            rf"\b(?:until|bis(?: zu)?) (?:\w+ ){{0,3}}`?{_MAX}",
            r"\bh(?:ö|oe)rt (?:[\w\"„“ ]+ )?nicht (?:mehr )?auf\b(?! zu (?:train|lern))",
            r"\b(?:schreibt|generiert|redet) (?:\w+ ){0,2}(?:endlos|ohne Ende|immer weiter)",
            r"停不下来|(?:不会|无法|不能)(?:自动|正常)?停止(?!训练)|(?:不停|一直|无限)地?(?:生成|输出)",
        ),
        "repeats-itself": (
            r"\brepeat(?:s|ing) (?:itself|the same|forever|over)",
            r"\brepetitive (?:out|ans|t)",
            r"\bwiederholt sich|不断重复|一直重复|复读",
        ),
        "gguf-broken": (
            rf"\b(?:gguf|ollama|llama\.?cpp)\b.{{0,120}}\b{_BAD}",
            rf"\b{_BAD}\b.{{0,60}}\b(?:gguf|ollama|llama\.?cpp)\b",
        ),
        "gibberish": (
            rf"\b{_SAY}\w*\b.{{0,30}}\b{_BAD}",
            r"\b(?:Kauderwelsch|Zeichensalat|Buchstabensalat)\b|(?:输出|生成|回答).{0,8}(?:乱码|胡言乱语)",
        ),
        "empty-answers": (
            rf"\b{_SAYS} (?:is |are |with )?(?:nothing|empty|blank|an empty)",
            r"\bleere (?:Antwort|Ausgabe)|(?:输出|回答|结果)(?:都|全)?(?:是|为)空",
        ),
        "same-as-base": (
            rf"\b(?:same|identical(?:ly)?|exactly|just) (?:\w+ )?(?:as|to|like) (?:the )?{_BASE}\b",
            rf"\b(?:no effect|no difference|no change)\b.{{0,40}}\b(?:{_BASE}|fine-?tun)",
            rf"\b{_ADAPTER} (?:\w+ ){{0,2}}no effect\b(?! on)",
            r"\bas if (?:it|the model) (?:was|were|had) (?:never|not) (?:been )?"
            r"(?:fine-?)?t(?:un|rain)ed",
            rf"\b(?:genau|exakt)(?:so|gleich)? wie (?:das |beim )?(?:{_BASE}|basis)",
            r"(?:和|跟|与)(?:基座|原始|原来的?|原)模型.{0,6}(?:一样|没有?区别|相同)|微调后?(?:完全)?没有?效果",
        ),
        "always-the-same-answer": (
            r"\balways (?:predict|output|return|answer|generat)\w* the same",
            r"\bsame (?:answer|output|response|label|class) (?:for|to|regardless of|no matter) "
            r"(?:every|any|all|each|what)",
            r"\bimmer (?:dieselbe|dasselbe|die gleiche|das gleiche)\b",
            r"(?:总是|永远|每次都?)(?:输出|回答|预测|生成).{0,4}(?:同一|相同|一样)",
        ),
        "new-tokens-missing": (
            rf"\b{_NOT} (?:write|output|emit|generate|produce|use)s? (?:\w+ ){{0,2}}"
            r"(?:new|added|special|control|custom|extra) tokens?\b",
        ),
        "echoes-prompt": (
            r"\b(?:repeats?|echo(?:e?s)?|copies) (?:back )?(?:the|my) (?:prompt|question|input)",
        ),
        "speaks-for-the-user": (
            r"\b(?:talk|speak)(?:s|ing)? (?:to|with) itself|\banswers? (?:itself|its own question)",
            r"\b(?:asks?|answering) itself\b",
            rf"\b(?:writes?|invents?|hallucinates?|appends?|adds?|hängt) (?:\w+ ){{0,4}}"
            rf"(?:own|new|next|another|more|further|neue[rsn]?|weitere[rsn]?){_TURN}",
            r"\bbeantwortet (?:\w+ ){0,2}selbst\b|\bmit sich selbst\b|自问自答",
        ),
    }.items()
}
# What stands before a phrase and takes it back: a denial, a condition, what was once, what is
# avoided, or that it is the base model of which it is told.
_TAKEN_BACK = re.compile(
    r"(?i)(?:\b(?:not|never|no|without|nicht|kein\w*|nie)|n['’]t|没有?|不)\W*(?:[\w-]+\W+){0,2}$"
    r"|\b(?:if|whether|unless|in case|used to|no longer|avoid\w*|prevent\w*|fixed|solved"
    r"|falls|ob|damit|vermeiden)\b|如果|是否|避免|以前"
    r"|\b(?:base|original|vanilla|unquantized|basis)[ -]?(?:model|modell|one)\W+(?:\w+\W+){0,3}$"
)
_PADS_WITH_EOS = re.compile(r"\bpad_token\s*=\s*[\w.]*\beos_token\b")
_SPECIAL = re.compile(r"special_tokens=(\{[^{}]*\})")
_TOKEN = re.compile(r"['\"]((?:bos|eos|pad|unk)_token)['\"]\s*:\s*['\"]([^'\"]*)['\"]")


def is_excerpt(points: Sequence[Point], items: Sequence[Item]) -> bool:
    """Say whether all that there is of a run is a short text with a handful of rows."""
    if len(items) != 1 or items[0].artifact.kind not in ("console", "ticket"):
        return False
    rows = {point.line for point in points}
    return items[0].artifact.size <= MOST_BYTES and len(rows) <= MOST_ROWS


def said_in(item: Item) -> tuple[Said, ...]:
    """Return the lines of an excerpt as things said, each for itself."""
    path = item.artifact.path
    lines = item.reading.lines
    return tuple(Said(each.text, Where(path, line=each.line or None), ()) for each in lines)


def told_facts(said: Sequence[Said]) -> Iterator[Fact]:
    """Yield the outcomes and the padding that a person tells, each once."""
    for outcome, pattern in PHRASES.items():
        one = next((each for each in said if _tells(pattern, each.text)), None)
        if one is not None:
            yield Fact(f"observed.{outcome}", True, one.where)
    for one in said:
        if _PADS_WITH_EOS.search(one.text):
            yield Fact("script.train.pad_token", "eos_token", one.where)
            return


def _tells(pattern: re.Pattern[str], text: str) -> bool:
    """Say whether a sentence tells an outcome, and neither asks for it nor takes it back."""
    found = pattern.search(text)
    return found is not None and not asks(text) and not _TAKEN_BACK.search(text[: found.start()])


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
