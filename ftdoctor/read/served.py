"""Compare what training rendered with what the template of a GGUF will render, token by token."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftdoctor.read.template import Rendered, TemplateProblem, render

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SHOWN = 40  # characters of either text from the first differing token on
NEVER = -1  # place of the difference where one template refuses the conversation

_USER = {"role": "user", "content": "Name a river."}
_ANSWER = {"role": "assistant", "content": "The Danube."}
_CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"what": "river"}}}
_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look a word up.",
        "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
    },
}
# Without a tokenizer texts are compared by markers, words and single characters.
_PIECE = re.compile(r"<[^<>\s]{1,40}>|\w+|\s|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages to be rendered; `kind` is row, plain, prompt, system or tools."""

    kind: str
    name: str
    messages: Sequence[Mapping[str, Any]]
    tools: Any = None
    asks: bool = False


PROBES = (
    Conversation("plain", "one turn", (_USER, _ANSWER)),
    Conversation("prompt", "a prompt for generation", (_USER,), asks=True),
    Conversation("plain", "several turns", (_USER, _ANSWER, _USER, _ANSWER)),
    Conversation("prompt", "a prompt after several turns", (_USER, _ANSWER, _USER), asks=True),
    Conversation(
        "system",
        "a system message",
        ({"role": "system", "content": "Answer briefly."}, _USER),
        asks=True,
    ),
    Conversation(
        "tools",
        "a tool call",
        (
            _USER,
            {"role": "assistant", "content": "", "tool_calls": [_CALL]},
            {"role": "tool", "name": "look_up", "content": "Danube"},
        ),
        tools=[_TOOL],
        asks=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Side:
    """A template, and the texts of its special tokens."""

    template: str
    tokens: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first token in which two renderings differ, and how both texts go on from it."""

    conversation: Conversation
    token: int
    training: str
    serving: str

    @property
    def of_space(self) -> bool:
        """Say whether the texts differ in white space alone from here on."""
        return self.token != NEVER and self.training.split() == self.serving.split()


def differences(
    training: Side,
    serving: Side,
    conversations: Iterable[Conversation],
    tokenizer: Tokenizer | None = None,
) -> Iterator[Difference]:
    """Yield a difference for each conversation that the two templates render otherwise.

    A BOS at the start is left out: runtimes add it themselves. What neither renders is no
    difference.
    """
    for conversation in conversations:
        ours, theirs = _shown(training, conversation), _shown(serving, conversation)
        if isinstance(ours, TemplateProblem) and isinstance(theirs, TemplateProblem):
            continue
        if isinstance(ours, TemplateProblem) or isinstance(theirs, TemplateProblem):
            yield Difference(conversation, NEVER, _said(ours), _said(theirs))
            continue
        found = _first(_without_bos(ours, training), _without_bos(theirs, serving), tokenizer)
        if found is not None:
            yield Difference(conversation, *found)


def _shown(side: Side, conversation: Conversation) -> Rendered | TemplateProblem:
    return render(
        side.template,
        conversation.messages,
        tools=conversation.tools,
        add_generation_prompt=conversation.asks,
        tokens=side.tokens,
    )


def _said(made: Rendered | TemplateProblem) -> str:
    return f"refused: {made.text}"[: 2 * SHOWN] if isinstance(made, TemplateProblem) else "rendered"


def _without_bos(made: Rendered, side: Side) -> str:
    bos = side.tokens.get("bos_token", "")
    return made.text.removeprefix(bos) if bos else made.text


def _first(ours: str, theirs: str, tokenizer: Tokenizer | None) -> tuple[int, str, str] | None:
    """Return (token, rest of ours, rest of theirs) at the first difference, None if equal."""
    left, right = _pieces(ours, tokenizer), _pieces(theirs, tokenizer)
    if [key for key, _ in left] == [key for key, _ in right]:
        return None
    pairs = zip(left, right, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a[0] != b[0]), min(len(left), len(right)))
    starts = (side[at][1] if at < len(side) else None for side in (left, right))
    rests = [
        text[start:] if start is not None else ""
        for text, start in zip((ours, theirs), starts, strict=True)
    ]
    same_but_space = rests[0].split() == rests[1].split()
    shown = [rest if same_but_space else rest[:SHOWN] for rest in rests]
    return at, shown[0], shown[1]


def _pieces(text: str, tokenizer: Tokenizer | None) -> list[tuple[int | str, int]]:
    """Return (id, offset) of each token; of each marker, word and character without tokenizer."""
    if tokenizer is None:
        return [(found.group(), found.start()) for found in _PIECE.finditer(text)]
    encoded = tokenizer.encode(text, add_special_tokens=False)
    return [(key, start) for key, (start, _) in zip(encoded.ids, encoded.offsets, strict=True)]
