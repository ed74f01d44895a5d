"""What one row of a training file says: its layout, its messages, its prompt and its answer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MAX_TURNS = 2000  # turns of one conversation that are looked at
IMAGE_MARK = "<image>"
IMAGE_KEYS = ("images", "image", "image_path", "img")
EXTRAS = ("reasoning_content", "name", "tool_call_id", "weight")

# Roles as public data sets and converters write them (axolotl's and LLaMA-Factory's mappings).
ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user", "customer": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant",
    "bard": "assistant", "model": "assistant", "bot": "assistant", "ai": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool",
    "function_call": "assistant", "function_response": "tool", "tool_response": "tool",
    "tool_call": "assistant", "tool_calls": "assistant",
}  # fmt: skip
# Pairs of columns that hold a question and its answer, the usual ones first.
PAIRS = (
    ("instruction", "output"), ("prompt", "completion"), ("prompt", "response"),
    ("instruction", "response"), ("question", "answer"), ("query", "response"),
    ("input", "output"), ("prompt", "output"), ("problem", "solution"), ("question", "response"),
    ("source", "target"), ("instruction", "answer"), ("prompt", "answer"), ("input", "target"),
    ("question", "solution"), ("problem", "answer"), ("query", "answer"), ("user", "assistant"),
    ("question", "output"), ("prompt", "target"), ("input", "response"), ("input", "answer"),
    ("instruction", "completion"), ("text", "label"), ("sentence", "label"), ("text", "summary"),
    ("document", "summary"), ("article", "highlights"), ("dialogue", "summary"),
    ("input", "label"), ("text", "target"), ("src", "tgt"), ("q", "a"),
    ("source_text", "target_text"), ("input_text", "target_text"), ("question", "sql"),
    ("nl", "sql"), ("question", "query"), ("source", "summary"),
    ("Q", "A"), ("Question", "Answer"), ("frage", "antwort"), ("pregunta", "respuesta"),
)  # fmt: skip
# Columns of a short text and of its class, where no pair above is there. `text` and `content` are
# left out: beside a topic they are what is learnt themselves.
CLASSIFIED = ("body", "message", "sentence", "utterance", "review", "comment", "tweet", "title",
              "description", "subject", "email", "ticket", "query", "question")  # fmt: skip
CLASSES = ("label", "labels", "category", "class", "intent", "sentiment", "topic", "tag", "rating",
           "stars", "department", "priority")  # fmt: skip
PREFERENCE = (("chosen", "rejected"), ("preferred_output", "non_preferred_output"))
# Columns of a parallel corpus bear the names of their languages; `id`, `no` and `is`, which are
# words as well, are left out.
_LANGUAGES = frozenset(
    "ar bg bn ca cs cy da de el en es et eu fa fi fr ga gl gu he hi hr hu hy it ja ka kk kn ko lt "  # noqa: SIM905
    "lv mk ml mr ms nb nl nn pa pl pt ro ru sk sl sq sr sv sw ta te th tl tr uk ur uz vi zh "
    "deu eng fra fre ger ita jpn kor nld pol por rus spa swe tur ukr zho "
    "arabic chinese dutch english french german greek hindi italian japanese korean polish "
    "portuguese russian spanish swedish turkish ukrainian".split()
)
_REGION = re.compile(r"[-_](?:[A-Z]{2}|[A-Z][a-z]{3}|[a-z]{2})$")
CONVERSATION_KEYS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat")
TEXT_KEYS = ("text", "content", "formatted_text", "formatted", "full_text")


@dataclass(frozen=True, slots=True)
class Example:
    """One row understood. `messages` hold role and content (and tool_calls) as templates want them.

    `prompt` is all that comes before the answer, `response` the answer to be learned, `text` a row
    that is rendered already. `problems` are names like `empty-response`. `keys` tells the columns
    that prompt and answer were taken from.
    """

    layout: str
    messages: tuple[Mapping[str, Any], ...] = ()
    prompt: str = ""
    response: str = ""
    text: str = ""
    problems: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    image_marks: int = 0
    rejected: str = ""
    tools: Any = None


def understand(row: Any, classed: tuple[str, str] | None = None) -> Example:
    """Return the row as an example; layout `unknown` if nothing fits, never raises.

    `classed` are the columns of text and label of a file whose columns have no known names.
    """
    if not isinstance(row, dict):
        return Example("unknown", problems=("not-an-object",))
    if "input_ids" in row:
        return Example("pretokenised")
    for chosen, rejected in PREFERENCE:
        if chosen in row and rejected in row:
            return _preference(row, chosen, rejected)
    for key in CONVERSATION_KEYS:
        turns = row.get(key)
        if isinstance(turns, list) and (not turns or isinstance(turns[0], dict)):
            return _conversation(row, key, turns)
    for prompt, response in PAIRS:
        if prompt in row and response in row:
            return _pair(row, prompt, response)
    held = row["translation"] if isinstance(row.get("translation"), dict) else row
    if languages := language_pair(held):
        return _pair(held, *languages)
    label = next((key for key in CLASSES if isinstance(row.get(key), str | int | float)), "")
    named = next((key for key in CLASSIFIED if isinstance(row.get(key), str)), "")
    if label and named:
        return _pair(row, named, label)
    if classed and all(row.get(key) is not None for key in classed):
        return _pair(row, *classed)
    return _text(row)


def language_pair(keys: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two of the keys that name languages (`en`, `pt_BR`, `German`), if any."""
    named = [k for k in keys if _REGION.sub("", k).lower() in _LANGUAGES]
    return (named[0], named[1]) if len(named) >= 2 else None


