"""Whether a loop over turns teaches the end of each answer, or of the last one alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from ftdoctor.read.code import Code

Found = tuple[str, object, int]  # fact name without `script.<role>.`, value, line
_END = re.compile(r"(?i)eos|eot|im_end|end_of|endof|</s>|<\|end|sep_token|stop|chat_template")
_MASKED = re.compile(r"-100\b|(?i:ignore)")
_ADDS = ("append", "extend")


def turn_ends_of(code: Code) -> Iterator[Found]:
    """Yield `turn_ends: last` with the line of a loop that joins turns by hand.

    Its answers are learnt without an end: nothing in it names an end token, the end comes once
    behind the loop, and the text between turns is no label either.
    """
    for loop in ast.walk(code.tree):
        if not isinstance(loop, ast.For) or not _over_turns(loop):
            continue
        if _END.search(_all_text(code, loop)) or not _ends_behind(code, loop):
            continue
        branches = [_additions(body) for body in _bodies(loop)]
        labels = {
            name for adds in branches for name, parts in adds.items() if any(map(_is_masked, parts))
        }
        learnt = [
            parts
            for adds in branches
            for name, parts in adds.items()
            if name in labels and not all(map(_is_masked, parts))
        ]
        if learnt and all(_is_masked(p[-1]) or _ends_open(code, p[-1]) for p in learnt):
            yield "turn_ends", "last", loop.lineno


def _over_turns(loop: ast.For) -> bool:
    """Recognise a loop that asks its variable for a role."""
    names = [re.escape(n.id) for n in ast.walk(loop.target) if isinstance(n, ast.Name)]
    asked = rf"\b(?:{'|'.join(names)})(?:\.get\(|\[)['\"](?:role|from)['\"]"
    return bool(names and re.search(asked, ast.unparse(loop)))


def _all_text(code: Code, loop: ast.For) -> str:
    """Return the loop's code, with that of the names and functions that it uses."""
    parts = [ast.unparse(loop)]
    for node in ast.walk(loop):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in code.functions:
                parts.append(ast.unparse(code.functions[node.id]))
            else:
                parts += [
                    ast.unparse(b.value) for b in code.bound(node) if not _holds(loop, b.value)
                ]
    return "\n".join(part for part in parts if len(part) < 20_000)


def _holds(loop: ast.For, node: ast.expr) -> bool:
    """Say whether a value stands in the loop, or is a list that it fills from empty."""
    return any(node is inner for inner in ast.walk(loop)) or isinstance(node, ast.List)


def _ends_behind(code: Code, loop: ast.For) -> bool:
    """Say whether an end token is added to a list behind the loop, in the same function."""
    last = loop.end_lineno or loop.lineno
    return any(
        node.lineno > last and _END.search(ast.unparse(node))
        for node in ast.walk(code.function_of(loop))
        if isinstance(node, ast.AugAssign)
        or (isinstance(node, ast.Call) and _added_to(node) is not None)
        or (isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp))
    )


def _bodies(loop: ast.For) -> Iterator[Sequence[ast.stmt]]:
    """Yield the loop's body and each branch in it."""
    yield loop.body
    for node in ast.walk(loop):
        if isinstance(node, ast.If):
            yield node.body
            yield node.orelse


def _additions(body: Sequence[ast.stmt]) -> dict[str, list[ast.expr]]:
    """Return what the statements of one branch add to each list, in order."""
    found: dict[str, list[ast.expr]] = {}
    for statement in body:
        if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            found.setdefault(statement.target.id, []).extend(_operands(statement.value))
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            name = _added_to(statement.value)
            if name and statement.value.args:
                found.setdefault(name, []).extend(_operands(statement.value.args[0]))
    return found


def _added_to(call: ast.Call) -> str | None:
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in _ADDS:
        return function.value.id if isinstance(function.value, ast.Name) else None
    return None


def _operands(node: ast.expr) -> list[ast.expr]:
    """Return the summands; of `x if answer else [-100] * n` the side that is learnt."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_operands(node.left), *_operands(node.right)]
    if isinstance(node, ast.IfExp):
        sides = (node.body, node.orelse)
        kept = [side for side in sides if not _is_masked(side)]
        if len(kept) == 1:
            masked = next(side for side in sides if side is not kept[0])
            return [masked, *_operands(kept[0])]
    return [node]


def _is_masked(node: ast.expr) -> bool:
    return bool(_MASKED.search(ast.unparse(node)))


def _ends_open(code: Code, node: ast.expr) -> bool:
    """Say whether tokens are those of a turn's content with no text of the script behind it."""
    if isinstance(node, ast.Name):
        bound = code.bound(node)
        if not bound:
            return False
        node = bound[-1].value
    text = next((n for n in ast.walk(node) if isinstance(n, ast.BinOp | ast.JoinedStr)), None)
    inner = ast.unparse(node)
    if not re.search(r"['\"](?:content|value|text)['\"]", inner):
        return False
    if isinstance(text, ast.JoinedStr):
        return not isinstance(text.values[-1], ast.Constant)
    return not (isinstance(text, ast.BinOp) and isinstance(text.right, ast.Constant))
