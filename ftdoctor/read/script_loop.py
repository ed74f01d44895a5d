"""Faults of hand-written training loops: what is not stepped, cleared, connected or shifted.

A fault is told only where the file itself shows the whole of it: the optimizer is made here, the
loop calls `backward` here, and nothing hands the optimizer to code that is not here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from ftdoctor.read.code import Binding, Code, dotted, keyword
from ftdoctor.read.script_mode import mode_faults
from ftdoctor.read.script_schedule import loops_around, schedule_faults

Found = tuple[str, Any, int]  # fact name without `script.<role>.`, value, line
_OPTIMIZERS = re.compile(
    r"(?:^|\.)(?:Adam\w*|SGD|RMSprop|Adagrad|Adadelta|NAdam|RAdam|Rprop|Lion|Adafactor|LAMB|Lamb"
    r"|PagedAdam\w*|FusedAdam|Muon|Sophia\w*)$"
)
_SCHEDULE = re.compile(r"(?i)sched|lr_|warmup|profil|\bprof\b|pbar|progress")
# Calls that may be given the optimizer and do not step it.
_ONLY_HOLDS = re.compile(
    r"(?i)prepare|sched|LR$|Annealing|warmup|unscale|print|len$|isinstance|append|save|load|dict$"
)
_ENGINES = re.compile(r"deepspeed|colossalai|horovod|fairseq|jax|mlx|paddle|optimizer_step")
_CUTS = {"item", "detach", "numpy", "tolist"}
_KEEPS = {
    "mean", "sum", "to", "cuda", "cpu", "float", "half", "double", "clone", "requires_grad_",
    "squeeze", "contiguous", "view", "reshape",
}  # fmt: skip
_COPIES = {"torch.tensor", "torch.from_numpy", "Variable", "torch.autograd.Variable"}
_NO_GRAD = re.compile(r"(?:^|\.)(?:no_grad|inference_mode)$")
_CAUSAL = re.compile(r"ForCausalLM|LMHeadModel|FastLanguageModel|FastModel")
_OTHER_OBJECTIVE = re.compile(
    r"Seq2Seq|ForConditionalGeneration|MaskedLM|T5|Bart|SequenceClassification|TokenClassification"
)
_WRAPS = {
    "cat", "concat", "concatenate", "hstack", "pad", "clone", "contiguous", "to", "tensor", "long",
    "LongTensor", "masked_fill", "cuda", "copy", "list", "where", "array",
}  # fmt: skip
_CALLS_MODEL = re.compile(r"(?i)(?:^|\.|_)(?:model|net|lm|llm|forward|policy|module)$")
_MAKES_MODEL = re.compile(
    r"from_pretrained|from_config|Model|LM$|load_model|build_model|create_model"
)


def loop_faults_of(code: Code) -> Iterator[Found]:
    """Yield `loop` (hand-written or lightning) and each `loop_fault` that the file shows."""
    yield from _lightning(code)
    backward = _backward_calls(code)
    updates = backward or _steps_without_backward(code)
    if not updates or _belongs_to_trainer(code):
        return
    yield "loop", "hand-written", updates[0].lineno
    for fault, line in (
        *_not_called(code, backward),
        *_cut_losses(code, backward),
        *_cleared_too_early(code, backward),
        *_stale_optimizers(code, backward),
        *_optimizers_of_another_model(code, backward),
        *_losses_of_logits(code, backward),
        *schedule_faults(code, backward, {name for name, *_ in _optimizers(code)}),
        *mode_faults(code),
    ):
        yield "loop_fault", fault, line
    if unshifted := _never_shifted(code):
        yield "loop_fault", "labels-never-shifted", unshifted


def label_shifts_of(code: Code) -> Iterator[Found]:
    """Yield the fault `labels-shifted-twice`: by hand, for a model that shifts them again."""
    text = ast.unparse(code.tree)
    if not _CAUSAL.search(text) or _OTHER_OBJECTIVE.search(text):
        return
    yield "labels_seen", True, 1
    for line in _shifted_labels(code):
        yield "loop_fault", "labels-shifted-twice", line


def trained_over(code: Code) -> set[str]:
    """Return the names of what the loops around `backward` run over."""
    return {
        name.id
        for call in _backward_calls(code)
        for around in code.ancestors(call)
        if isinstance(around, ast.For)
        for name in ast.walk(around.iter)
        if isinstance(name, ast.Name)
    }


_ROW_SHUFFLING = re.compile(
    r"(?i)shuffl|permutation|randperm|randint|rand_?perm|random\.(?:sample|choice)|\.sample\(|Sampler"
    r"|Generator\("
)
_ROW_WORDS = re.compile(r"(?i)open\(|load|read|rows|records|data|lines|examples|samples")


def walked_rows_of(code: Code) -> Iterator[Found]:
    """Yield `reads_in_order` where the loop around `backward` takes a list from first to last.

    `for i in range(0, len(rows), size): batch = rows[i : i + size]`, or `for row in rows`, in a
    file that shuffles and draws nothing.
    """
    if _ROW_SHUFFLING.search(ast.unparse(code.tree)):
        return
    for call in _backward_calls(code):
        for loop in loops_around(code, call):
            if isinstance(loop, ast.For) and _walks_list(code, loop):
                yield "reads_in_order", "for loop", loop.lineno
                return


def _walks_list(code: Code, loop: ast.For) -> bool:
    over: ast.expr = loop.iter
    while isinstance(over, ast.Call) and over.args and not _walks_range(loop):
        if dotted(over.func).rsplit(".", 1)[-1] not in ("enumerate", "tqdm", "trange", "batched"):
            return False
        over = over.args[0]
    if isinstance(over, ast.Name):
        return _is_list_of_rows(code, over)
    measured = {
        dotted(n.args[0])
        for n in ast.walk(over)
        if isinstance(n, ast.Call) and dotted(n.func) == "len" and n.args
    }
    index = loop.target.id if isinstance(loop.target, ast.Name) else ""
    return any(
        isinstance(n, ast.Subscript)
        and dotted(n.value) in measured
        and isinstance(n.value, ast.Name)
        and index in {x.id for x in ast.walk(n.slice) if isinstance(x, ast.Name)}
        for n in ast.walk(loop)
    )


def _walks_range(loop: ast.For) -> bool:
    return isinstance(loop.iter, ast.Call) and dotted(loop.iter.func) in ("range", "trange")


def _is_list_of_rows(code: Code, name: ast.Name) -> bool:
    """Say whether a name is a list that the file makes of what it reads."""
    bound = code.bound(name)
    made = bound[0].value if len(bound) == 1 else None
    return isinstance(made, ast.ListComp) and bool(_ROW_WORDS.search(ast.unparse(made)))


# --- calls that make a loop -------------------------------------------------------------------


def _backward_calls(code: Code) -> list[ast.Call]:
    """Return the calls of `backward` in order: of a loss, an accelerator, a scaled loss."""
    return [call for name, call in code.calls() if name.endswith(".backward")]


def _optimizers(code: Code) -> list[tuple[str, ast.Assign, ast.Call]]:
    """Return (name, statement, call) of the optimizers that the file makes."""
    found = []
    for node in ast.walk(code.tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        if _OPTIMIZERS.search(dotted(node.value.func)):
            found.append((ast.unparse(node.targets[0]), node, node.value))
    return found


def _steps(code: Code) -> list[ast.Call]:
    """Return the calls that step something that is no schedule."""
    return [
        call
        for name, call in code.calls()
        if name.endswith(".step") and not _SCHEDULE.search(name.rpartition(".")[0])
    ]


def _steps_without_backward(code: Code) -> list[ast.Call]:
    """Return optimizer steps in a loop of a file that makes the optimizer and clears gradients."""
    names = {name for name, *_ in _optimizers(code)}
    called = {name for name, _ in code.calls()}
    clears = {f"{name}.zero_grad" for name in names}
    if not clears & called:
        return []
    if any(re.search(r"backward|(?:^|[._])(?:value_and_)?grad$", name) for name in called - clears):
        return []
    return [
        call
        for name, call in code.calls()
        if name.removesuffix(".step") in names and name.endswith(".step") and not call.args
        if any(isinstance(around, ast.For | ast.While) for around in code.ancestors(call))
    ]


def _belongs_to_trainer(code: Code) -> bool:
    """Say whether a trainer or an engine drives the loop, and steps and clears by itself."""
    for node in ast.walk(code.tree):
        if isinstance(node, ast.ClassDef):
            if any(dotted(base).endswith(("Trainer", "Callback")) for base in node.bases):
                return True
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(a.name for a in node.names)]
            if any(_ENGINES.search(name) for name in names):
                return True
    return any(_ENGINES.search(name) for name, _ in code.calls())


def _not_called(code: Code, backward: list[ast.Call]) -> Iterator[tuple[str, int]]:
    """Yield which of backward, step and zero_grad the whole file never calls."""
    made = _optimizers(code)
    if not made or any(_handed_on(code, name) for name, *_ in made):
        return
    if not backward:
        yield "backward-missing", _steps_without_backward(code)[0].lineno
        return
    if not any(isinstance(a, ast.For | ast.While) for c in backward for a in code.ancestors(c)):
        called = {name.rsplit(".", 1)[-1] for name, _ in code.calls()}
        if not any(getattr(code.function_of(c), "name", "") in called for c in backward):
            return
    steps = _steps(code)
    if not steps:
        if not _updates_by_hand(code):
            yield "step-missing", backward[0].lineno
        return
    cleared = any("zero_grad" in name or "clear_grad" in name for name, _ in code.calls())
    if not cleared and not _sets_grad(code):
        yield "zero-grad-missing", backward[0].lineno


def _handed_on(code: Code, optimizer: str) -> bool:
    """Say whether the optimizer is given to a function that is not in this file."""
    for name, call in code.calls():
        last = name.rsplit(".", 1)[-1]
        if last in code.functions or _ONLY_HOLDS.search(last) or last == "step":
            continue
        given = (*call.args, *(k.value for k in call.keywords))
        if any(ast.unparse(g) == optimizer for g in given):
            return True
    return False


def _updates_by_hand(code: Code) -> bool:
    """Say whether weights are changed without an optimizer: `p.data -= lr * p.grad`."""
    return any(isinstance(n, ast.Attribute) and n.attr == "grad" for n in ast.walk(code.tree))


def _sets_grad(code: Code) -> bool:
    """Say whether gradients are cleared by assignment or in place: `p.grad = None`."""
    for node in ast.walk(code.tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(t, ast.Attribute) and t.attr == "grad" for t in targets):
            return True
        if isinstance(node, ast.Call) and ".grad.zero_" in dotted(node.func):
            return True
    return False


# --- losses without a graph -------------------------------------------------------------------


def _cut_losses(code: Code, backward: list[ast.Call]) -> Iterator[tuple[str, int]]:
    for call in backward:
        loss = _loss_of(call, _LAUNCHERS_AND_ENGINES)
        if _is_cut(code, loss, 6) or _under_no_grad(code, loss):
            yield "loss-cut-off", call.lineno


_LAUNCHERS = re.compile(r"accelerator|fabric|manager")
_LAUNCHERS_AND_ENGINES = re.compile(r"accelerator|fabric|engine|scaler|manager")


def _loss_of(call: ast.Call, given_to: re.Pattern[str]) -> ast.expr:
    """Return the loss of a `backward` call: what it is called on, or what such an object is given.

    `loss.backward()`, `accelerator.backward(loss)`
    """
    owner = call.func.value if isinstance(call.func, ast.Attribute) else call.func
    return call.args[0] if call.args and given_to.search(dotted(owner)) else owner


def _is_cut(code: Code, node: ast.expr, depth: int) -> bool:
    """Say whether a value has lost its graph: `.item()`, `.detach()`, `torch.tensor(loss…)`."""
    if depth <= 0:
        return False
    if isinstance(node, ast.Name):
        bound = _last_bound(code, node)
        return bound is not None and _is_cut(code, bound.value, depth - 1)
    if isinstance(node, ast.Attribute):
        return node.attr == "data"
    if isinstance(node, ast.BinOp):
        sides = (node.left, node.right)
        cut = [_is_cut(code, side, depth - 1) for side in sides]
        plain = [isinstance(code.value(side), int | float) for side in sides]
        return any(cut) and all(c or p for c, p in zip(cut, plain, strict=True))
    if not isinstance(node, ast.Call):
        return False
    name = dotted(node.func)
    if name in _COPIES:
        return name != "Variable" or bool(node.args and _is_cut(code, node.args[0], depth - 1))
    if not isinstance(node.func, ast.Attribute):
        return name == "float"
    if node.func.attr in _CUTS and not node.args:
        return True
    return node.func.attr in _KEEPS and _is_cut(code, node.func.value, depth - 1)


def _last_bound(code: Code, node: ast.Name) -> Binding | None:
    """Return the assignment that a name holds at its use, None if `+=` or several may have made it.

    A parameter that the function sets again holds what it was set to.
    """
    bound = code.bound(node)
    return bound[0] if len(bound) == 1 and bound[0].value.lineno <= node.lineno else None


def _under_no_grad(code: Code, node: ast.expr) -> bool:
    """Say whether the loss was computed inside `with torch.no_grad():`."""
    if not isinstance(node, ast.Name) or (bound := _last_bound(code, node)) is None:
        return False
    if not any(isinstance(n, ast.Call) for n in ast.walk(bound.value)):
        return False
    return any(
        isinstance(around, ast.With)
        and any(
            isinstance(item.context_expr, ast.Call)
            and _NO_GRAD.search(dotted(item.context_expr.func))
            for item in around.items
        )
        for around in code.ancestors(bound.value)
    )


def _cleared_too_early(code: Code, backward: list[ast.Call]) -> Iterator[tuple[str, int]]:
    """Yield where gradients are cleared between backward and the step: nothing is left to apply."""
    for call in backward:
        statement = next((a for a in code.ancestors(call) if isinstance(a, ast.stmt)), None)
        block = _block_of(code, statement) if statement is not None else []
        if statement is None or not block:
            continue
        at = block.index(statement)
        again = block[:at] if isinstance(code.parents.get(statement), ast.For | ast.While) else []
        cleared: dict[str, int] = {}
        for later in (*block[at + 1 :], *again):  # a loop goes on with its first statement
            names = [dotted(n.func) for n in ast.walk(later) if isinstance(n, ast.Call)]
            stepped = [n.removesuffix(".step") for n in names if n.endswith(".step")]
            if line := next((cleared[n] for n in stepped if n in cleared), 0):
                yield "cleared-before-step", line
            if any(n.endswith(".backward") for n in names) or any(
                not _SCHEDULE.search(n) for n in stepped
            ):
                break
            if isinstance(later, ast.Expr):
                cleared |= {
                    n.removesuffix(".zero_grad"): later.lineno
                    for n in names
                    if n.endswith(".zero_grad")
                }


def _block_of(code: Code, statement: ast.stmt) -> list[ast.stmt]:
    parent = code.parents.get(statement)
    for name in ("body", "orelse", "finalbody"):
        block = getattr(parent, name, None)
        if isinstance(block, list) and statement in block:
            return block
    return []


# --- optimizers of other weights --------------------------------------------------------------


def _stale_optimizers(code: Code, backward: list[ast.Call]) -> Iterator[tuple[str, int]]:
    """Yield where the model is replaced, or given its adapter, after the optimizer was made."""
    for name, statement, call in _optimizers(code):
        scope = code.scope(statement)
        trained = _training_lines(code, scope, backward)
        models = {
            dotted(n.func.value)
            for n in ast.walk(call)
            if isinstance(n, ast.Call)
            and isinstance(n.func, ast.Attribute)
            and n.func.attr in ("parameters", "named_parameters")
        }
        again = [s.lineno for n, s, _ in _optimizers(code) if n == name and s is not statement]
        for node in ast.walk(scope):
            if not isinstance(node, ast.Assign) or node.lineno <= statement.lineno:
                continue
            if code.scope(node) is not scope or ast.unparse(node.targets[0]) not in models:
                continue
            if not _replaces(node, ast.unparse(node.targets[0])) or _is_optional(code, node, scope):
                continue
            later = [line for line in trained if line > node.lineno]
            if later and not any(node.lineno < line <= later[0] for line in again):
                yield "optimizer-of-other-weights", node.lineno


# What may be done with a model beside the one that is trained, and leaves it out of the loss.
_UNCONNECTED = {
    "parameters", "named_parameters", "to", "cuda", "cpu", "train", "eval", "half", "float",
    "bfloat16", "zero_grad", "requires_grad_", "gradient_checkpointing_enable", "config",
    "resize_token_embeddings", "save_pretrained", "generate",
}  # fmt: skip


def _optimizers_of_another_model(code: Code, backward: list[ast.Call]) -> Iterator[tuple[str, int]]:
    """Yield where an optimizer gets a model that nothing calls, while another one is trained."""
    made = _made_models(code)
    called = {
        node.func.id
        for call in backward
        for around in code.ancestors(call)
        if isinstance(around, ast.For | ast.While)
        for node in ast.walk(around)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    if not called & made or _sets_grad(code):
        return
    for _, statement, call in _optimizers(code):
        given = {n.id for n in ast.walk(call) if isinstance(n, ast.Name) and n.id in made}
        if given and all(_is_unconnected(code, name) for name in given):
            yield "optimizer-of-another-model", statement.lineno


def _made_models(code: Code) -> set[str]:
    """Return the names that are given one model each, once in the file."""
    made: dict[str, int] = {}
    other = set()
    for names in code.bindings.values():
        for name, bound in names.items():
            made[name] = made.get(name, 0) + len(bound)
            value = bound[0].value
            text = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
            if not re.search(r"deepcopy$", text) and (
                not _MAKES_MODEL.search(text) or re.search(r"(?i)tokeniz|config", text)
            ):
                other.add(name)
    return {name for name, count in made.items() if count == 1} - other


def _is_unconnected(code: Code, model: str) -> bool:
    """Say whether a model is only held: never called, handed on, copied or copied from."""
    for node in ast.walk(code.tree):
        if not isinstance(node, ast.Name) or node.id != model or isinstance(node.ctx, ast.Store):
            continue
        around = code.parents.get(node)
        if not isinstance(around, ast.Attribute) or around.attr not in _UNCONNECTED:
            return False
    return True


def _losses_of_logits(code: Code, backward: list[ast.Call]) -> Iterator[tuple[str, int]]:
    """Yield where the loss of a language model is nothing but the mean of its logits."""
    if not _CAUSAL.search(ast.unparse(code.tree)):
        return
    for call in backward:
        if _is_of_logits(code, _loss_of(call, _LAUNCHERS), 6):
            yield "loss-of-logits", call.lineno


def _is_of_logits(code: Code, node: ast.expr, depth: int) -> bool:
    if depth <= 0:
        return False
    if isinstance(node, ast.Name):
        bound = _last_bound(code, node)
        return bound is not None and _is_of_logits(code, bound.value, depth - 1)
    if isinstance(node, ast.Attribute):
        return node.attr == "logits"
    if isinstance(node, ast.IfExp):
        return any(_is_of_logits(code, side, depth - 1) for side in (node.body, node.orelse))
    if isinstance(node, ast.UnaryOp):
        return _is_of_logits(code, node.operand, depth - 1)
    if isinstance(node, ast.BinOp):  # divided by the accumulation steps
        return isinstance(node.op, ast.Div) and _is_of_logits(code, node.left, depth - 1)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    if dotted(node.func) in ("torch.mean", "torch.sum"):
        return bool(node.args) and _is_of_logits(code, node.args[0], depth - 1)
    return node.func.attr in _KEEPS and _is_of_logits(code, node.func.value, depth - 1)


def _training_lines(code: Code, scope: ast.AST, backward: list[ast.Call]) -> list[int]:
    """Return the lines of a scope that train: backward itself, or a function that has it."""
    inside = {getattr(code.function_of(call), "name", "") for call in backward} - {""}
    lines = [c.lineno for c in backward if code.function_of(c) is scope or code.scope(c) is scope]
    lines += [
        call.lineno
        for name, call in code.calls()
        if name.rsplit(".", 1)[-1] in inside and code.scope(call) is scope
    ]
    return sorted(lines)


def _replaces(node: ast.Assign, model: str) -> bool:
    """Say whether an assignment puts other weights in the model's place."""
    if not isinstance(node.value, ast.Call):
        return False
    made = dotted(node.value.func)
    if re.search(r"get_peft_model$|PeftModel\.from_pretrained$|deepcopy$", made):
        return True
    mentions = any(ast.unparse(n) == model for n in ast.walk(node.value) if isinstance(n, ast.expr))
    return not mentions and bool(_MAKES_MODEL.search(ast.unparse(node.value.func)))


