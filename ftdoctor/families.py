"""What is known of model families: stop tokens, formats, vocabulary sizes; from `families.json`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

Pair = tuple[str | None, int | None]  # a token's text and id, None where unknown


@dataclass(frozen=True, slots=True)
class Family:
    """Models that share a vocabulary and a chat format.

    `eos` is the token that the tokenizer names; `turn_ends` are those that close an assistant turn;
    `stop_ids` is the eos_token_id of a complete generation_config.json; `formats` are ids of
    `read/prompts.py`; `templates` are the names that LLaMA-Factory and axolotl give to the format;
    `renderers` those of the Tinker cookbook; `linear` the names of linear layers in transformers.
    """

    id: str
    name: str
    model_types: tuple[str, ...]
    vocab_sizes: tuple[int, ...]
    embedding_rows: tuple[int, ...]
    bos: Pair
    eos: Pair
    pad: Pair
    turn_ends: tuple[Pair, ...]
    stop_ids: tuple[int, ...]
    formats: tuple[str, ...]
    templates: tuple[str, ...]
    renderers: tuple[str, ...]
    adds_bos: bool | None
    linear: tuple[str, ...]
    vision_tokens: tuple[str, ...]
    context: int | None
    dtype: str
    sources: tuple[tuple[str, str], ...]

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """Return the texts that may end an answer: turn ends first, then EOS."""
        texts = [text for text, _ in (*self.turn_ends, self.eos) if text]
        return tuple(dict.fromkeys(texts))


@cache
def table() -> dict[str, Any]:
    """Return `families.json` as plain data."""
    loaded: dict[str, Any] = json.loads(
        files("ftdoctor").joinpath("families.json").read_text(encoding="utf-8")
    )
    return loaded


@cache
def families() -> tuple[Family, ...]:
    """Return all families in the order in which they are matched."""
    return tuple(_family(entry) for entry in table()["families"])


def _family(entry: dict[str, Any]) -> Family:
    def texts(key: str) -> tuple[Any, ...]:
        return tuple(entry.get(key, ()))

    return Family(
        id=entry["id"],
        name=entry["name"],
        model_types=texts("model_types"),
        vocab_sizes=texts("vocab_sizes"),
        embedding_rows=texts("embedding_rows"),
        bos=_pair(entry["bos"]),
        eos=_pair(entry["eos"]),
        pad=_pair(entry["pad"]),
        turn_ends=tuple(_pair(p) for p in entry["turn_ends"]),
        stop_ids=texts("stop_ids"),
        formats=texts("formats"),
        templates=texts("templates"),
        renderers=texts("renderers"),
        adds_bos=entry.get("adds_bos"),
        linear=texts("linear"),
        vision_tokens=texts("vision_tokens"),
        context=entry.get("context"),
        dtype=entry.get("dtype") or "",
        sources=tuple(sorted(entry["sources"].items())),
    )


def _pair(value: list[Any]) -> Pair:
    return value[0], value[1]


def family(name: str) -> Family | None:
    """Return the family of that id, or None."""
    return next((f for f in families() if f.id == name), None)


def find_family(
    name: str = "", model_type: str = "", vocab_size: int | None = None
) -> Family | None:
    """Return the family of a model by its name or path, else by config.json; None if unsure.

    A name decides unless config.json has another model_type. Without a name that is known, a
    model_type decides only if all its families agree or the vocabulary size singles one out.
    """
    for candidate in families():
        fits = not model_type or not candidate.model_types or model_type in candidate.model_types
        if fits and name and candidate.name and _searches(candidate.name, name):
            return candidate
    typed = [f for f in families() if model_type and model_type in f.model_types]
    if len(typed) == 1:
        return typed[0]
    sized = [f for f in typed if vocab_size in (*f.vocab_sizes, *f.embedding_rows)]
    return sized[0] if len(sized) == 1 else None


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _searches(pattern: str, name: str) -> bool:
    return bool(_pattern(pattern).search(name.replace("\\", "/")))


_OTHER_SIZE = re.compile(
    r"(?i)tiny(?!llama)|mini(?!-)|toy|test|dummy|random|pruned|draft|small|vl\b"
)


def width_of(name: str) -> int | None:
    """Return the hidden size of a published model by its name; None if its name does not tell.

    Names that tell of another size (tiny, pruned, test) or of a vision tower are left alone.
    """
    if _OTHER_SIZE.search(name):
        return None
    for pattern, sizes in table()["widths"]["value"]:
        found = _pattern(pattern).search(name.replace("\\", "/"))
        if found is not None:
            width: int | None = sizes.get(found.group(1))
            return width
    return None


def has_no_chat_format(found: Family) -> bool:
    """Say whether models of the family come without any chat format."""
    return found.id in table()["no_chat_format"]


def is_base_model(name: str) -> bool | None:
    """Say whether a name is that of a model before instruction tuning; None if it does not tell.

    Qwen3 and later call the base model `-Base` and the chat model nothing; others mark the chat
    model (Instruct, Chat, it) and leave the base model bare.
    """
    lowered = name.lower().replace("\\", "/").rstrip("/")
    if re.search(r"[-_]base\b|[-_]pt\b|[-_]base[-_]", lowered):
        return True
    if re.search(
        r"instruct|chat|[-_]it\b|[-_]it[-_]|vicuna|alpaca|zephyr|hermes|distill|thinking|reasoning"
        r"|gpt-?oss|tulu|orca|assistant|dolphin|r1|qwq|-sft|-dpo|command-r",
        lowered,
    ):
        return False
    found = find_family(lowered)
    words = re.split(r"[-_]", lowered.rpartition("/")[2])
    if found is None or not all(_PLAIN_WORD.fullmatch(word) for word in words):
        return None  # a derived model, whose name does not tell what it was tuned on
    return not found.id.startswith(
        ("qwen-3", "deepseek-v3", "chatglm", "smollm-3", "phi-3", "phi-4")
    )


# Parts of the names of models as their makers publish them (and of quantised copies).
_PLAIN_WORD = re.compile(
    r"meta|llama\d?|codellama|mistral|mixtral|tinyllama|qwen[\d.]*|gemma\d?|phi|gpt[\dj]*|neox?|pythia"
    r"|falcon\d?|yi|opt|bloom|olmo|smollm\d?|deepseek|llm|coder|math|code|distilgpt2|granite|stablelm"
    r"|starcoder2|vl|hf|bnb|4bit|8bit|unsloth|awq|gptq|int4|int8|v?[\d.]+[bmk]?|\d+x\d+b|small|medium"
    r"|large|xl|nemo|deduped|intermediate|step|\d+t"
)


def templates_of_other_families(name: str, own: Family) -> tuple[str, ...]:
    """Return ids of the families that use a template of that name, if `own` does not."""
    lowered = name.lower()
    if lowered in own.templates or any(lowered.startswith(t) for t in own.templates):
        return ()
    return tuple(f.id for f in families() if lowered in f.templates)
