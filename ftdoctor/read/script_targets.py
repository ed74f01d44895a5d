"""What a script makes its targets of where they are encoded apart from the inputs.

Encoder-decoders encode the target by a call of its own, with a limit of its own; token classifiers
lay the labels of words on the pieces that the tokenizer makes of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ftdoctor.read.code import Code, keyword

Found = tuple[str, object, int]
# Keys of one row of which the second is learnt as the answer to the first.
_PAIRS = (
    ("prompt", "completion"), ("input", "output"), ("question", "answer"),
    ("instruction", "response"), ("instruction", "output"), ("source", "target"),
)  # fmt: skip
_ALIGNING = ("word_ids", "offset_mapping", "offsets", "word_to_tokens", "tokenize_and_align_labels")


def targets_of(code: Code) -> Iterator[Found]:
    """Yield `target_limit`, `target_is_input` and `word_labels` with their lines."""
    aligned = _names_any(code, _ALIGNING)
    for _, call in code.calls():
        target = keyword(call, "text_target")
        if target is not None:
            yield from _limit(code, call)
            yield from _same_column(code, call, target)
        if code.value(keyword(call, "is_split_into_words")) is True:
            yield "word_labels", "aligned" if aligned else "unaligned", call.lineno
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Dict):
            yield from _same_in_row(code, node)


def _names_any(code: Code, names: tuple[str, ...]) -> bool:
    return any(
        getattr(node, "attr", None) in names
        or getattr(node, "id", None) in names
        or (isinstance(node, ast.keyword) and node.arg == "return_offsets_mapping")
        or (isinstance(node, ast.FunctionDef) and "align" in node.name)
        for node in ast.walk(code.tree)
    )


def _limit(code: Code, call: ast.Call) -> Iterator[Found]:
    limit = code.value(keyword(call, "max_length"))
    asked = keyword(call, "truncation")
    truncates = asked is not None and code.value(asked) not in (None, False)
    if isinstance(limit, int) and not isinstance(limit, bool) and truncates:
        yield "target_limit", limit, call.lineno


def _same_column(code: Code, call: ast.Call, target: ast.expr) -> Iterator[Found]:
    """Yield the column if the encoding beside this one, or this one's own input, is of the same."""
    wanted = _column(code, target)
    inputs = [call, *(c for _, c in code.calls() if code.function_of(c) is code.function_of(call))]
    beside = [c for c in inputs if c.args and ast.dump(c.func) == ast.dump(call.func)]
    columns = {_column(code, c.args[0]) for c in beside} - {""}
    if wanted and columns == {wanted}:
        yield "target_is_input", wanted, call.lineno


def _same_in_row(code: Code, node: ast.Dict) -> Iterator[Found]:
    given = {
        str(key.value): value
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant)
    }
    for first, second in _PAIRS:
        if first in given and second in given:
            column = _column(code, given[first])
            if column and column == _column(code, given[second]):
                yield "target_is_input", column, node.lineno


def _column(code: Code, node: ast.AST) -> str:
    """Return the only column that an expression reads whole, "" if it reads none or several.

    `row["messages"][:-1]` and `row["messages"][-1:]` are parts of one column, and not the same.
    """
    if isinstance(node, ast.Name):
        bound = code.bound(node)
        node = bound[0].value if len(bound) == 1 and bound[0].value is not None else node
    places = [inner.slice for inner in ast.walk(node) if isinstance(inner, ast.Subscript)]
    found = {place.value if isinstance(place, ast.Constant) else None for place in places}
    only = found.pop() if len(found) == 1 else None
    return only if isinstance(only, str) else ""
