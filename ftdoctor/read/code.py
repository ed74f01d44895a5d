"""A parsed Python file: what its names are bound to, as plain values and as texts with slots.

Nothing is executed. A text is rendered symbolically: f-strings, `.format`, `%`, `+`, `join`,
constants and helper functions of the same file are followed, and what only running would tell
becomes a slot, `{instruction}`. The order of the source lines stands in for control flow, so the
answer is the likely text, not a proof.
"""

from __future__ import annotations

import ast
import string
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

OPEN, CLOSE = "\ue000", "\ue001"  # private-use characters around a slot's name, until `readable`
UNKNOWN = object()
_DEPTH = 14  # nested names and calls followed; deeper code is not a prompt template
_BUDGET = 60_000  # expressions rendered per file, against files made to blow up
_LENGTH = 20_000  # characters of one rendered text
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.Module)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Frame = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Binding:
    """One assignment to a name: `extends` for `+=`."""

    line: int
    value: ast.expr
    extends: bool = False


@dataclass
class Code:
    """One module's syntax tree with its indexes; rendering marks the bindings that it consumed."""

    tree: ast.Module
    consumed: set[int] = field(default_factory=set)
    budget: int = _BUDGET

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """Return every node's parent."""
        return {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
        """Return the functions and methods by name; of equal names the last."""
        return {n.name: n for n in ast.walk(self.tree) if isinstance(n, _FUNCTIONS)}

    @cached_property
    def bindings(self) -> dict[ast.AST, dict[str, list[Binding]]]:
        """Return per scope the assignments to each name, in order of lines."""
        found: dict[ast.AST, dict[str, list[Binding]]] = {}
        for node in ast.walk(self.tree):
            for name, binding in _bindings(node):
                found.setdefault(self.scope(node), {}).setdefault(name, []).append(binding)
        for names in found.values():
            for bound in names.values():
                bound.sort(key=lambda b: b.line)
        return found

    @cached_property
    def attributes(self) -> dict[str, ast.expr]:
        """Return what attributes are set to: class bodies, `self.x = …`, and argparse defaults."""
        found: dict[str, ast.expr] = {}
        for scope, names in self.bindings.items():
            if isinstance(scope, ast.ClassDef):
                found |= {name: bound[-1].value for name, bound in names.items()}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Attribute):
                        found.setdefault(target.attr, node.value)
            elif isinstance(node, ast.Call):
                found |= dict(argparse_default(node))
        return found

    def scope(self, node: ast.AST) -> ast.AST:
        """Return the function, class or module that a node stands in."""
        parent = self.parents.get(node)
        while parent is not None and not isinstance(parent, _SCOPES):
            parent = self.parents.get(parent)
        return parent or self.tree

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield a node's parent, its parent, and so on to the module."""
        parent = self.parents.get(node)
        while parent is not None:
            yield parent
            parent = self.parents.get(parent)

    def function_of(self, node: ast.AST) -> ast.AST:
        """Return the innermost function around a node, or the module."""
        around = (a for a in self.ancestors(node) if isinstance(a, _FUNCTIONS))
        return next(around, self.tree)

    @cached_property
    def _calls(self) -> tuple[tuple[str, ast.Call], ...]:
        found = [n for n in ast.walk(self.tree) if isinstance(n, ast.Call)]
        found.sort(key=lambda c: (c.lineno, c.col_offset))
        return tuple((dotted(call.func), call) for call in found)

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Yield (dotted name, call) for every call, in order of lines."""
        yield from self._calls

    def bound(self, node: ast.Name) -> list[Binding]:
        """Return what a name is bound to where it is used: its last assignment, then its `+=`."""
        scope: ast.AST | None = self.scope(node)
        first = True
        while scope is not None:
            bound = self.bindings.get(scope, {}).get(node.id, [])
            if bound:
                before = [b for b in bound if not first or b.line <= node.lineno] or bound
                start = max((i for i, b in enumerate(before) if not b.extends), default=0)
                return before[start:]
            if _is_parameter(scope, node.id):
                return []
            scope = None if scope is self.tree else self.scope(scope)
            first = False
        return []

    # --- values -----------------------------------------------------------------------------

    def value(self, node: ast.AST | None, depth: int = _DEPTH) -> Any:
        """Return a literal, constant or default as plain data; UNKNOWN if only running tells."""
        self.budget -= 1
        if node is None or depth <= 0 or self.budget <= 0:
            return UNKNOWN
        if isinstance(node, ast.Constant):
            return node.value if not isinstance(node.value, bytes | complex) else UNKNOWN
        if isinstance(node, ast.UnaryOp | ast.BinOp):
            return self._computed(node, depth)
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            items = [self.value(item, depth - 1) for item in node.elts[:200]]
            return UNKNOWN if any(item is UNKNOWN for item in items) else items
        if isinstance(node, ast.Dict):
            return self._mapping(node, depth)
        if isinstance(node, ast.Name):
            bound = self.bound(node)
            return self.value(bound[-1].value, depth - 1) if len(bound) == 1 else UNKNOWN
        if isinstance(node, ast.Attribute):
            return self._attribute_value(node, depth)
        if isinstance(node, ast.Call):
            return self._called_value(node, depth)
        if isinstance(node, ast.Subscript):
            found = self._item(node)
            return self.value(found, depth - 1) if found is not None else UNKNOWN
        if isinstance(node, ast.JoinedStr):
            return self._plain_text(node, depth)
        return UNKNOWN

    def _plain_text(self, node: ast.AST, depth: int) -> Any:
        text = self.text(node, depth)
        return UNKNOWN if text is None or OPEN in text else text

    def _computed(self, node: ast.UnaryOp | ast.BinOp, depth: int) -> Any:
        if isinstance(node, ast.UnaryOp):
            operand = self.value(node.operand, depth - 1)
            if isinstance(node.op, ast.USub) and _is_number(operand):
                return -operand
            if isinstance(node.op, ast.Not) and isinstance(operand, bool):
                return not operand
            return UNKNOWN
        left, right = self.value(node.left, depth - 1), self.value(node.right, depth - 1)
        if isinstance(node.op, ast.Div) and isinstance(left, str) and isinstance(right, str):
            return f"{left}/{right}"  # pathlib
        if isinstance(left, str) or isinstance(right, str):
            return self._plain_text(node, depth)
        if not (_is_number(left) and _is_number(right)):
            return UNKNOWN
        try:
            return _arithmetic(node.op, left, right)
        except (ArithmeticError, ValueError):
            return UNKNOWN

    def _mapping(self, node: ast.Dict, depth: int) -> Any:
        found = {}
        for key, inner in zip(node.keys[:200], node.values, strict=False):
            name, value = self.value(key, depth - 1), self.value(inner, depth - 1)
            if not isinstance(name, str) or value is UNKNOWN:
                return UNKNOWN
            found[name] = value
        return found

    def _attribute_value(self, node: ast.Attribute, depth: int) -> Any:
        whole = dotted(node)
        if whole.startswith(("torch.", "mx.", "jnp.", "np.")):
            return node.attr
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if owner.endswith("Strategy") or owner.endswith("Type"):
            return node.attr.lower()
        bound = self.attributes.get(node.attr)
        return self.value(bound, depth - 1) if bound is not None else UNKNOWN

    def _called_value(self, node: ast.Call, depth: int) -> Any:
        name = dotted(node.func)
        last = name.rsplit(".", 1)[-1]
        if name in ("os.environ.get", "os.getenv") and len(node.args) > 1:
            return self.value(node.args[1], depth - 1)
        if last in ("Path", "PosixPath", "str", "abspath", "expanduser", "int", "float", "resolve"):
            inner = node.args[0] if node.args else getattr(node.func, "value", None)
            return self.value(inner, depth - 1)
        if name in ("os.path.join", "join", "path.join"):
            parts = [self.value(arg, depth - 1) for arg in node.args]
            return "/".join(parts) if all(isinstance(p, str) for p in parts) else UNKNOWN
        if last == "field":
            default = keyword(node, "default") or keyword(node, "default_factory")
            inner = default.body if isinstance(default, ast.Lambda) else default
            return self.value(inner, depth - 1)
        if last in ("dict",) and not node.args:
            found = {k.arg: self.value(k.value, depth - 1) for k in node.keywords if k.arg}
            return UNKNOWN if any(v is UNKNOWN for v in found.values()) else found
        return self._plain_text(node, depth)

    def _item(self, node: ast.Subscript) -> ast.expr | None:
        """Return the element that a constant index takes from a literal dict or list."""
        container: ast.expr | None = node.value
        if isinstance(container, ast.Name):
            bound = self.bound(container)
            container = bound[-1].value if len(bound) == 1 else None
        elif isinstance(container, ast.Attribute):
            container = self.attributes.get(container.attr)
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if isinstance(container, ast.Dict):
            for name, value in zip(container.keys, container.values, strict=True):
                if isinstance(name, ast.Constant) and name.value == key:
                    return value
        if isinstance(container, ast.List | ast.Tuple) and isinstance(key, int):
            return container.elts[key] if key < len(container.elts) else None
        return None

    # --- texts ------------------------------------------------------------------------------

    def text(
        self, node: ast.AST | None, depth: int = _DEPTH, frame: Frame | None = None
    ) -> str | None:
        """Render a text with slots between OPEN and CLOSE, or None if the expression is no text."""
        self.budget -= 1
        if node is None or depth <= 0 or self.budget <= 0:
            return None
        found = self._text(node, depth - 1, frame or {})
        return found[:_LENGTH] if found is not None else None

    def piece(self, node: ast.AST, depth: int, frame: Frame) -> str:
        """Render a part of a text: itself if it is a text, else a slot named after it."""
        found = self.text(node, depth, frame)
        return found if found is not None else slot(node)

    def _text(self, node: ast.AST, depth: int, frame: Frame) -> str | None:
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.JoinedStr):
            return "".join(self.piece(part, depth, frame) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return self.piece(node.value, depth, frame)
        if isinstance(node, ast.BinOp):
            return self._operation(node, depth, frame)
        if isinstance(node, ast.Call):
            return self._call_text(node, depth, frame)
        if isinstance(node, ast.Name):
            return self._name_text(node, depth, frame)
        if isinstance(node, ast.Attribute):
            return self._attribute_text(node, depth, frame)
        if isinstance(node, ast.Subscript):
            found = self._item(node)
            self._consume(found)
            return self.text(found, depth, frame) if found is not None else None
        if isinstance(node, ast.IfExp):
            return _longer(self.text(node.body, depth, frame), self.text(node.orelse, depth, frame))
        if isinstance(node, ast.BoolOp):
            texts = (self.text(value, depth, frame) for value in node.values)
            return next((t for t in texts if t is not None), None)
        return None

    def _consume(self, node: ast.AST | None) -> None:
        if node is not None:
            self.consumed.add(id(node))

    def _operation(self, node: ast.BinOp, depth: int, frame: Frame) -> str | None:
        left = self.text(node.left, depth, frame)
        if isinstance(node.op, ast.Mod):
            return self._percent(left, node.right, depth, frame) if left is not None else None
        if not isinstance(node.op, ast.Add):
            return None
        right = self.text(node.right, depth, frame)
        if left is None and right is None:
            return None
        return (slot(node.left) if left is None else left) + (
            slot(node.right) if right is None else right
        )

    def _percent(self, left: str, right: ast.expr, depth: int, frame: Frame) -> str:
        if isinstance(right, ast.Dict):
            for key, value in zip(right.keys, right.values, strict=True):
                if isinstance(key, ast.Constant):
                    left = left.replace(f"%({key.value!s})s", self.piece(value, depth, frame))
            return left
        items = right.elts if isinstance(right, ast.Tuple) else [right]
        for item in items:
            left = left.replace("%s", self.piece(item, depth, frame), 1)
        return left

    def _name_text(self, node: ast.Name, depth: int, frame: Frame) -> str | None:
        if node.id in frame:
            return frame[node.id]
        bound = self.bound(node)
        if not bound:
            return None
        parts = [self.text(b.value, depth, frame) for b in bound]
        if parts[0] is None and len(parts) == 1:
            return None
        if any(b.value is node for b in bound):
            return None
        for b in bound:
            self._consume(b.value)
        pieces = (p if p is not None else slot(b.value) for p, b in zip(parts, bound, strict=True))
        return "".join(pieces)

    def _attribute_text(self, node: ast.Attribute, depth: int, frame: Frame) -> str | None:
        if node.attr in ("eos_token", "bos_token", "pad_token", "unk_token"):
            return slot(node)
        bound = self.attributes.get(node.attr)
        if bound is None or bound is node:
            return None
        found = self.text(bound, depth, frame)
        if found is not None:
            self._consume(bound)
        return found

    def _call_text(self, node: ast.Call, depth: int, frame: Frame) -> str | None:
        last = dotted(node.func).rsplit(".", 1)[-1]
        if last == "apply_chat_template":
            return slot(node) if not tokenizes(node) else None
        if isinstance(node.func, ast.Attribute):
            found = self._method_text(node, node.func, depth, frame)
            if found is not None:
                return found
        if last in ("dedent", "cleandoc", "str", "from_template") and node.args:
            inner = self.text(node.args[0], depth, frame)
            return textwrap.dedent(inner) if inner is not None else None
        called = self.functions.get(last)
        own = not isinstance(node.func, ast.Attribute) or dotted(node.func).startswith("self.")
        return self._inlined(called, node, depth, frame) if called is not None and own else None

    def _method_text(
        self, node: ast.Call, method: ast.Attribute, depth: int, frame: Frame
    ) -> str | None:
        if method.attr == "join" and len(node.args) == 1:
            return self._joined(method.value, node.args[0], depth, frame)
        if method.attr not in ("format", "format_map", "strip", "lstrip", "rstrip", "replace"):
            return None
        owner = self.text(method.value, depth, frame)
        if owner is None:
            return None
        if method.attr == "format":
            return self._formatted(owner, node, depth, frame)
        arguments = [self.text(arg, depth, frame) for arg in node.args]
        if method.attr == "replace" and len(arguments) >= 2:
            old = arguments[0]
            new = arguments[1] if arguments[1] is not None else slot(node.args[1])
            return owner.replace(old, new) if old else owner
        if method.attr in ("strip", "lstrip", "rstrip") and not arguments:
            return str(getattr(owner, method.attr)())
        return owner

    def _joined(self, sep: ast.expr, items: ast.expr, depth: int, frame: Frame) -> str | None:
        between = self.text(sep, depth, frame)
        if between is None:
            return None
        if isinstance(items, ast.Name):
            bound = self.bound(items)
            items = bound[-1].value if len(bound) == 1 else items
        if isinstance(items, ast.List | ast.Tuple):
            return between.join(self.piece(item, depth, frame) for item in items.elts)
        if isinstance(items, ast.ListComp | ast.GeneratorExp):
            return self.text(items.elt, depth, frame)
        return None

    def _formatted(self, template: str, node: ast.Call, depth: int, frame: Frame) -> str:
        """Fill `{}` and `{name}` of a template; fields that no argument names stay slots."""
        positional = iter(node.args)
        named = {k.arg: k.value for k in node.keywords if k.arg}
        try:
            fields = list(string.Formatter().parse(template))
        except ValueError:
            return template
        parts = []
        for literal, name, _, _ in fields:
            parts.append(literal)
            if name is None:
                continue
            key = name.split(".")[0].split("[")[0]
            if key == "":
                value = next(positional, None)
            elif key.isdecimal():
                value = node.args[int(key)] if int(key) < len(node.args) else None
            else:
                value = named.get(key)
            parts.append(
                self.piece(value, depth, frame)
                if value is not None and not isinstance(value, ast.Starred)
                else f"{OPEN}{key or 'value'}{CLOSE}"
            )
        return "".join(parts)

    def _inlined(
        self,
        function: ast.FunctionDef | ast.AsyncFunctionDef,
        call: ast.Call,
        depth: int,
        frame: Frame,
    ) -> str | None:
        """Render a helper's longest returned text with the call's arguments in its parameters."""
        names = [a.arg for a in function.args.args if a.arg not in ("self", "cls")]
        inner = {n: f"{OPEN}{n}{CLOSE}" for n in names}
        for name, argument in [
            *zip(names, call.args, strict=False),
            *((k.arg, k.value) for k in call.keywords if k.arg),
        ]:
            inner[name] = self.piece(argument, depth // 2, frame)
        longest: str | None = None
        for returned in _returns(function):
            found = self.text(returned, depth // 2, inner)
            if found is not None:
                self._consume(returned)
            longest = _longer(longest, found)
        return longest


def syntax_tree(text: str) -> ast.Module:
    """Parse without a word on warnings, which are of the run's code, not of ours.

    SyntaxError, ValueError, RecursionError or MemoryError if it is no Python 3.
    """
    with warnings.catch_warnings(action="ignore"):
        return ast.parse(text)


def parse(text: str) -> tuple[Code | None, str]:
    """Parse Python 3; lines that are not (magics, Python 2) are passed over and named.

    Returns (code or None, what could not be read or "").
    """
    lines = _without_magics(text)
    skipped: list[int] = []
    for _ in range(20):
        try:
            return Code(syntax_tree("\n".join(lines))), _passed_over(skipped)
        except SyntaxError as error:
            number = min(max(error.lineno or 1, 1), len(lines)) if lines else 0
            if not lines or number in skipped or not lines[number - 1].strip():
                return None, f"not Python 3 at line {number}: {error.msg}"
            skipped.append(number)
            indent = lines[number - 1][: -len(lines[number - 1].lstrip())]
            lines[number - 1] = f"{indent}pass"
        except (ValueError, RecursionError, MemoryError) as error:
            return None, f"not Python 3: {error}"
    return None, f"not Python 3: more than 20 lines cannot be parsed, the first is {skipped[0]}"


def _passed_over(skipped: list[int]) -> str:
    if not skipped:
        return ""
    listed = ", ".join(map(str, sorted(skipped)[:5]))
    return f"line {listed} is not Python 3 and was passed over"


def _without_magics(text: str) -> list[str]:
    """Return the lines with IPython's `%magic`, `!command` and `?help` replaced by `pass`."""
    lines = text.replace("\r\n", "\n").split("\n")
    if lines and lines[0].lstrip().startswith("%%"):
        return ["pass"] * len(lines)
    kept = []
    for line in lines:
        bare = line.lstrip()
        magic = bare.startswith(("%", "!")) and not bare.startswith(("%=", "!="))
        kept.append(line[: len(line) - len(bare)] + "pass" if magic else line)
    return kept