def _is_optional(code: Code, node: ast.AST, scope: ast.AST) -> bool:
    """Say whether a condition decides on a statement."""
    for around in code.ancestors(node):
        if around is scope:
            return False
        if isinstance(around, ast.If | ast.Try):
            return True
    return False


# --- labels -----------------------------------------------------------------------------------


def _shifted_labels(code: Code) -> Iterator[int]:
    """Yield the lines at which labels moved by one place are given to the model itself."""
    in_place = _shifted_in_place(code)
    for name, call in code.calls():
        given = keyword(call, "labels")
        if given is None or not _CALLS_MODEL.search(name):
            continue
        if isinstance(given, ast.Name) and (code.scope(given), given.id) in in_place:
            yield in_place[(code.scope(given), given.id)]
        elif _is_shifted(code, given, 6):
            yield _shift_line(code, given)
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Dict):
            pairs = [(k.value, v) for k, v in zip(node.keys, node.values, strict=True)
                     if isinstance(k, ast.Constant)]  # fmt: skip
            given = dict(pairs).get("labels") if "input_ids" in dict(pairs) else None
            if given is None or not _is_shifted(code, given, 6):
                continue
            if _hands_whole_batches(code):
                yield _shift_line(code, given)


def _hands_whole_batches(code: Code) -> bool:
    """Say whether the rows go to the model as they are: `model(**batch)`, or a trainer's."""
    for name, call in code.calls():
        if re.search(r"(?:^|\.)(?:Trainer|SFTTrainer|Seq2SeqTrainer)$", name):
            return True
        if _CALLS_MODEL.search(name) and any(k.arg is None for k in call.keywords):
            return True
    return False


