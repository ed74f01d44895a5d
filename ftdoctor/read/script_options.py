"""Settings of a script that are defaults of its command line, which a call may override."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from ftdoctor.read.code import Code, argparse_default
from ftdoctor.read.names import setting_name

Found = tuple[str, Any, int]  # fact name without `script.<role>.`, value, line
# Parsers that make options of the fields of a class: transformers, TRL, tyro, simple_parsing.
_OF_CLASSES = {"HfArgumentParser", "TrlParser", "cli", "add_arguments"}


def options_of(code: Code) -> Iterator[Found]:
    """Yield `option` with a setting's name, per value that is only a default of the command line.

    That is the default itself, and each keyword that hands it on (`learning_rate=args.lr`).
    """
    options = {name for _, call in code.calls() for name, _ in argparse_default(call)}
    if any(name.rsplit(".", 1)[-1] in _OF_CLASSES for name, _ in code.calls()):
        for scope, names in code.bindings.items():
            if isinstance(scope, ast.ClassDef):
                options |= set(names)
                for name, bound in names.items():
                    yield "option", setting_name(name), bound[-1].line
    for _, call in code.calls():
        for name, _ in argparse_default(call):
            yield "option", setting_name(name), call.lineno
        for item in call.keywords:
            if item.arg and _is_option(item.value, options):
                yield "option", setting_name(item.arg), item.value.lineno


def _is_option(node: ast.expr, options: set[str]) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr in options for n in ast.walk(node))
