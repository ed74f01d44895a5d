"""Shell scripts, job files and build files: line endings, launch commands, environment."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.imports import normalised
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import Source

SIZE_LIMIT = 2 << 20  # bytes; a hand-written script is far smaller
_CRLF_IS_NORMAL = (".bat", ".cmd", ".ps1")
_LAUNCHERS = re.compile(
    r"(?:^|[\s/;&|])(?:python[\d.]*|torchrun|accelerate|deepspeed|llamafactory-cli|axolotl|tune"
    r"|mlx_lm\.lora|swift|srun|poetry\s+run|uv\s+run|nemo|ns)\s"
)
_TRAINS = re.compile(
    r"(?i)train|finetun|fine_tun|fine-tun|sft|lora|dpo|grpo|--output_dir|learning.rate|tune\s+run"
)
_VLLM = re.compile(r"(?:^|[\s/])vllm\s+serve\b|\bvllm\.entrypoints\.|\bvllm/vllm-openai")
VLLM_RANK = 16  # vllm/config/lora.py: max_lora_rank
_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)=(.*)", re.DOTALL)
_MAKEFILE = re.compile(r"(?:^|/)(?:makefile|[^/]*\.mk)$")
_PREFIX = re.compile(r"(?m)^(\s+)[@-]+")  # of a command that make shall not print, or may fail
_OF_MAKE = re.compile(r"(?m)^([A-Za-z_]\w*)[ \t]*[:?]?=[ \t]*(.*)$")  # `LR := 1e-4`
_DIRECTIVE = re.compile(r"#(?:SBATCH|PBS|\$)\s+(.*)")
_SECRET = re.compile(r"(?i)token|key|secret|passw|credential")
_VARIABLE = re.compile(r"\$(?:[{(]?([A-Za-z_]\w*)|\{\d(?=:-))(?::-([^}]*))?[)}]?")
_OPTION = re.compile(r"--?([A-Za-z][\w.-]*)(?:=(.*))?", re.DOTALL)
_HYDRA = re.compile(r"\+{0,2}([A-Za-z_][\w.]*)=(.*)", re.DOTALL)


def read(source: Source) -> Reading:
    """Read a script; that its lines end in CR LF is a fact with the first such line."""
    try:
        data = source.data(SIZE_LIMIT)
    except ValueError as error:
        return Reading(ArtifactState.SKIPPED, f"{error}: no hand-written script")
    text = data.decode("utf-8", errors="replace")
    reading = reading_of(text, source.path)
    if source.name.lower().endswith(_CRLF_IS_NORMAL):
        return reading
    ends = _line_ending(text, source.path)
    return Reading(taken=reading.taken, settings=reading.settings, facts=(ends, *reading.facts))


def _line_ending(text: str, path: str) -> Fact:
    """Return the fact `shell.crlf` at the first line that ends in CR, most often the shebang."""
    position = text.find("\r\n")
    if position < 0:
        return Fact("shell.crlf", False, Where(path, line=1))
    return Fact("shell.crlf", True, Where.in_text(path, text, position))


def reading_of(text: str, path: str) -> Reading:
    """Read commands: options of a training launch are settings, variables are facts."""
    settings: list[Fact] = []
    facts: list[Fact] = []
    variables: dict[str, str] = {}
    installed: list[str] = []
    if _MAKEFILE.search(path.lower()):
        text = _OF_MAKE.sub(r"\1=\2", _PREFIX.sub(r"\1", text))
    for line, command in _commands(text.replace("\r", "")):
        where = Where(path, line=line)
        words = _words(_expanded(command, variables))
        words = _assignments(words, variables, facts, where)
        if not words:
            continue
        installed += _installed(words)
        facts += [Fact(n, v, where) for n, v in _served(words)]
        if _LAUNCHERS.search(" " + " ".join(words) + " "):
            facts.append(Fact("shell.command", " ".join(words)[:2000], where))
            if _TRAINS.search(" ".join(words)):
                settings += [Fact(n, v, where) for n, v in _options(words)]
    if installed:
        facts.append(Fact("requirements.installed", sorted(set(installed)), Where(path)))
    taken = f"{len(settings)} settings of launch commands" if settings else "commands"
    return Reading(taken=taken, settings=tuple(settings), facts=tuple(facts))


def _commands(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, command) with continued lines joined and comments left out."""
    held, start = "", 0
    for number, line in enumerate(text.split("\n"), start=1):
        bare = line.strip()
        if directive := _DIRECTIVE.match(bare):
            yield number, f"#directive {directive.group(1)}"
            continue
        if not held:
            if not bare or bare.startswith("#"):
                continue
            start = number
        if bare.endswith("\\"):
            held += bare[:-1] + " "
            continue
        yield start, held + bare
        held = ""
    if held:
        yield start, held


