"""Sentences of a ticket: which lines are prose, what denies or asks, what is named in passing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ftdoctor.model import Fact, Where

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*[,.;:!?)\"]*")
_HAN = re.compile(r"[\u4e00-\u9fff\u3040-\u30ff]")
# A line of a log begins with a time, a level, a bracket or a prompt.
_NO_PROSE = re.compile(r"\s*(?:[\[{(<|$%#=]|>>>|\d{2,4}[-/:]|(?:INFO|WARN|ERROR|DEBUG)\b)")
_ENDS = re.compile(r"(?<=[.!?。！？；])(?:\s+|(?=[\u4e00-\u9fff]))")
_WHY = re.compile(r"(?i)\b(?:why|warum|wieso|weshalb|how come)\b|为什么|为何|怎么会|なぜ")
_ASKS = re.compile(r"[?？]\W*$|吗\W*$")
# What a writer says is not so. Messages deny too ("is not available", "no GPU found"): they stay.
_DENIES = re.compile(
    r"(?i)\b(?:it|this|that|which|problem|cause|reason|issue)"
    r"(?:(?:['’]s| is| was) (?:not|never)| (?:is|was)n['’]t)\b"
    r"|\b(?:I|we)\b.{0,20}(?:\bno|\bnot|\bnever|n['’]t|\bruled?)\b"
    r"|\bthere (?:is|are|was|were)(?: no\b|n['’]t)"
    r"|\bno (?:\w+ )?(?:OOM|NaNs?|errors?|warnings?|crash\w*|out of memory|exceptions?|spikes?)\b"
    r"|\bwithout (?:any? )?(?:\w+ )?(?:OOM|NaN|error|warning)"
    r"|\bruled out\b|\bexcluded\b|\binstead of\b|\bno longer\b|\bused to\b"
    r"|\b(?:liegt|ist|war|sind|gibt|sehe|habe|kommt)\b.{0,20}\b(?:nicht|kein\w*|nie)\b"
    r"|\bausgeschlossen\b|\bstatt\b|没有|不是|并非|排除|未(?:出现|发现)"
)
_NAMES_ERROR = re.compile(r"\b\w+(?:Error|Exception)\b")
_PACKAGE = re.compile(
    r"(?i)(?<![\w./-])(transformers|peft|trl|accelerate|bitsandbytes|datasets|tokenizers|unsloth"
    r"|deepspeed|vllm|axolotl|torch|pytorch|flash[-_]attn|llama-?factory)"
    r"(?:\s*(?:==|=|:|@)\s*|\s+(?:version\s+)?v?)(\d+\.\d+(?:\.\w+)*(?:\+\w+)?)"
)
_SAME_PACKAGE = {"pytorch": "torch", "flash_attn": "flash-attn", "llama-factory": "llamafactory"}
# A model's name has its size in it: `Mistral-7B-v0.1`, `Qwen/Qwen2.5-0.5B-Instruct`.
_MODEL = re.compile(
    r"(?<![\w./-])((?:[A-Za-z][\w.-]*/)?[A-Za-z][A-Za-z0-9.]*(?:[-_][A-Za-z0-9.]+)*?"
    r"[-_]\d+(?:\.\d+)?[bB](?:[-_][A-Za-z0-9.]+)*)(?![\w/])"
)


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence with the place of its beginning and the numbers of its lines."""

    text: str
    where: Where
    lines: tuple[int, ...]


def is_prose(line: str) -> bool:
    """Say whether a line is words of a sentence, in a language with spaces or in Chinese."""
    if _NO_PROSE.match(line):
        return False
    if len(_HAN.findall(line)) >= 6:
        return True
    words = line.split()
    plain = [word for word in words if _WORD.fullmatch(word.strip("\"'`*_("))]
    return len(words) >= 4 and len(plain) >= 0.6 * len(words)


def sentences(lines: Sequence[tuple[int, str]], path: str) -> Iterator[Said]:
    """Yield the sentences of numbered lines; one may go over lines that follow each other."""
    for paragraph in _paragraphs(lines):
        numbers = [number for number, line in paragraph for _ in f"{line} "]
        text = " ".join(line for _, line in paragraph) + " "
        start = 0
        for end in [*(m.end() for m in _ENDS.finditer(text)), len(text)]:
            if text[start:end].strip():
                within = tuple(sorted(set(numbers[start:end])))
                yield Said(text[start:end].strip(), Where(path, line=within[0]), within)
            start = end


def _paragraphs(lines: Sequence[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    held: list[tuple[int, str]] = []
    for number, line in lines:
        fresh = re.match(r"\s*(?:[-*+] |\d+[.)] |#{1,6} |>)", line)
        if held and (number != held[-1][0] + 1 or fresh or not held[-1][1].strip()):
            yield held
            held = []
        held.append((number, line))
    if held:
        yield held


def asks(text: str) -> bool:
    """Say whether a sentence asks if something is so; who asks why it is so says that it is."""
    return bool(_ASKS.search(text)) and not _WHY.search(text)


def denies(text: str) -> bool:
    """Say whether a sentence asks or denies, so that what it names is no evidence."""
    if not is_prose(text) or _NAMES_ERROR.search(text):
        return False
    return asks(text) or bool(_DENIES.search(text))


def named_facts(said: Iterable[Said]) -> Iterator[Fact]:
    """Yield all versions of packages, and the model if all names in the prose are of one family."""
    from ftdoctor.families import find_family

    seen: set[tuple[str, str]] = set()
    models: dict[str, Fact] = {}
    for sentence in said:
        for package, version in _PACKAGE.findall(sentence.text):
            name = _SAME_PACKAGE.get(package.lower(), package.lower())
            if (name, version) not in seen:
                seen.add((name, version))
                yield Fact(f"environment.package.{name}", version, sentence.where)
        for name in _MODEL.findall(sentence.text):
            family = find_family(name, "", None)
            if family is not None:
                models.setdefault(family.id, Fact("model.name", name, sentence.where))
    if len(models) == 1:
        yield from models.values()
