"""Which keys a script reads from the turns of a conversation, and which from a row by `.get`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ftdoctor.read.code import Code, dotted

Found = tuple[str, Any, int]  # fact name without `script.<role>.`, value, line
MOST = 12  # facts of one file
_DEPTH = 3  # helpers and names that are followed
_WRAPS = ("enumerate", "list", "reversed", "tuple", "iter")
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


@dataclass
class Reads:
    """Keys taken from one dictionary: all of them, and those that may be missing in silence."""

    line: int
    keys: list[str] = field(default_factory=list)
    quiet: list[str] = field(default_factory=list)
    whole: bool = False  # it is also handed on as it is, to where its keys are not seen

    def value(self, column: str) -> dict[str, Any]:
        """Return the fact's value."""
        return {"of": column, "keys": list(dict.fromkeys(self.keys)), "quiet": self.quiet}


def keys_of(code: Code) -> Iterator[Found]:
    """Yield `turn_keys` per loop over a row's turns, `row_keys` per function that reads a row.

    The value holds `of` (the column of the turns, "" for the row), `keys` and `quiet`, those read
    by `.get`. A turn or a row that is handed on whole is left out.
    """
    found = 0
    for turn, column, body in _loops(code):
        reads = _reads(code, turn, body, _DEPTH)
        if reads.keys and not reads.whole and found < MOST:
            found += 1
            yield "turn_keys", reads.value(column), reads.line
    for function in list(code.functions.values()):
        row = function.args.args[0].arg if len(function.args.args) == 1 else ""
        reads = _reads(code, row, list(function.body), 0) if row else Reads(0)
        if reads.quiet and not reads.whole and found < MOST:
            found += 1
            yield "row_keys", reads.value(""), reads.line


def _loops(code: Code) -> Iterator[tuple[str, str, list[ast.AST]]]:
    """Yield the name of a turn, the column it is of, and the code in which it has that name."""
    for node in ast.walk(code.tree):
        if isinstance(node, ast.For):
            parts: list[tuple[ast.expr, ast.expr, list[ast.AST]]] = [
                (node.target, node.iter, list(node.body))
            ]
        elif isinstance(node, _COMPREHENSIONS):
            made: list[ast.AST] = (
                [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            )
            made += [test for part in node.generators for test in part.ifs]
            parts = [(part.target, part.iter, made) for part in node.generators]
        else:
            continue
        for target, over, body in parts:
            name = target.elts[-1] if isinstance(target, ast.Tuple) and target.elts else target
            column = _column(code, over, _DEPTH)
            if column and isinstance(name, ast.Name):
                yield name.id, column, body


def _column(code: Code, node: ast.expr, depth: int) -> str:
    """Return the column whose elements an expression gives one after another, "" if unknown."""
    if depth <= 0:
        return ""
    if isinstance(node, ast.Call) and dotted(node.func) in _WRAPS and node.args:
        return _column(code, node.args[0], depth - 1)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        return _column(code, node.value, depth - 1)
    if isinstance(node, ast.BoolOp):  # row["turns"] or []
        return _column(code, node.values[0], depth - 1)
    if isinstance(node, ast.Name):
        if len(bound := code.bound(node)) == 1:
            return _column(code, bound[0].value, depth - 1)
        return _column_of_batch(code, node, depth - 1)
    return _key(node)


def _column_of_batch(code: Code, node: ast.Name, depth: int) -> str:
    """Return the column of the conversations of a batch that a loop around goes through."""
    for around in code.ancestors(node):
        parts = around.generators if isinstance(around, _COMPREHENSIONS) else [around]
        for part in parts:
            if not isinstance(part, ast.For | ast.comprehension):
                continue
            if isinstance(part.target, ast.Name) and part.target.id == node.id:
                return _column(code, part.iter, depth)
    return ""


def _key(node: ast.AST) -> str:
    """Return the text key that `x["key"]` or `x.get("key", …)` takes, "" for anything else."""
    taken: ast.expr | None = None
    if isinstance(node, ast.Subscript):
        taken = node.slice
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        taken = node.args[0] if node.func.attr in ("get", "pop") else None
    is_text = isinstance(taken, ast.Constant) and isinstance(taken.value, str)
    return str(taken.value) if is_text else ""  # type: ignore[union-attr]


def _reads(code: Code, name: str, body: list[ast.AST], depth: int) -> Reads:
    """Return the keys that code takes from the dictionary of a name, through helpers too."""
    found = Reads(getattr(body[0], "lineno", 0) if body else 0)
    for part in body:
        for node in ast.walk(part):
            if isinstance(node, ast.Name) and node.id == name:
                _one_read(code, node, found, depth)
    return found


def _one_read(code: Code, node: ast.Name, found: Reads, depth: int) -> None:
    around = code.parents.get(node)
    outer = code.parents.get(around) if around is not None else None
    if isinstance(around, ast.Attribute) and isinstance(outer, ast.Call) and (key := _key(outer)):
        found.keys.append(key)
        found.quiet += [key] if key not in found.quiet else []
    elif isinstance(around, ast.Subscript) and around.value is node and (key := _key(around)):
        found.keys.append(key)
    elif isinstance(around, ast.Compare) and isinstance(around.left, ast.Constant):
        found.keys.append(str(around.left.value))
    elif isinstance(around, ast.Call) and depth > 0 and _helper(code, around, node) is not None:
        function = _helper(code, around, node)
        assert function is not None
        inner = _reads(code, function.args.args[0].arg, list(function.body), depth - 1)
        found.keys += inner.keys
        found.quiet += inner.quiet
        found.whole |= inner.whole
    else:
        found.whole = True


def _helper(
    code: Code, call: ast.Call, given: ast.Name
) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the function of this file that a call hands the dictionary to as its first value."""
    function = code.functions.get(call.func.id) if isinstance(call.func, ast.Name) else None
    first = bool(call.args) and call.args[0] is given
    return function if function is not None and first and function.args.args else None
