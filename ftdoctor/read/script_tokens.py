"""How a training script makes tokens of its rows: special tokens, truncation, opened answers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from ftdoctor.read.code import Code, dotted, keyword
from ftdoctor.read.script_prompts import is_probe

Found = tuple[str, Any, int]  # fact name without `script.<role>.`, value, line
_TOKENISES = re.compile(
    r"(?i)^(?:self\.)?(?:\w*tok(?:eni[sz]er)?|processing_class)"
    r"(?:\.(?:__call__|encode|encode_plus|batch_encode_plus))?$"
)
_HELD_OUT = re.compile(r"(?i)(?<![a-z])(?:test|eval|val|valid|validation|dev)(?:[_\W]|$)")
# Columns and names that hold whole conversations, the answers included.
_CONVERSATION = re.compile(
    r"(?i)^(?:messages?|conv|convs|convos?|conversations?|chats?|dialog(?:ue)?s?)$"
)
_TEXT_KEY = re.compile(r"(?i)^(?:text|texts|input_ids|content|formatted\w*|\w*_text|train\w*)$")
_GATHERS = ("append", "extend")


def tokens_of(code: Code) -> Iterator[Found]:
    """Yield `adds_special_tokens` per call of the tokenizer, `truncation_side`, `opens_answer`.

    `opens_answer` is a conversation, answers included, whose rendering for training opens another
    answer (`add_generation_prompt=True`); its value is what is rendered.
    """
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            yield from _set(code, node.targets[0].attr, node.value, node.lineno)
    for name, call in code.calls():
        last = name.rsplit(".", 1)[-1]
        if last == "from_pretrained" and re.search("Tokenizer|Processor", name):
            for word in call.keywords:
                yield from _set(code, word.arg or "", word.value, call.lineno)
        elif _TOKENISES.match(name) and call.args and not is_probe(code, call):
            adds = code.value(keyword(call, "add_special_tokens")) is not False
            yield "adds_special_tokens", adds, call.lineno
        elif last == "apply_chat_template" and (shown := _opens_after_answer(code, call)):
            yield "opens_answer", shown, call.lineno


def _set(code: Code, name: str, value: ast.expr, line: int) -> Iterator[Found]:
    """Yield what an option of the tokenizer says, given to it or set on it."""
    if name == "truncation_side" and isinstance(side := code.value(value), str):
        yield "truncation_side", side, line
    elif name == "add_bos_token" and code.value(value) is False:
        yield "adds_special_tokens", False, line


# --- an answer opened after the answer --------------------------------------------------------


def _opens_after_answer(code: Code, call: ast.Call) -> str:
    """Return what a call renders with an open answer at its end, "" if that is no training row."""
    if code.value(keyword(call, "add_generation_prompt")) is not True or is_probe(code, call):
        return ""
    given = call.args[0] if call.args else keyword(call, "conversation")
    if given is None or not _is_answered(code, given) or not _becomes_text(code, call):
        return ""
    return ast.unparse(given)[:60]


def _is_answered(code: Code, node: ast.expr) -> bool:
    """Say whether an expression is a whole conversation: by its last role, else by its name."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return bool(_CONVERSATION.match(str(node.slice.value)))
    if isinstance(node, ast.List):
        return bool(_last_role(code, node) == "assistant")
    if not isinstance(node, ast.Name):
        return False
    bound = code.bound(node)
    if len(bound) == 1 and isinstance(bound[0].value, ast.List | ast.Subscript):
        return _is_answered(code, bound[0].value)
    if bound:
        return False
    over = _iterated(code, node)
    return over is not None and _is_answered(code, over)


def _iterated(code: Code, name: ast.Name) -> ast.expr | None:
    """Return what the comprehension or loop around a name runs over, if it binds the name."""
    for around in code.ancestors(name):
        loops: list[ast.For | ast.comprehension] = []
        if isinstance(around, ast.ListComp | ast.GeneratorExp):
            loops = list(around.generators)
        elif isinstance(around, ast.For):
            loops = [around]
        for loop in loops:
            if isinstance(loop.target, ast.Name) and loop.target.id == name.id:
                return loop.iter
    return None


