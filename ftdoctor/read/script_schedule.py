"""Faults of the rate schedules of hand-written loops: stepped in the wrong place, or never.

A schedule counts as never stepped only if the file shows all that is done with it: it is not given
to code that is not here, and every `step` of the file is one of an optimizer.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from ftdoctor.read.code import UNKNOWN, Code, dotted, keyword

_BY_STEPS = re.compile(r"\blen\(|steps_per|num_batches|max_steps|total_steps|num_steps")
_EPOCHS = re.compile(r"(?i)epochs?$")
_SCHEDULES = re.compile(
    r"^(?:get_\w*schedule\w*|get_scheduler|\w*LR|\w*WarmRestarts|\w*OnPlateau|\w*LRScheduler"
    r"|\w*Scheduler|\w*Schedule)$"
)
# Schedules that only stand in for another's, or that need no step.
_STAND_INS = re.compile(r"Dummy|AdafactorSchedule|get_constant_schedule$")
_STEPS_AN_OPTIMIZER = re.compile(
    r"(?i)(?:^|[._])(?:\w*optim\w*|opt\w?|adamw?|sgd|(?:grad_?)?scaler|prof(?:iler)?|accelerator)$"
)
_SETS_RATE = re.compile(r"\[['\"]lr['\"]\] [-*+/]?= ")
_STEPPING = re.compile(r"^step(?:_update|_epoch|_batch|_frac)?$")
# Calls that may be given a schedule and do not step it.
_ONLY_HOLDS = re.compile(
    r"(?i)^(?:prepare|prepare_scheduler|print|info|debug|len|isinstance|type)$"
)

Uses = dict[str, list[ast.expr]]  # dotted name → where it is read


def schedule_faults(
    code: Code, backward: list[ast.Call], optimizers: set[str]
) -> Iterator[tuple[str, int]]:
    """Yield (fault, line) of the schedules of a file whose loop is written by hand."""
    yield from _misplaced(code, backward)
    yield from _never_stepped(code, optimizers)


def _never_stepped(code: Code, optimizers: set[str]) -> Iterator[tuple[str, int]]:
    """Yield schedules that are built for an optimizer of this file, and never stepped."""
    stepped = {
        ast.unparse(node.value)
        for node in ast.walk(code.tree)
        if isinstance(node, ast.Attribute) and _STEPPING.search(node.attr)
        if isinstance(code.parents.get(node), ast.Call | ast.keyword | ast.List | ast.Tuple)
    }
    if any(o not in optimizers and not _STEPS_AN_OPTIMIZER.search(o) for o in stepped):
        return
    if _SETS_RATE.search(ast.unparse(code.tree)):
        return
    uses = _uses(code)
    for target, call in _assigned_calls(code):
        kind = dotted(call.func).rsplit(".", 1)[-1]
        if not isinstance(target, ast.Name | ast.Attribute) or not _SCHEDULES.search(kind):
            continue
        if _STAND_INS.search(kind) or not _is_given(call, optimizers):
            continue
        if not _is_handed_on(code, uses, ast.unparse(target), 3):
            starts = "warm-up-never-stepped" if _starts_at_zero(code, kind, call) else ""
            yield starts or "schedule-never-stepped", target.lineno


def _is_given(call: ast.Call, optimizers: set[str]) -> bool:
    """Say whether a call is given an optimizer, as the schedules of rates are."""
    given = (*call.args, *(k.value for k in call.keywords))
    texts = [ast.unparse(g) for g in given]
    return any(t in optimizers or _STEPS_AN_OPTIMIZER.search(t) for t in texts)


def _assigned_calls(code: Code) -> Iterator[tuple[ast.expr, ast.Call]]:
    """Yield (target, call) of the statements that assign what a call returns."""
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            yield node.targets[0], node.value


def _uses(code: Code) -> Uses:
    """Return where each name, and each attribute of a name, is read."""
    found: Uses = {}
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.setdefault(dotted(node), []).append(node)
    return found


def _is_handed_on(code: Code, uses: Uses, name: str, depth: int) -> bool:
    """Say whether a schedule is put anywhere where code that is not here may step it."""
    return any(_leaves(code, uses, node, depth) for node in uses.get(name, ()))


def _leaves(code: Code, uses: Uses, node: ast.expr, depth: int) -> bool:
    """Say whether one use of a schedule gives it away; `step` on it was looked for before."""
    parent = code.parents.get(node)
    if isinstance(parent, ast.Attribute | ast.Compare | ast.If | ast.FormattedValue):
        return False
    place = parent.elts.index(node) if isinstance(parent, ast.Tuple) else None
    returned = code.parents.get(parent) if isinstance(parent, ast.Tuple) else parent
    if isinstance(returned, ast.Return):
        given = list(_given_back(code, getattr(code.function_of(node), "name", ""), place))
        return (
            depth <= 0 or not given or any(_is_handed_on(code, uses, n, depth - 1) for n in given)
        )
    call = code.parents.get(parent) if isinstance(parent, ast.keyword) else parent
    if not isinstance(call, ast.Call):
        return True
    called = dotted(call.func).rsplit(".", 1)[-1]
    return not (_ONLY_HOLDS.search(called) or called in code.functions)


def _given_back(code: Code, function: str, place: int | None) -> Iterator[str]:
    """Yield the names to which a function's result, or one part of it, is assigned."""
    for target, call in _assigned_calls(code):
        if dotted(call.func).rsplit(".", 1)[-1] != function:
            continue
        if place is None:
            yield ast.unparse(target)
        elif isinstance(target, ast.Tuple) and place < len(target.elts):
            yield ast.unparse(target.elts[place])