def _shifted_in_place(code: Code) -> dict[tuple[ast.AST, str], int]:
    """Return the names filled as `labels[:, :-1] = input_ids[:, 1:]`, with the line."""
    found = {}
    for node in ast.walk(code.tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Subscript):
            continue
        target, value = node.targets[0], node.value
        if not isinstance(target.value, ast.Name) or _slice(target) != (None, -1):
            continue
        if isinstance(value, ast.Call | ast.Subscript) and _is_shifted(code, value, 3):
            found[(code.scope(node), target.value.id)] = node.lineno
    return found


def _shift_line(code: Code, node: ast.expr) -> int:
    """Return the line where the shift is written: a name's last assignment."""
    if isinstance(node, ast.Name) and (bound := _last_bound(code, node)) is not None:
        return bound.line
    return node.lineno


def _is_shifted(code: Code, node: ast.expr, depth: int) -> bool:
    """Say whether an expression is ids or labels from the second place on."""
    if depth <= 0:
        return False
    if isinstance(node, ast.Subscript):
        return _slice(node) == (1, None)
    if isinstance(node, ast.Name):
        bound = _last_bound(code, node)
        return bound is not None and _is_shifted(code, bound.value, depth - 1)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add) and _is_shifted(code, node.left, depth - 1)
    if isinstance(node, ast.List | ast.Tuple):
        return bool(node.elts) and _is_shifted(code, node.elts[0], depth - 1)
    if not isinstance(node, ast.Call):
        return False
    last = dotted(node.func).rsplit(".", 1)[-1]
    if last == "roll":
        by = node.args[-1] if len(node.args) < 3 else node.args[1]
        return code.value(keyword(node, "shifts") or by) in (-1, [-1])
    if last not in _WRAPS:
        return False
    module = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in (
        "torch", "F", "np", "numpy", "torch.nn.functional",
    )  # fmt: skip
    if isinstance(node.func, ast.Attribute) and not module:
        return _is_shifted(code, node.func.value, depth - 1)
    return bool(node.args) and _is_shifted(code, node.args[0], depth - 1)