def _last_role(code: Code, node: ast.List) -> Any:
    last = node.elts[-1] if node.elts else None
    if not isinstance(last, ast.Dict):
        return None
    for key, value in zip(last.keys, last.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "role":
            return code.value(value)
    return None


def _becomes_text(code: Code, call: ast.expr, depth: int = 4) -> bool:
    """Say whether a text, with nothing put to it, becomes what a row is trained on."""
    if depth <= 0:
        return False
    inside: ast.AST = call
    for around in code.ancestors(call):
        if isinstance(around, ast.Dict):
            return any(
                value is inside and isinstance(key, ast.Constant) and _is_text_key(code, key)
                for key, value in zip(around.keys, around.values, strict=True)
            )
        if isinstance(around, ast.Call):
            last = dotted(around.func).rsplit(".", 1)[-1]
            gathers = last in _GATHERS and isinstance(around.func, ast.Attribute)
            owner = around.func.value if isinstance(around.func, ast.Attribute) else None
            if gathers and isinstance(owner, ast.Name):
                return _named_text(code, owner.id, around, depth)
            return _is_batched(code, around, inside)
        if isinstance(around, ast.Return | ast.Lambda):
            return _formats(code, around)
        if isinstance(around, ast.Assign):
            target = around.targets[0]
            if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                return _is_text_key(code, target.slice)
            if isinstance(target, ast.Tuple) and isinstance(around.value, ast.Tuple):
                pairs = zip(around.value.elts, target.elts, strict=False)
                target = next((t for v, t in pairs if v is inside), target)
            return isinstance(target, ast.Name) and _named_text(code, target.id, around, depth)
        if isinstance(around, ast.Tuple):
            continue
        if isinstance(around, ast.Subscript) and not isinstance(around.slice, ast.Slice):
            return False
        if not isinstance(around, _PASSED):
            return False
        inside = around
    return False


_PASSED = (ast.ListComp, ast.List, ast.keyword, ast.IfExp, ast.Subscript)


def _is_batched(code: Code, call: ast.Call, given: ast.AST) -> bool:
    """Say whether a call makes a batch with labels of the texts given to it, in this file."""
    name = dotted(call.func).rsplit(".", 1)[-1]
    function = next(
        (n for n in code.tree.body if isinstance(n, ast.FunctionDef) and n.name == name), None
    )
    if function is None or given not in call.args[:1] or not function.args.args:
        return False
    taken = function.args.args[0].arg
    encoded = any(
        isinstance(n, ast.Call)
        and _TOKENISES.match(dotted(n.func))
        and any(isinstance(a, ast.Name) and a.id == taken for a in n.args[:1])
        for n in ast.walk(function)
    )
    labels = any(
        (isinstance(n, ast.keyword) and n.arg == "labels")
        or (isinstance(n, ast.Constant) and n.value == "labels")
        for n in ast.walk(function)
    )
    return encoded and labels


def _is_text_key(code: Code, key: ast.Constant) -> bool:
    """Say whether a key of a row is a trained text, of rows that are not held out."""
    statement = next((a for a in code.ancestors(key) if isinstance(a, ast.stmt)), None)
    function = code.function_of(key)
    named = getattr(function, "name", "")
    if isinstance(statement, ast.Assign):
        named += f" {ast.unparse(statement.targets[0])}"
    return bool(_TEXT_KEY.match(str(key.value))) and not _HELD_OUT.search(named)


def _named_text(code: Code, name: str, made: ast.AST, depth: int) -> bool:
    """Say whether every use of a name, in the scope that made it, becomes a trained text."""
    scope = code.scope(made)
    uses = [
        n
        for n in ast.walk(scope)
        if isinstance(n, ast.Name)
        and n.id == name
        and isinstance(n.ctx, ast.Load)
        and not isinstance(code.parents.get(n), ast.Attribute)
    ]
    judged = [use for use in uses if not _only_shown(code, use)]
    return bool(judged) and all(_becomes_text(code, use, depth - 1) for use in judged)


def _only_shown(code: Code, node: ast.expr) -> bool:
    around = code.parents.get(node)
    if isinstance(around, ast.Subscript):
        around = code.parents.get(around)
    return isinstance(around, ast.Call) and dotted(around.func).rsplit(".", 1)[-1] in (
        "print", "info", "debug", "len", "shuffle",
    )  # fmt: skip


def _formats(code: Code, node: ast.Return | ast.Lambda) -> bool:
    """Say whether what a function returns is a row's text: a formatting function by use or name."""
    if isinstance(node, ast.Lambda):
        around = code.parents.get(node)
        return isinstance(around, ast.keyword) and around.arg == "formatting_func"
    name = getattr(code.function_of(node), "name", "")
    given = any(
        isinstance(value := keyword(call, "formatting_func"), ast.Name) and value.id == name
        for _, call in code.calls()
    )
    return bool(name) and given
