"""Where a script's mask of labels ends: after the prompt's length, or after a text it looks for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from ftdoctor.read.code import Code, dotted, keyword
from ftdoctor.read.script_labels import Found, ignored_labels

# Calls that take the text whose tokens they look for, and the name of that parameter.
_LOOKING = {"DataCollatorForCompletionOnlyLM": "response_template",
            "train_on_responses_only": "response_part"}  # fmt: skip
_SEARCHES = re.compile(r"(?i)^(?:find|rfind|index|rindex|search|where|nonzero|argmax|enumerate)$")
_DEPTH = 4  # names followed from the length back to where it is counted


def boundaries_of(code: Code) -> Iterator[Found]:
    """Yield `label_marker`, the text after which labels are kept, or `label_boundary`: length.

    Nothing where neither can be told from the code: then only a run would show what is masked.
    """
    for name, call in code.calls():
        wanted = _LOOKING.get(name.rsplit(".", 1)[-1])
        if wanted is not None:
            given = keyword(call, wanted) or next(iter(call.args), None)
            text = code.value(given)
            if isinstance(text, str) and text:
                yield "label_marker", text, call.lineno
    for node in ignored_labels(code):
        marker = _marker_near(code, node)
        if marker is not None:
            yield "label_marker", marker, node.lineno
        elif any(_is_length(code, count) for count in _counts(code, node)):
            yield "label_boundary", "length", node.lineno


def _counts(code: Code, node: ast.expr) -> Iterator[ast.expr]:
    """Yield how many labels are ignored: of `[-100] * n`, and of `labels[:n] = -100`."""
    for around in code.ancestors(node):
        if isinstance(around, ast.BinOp) and isinstance(around.op, ast.Mult):
            yield from (around.left, around.right)
        if isinstance(around, ast.Assign):
            for target in around.targets:
                cut = target.slice if isinstance(target, ast.Subscript) else None
                last = cut.elts[-1] if isinstance(cut, ast.Tuple) and cut.elts else cut
                if isinstance(last, ast.Slice) and last.upper is not None:
                    yield last.upper
        if isinstance(around, ast.stmt):
            return


def _is_length(code: Code, count: ast.expr) -> bool:
    """Say whether a number is counted, as `len(prompt_ids)`, and not searched for."""
    parts = list(_traced(code, count, _DEPTH))
    called = {dotted(p.func).rsplit(".", 1)[-1] for p in parts if isinstance(p, ast.Call)}
    shaped = any(isinstance(p, ast.Attribute) and p.attr == "shape" for p in parts)
    return ("len" in called or shaped) and not any(map(_SEARCHES.match, called))


def _traced(code: Code, node: ast.AST, depth: int) -> Iterator[ast.AST]:
    """Yield the parts of an expression, and of what its names are bound to."""
    for part in ast.walk(node):
        yield part
        if isinstance(part, ast.Name) and depth:
            for bound in code.bound(part)[:1]:
                yield from _traced(code, bound.value, depth - 1)


def _marker_near(code: Code, node: ast.AST) -> str | None:
    """Return the text that the function around a mask tokenises and then looks for."""
    function = code.function_of(node)
    for part in ast.walk(function):
        if not isinstance(part, ast.Assign) or not isinstance(part.targets[0], ast.Name):
            continue
        text = _tokenised(code, part.value)
        if text and _is_sought(function, part.targets[0].id):
            return text
    return None


def _tokenised(code: Code, node: ast.AST) -> str | None:
    """Return the constant text whose tokens an expression is: `tokenizer("### A:").input_ids`."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    if not isinstance(node, ast.Call) or not node.args or "tok" not in dotted(node.func).lower():
        return None
    text = code.value(node.args[0])
    return text if isinstance(text, str) and text else None


def _is_sought(function: ast.AST, name: str) -> bool:
    """Say whether a name is compared, or given to a search."""

    def names(node: ast.AST) -> bool:
        return any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node))

    for node in ast.walk(function):
        if isinstance(node, ast.Compare) and names(node):
            return True
        if isinstance(node, ast.Call) and any(map(names, node.args)):
            last = dotted(node.func).rsplit(".", 1)[-1]
            if re.search(r"(?i)find|index|search|locate|match", last):
                return True
    return False
