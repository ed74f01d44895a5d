"""The prompts that a script writes: texts with slots, told apart from markers and messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from ftdoctor.read.code import Code, dotted, keyword, readable, slot
from ftdoctor.read.prompts import STOP_TEXTS, answer_part, formats_of, prompt_closer, stops_in

MAX_PROMPTS = 40  # per file; a script with more is a benchmark, and its first ones tell the format
Found = tuple[str, Any, int]  # fact name without `script.`, value, line

# Texts in these calls are shown, searched for or declared, not given to a model.
_NOT_PROMPTS = {
    "print", "log", "info", "debug", "warning", "warn", "error", "critical", "exception", "split",
    "rsplit", "partition", "rpartition", "find", "rfind", "index", "startswith", "endswith", "sub",
    "search", "match", "findall", "compile", "removeprefix", "removesuffix", "count", "field",
    "add_argument", "add_special_tokens", "add_tokens", "train_on_responses_only", "markdown",
    "DataCollatorForCompletionOnlyLM", "title", "getenv", "convert_tokens_to_ids", "getLogger",
    "ArgumentParser", "option", "get_chat_template", "Field",
}  # fmt: skip
_MARKER_NAMES = re.compile(
    r"^(?:response|instruction|assistant|user|human|answer|output|system)_"
    r"(?:template|part|key|prefix|suffix|tokens?|marker|header|start|tag|ids?)s?$"
    r"|stop|eos|bos|delim|separator|^sep$|marker|special|pattern|regex"
)
_PROBE_NAMES = re.compile(r"^(?:test|val|valid|validation|eval|demo|infer|inference|probe)(?:_|$)")
_WORD = re.compile(r"[^\W\d_]{2,}")
_SLOT_AND_END = re.compile(r"\}\s*(" + "|".join(map(re.escape, STOP_TEXTS)) + r")\s*$")
_MARKER_TEXT = re.compile(
    "|".join(map(re.escape, STOP_TEXTS)) + r"|<\|?[\w/]+\|?>|\[/?INST\]|#{2,3} ?\w+:?|\b\w+:"
)


def prompts_of(code: Code, role: str) -> Iterator[Found]:
    """Yield the prompt texts of a script as facts `<role>.prompt`, `probe.prompt`.

    A prompt's value: `text` with slots, `formats`, `stops` it holds, `closer` before the model's
    header, `answer` (what follows that header, None without one).
    A stop text that is put behind a text of the row, `row["output"] + END`, is `<role>.answer_end`.
    Prompts that a training script only generates from are `probe`. Templates in Jinja are facts
    `<role>.chat_template`, calls of apply_chat_template `<role>.applies_chat_template`.
    """
    yield from _template_calls(code, role)
    for node, text in _texts(code)[:MAX_PROMPTS]:
        if "{%" in text:
            yield f"{role}.chat_template", readable(text), node.lineno
            continue
        shown = readable(text)
        if not _is_prompt(text, shown):
            if (end := _end_of_slot(shown)) and not is_probe(code, node):
                yield f"{role}.answer_end", end, node.lineno
            continue
        name = "probe" if role == "train" and is_probe(code, node) else role
        yield f"{name}.prompt", described(shown), node.lineno


def _end_of_slot(shown: str) -> str:
    """Return the stop text with which a text ends right behind a slot, "" for any other text."""
    found = _SLOT_AND_END.search(shown)
    return found.group(1) if found else ""


def described(text: str) -> dict[str, Any]:
    """Return what a fact says about one prompt text."""
    return {
        "text": text,
        "formats": list(formats_of(text)),
        "stops": list(dict.fromkeys(stops_in(text))),
        "closer": prompt_closer(text),
        "answer": answer_part(text),
    }


def _template_calls(code: Code, role: str) -> Iterator[Found]:
    for name, call in code.calls():
        if name.rsplit(".", 1)[-1] != "apply_chat_template":
            continue
        flag = keyword(call, "add_generation_prompt")
        opens = isinstance(flag, ast.Constant) and flag.value is True
        probe = role == "train" and is_probe(code, call)
        yield f"{'probe' if probe else role}.applies_chat_template", opens, call.lineno


def _texts(code: Code) -> list[tuple[ast.expr, str]]:
    """Return the outermost text expressions with what they render to, and texts built by `+=`."""
    whole = list(_outermost(code, code.tree))
    consumed = set(code.consumed)
    built = [
        (bound[-1].value, text)
        for names in code.bindings.values()
        for bound in names.values()
        if bound[-1].extends and id(bound[-1].value) not in consumed
        if (text := _accumulated(code, bound)) is not None
    ]
    kept = [(node, text) for node, text in whole if id(node) not in code.consumed]
    return sorted(kept + built, key=lambda item: (item[0].lineno, item[0].col_offset))


def _accumulated(code: Code, bound: list[Any]) -> str | None:
    start = max((i for i, b in enumerate(bound) if not b.extends), default=0)
    texts = [code.text(b.value) for b in bound[start:]]
    if not any(texts[1:]):
        return None
    for b in bound[start:]:
        code.consumed.add(id(b.value))
    pairs = zip(texts, bound[start:], strict=True)
    return "".join(slot(b.value) if text is None else text for text, b in pairs)


def _outermost(code: Code, node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    if _is_passed_over(node):
        return
    if isinstance(node, ast.JoinedStr | ast.Constant | ast.BinOp | ast.Call):
        text = code.text(node)
        if text is not None:
            yield node, text
            return
    for child in ast.iter_child_nodes(node):
        yield from _outermost(code, child)


def _is_passed_over(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare | ast.Raise | ast.Assert | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Call):
        return dotted(node.func).rsplit(".", 1)[-1] in _NOT_PROMPTS
    if isinstance(node, ast.Dict):
        return any(isinstance(k, ast.Constant) and k.value == "role" for k in node.keys)
    if isinstance(node, ast.keyword):
        return bool(node.arg and _MARKER_NAMES.search(node.arg))
    if isinstance(node, ast.Assign):
        return any(_MARKER_NAMES.search(name.lower()) for name in _names(node.targets))
    return False


def _names(targets: list[ast.expr]) -> list[str]:
    return [
        t.id if isinstance(t, ast.Name) else t.attr
        for t in targets
        if isinstance(t, ast.Name | ast.Attribute)
    ]


def _is_prompt(text: str, shown: str) -> bool:
    """Say whether a text has a format's marker and something besides it."""
    if not formats_of(shown):
        return False
    beyond = _MARKER_TEXT.sub(" ", shown)
    return text != shown or len(_WORD.findall(beyond)) >= 2


