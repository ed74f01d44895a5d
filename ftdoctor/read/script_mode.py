"""The mode, training or evaluation, in which a hand-written loop goes backward.

The statements are followed in the order in which they run, into the functions of the same file. A
model that is loaded counts as in no known mode: only an `eval()` that the file itself calls, on a
model whose weights its optimizer was given, and that nothing takes back, is a fault.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ftdoctor.read.code import Code, dotted, keyword

_OPTIMIZER = re.compile(r"(?i)(?:^|[._])(?:\w*optim\w*|opt|\w*adam\w*|sgd|lion|adafactor)$")
_TRAINERS = re.compile(r"(?i)trainer|engine|pipeline")
_TAKES_BACK = re.compile(r"(?i)for_training$|train_mode|training_mode|set_train")
_KEEPS_MODE = re.compile(
    r"(?i)^(?:print|len|isinstance|type|id|next|sum|hasattr|getattr|save\w*|generate|to|cuda|parameters"
    r"|clip_grad_\w+|AdamW?|SGD|info|debug|watch|no_grad|tqdm|enumerate|zip|unwrap_model)$"
)
_ENDS = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_BUDGET = 20_000  # statements and calls followed per file, against files made to blow up
_DEPTH = 6  # calls within calls
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Modes = dict[str, int]  # model → line of the `eval()` that holds; 0 in training, none if unknown
Frame = Mapping[str, str]  # parameter → the name of the model that was given


@dataclass
class _Walk:
    """What has been met on the way through one file."""

    code: Code
    trained: set[str] = field(default_factory=set)
    seen: set[ast.AST] = field(default_factory=set)  # functions followed
    met: set[ast.Call] = field(default_factory=set)  # calls of `backward`
    found: dict[int, str] = field(default_factory=dict)  # line of the `eval()` → fault
    calls: dict[ast.AST, list[ast.Call]] = field(default_factory=dict)  # of a statement
    budget: int = _BUDGET


def mode_faults(code: Code) -> Iterator[tuple[str, int]]:
    """Yield `trains-in-eval-mode` and `train-mode-not-restored` with the line of the `eval()`."""
    if not any(_turns_off(call) for _, call in code.calls()):
        return
    walk = _Walk(code)
    calls = [call for _, call in code.calls()]
    _note_optimizers(walk, calls, {})  # those of functions that are not met on the way, too
    _block(walk, code.tree.body, {}, {}, 0, 0)
    for name, call in code.calls():  # loops in functions that only other files call
        function = code.function_of(call)
        if not isinstance(function, Function) or function in walk.seen:
            continue
        if name.endswith(".backward"):
            _block(walk, function.body, {}, {}, 1, 0)
    for line, fault in sorted(walk.found.items()):
        yield fault, line


def _block(
    walk: _Walk, body: list[ast.stmt], modes: Modes, frame: Frame, depth: int, loops: int
) -> bool:
    """Follow statements, changing `modes`; say whether they end before their last."""
    for statement in body:
        walk.budget -= 1
        if walk.budget <= 0:
            return True
        if _statement(walk, statement, modes, frame, depth, loops):
            return True
    return False


def _statement(
    walk: _Walk, node: ast.stmt, modes: Modes, frame: Frame, depth: int, loops: int
) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    if isinstance(node, ast.If):
        _expressions(walk, node.test, modes, frame, depth, loops)
        return _branches(walk, node, modes, frame, depth, loops)
    if isinstance(node, _LOOPS):
        _expressions(
            walk,
            node.test if isinstance(node, ast.While) else node.iter,
            modes,
            frame,
            depth,
            loops,
        )
        for _ in range(2):  # the second pass begins as the first ended
            _block(walk, node.body, modes, frame, depth, loops + 1)
        return _block(walk, node.orelse, modes, frame, depth, loops)
    if isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            _expressions(walk, item.context_expr, modes, frame, depth, loops)
        return _block(walk, node.body, modes, frame, depth, loops)
    if isinstance(node, ast.Try):
        ended = _block(walk, node.body, modes, frame, depth, loops)
        ended = _block(walk, node.orelse, modes, frame, depth, loops) or ended
        return _block(walk, node.finalbody, modes, frame, depth, loops) or ended
    _expressions(walk, node, modes, frame, depth, loops)
    return isinstance(node, _ENDS) or _exits(node)


def _exits(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and dotted(call.func) in ("exit", "quit", "sys.exit")


def _branches(
    walk: _Walk, node: ast.If, modes: Modes, frame: Frame, depth: int, loops: int
) -> bool:
    """Follow both branches; what one takes back is taken back, what one may set is set in a loop.

    A condition that holds once (the last step) is not met again by the loop.
    """
    one, other = dict(modes), dict(modes)
    ended = _block(walk, node.body, one, frame, depth, loops)
    ended_other = _block(walk, node.orelse, other, frame, depth, loops)
    if ended and ended_other:
        return True
    if ended or ended_other:
        modes.clear()
        modes.update(other if ended else one)
        return False
    certain = bool(loops) and not _holds_once(node.test)
    for name in {*one, *other}:
        sides = {one.get(name), other.get(name)}
        if len(sides) == 1:
            modes[name] = sides.pop() or 0
        elif 0 in sides and modes.get(name):
            modes[name] = 0
        elif certain and (line := max(side or 0 for side in sides)):
            modes[name] = line
        else:
            modes.pop(name, None)
    return False


def _holds_once(test: ast.expr) -> bool:
    """Say whether a condition compares for equality without counting off (`step % 100 == 0`)."""
    counted = any(isinstance(n, ast.Mod) for n in ast.walk(test))
    equal = any(
        isinstance(n, ast.Compare) and isinstance(n.ops[0], ast.Eq | ast.GtE | ast.Gt)
        for n in ast.walk(test)
    )
    return equal and not counted


def _expressions(
    walk: _Walk, node: ast.AST, modes: Modes, frame: Frame, depth: int, loops: int
) -> None:
    """Follow the calls of a statement that has no body, the inner ones first."""
    calls = walk.calls.get(node)
    if calls is None:
        calls = walk.calls[node] = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
    walk.budget -= len(calls)
    if walk.budget <= 0:
        return
    _note_optimizers(walk, calls, frame)
    for call in reversed(calls):
        _call(walk, call, modes, frame, depth, loops)
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
        verbs = list(_chained(node.value))
        mode = next((v for v in verbs if v in ("eval", "train")), "")
        for target in node.targets:
            if mode:
                modes[_named(target, frame)] = node.lineno if mode == "eval" else 0
            elif not _KEEPS_MODE.search(verbs[0]):  # another object: loaded, wrapped, prepared
                modes.pop(_named(target, frame), None)


def _chained(call: ast.Call) -> Iterator[str]:
    """Yield the last names of a chain of calls, the last call first."""
    node: ast.expr = call
    while isinstance(node, ast.Call):
        yield dotted(node.func).rsplit(".", 1)[-1]
        node = node.func.value if isinstance(node.func, ast.Attribute) else node.func


def _call(walk: _Walk, call: ast.Call, modes: Modes, frame: Frame, depth: int, loops: int) -> None:
    name = dotted(call.func)
    last = name.rsplit(".", 1)[-1]
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    function = walk.code.functions.get(last)
    if owner is not None and not _is_method(walk.code, function):
        function = None  # `model.train()` is no call of the file's own `train`
    if owner is not None and last == "backward":
        _went_backward(walk, call, modes)
    elif function is not None and _named(owner or call.func, frame) not in walk.trained:
        _into(walk, function, call, modes, frame, depth, loops)
    elif owner is not None and last in ("eval", "train") and not _TRAINERS.search(name):
        _set_mode(call, last, owner, modes, frame)
    elif _TAKES_BACK.search(last):
        modes.clear()
    elif not _KEEPS_MODE.search(last):
        for given in (*call.args, *(k.value for k in call.keywords)):
            modes.pop(_named(given, frame), None)  # code that is not here may change it


def _is_method(code: Code, function: Function | None) -> bool:
    return function is not None and isinstance(code.parents.get(function), ast.ClassDef)


def _set_mode(call: ast.Call, verb: str, owner: ast.expr, modes: Modes, frame: Frame) -> None:
    """Note `model.eval()` or `model.train()`; the latter on any name may be the same model's."""
    if _turns_off(call):
        modes[_named(owner, frame)] = call.lineno
    elif verb == "train":
        for name in modes:
            modes[name] = 0
        modes[_named(owner, frame)] = 0