def _slice(node: ast.Subscript) -> tuple[Any, Any] | None:
    """Return (lower, upper) of the slice of the last axis, None if it is no plain slice."""
    last = (
        node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
    )
    if isinstance(node.slice, ast.Tuple) and len(node.slice.elts) > 2:
        return None
    if not isinstance(last, ast.Slice) or last.step is not None:
        return None
    bounds = []
    for end in (last.lower, last.upper):
        try:
            bounds.append(None if end is None else ast.literal_eval(end))
        except (ValueError, TypeError):
            return None
    return bounds[0], bounds[1]


def _never_shifted(code: Code) -> int | None:
    """Return the line of an own cross-entropy whose logits and labels nothing shifts."""
    text = ast.unparse(code.tree)
    if not _CAUSAL.search(text) or _OTHER_OBJECTIVE.search(text):
        return None
    if re.search(r"\b1:|:-1|:- 1|roll\(|shift|next_token|narrow\(", text):
        return None
    for name, call in code.calls():
        last = name.rsplit(".", 1)[-1]
        if not re.fullmatch(r"cross_entropy|criterion|loss_fn|loss_fct|loss_func|ce_loss|ce", last):
            continue
        if len(call.args) < 2 or last in code.functions:
            continue
        logits, labels = (ast.unparse(a) for a in call.args[:2])
        if "logits" in logits and re.search(r"labels|input_ids|\bids\b", labels):
            return call.lineno
    return None


# --- Lightning --------------------------------------------------------------------------------


def _lightning(code: Code) -> Iterator[Found]:
    """Yield `loop` of a LightningModule, and that its training step gives back no loss."""
    for node in ast.walk(code.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        if not any(dotted(base).endswith("LightningModule") for base in node.bases):
            continue
        step = next((n for n in node.body if getattr(n, "name", "") == "training_step"), None)
        if not isinstance(step, ast.FunctionDef):
            continue
        yield "loop", "lightning", step.lineno
        text = ast.unparse(node)
        if "manual_backward" in text or "automatic_optimization" in text:
            continue
        if not any(_gives_back(inner) for inner in _own_nodes(step)):
            yield "loop_fault", "training-step-returns-nothing", step.lineno


def _own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)


def _gives_back(node: ast.AST) -> bool:
    if isinstance(node, ast.Raise | ast.Yield | ast.YieldFrom):
        return True
    empty = isinstance(node, ast.Return) and (
        node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None)
    )
    return isinstance(node, ast.Return) and not empty