def _starts_at_zero(code: Code, kind: str, call: ast.Call) -> bool:
    """Say whether the first rate of a schedule is 0: that of a warm-up of more than no steps."""
    if not kind.startswith("get_"):
        return False
    given = keyword(call, "num_warmup_steps")
    if given is None and kind != "get_scheduler" and len(call.args) > 1:
        given = call.args[1]
    if given is None:
        return False
    value = code.value(given)
    if value is not UNKNOWN:
        return isinstance(value, int | float) and value > 0
    while isinstance(given, ast.Name) and len(bound := code.bound(given)) == 1:
        given = bound[0].value
    constants = [n.value for n in ast.walk(given) if isinstance(n, ast.Constant)]
    return any(isinstance(c, int | float) and c > 0 for c in constants)


def _misplaced(code: Code, backward: list[ast.Call]) -> Iterator[tuple[str, int]]:
    """Yield schedules sized in steps and stepped per epoch, or the reverse."""
    loops = [loops_around(code, call) for call in backward]
    batches = [around[0] for around in loops if around]
    for target, call in _assigned_calls(code):
        kind = dotted(call.func).rsplit(".", 1)[-1]
        name = ast.unparse(target)
        steps = [c for n, c in code.calls() if n == f"{name}.step" and not c.args]
        if not steps or not batches or (unit := _unit(code, kind, call)) is None:
            continue
        inside = [any(b in code.ancestors(c) for b in batches) for c in steps]
        if unit == "steps" and not any(inside) and all(_in_epochs(code, c) for c in steps):
            yield "schedule-stepped-per-epoch", steps[0].lineno
        elif unit == "epochs" and all(inside) and max(map(len, loops)) > 1:
            sometimes = any(isinstance(a, ast.If) for c in steps for a in code.ancestors(c))
            if not sometimes:
                yield "schedule-stepped-per-batch", steps[0].lineno


def loops_around(code: Code, call: ast.Call) -> list[ast.AST]:
    """Return the loops around a call, the innermost first, within its function."""
    found: list[ast.AST] = []
    for around in code.ancestors(call):
        if isinstance(around, ast.FunctionDef | ast.AsyncFunctionDef):
            break
        if isinstance(around, ast.For | ast.While):
            found.append(around)
    return found


def _in_epochs(code: Code, call: ast.Call) -> bool:
    """Say whether a call stands in a loop over epochs."""
    return any(
        isinstance(around, ast.For) and "epoch" in ast.unparse(around.target).lower()
        for around in code.ancestors(call)
    )


def _unit(code: Code, kind: str, call: ast.Call) -> str | None:
    """Return whether the length of a schedule counts steps or epochs, None if it is not told."""
    if re.fullmatch(r"get_\w*schedule\w*|get_scheduler", kind):
        given = keyword(call, "num_training_steps") or (call.args[-1] if call.args else None)
    elif kind == "CosineAnnealingLR":
        given = keyword(call, "T_max") or (call.args[1] if len(call.args) > 1 else None)
    elif kind in ("LinearLR", "PolynomialLR"):
        given = keyword(call, "total_iters")
    elif kind == "OneCycleLR":
        by_parts = keyword(call, "steps_per_epoch") is not None
        return "steps" if by_parts or keyword(call, "total_steps") is not None else None
    else:
        return None
    return _counts(code, given, 4)


def _counts(code: Code, node: ast.expr | None, depth: int) -> str | None:
    if node is None or depth <= 0:
        return None
    if _BY_STEPS.search(text := ast.unparse(node)):
        return "steps"
    if isinstance(node, ast.Name):
        bound = code.bound(node)
        inner = bound[0].value if len(bound) == 1 else None
        if inner is not None and not isinstance(inner, ast.Constant):
            return _counts(code, inner, depth - 1)
    if isinstance(node, ast.BinOp):
        sides = {_counts(code, side, depth - 1) for side in (node.left, node.right)}
        return "steps" if "steps" in sides else None
    if isinstance(node, ast.Call) and dotted(node.func) in ("int", "max", "round", "math.ceil"):
        return _counts(code, node.args[0] if node.args else None, depth - 1)
    return "epochs" if _EPOCHS.search(text) else None
