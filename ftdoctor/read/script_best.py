"""Which metric decides on the checkpoint that is kept or on the end, and in which direction."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from ftdoctor.read.code import Code, dotted, keyword

Found = tuple[str, list[str], int]  # fact name without `script.<role>.`, [metric, min or max], line
_WATCHES = re.compile(r"(?:^|\.)(?:ModelCheckpoint|EarlyStopping)$")
_LIGHTNING = re.compile(r"^(?:pytorch_lightning|lightning)\b")
_SAVES = re.compile(r"(?:^|[._])save(?:$|_)|(?:^|\.)deepcopy$")


def kept_best_of(code: Code) -> Iterator[Found]:
    """Yield `kept_best` of each callback that watches a metric, and of each own comparison."""
    lightning = any(_LIGHTNING.match(name) for name in _imported(code))
    for name, call in code.calls():
        if not _WATCHES.search(name):
            continue
        metric = code.value(keyword(call, "monitor") or (call.args[0] if call.args else None))
        given = keyword(call, "mode")
        # Lightning minimises what it is not told of; Keras goes by the metric's name.
        mode = code.value(given) if given is not None else "min" if lightning else None
        if keyword(call, "monitor") is None and not name.endswith("EarlyStopping"):
            continue  # the first argument of ModelCheckpoint is a folder
        if isinstance(metric, str) and mode in ("min", "max"):
            yield "kept_best", [metric, mode], call.lineno
    for node in ast.walk(code.tree):
        if isinstance(node, ast.If) and (found := _compared(node)) is not None:
            yield "kept_best", found, node.lineno


def _imported(code: Code) -> Iterator[str]:
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _compared(node: ast.If) -> list[str] | None:
    """Return what `if loss < best: best = loss; save(…)` keeps: the metric and its direction."""
    test = node.test
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return None
    left, right = ast.unparse(test.left), ast.unparse(test.comparators[0])
    rises = isinstance(test.ops[0], ast.Gt | ast.GtE)
    if not rises and not isinstance(test.ops[0], ast.Lt | ast.LtE):
        return None
    inside = [inner for statement in node.body for inner in ast.walk(statement)]
    if not any(isinstance(n, ast.Call) and _SAVES.search(dotted(n.func)) for n in inside):
        return None
    for inner in inside:
        if not isinstance(inner, ast.Assign):
            continue
        target, value = ast.unparse(inner.targets[0]), ast.unparse(inner.value)
        if (target, value) == (right, left):
            return [left, "max" if rises else "min"]
        if (target, value) == (left, right):
            return [right, "min" if rises else "max"]
    return None