def _text(row: Mapping[str, Any]) -> Example:
    for key in TEXT_KEYS:
        if isinstance(row.get(key), str):
            problems = () if row[key].strip() else ("empty-text",)
            return Example("text", text=row[key], keys=(key,), problems=problems)
        if key in row and key == "text":
            return Example("text", keys=(key,), problems=("wrong-type",))
    for prompt, response in PAIRS[:12]:
        if prompt in row or response in row:
            asked = prompt in row
            return Example(
                "prompt-only" if asked else "unknown",
                prompt=_flat(row.get(prompt)),
                problems=(f"missing-field:{response if asked else prompt}",),
                keys=(prompt, response),
            )
    for key in CONVERSATION_KEYS[:2]:
        if key in row:
            return Example("messages", problems=("wrong-type",), keys=(key,))
    return Example("unknown", problems=("no-known-fields",))


# --- conversations ----------------------------------------------------------------------------


def _conversation(row: Mapping[str, Any], key: str, turns: Sequence[Any]) -> Example:
    messages, problems = _messages(turns)
    sharegpt = any(isinstance(t, dict) and "from" in t for t in turns[:3])
    system = row.get("system")
    if isinstance(system, str) and system and not (messages and messages[0]["role"] == "system"):
        messages.insert(0, {"role": "system", "content": system})
    images = _images(row, turns)
    marks = sum([m["content"].count(IMAGE_MARK) for m in messages])
    layout = "multimodal" if images or marks else "sharegpt" if sharegpt else "messages"
    prompt, response = split_messages(messages)
    found = dict.fromkeys([*problems, *_order_problems(messages, bool(response))])
    return Example(
        layout,
        tuple(messages),
        prompt,
        response,
        problems=tuple(found),
        keys=(key,),
        images=images,
        image_marks=marks,
        tools=row.get("tools"),
    )


