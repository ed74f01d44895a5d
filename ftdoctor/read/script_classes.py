"""Whether a script trains a classifier: a head of so many classes, judged by its highest score."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from ftdoctor.read.code import Code, dotted

Found = tuple[str, object, int]
_CLASSIFIER = re.compile(r"For(?:Sequence|Token|Image|Audio|Text)Classification\b")
_CLASSES = re.compile(r"(?i)n(?:um)?_?(?:labels|classes|cls|tags|intents|topics)|label|class")
_MOST_CLASSES = 1000  # of a head whose width is a number; vocabularies are larger


def classes_of(code: Code) -> Iterator[Found]:
    """Yield `classifies` with its line: a classification model, or a head of one's own.

    The head is a linear layer as wide as there are classes, in a file that compares the highest
    score with the label; a language model's is as wide as the vocabulary.
    """
    head = 0
    for name, call in code.calls():
        if _CLASSIFIER.search(name):
            yield "classifies", True, call.lineno
            return
        if name.rsplit(".", 1)[-1] == "Linear" and _as_wide_as_classes(code, call):
            head = head or call.lineno
    if head and any(_is_hit(node) for node in ast.walk(code.tree)):
        yield "classifies", True, head


def _as_wide_as_classes(code: Code, call: ast.Call) -> bool:
    widths = [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "out_features")]
    return any(_is_few(code, width) for width in widths)


def _is_few(code: Code, width: ast.expr) -> bool:
    value = code.value(width)
    if isinstance(value, int) and not isinstance(value, bool):
        return 2 <= value <= _MOST_CLASSES and isinstance(width, ast.Constant)
    return bool(_CLASSES.search(ast.unparse(width)))


def _is_hit(node: ast.AST) -> bool:
    """Recognise `scores.argmax(-1) == labels`, however it is turned."""
    if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq):
        return False
    sides = (node.left, *node.comparators)
    return any(
        isinstance(side, ast.Call) and dotted(side.func).rsplit(".", 1)[-1] == "argmax"
        for side in sides
    )