def is_probe(code: Code, node: ast.expr) -> bool:
    """Say whether a training script only generates from this text, to look at the model."""
    for around in code.ancestors(node):
        if isinstance(around, ast.Assign) and any(
            _PROBE_NAMES.search(name.lower()) for name in _names(around.targets)
        ):
            return True
        if isinstance(around, ast.Lambda):
            return _generates(around)
    function = code.function_of(node)
    if not isinstance(function, ast.Module):
        return _generates(function)
    return _is_tokenised_at_top(code, node)


def _generates(tree: ast.AST) -> bool:
    return any(
        isinstance(n, ast.Call) and dotted(n.func).rsplit(".", 1)[-1] in ("generate", "pipe")
        for n in ast.walk(tree)
    )


def _is_tokenised_at_top(code: Code, node: ast.expr) -> bool:
    """Say whether a module-level text goes straight into a tokenizer or pipeline call."""
    for around in code.ancestors(node):
        if isinstance(around, ast.Call):
            return bool(re.search(r"(?i)tokenizer$|^pipe|generator$", dotted(around.func)))
        if isinstance(around, ast.Assign):
            names = set(_names(around.targets))
            return any(
                isinstance(a, ast.Name) and a.id in names
                for name, call in code.calls()
                if re.search(r"(?i)tokenizer$|^pipe|generator$|generate$", name)
                and isinstance(code.function_of(call), ast.Module)
                for a in _flat(call.args)
            )
    return False


def _flat(arguments: list[ast.expr]) -> Iterator[ast.expr]:
    for argument in arguments:
        if isinstance(argument, ast.List | ast.Tuple):
            yield from argument.elts
        else:
            yield argument