def _expanded(command: str, variables: dict[str, str]) -> str:
    """Return the command with the file's own plain variables and `${x:-default}` filled in."""

    def value(match: re.Match[str]) -> str:
        return variables.get(match.group(1) or "", match.group(2) or match.group())

    return _VARIABLE.sub(value, command)


def _words(command: str) -> list[str]:
    if command.startswith("#directive"):
        return []
    command = re.sub(r"^(?:RUN|CMD|ENTRYPOINT|ENV)\s+", "", command)
    try:
        return shlex.split(command, comments=True)
    except ValueError:  # an unclosed quote: heredocs and the like
        return command.split()


def _assignments(
    words: list[str], variables: dict[str, str], facts: list[Fact], where: Where
) -> list[str]:
    """Take leading `NAME=value` and `export NAME=value` words; return the rest."""
    rest = list(words)
    if rest and rest[0] in ("export", "env", "set", "declare", "local"):
        rest = rest[1:]
    while rest and (found := _ASSIGNMENT.fullmatch(rest[0])):
        name, value = found.groups()
        variables[name] = value
        if not _SECRET.search(name):
            facts.append(Fact(f"shell.env.{name}", value[:300], where))
        rest = rest[1:]
    return rest


def _installed(words: list[str]) -> list[str]:
    """Return distributions that a `pip install` of this command names."""
    if "install" not in words or not any(
        re.search(r"(?:^|/)(?:pip[\d.]*|uv|conda|mamba)$", w) for w in words
    ):
        return []
    names = []
    for word in words[words.index("install") + 1 :]:
        if word in ("&&", "||", ";", "|"):
            break
        if found := re.match(r"[A-Za-z][\w.-]*", word):
            names.append(normalised(found.group()))
    return names


def _served(words: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the limit that a vLLM server puts to the rank of adapters: 16 unless it is told."""
    command = " ".join(words)
    if not _VLLM.search(command):
        return
    options = dict(_options(words))
    if options.get("enable_lora") is True or "lora_modules" in options:
        limit = options.get("max_lora_rank", VLLM_RANK)
        if isinstance(limit, int) and not isinstance(limit, bool):
            yield "serve.max_lora_rank", limit


def _options(words: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of `--name value`, `--name=value`, `--flag` and `name=value` words."""
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if (found := _OPTION.fullmatch(word)) and not _is_number(word):
            name = found.group(1).replace("-", "_")
            values = [found.group(2)] if found.group(2) is not None else []
            while found.group(2) is None and index < len(words) and _is_value(words[index]):
                values.append(words[index])
                index += 1
                if name not in ("lora_target_modules", "target_modules", "report_to"):
                    break
            yield name, _typed(values)
        elif found := _HYDRA.fullmatch(word):
            yield found.group(1), _typed([found.group(2)])


def _is_value(word: str) -> bool:
    return (
        not word.startswith("--")
        and (not word.startswith("-") or _is_number(word))
        and (word not in ("&&", "||", ";", "|", "&", ">", ">>", "2>&1", "<"))
    )


def _is_number(word: str) -> bool:
    return bool(re.fullmatch(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", word))


def _typed(values: list[str]) -> Any:
    if not values:
        return True
    typed = [_number(value) for value in values]
    return typed[0] if len(typed) == 1 else typed


def _number(value: str) -> Any:
    if not _is_number(value):
        return value
    try:
        return int(value)
    except ValueError:
        return float(value)