def _turns_off(call: ast.Call) -> bool:
    """Say whether a call is `x.eval()` or `x.train(False)`."""
    verb = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    given = call.args[0] if call.args else keyword(call, "mode")
    off = isinstance(given, ast.Constant) and given.value is False
    return (verb == "eval" and given is None) or (verb == "train" and off)


def _went_backward(walk: _Walk, call: ast.Call, modes: Modes) -> None:
    """Note the models that are in evaluation mode here, though their weights are being trained.

    Where another trained model is in training mode, this step is that one's, as in a GAN.
    """
    first = call not in walk.met
    walk.met.add(call)
    lines = [modes[name] for name in sorted(walk.trained) if name in modes]
    if lines and all(lines):
        fault = "trains-in-eval-mode" if first else "train-mode-not-restored"
        walk.found.setdefault(lines[0], fault)


def _into(
    walk: _Walk,
    function: Function,
    call: ast.Call,
    modes: Modes,
    frame: Frame,
    depth: int,
    loops: int,
) -> None:
    """Follow a call into its function, with the models that it is given under their own names."""
    if depth >= _DEPTH:
        return
    walk.seen.add(function)
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    if isinstance(call.func, ast.Attribute) and names[:1] == ["self"]:
        names = names[1:]
    inner = {
        name: _named(given, frame)
        for name, given in zip(names, call.args, strict=False)
        if _named(given, frame)
    }
    for k in call.keywords:
        if k.arg and _named(k.value, frame):
            inner[k.arg] = _named(k.value, frame)
    _block(walk, function.body, modes, inner, depth + 1, loops)