def readable(text: str) -> str:
    """Return a rendered text with its slots as `{name}`."""
    return text.replace(OPEN, "{").replace(CLOSE, "}")


def slot(node: ast.AST) -> str:
    """Return a slot named after an expression: `row["instruction"].strip()` gives instruction."""
    return f"{OPEN}{_slot_name(node)}{CLOSE}"


def _slot_name(node: ast.AST) -> str:
    for _ in range(8):
        if isinstance(node, ast.Call):
            name = dotted(node.func).rsplit(".", 1)[-1]
            if name == "apply_chat_template":
                return "chat_template"
            if name == "get" and node.args and isinstance(node.args[0], ast.Constant):
                return str(node.args[0].value)
            if isinstance(node.func, ast.Attribute) and name in ("strip", "lower", "replace"):
                node = node.func.value
                continue
            return name or "value"
        if isinstance(node, ast.Subscript):
            if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
                return node.slice.value
            node = node.value
        elif isinstance(node, ast.Attribute):
            return node.attr
        elif isinstance(node, ast.Name):
            return node.id
        else:
            break
    return "value"


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` for an attribute chain; what is not a name in it becomes `()`."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "()")
    return ".".join(reversed(parts))


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """Return a call's keyword argument, or None."""
    return next((k.value for k in call.keywords if k.arg == name), None)


def tokenizes(call: ast.Call) -> bool:
    """Say whether an apply_chat_template call returns ids; its default is `tokenize=True`."""
    flag = keyword(call, "tokenize")
    return not (isinstance(flag, ast.Constant) and flag.value is False)


def _bindings(node: ast.AST) -> Iterator[tuple[str, Binding]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _targets(target, node.value)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        yield from _targets(node.target, node.value)
    elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        yield node.target.id, Binding(node.lineno, node.value, extends=True)


def _targets(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, Binding]]:
    if isinstance(target, ast.Name):
        yield target.id, Binding(value.lineno, value)
    elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
        for inner, part in zip(target.elts, value.elts, strict=False):
            yield from _targets(inner, part)


def argparse_default(call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """Yield (destination, default) of an `add_argument` or click/typer option call."""
    name = dotted(call.func).rsplit(".", 1)[-1]
    if name not in ("add_argument", "option"):
        return
    default = keyword(call, "default")
    options = [
        a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
    ]
    if default is None or not options:
        return
    dest = keyword(call, "dest")
    if isinstance(dest, ast.Constant):
        yield str(dest.value), default
    else:
        longest = max(options, key=len)
        yield longest.lstrip("-").replace("-", "_"), default


def _is_parameter(scope: ast.AST, name: str) -> bool:
    if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return False
    arguments = scope.args
    return any(
        a.arg == name for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    )


def _returns(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            yield node.value


def _longer(first: str | None, second: str | None) -> str | None:
    if first is None or second is None:
        return first if second is None else second
    return first if len(first) >= len(second) else second


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _arithmetic(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Add):
        return left + right
    if isinstance(op, ast.Sub):
        return left - right
    if isinstance(op, ast.Mult):
        return left * right
    if isinstance(op, ast.Div):
        return left / right
    if isinstance(op, ast.FloorDiv):
        return left // right
    if isinstance(op, ast.Pow) and abs(right) <= 64 and abs(left) <= 1e6:
        return left**right
    return UNKNOWN
