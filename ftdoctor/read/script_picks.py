"""Which of several checkpoints a script takes: the first or the last of their names in order."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from ftdoctor.read.code import Code, dotted

Found = tuple[str, object, int]
_CHECKPOINTS = re.compile(r"(?i)checkpoint|ckpt|version_|adapter|epoch|step")


def picks_of(code: Code) -> Iterator[Found]:
    """Yield `picks_checkpoint`: [pattern, "first" or "last"] of `sorted(glob(pattern))[0]`.

    An order by a key, as the time of a file, is left alone.
    """
    for node in ast.walk(code.tree):
        if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Call):
            continue
        place = code.value(node.slice)
        ordered = node.value
        if place not in (0, -1) or dotted(ordered.func) != "sorted" or ordered.keywords:
            continue
        pattern = _pattern(code, ordered.args[0] if ordered.args else None)
        if pattern and "*" in pattern and _CHECKPOINTS.search(pattern):
            yield "picks_checkpoint", [pattern, "first" if place == 0 else "last"], node.lineno


def _pattern(code: Code, node: ast.expr | None) -> str:
    """Return the pattern of a call of `glob`, of any module or path."""
    if not isinstance(node, ast.Call):
        return ""
    last = dotted(node.func).rsplit(".", 1)[-1]
    if last not in ("glob", "iglob", "rglob") or not node.args:
        return ""
    value = code.value(node.args[0])
    return value if isinstance(value, str) else ""
