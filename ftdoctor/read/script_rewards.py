"""Reward functions of a script: those that pay for every further repetition of a word."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from ftdoctor.read.code import Code, dotted, keyword

Found = tuple[str, Any, int]  # fact name without `script.<role>.`, value, line
_BOUNDS = ("min", "clip", "clamp", "bool", "set", "tanh", "sigmoid", "exp", "range", "print")


def rewards_of(code: Code) -> Iterator[Found]:
    """Yield `reward_counts` per reward function whose value is a count without a bound.

    A count that is compared, divided or cut by `min` pays for no repetition and is left out.
    """
    for _, call in code.calls():
        given = keyword(call, "reward_funcs")
        for item in given.elts if isinstance(given, ast.List | ast.Tuple) else [given]:
            function = code.functions.get(item.id) if isinstance(item, ast.Name) else None
            line = _counting(code, function) if function is not None else None
            if function is not None and line is not None:
                yield "reward_counts", function.name, line


def _counting(code: Code, function: ast.AST) -> int | None:
    """Return the line of a count that a function returns as it is."""
    if any(
        isinstance(n, ast.Call) and dotted(n.func).rsplit(".", 1)[-1] in _BOUNDS
        for n in ast.walk(function)
    ):
        return None
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _counts(node) and not _is_bounded(code, node, function):
            return node.lineno
    return None


def _counts(call: ast.Call) -> bool:
    last = dotted(call.func).rsplit(".", 1)[-1]
    if isinstance(call.func, ast.Attribute) and call.func.attr == "count":
        return len(call.args) == 1
    inner = call.args[0] if last == "len" and call.args else None
    return isinstance(inner, ast.Call) and dotted(inner.func).rsplit(".", 1)[-1] == "findall"


def _is_bounded(code: Code, node: ast.AST, function: ast.AST) -> bool:
    """Say whether a count is compared, tested, divided, or taken off on its way to the value."""
    inside = node
    for around in code.ancestors(node):
        if around is function:
            return False
        if isinstance(around, ast.Compare):
            return True
        if isinstance(around, ast.If | ast.IfExp | ast.While) and around.test is inside:
            return True
        if isinstance(around, ast.comprehension) and inside in around.ifs:
            return True
        if isinstance(around, ast.BinOp) and isinstance(around.op, ast.Div | ast.Sub | ast.Mod):
            return True
        if isinstance(around, ast.UnaryOp) or (
            isinstance(around, ast.AugAssign) and not isinstance(around.op, ast.Add)
        ):
            return True
        inside = around
    return False