def _messages(turns: Sequence[Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return turns as role and content, and what was wrong with them."""
    messages: list[dict[str, Any]] = []
    problems: list[str] = []
    for turn in turns[:MAX_TURNS]:
        if not isinstance(turn, dict):
            problems.append("wrong-type")
            continue
        named = turn.get("role", turn.get("from"))
        content = turn.get("content", turn.get("value", turn.get("text")))
        text = _flat(content)
        role = ROLES.get(str(named).lower())
        if role is None:
            problems.append("missing-role" if named is None else "unknown-role")
            role = str(named)
        calls = turn.get("tool_calls") or turn.get("function_call")
        if not calls and (not text or text.isspace()):
            problems.append("empty-response" if role == "assistant" else "empty-turn")
        if not calls and content is None:
            problems.append("null-text")
        message: dict[str, Any] = {"role": role, "content": text}
        if calls:
            message["tool_calls"] = calls if isinstance(calls, list) else [calls]
        for extra in EXTRAS:
            if turn.get(extra) is not None:
                message[extra] = turn[extra]
        messages.append(message)
    return messages, problems


def _flat(content: Any) -> str:
    """Return content as text: parts are joined, an image part leaves its mark."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part(part) for part in content[:MAX_TURNS])
    if isinstance(content, dict):
        return _part(content)
    return "" if content is None else str(content)


def _part(part: Any) -> str:
    if isinstance(part, dict):
        if str(part.get("type", "")).startswith(("image", "input_image")):
            return IMAGE_MARK
        text = part.get("text", part.get("content"))
        return text if isinstance(text, str) else ""
    return str(part) if isinstance(part, str | int | float) else ""


def _images(row: Mapping[str, Any], turns: Sequence[Any]) -> tuple[str, ...]:
    """Return the images a row refers to: paths, addresses, or "data:" for embedded ones."""
    found: list[str] = []
    for key in IMAGE_KEYS:
        if key not in row:
            continue
        value = row[key]
        items = value if isinstance(value, list) else [value]
        found += [_image(item) for item in items[:50] if item is not None]
    contents = [turn.get("content") for turn in turns[:MAX_TURNS] if isinstance(turn, dict)]
    for content in [c for c in contents if isinstance(c, list)]:
        for part in content[:MAX_TURNS]:
            if isinstance(part, dict) and "image" in str(part.get("type", "")):
                inner = part.get("image_url", part.get("image", part.get("url", "")))
                found.append(_image(inner))
    return tuple(found[:50])


def _image(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("url") or value.get("path") or ("data:" if value.get("bytes") else "")
    if not isinstance(value, str):
        return "data:"
    return "data:" if value.startswith("data:") or len(value) > 1000 else value


def split_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return what comes before the last assistant turn, joined by newlines, and that turn."""
    last = len(messages) - 1
    while last >= 0 and messages[last]["role"] != "assistant":
        last -= 1
    before = messages[:last] if last >= 0 else messages
    prompt = "\n".join([str(m["content"]) for m in before])
    return prompt, str(messages[last]["content"]) if last >= 0 else ""


def _order_problems(messages: Sequence[Mapping[str, Any]], answered: bool) -> tuple[str, ...]:
    answered = answered or any("tool_calls" in m for m in messages)
    return _problems_of_roles(tuple([m["role"] for m in messages]), answered)


@lru_cache(maxsize=1 << 8)  # most rows of a file have the same few
def _problems_of_roles(roles: tuple[str, ...], answered: bool) -> tuple[str, ...]:
    if not roles:
        return ("no-messages",)
    problems = []
    if "assistant" not in roles:
        problems.append("no-assistant")
    elif not answered:
        problems.append("empty-response")
    turns = [r for r in roles if r in ("user", "assistant")]
    if "user" not in roles and "unknown-role" not in roles:
        problems.append("no-user")
    elif turns and turns[0] == "assistant":
        problems.append("assistant-first")
    if roles[-1] in ("user", "system") and "assistant" in roles:
        problems.append("ends-with-user")
    if any(a == b and a in ("user", "assistant") for a, b in itertools.pairwise(roles)):
        problems.append("same-role-twice")
    if "system" in roles[1:]:
        problems.append("system-not-first")
    return tuple(problems)


# --- pairs ------------------------------------------------------------------------------------


def _pair(row: Mapping[str, Any], prompt_key: str, response_key: str) -> Example:
    prompt, response = row[prompt_key], row[response_key]
    keys = (prompt_key, response_key)
    if isinstance(prompt, list) or isinstance(response, list):
        return _message_pair(row, keys)
    problems = []
    if response is None or not str(response).strip():
        problems.append("empty-response")
    if response is None or prompt is None:
        problems.append("null-text")
    extra = row.get("input") if prompt_key == "instruction" else row.get("context")
    question = _flat(prompt)
    if isinstance(extra, str) and extra.strip():
        question = f"{question}\n{extra}"
    if not question.strip():
        problems.append("empty-prompt")
    if response is not None and not isinstance(response, str | int | float | bool):
        problems.append("wrong-type")
    if prompt_key == "instruction":
        layout = "alpaca"
    elif isinstance(row.get("label"), bool) and response_key != "label":
        layout = "kto"
    else:
        layout = "prompt-completion"
    images = _images(row, ())
    return Example(
        "multimodal" if images else layout,
        prompt=question,
        response=_flat(response),
        text=_rendered_beside(row, keys, _flat(response)),
        problems=tuple(problems),
        keys=keys,
        images=images,
        image_marks=question.count(IMAGE_MARK),
    )


def _rendered_beside(row: Mapping[str, Any], keys: tuple[str, str], response: str) -> str:
    """Return a `text` column that holds the answer already rendered, as Alpaca's release has."""
    text = row.get("text")
    if "text" in keys or not isinstance(text, str) or not response or response not in text:
        return ""
    return text


def _message_pair(row: Mapping[str, Any], keys: tuple[str, str]) -> Example:
    """Understand a prompt or completion that is a list of messages."""
    messages: list[dict[str, Any]] = []
    problems: list[str] = []
    for key, role in zip(keys, ("user", "assistant"), strict=True):
        value = row[key]
        turns = value if isinstance(value, list) else [{"role": role, "content": value}]
        parsed, wrong = _messages(
            [t if isinstance(t, dict) else {"role": role, "content": t} for t in turns]
        )
        messages += parsed
        problems += wrong
    prompt, response = split_messages(messages)
    found = dict.fromkeys([*problems, *_order_problems(messages, bool(response))])
    layout = "kto" if isinstance(row.get("label"), bool) else "prompt-completion"
    return Example(
        layout, tuple(messages), prompt, response, problems=tuple(found), keys=keys,
        tools=row.get("tools"),
    )  # fmt: skip


def _preference(row: Mapping[str, Any], chosen_key: str, rejected_key: str) -> Example:
    prompt_value = row.get("prompt", row.get("question", row.get("instruction", row.get("input"))))
    if isinstance(prompt_value, dict):
        prompt_value = prompt_value.get("messages")
    before, problems = _as_messages(prompt_value, "user")
    chosen, wrong = _as_messages(row[chosen_key], "assistant")
    rejected, _ = _as_messages(row[rejected_key], "assistant")
    messages = before + chosen
    prompt, response = split_messages(messages)
    _, other = split_messages(before + rejected)
    problems += wrong
    if response and response == other:
        problems.append("chosen-equals-rejected")
    listed = any(isinstance(row[k], list) for k in (chosen_key, rejected_key))
    return Example(
        "preference",
        tuple(messages) if listed else (),
        prompt,
        response,
        problems=tuple(dict.fromkeys(problems)),
        keys=(chosen_key, rejected_key),
        rejected=other,
    )


def _as_messages(value: Any, role: str) -> tuple[list[dict[str, Any]], list[str]]:
    if value is None:
        return [], []
    turns = value if isinstance(value, list) else [value]
    return _messages([t if isinstance(t, dict) else {"role": role, "content": t} for t in turns])