def _note_optimizers(walk: _Walk, calls: list[ast.Call], frame: Frame) -> None:
    """Note the models whose parameters, or which themselves, make an optimizer."""
    for call in calls:
        if not _OPTIMIZER.search(dotted(call.func)):
            continue
        for given in (*call.args, *(k.value for k in call.keywords)):
            for source in (given, *_sources(walk.code, given, 3)):
                walk.trained |= {
                    _named(n.func.value, frame)
                    for n in ast.walk(source)
                    if isinstance(n, ast.Call)
                    and isinstance(n.func, ast.Attribute)
                    and n.func.attr in ("parameters", "named_parameters")
                }
            if isinstance(given, ast.Name):
                walk.trained.add(_named(given, frame))


def _sources(code: Code, node: ast.expr, depth: int) -> Iterator[ast.expr]:
    """Yield what the names in an expression were assigned."""
    if depth <= 0:
        return
    for name in (n for n in ast.walk(node) if isinstance(n, ast.Name)):
        for bound in code.bound(name):
            yield bound.value
            yield from _sources(code, bound.value, depth - 1)


def _named(node: ast.expr, frame: Frame) -> str:
    """Return the name of a model as its caller knows it: `net` of `def train(net)` is `model`."""
    if isinstance(node, ast.Attribute) and node.attr == "module":
        return _named(node.value, frame)
    if isinstance(node, ast.Name):
        return frame.get(node.id, node.id)
    return ast.unparse(node) if isinstance(node, ast.Attribute) else ""
