"""Training rows that a script writes by a template of its own, whatever headings and columns."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from ftdoctor.read.code import CLOSE, OPEN, Code, dotted, keyword, readable
from ftdoctor.read.prompts import STOP_TEXTS, formats_of
from ftdoctor.read.script_prompts import is_probe

Found = tuple[str, object, int]
_SLOT = re.compile(f"{re.escape(OPEN)}[^{re.escape(CLOSE)}]*{re.escape(CLOSE)}")
_WORD = re.compile(r"[^\W\d_]{2,}")
_FEWEST_WORDS = 1  # of the template itself: `{a} {b}` is a join, no format (judgement)
_CAUSAL = re.compile(r"(?:AutoModelForCausalLM|\w+ForCausalLM|\w+LMHeadModel)\b")
_EOS = re.compile(r"(?i)(?<![a-z])eo[st](?![a-z])|end of (?:text|sequence|turn)")
_LISTS = (ast.ListComp, ast.GeneratorExp, ast.For, ast.FunctionDef, ast.Lambda)


def written_rows_of(code: Code) -> Iterator[Found]:
    """Yield `written_row` with its line: the text with slots that rows of a causal model become.

    Only of a script that names no end token but for padding and generation, so that nothing of it
    can put one behind; the text takes two values of a row or more, and ends with one of them.
    """
    names = [name for name, _ in code.calls()]
    if not any(map(_CAUSAL.search, names)) or any(n.endswith("chat_template") for n in names):
        return
    if _names_an_end(code):
        return
    for node in ast.walk(code.tree):
        if not isinstance(node, ast.JoinedStr | ast.BinOp | ast.Call):
            continue
        text = _format_of(code, node)
        if text and not is_probe(code, node) and _is_row(code, node):
            yield "written_row", readable(text), node.lineno
            return


def _format_of(code: Code, node: ast.expr) -> str:
    """Return the text with slots that an expression writes, "" for no training row."""
    if isinstance(node, ast.Call) and dotted(node.func).rsplit(".", 1)[-1] != "format":
        return ""
    text = code.text(node) or ""
    slots = _SLOT.findall(text)
    if len(slots) < 2 or not text.rstrip().endswith(slots[-1]) or len(set(slots)) < 2:
        return ""
    words = _WORD.findall(_SLOT.sub(" ", text))
    return text if len(words) >= _FEWEST_WORDS and not formats_of(readable(text)) else ""


def _is_row(code: Code, node: ast.expr) -> bool:
    """Say whether a text is made of rows, one by one, and is shown or joined to nothing."""
    rows = False
    for around in code.ancestors(node):
        if isinstance(around, ast.Call):
            last = dotted(around.func).rsplit(".", 1)[-1]
            if last not in ("append", "list", "tok", "tokenizer", "encode", "strip", "map"):
                return False
        if isinstance(around, ast.BinOp | ast.JoinedStr | ast.Raise | ast.Assert | ast.Compare):
            return False
        rows = rows or isinstance(around, _LISTS)
        if isinstance(around, ast.For) and _generates(around):
            return False
    return rows and any("[" in ast.unparse(n) or "." in ast.unparse(n) for n in _values(node))


def _values(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the expressions that fill the slots."""
    for part in ast.walk(node):
        if isinstance(part, ast.FormattedValue):
            yield part.value
        elif isinstance(part, ast.Call):
            yield from part.args
            yield from (word.value for word in part.keywords)
        elif isinstance(part, ast.BinOp):
            yield from (part.left, part.right)


def _generates(tree: ast.AST) -> bool:
    calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call))
    return any(dotted(n.func).rsplit(".", 1)[-1] == "generate" for n in calls)


def _names_an_end(code: Code) -> bool:
    """Say whether the script names an end token in a way that may put it behind a text."""
    for node in ast.walk(code.tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and any(stop in text for stop in STOP_TEXTS):
            return True
        if isinstance(node, ast.Call) and keyword(node, "add_eos_token") is not None:
            return True
        if isinstance(node, ast.Attribute | ast.Name | ast.arg):
            name = getattr(node, "attr", "") or getattr(node, "id", "") or getattr(node, "arg", "")
            if _EOS.search(name.replace("_", " ")) and not _is_aside(code, node):
                return True
    return False


def _is_aside(code: Code, node: ast.AST) -> bool:
    """Say whether an end token is named for padding, for generation or to be shown."""
    for around in code.ancestors(node):
        if isinstance(around, ast.keyword):
            return bool(re.search(r"(?:pad|eos)_token", around.arg or ""))
        if isinstance(around, ast.Call):
            last = dotted(around.func).rsplit(".", 1)[-1]
            return last in ("generate", "print", "info")
        if isinstance(around, ast.Assign):
            targets = " ".join(ast.unparse(t) for t in around.targets)
            return "pad_token" in targets and isinstance(around.value, ast.Attribute)
    return False
