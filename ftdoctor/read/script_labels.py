"""What a script makes of labels and of answers: copied or masked, with the end token or without."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from ftdoctor.read.code import Code, dotted, keyword, readable, slot
from ftdoctor.read.prompts import stops_in

Found = tuple[str, Any, int]  # fact name without `script.<role>.`, value, line
Alias = tuple[ast.AST | None, str]  # a scope (None: anywhere) and a name in it
_MASKING_KEYWORDS = {"assistant_only_loss", "completion_only_loss", "train_on_responses_only"}
_TARGET_NAME = re.compile(r"(?i)label|target|answer|completion|response|summar|decoder|output")
_PROMPT_WORDS = re.compile(r"(?i)prompt|source|instruction|user|question|response|context|prefix")
_FILLING = re.compile(r"(?i)pad|ignore")
_TRAIN_ON_PROMPTS = re.compile(r"(?i)train_on_(?:input|prompt|source)s?$")
_COPYING = {"copy", "clone", "deepcopy", "list", "tensor", "detach", "LongTensor", "array", "tuple"}
_JOINING = {"append", "extend", "cat", "concat", "concatenate", "hstack", "join", "format"}
_FILLERS = {
    "full",
    "full_like",
    "masked_fill",
    "masked_fill_",
    "where",
    "append",
    "extend",
    "fill_",
}
_IDS_KEY = "input_ids"


# --- labels -----------------------------------------------------------------------------------


def labels_of(code: Code) -> Iterator[Found]:
    """Yield `labels`: copied, masked, pad-masked, or the name of what masks the prompt."""
    aliases = _input_names(code)
    for node in ast.walk(code.tree):
        if _copies_inputs(code, node, aliases):
            yield "labels", "copied", node.lineno  # type: ignore[attr-defined]
        elif _is_ignored_label(node):
            kind = _masked_kind(code, node)
            if kind:
                yield "labels", kind, node.lineno  # type: ignore[attr-defined]
    for name, call in code.calls():
        last = name.rsplit(".", 1)[-1]
        if last == "DataCollatorForCompletionOnlyLM":
            yield "labels", "completion-only", call.lineno
        elif last == "train_on_responses_only":
            yield "labels", "responses-only", call.lineno
        for word in _MASKING_KEYWORDS:
            value = code.value(keyword(call, word))
            if value is True:
                yield "labels", word.replace("_loss", "").replace("_", "-"), call.lineno
            elif value is False:
                yield "labels", "unmasked-by-choice", call.lineno


def ignored_labels(code: Code) -> Iterator[ast.expr]:
    """Yield each -100 by which a script masks more than padding."""
    for node in ast.walk(code.tree):
        if _is_ignored_label(node) and _masked_kind(code, node) == "masked":
            assert isinstance(node, ast.expr)  # a number, a name or an attribute
            yield node


def _input_names(code: Code) -> frozenset[Alias]:
    """Return the names that hold input ids.

    The usual names, `ids = tokenizer(text)["input_ids"]`, and in its scope whatever is given out
    as `input_ids`: `{"input_ids": ids}`, `row["input_ids"] = ids`, `input_ids=ids`.
    """
    found: set[Alias] = {(None, "input_ids"), (None, "inputs_ids")}
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Assign) and _is_input_ids(node.value):
            names = [t.id for t in node.targets if isinstance(t, ast.Name)]
            found |= {(code.scope(node), n) for n in names if not _TARGET_NAME.search(n)}
        for given in _given_as_ids(node):
            inner = _uncopied(given)
            if isinstance(inner, ast.Name):
                found.add((code.scope(node), inner.id))
    return frozenset(found)


def _given_as_ids(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == _IDS_KEY:
                yield value
    elif (isinstance(node, ast.keyword) and node.arg == _IDS_KEY) or (
        isinstance(node, ast.Assign) and any(_is_input_ids(t) for t in node.targets)
    ):
        yield node.value


def _is_input_ids(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return bool(node.slice.value == _IDS_KEY)
    return isinstance(node, ast.Attribute) and node.attr == _IDS_KEY


def _copies_inputs(code: Code, node: ast.AST, aliases: frozenset[Alias]) -> bool:
    """Say whether a node sets labels to the input ids themselves."""
    if isinstance(node, ast.Assign):
        return any(
            _is_labels(t) and _is_inputs(code, node.value, _owner(t), aliases) for t in node.targets
        )
    if isinstance(node, ast.Dict):
        return any(
            isinstance(k, ast.Constant) and k.value == "labels" and _is_inputs(code, v, "", aliases)
            for k, v in zip(node.keys, node.values, strict=True)
        )
    if isinstance(node, ast.keyword):
        return node.arg == "labels" and _is_inputs(code, node.value, "", aliases)
    return False


def _is_labels(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return bool(node.slice.value == "labels")
    return isinstance(node, ast.Name) and node.id in ("labels", "label_ids", "target_ids")


def _owner(node: ast.AST) -> str:
    """Return the name that an element or attribute belongs to: `batch` of `batch["labels"]`."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _uncopied(node: ast.AST) -> ast.AST | None:
    """Return what an expression copies whole or in part; itself if it copies nothing."""
    for _ in range(4):
        if isinstance(node, ast.Call):
            if dotted(node.func).rsplit(".", 1)[-1] not in _COPYING:
                return None
            method = isinstance(node.func, ast.Attribute) and not node.args
            inner = node.func.value if isinstance(node.func, ast.Attribute) and method else None
            node = inner or (node.args[0] if node.args else node.func)
        elif isinstance(node, ast.ListComp):
            element = node.elt
            copies = isinstance(element, ast.Call) and dotted(element.func).endswith("copy")
            if not (copies or isinstance(element, ast.Name)) or node.generators[0].ifs:
                return None
            node = node.generators[0].iter
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            node = node.value
        else:
            break
    return node


def _is_inputs(code: Code, whole: ast.AST, owner: str, aliases: frozenset[Alias]) -> bool:
    """Say whether an expression is the prompt's own input ids, copied or not.

    `labels["input_ids"]` is the tokenised target of an encoder-decoder and no copy, unless
    `labels` is the very dictionary (`owner`) that the labels go to.
    """
    node = _uncopied(whole)
    if isinstance(node, ast.Name):
        scope = code.scope(whole)
        if {(None, node.id), (scope, node.id), (code.tree, node.id)} & aliases:
            return True
        bound = code.bound(node)
        inner = _uncopied(bound[0].value) if len(bound) == 1 else None
        return isinstance(inner, ast.Name) and (scope, inner.id) in aliases
    if node is None:
        return False
    holder = _owner(node)
    if holder == owner:
        return _is_input_ids(node)
    return (
        _is_input_ids(node)
        and not _TARGET_NAME.search(holder)
        and not _is_other_encoding(code, node, whole, owner)
    )


def _is_other_encoding(code: Code, ids: ast.AST, whole: ast.AST, owner: str) -> bool:
    """Say whether ids are of another call of the tokenizer than the one the labels go to.

    `x = tok(source); y = tok(text_target=target); x["labels"] = y["input_ids"]`
    """
    made = _call_of(code, ids)
    if made is None:
        return False
    if keyword(made, "text_target") is not None:
        return True
    statement = next((a for a in code.ancestors(whole) if isinstance(a, ast.Assign)), None)
    targets = statement.targets if statement else []
    beside = [_call_of(code, target) for target in targets if _owner(target) == owner]
    return any(other is not None and not _of_one_text(other, made) for other in beside)


def _of_one_text(one: ast.Call, other: ast.Call) -> bool:
    return one is other or [ast.dump(a) for a in one.args] == [ast.dump(a) for a in other.args]


def _call_of(code: Code, node: ast.AST) -> ast.Call | None:
    """Return the only call that made what an element belongs to: a name, or the call itself."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    if isinstance(node, ast.Call):
        return node
    bound = code.bound(node) if isinstance(node, ast.Name) else []
    made = bound[0].value if len(bound) == 1 else None
    return made if isinstance(made, ast.Call) else None


def _is_ignored_label(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return isinstance(node.operand, ast.Constant) and node.operand.value == 100
    return (
        isinstance(node, ast.Name | ast.Attribute)
        and isinstance(getattr(node, "ctx", None), ast.Load)
        and dotted(node).rsplit(".", 1)[-1].upper() in ("IGNORE_INDEX", "IGNORE_TOKEN_ID")
    )


def _masked_kind(code: Code, node: ast.AST) -> str:
    """Return masked, pad-masked, or "" where -100 is compared, defined, passed on or padding."""
    whole, inside = node, node
    for around in code.ancestors(node):
        if isinstance(around, ast.Compare):
            return ""
        if isinstance(around, ast.keyword) and _FILLING.search(around.arg or ""):
            return ""  # label_pad_token_id=-100, padding_value=-100, ignore_index=-100
        if isinstance(around, ast.BinOp) and isinstance(around.op, ast.Mult):
            repeats = around.right if around.left is inside else around.left
            joined = code.parents.get(around)
            tail = isinstance(joined, ast.BinOp) and _is_tail(joined, around)
            padding = tail or _padding(repeats) != "masked"
            return "" if padding or _never_reached(code, node) else "masked"
        if isinstance(around, ast.Call) and inside in around.args:
            last = dotted(around.func).rsplit(".", 1)[-1]
            if last not in _FILLERS:
                return ""
            return "" if _never_reached(code, node) else _padding(around)
        if isinstance(around, ast.stmt):
            whole = around
            break
        inside = around
    if _never_reached(code, whole):
        return ""
    if isinstance(whole, ast.Assign) and whole.value is node:
        target = whole.targets[0]
        if not isinstance(target, ast.Subscript):
            return ""  # IGNORE_INDEX = -100
        return _padding(target.slice)
    if isinstance(whole, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return ""
    return _padding(whole)


def _is_tail(node: ast.BinOp, part: ast.AST) -> bool:
    """Say whether ignored labels follow the labels: `labels + [-100] * (size - len(labels))`."""
    if not isinstance(node.op, ast.Add) or node.right is not part:
        return False
    before = ast.unparse(node.left).lower()
    return bool(re.search(r"label|ids|target|answer", before)) and not _PROMPT_WORDS.search(
        ast.unparse(part)
    )


def _never_reached(code: Code, node: ast.AST) -> bool:
    """Say whether an option that is known leaves the code out: `if not train_on_inputs:`."""
    inside = node
    for around in code.ancestors(node):
        if isinstance(around, ast.If) and inside in around.body:
            test, wanted = around.test, True
            while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
                test, wanted = test.operand, not wanted
            if _TRAIN_ON_PROMPTS.search(dotted(test)):
                return _option(code, test) is (not wanted)
        inside = around
    return False


def _option(code: Code, node: ast.AST) -> Any:
    """Return the value of a name, or its default where it is a function's parameter."""
    name = dotted(node).rsplit(".", 1)[-1]
    for around in (code.tree, *code.ancestors(node)):
        if isinstance(around, ast.FunctionDef):
            arguments = (*around.args.posonlyargs, *around.args.args)
            defaults = around.args.defaults
            named = dict(zip([a.arg for a in arguments[::-1]], defaults[::-1], strict=False))
            if name in named:
                return code.value(named[name])
    return code.value(node)


def _padding(node: ast.AST) -> str:
    """Return what a condition hides: pad-masked by the pad's id, nothing by the mask, masked else.

    The attention mask is 1 on an end token even where its id is the pad's, so nothing is lost.
    """
    words = " ".join(
        getattr(n, "id", "") + getattr(n, "attr", "") + str(getattr(n, "value", ""))[:40]
        for n in ast.walk(node)
        if isinstance(n, ast.Name | ast.Attribute | ast.Constant)
    )
    if _PROMPT_WORDS.search(words):
        return "masked"
    if re.search(r"(?i)attention_mask|\battn?_mask\b", words):
        return ""
    return "pad-masked" if re.search(r"(?i)pad|\bmask\b|\bmax_len", words) else "masked"


# --- answers and their end --------------------------------------------------------------------


def answers_of(code: Code) -> Iterator[Found]:
    """Yield `answer`: a text tokenised on its own, without special tokens, to be an answer.

    Value: `text` with slots, and the `stops` it holds.
    """
    for name, call in code.calls():
        last = name.rsplit(".", 1)[-1].lower()
        if "tok" not in last and last not in ("encode", "__call__"):
            continue
        if not call.args or code.value(keyword(call, "add_special_tokens")) is not False:
            continue
        node = call.args[0]
        if not any(_names_answer(n) for n in _words_of(node)):
            continue
        text = readable(code.text(node) or slot(node))
        stops = list(dict.fromkeys(stops_in(text)))
        yield "answer", {"text": text[:200], "stops": stops}, call.lineno


def _words_of(node: ast.expr) -> Iterator[str]:
    """Yield the names and constants of an expression."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name | ast.Attribute):
            yield dotted(part)
        elif isinstance(part, ast.Constant):
            yield str(part.value)


def _names_answer(word: str) -> bool:
    if "response" in word.lower():
        return True
    return bool(_TARGET_NAME.search(word)) and not _PROMPT_WORDS.search(word[:60])


def appended_ends(code: Code) -> Iterator[Found]:
    """Yield `appends_eos` where the end token is put to text or ids."""
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Call):
            last = dotted(node.func).rsplit(".", 1)[-1]
            given = (*node.args, *(k.value for k in node.keywords if last == "format"))
            if (last in _JOINING and any(_holds_eos(code, a) for a in given)) or (
                code.value(keyword(node, "add_eos_token")) is True
            ):
                yield "appends_eos", True, node.lineno
        elif isinstance(node, ast.BinOp | ast.JoinedStr | ast.AugAssign):
            parts = node.values if isinstance(node, ast.JoinedStr) else _sides(node)
            inner = [p.value if isinstance(p, ast.FormattedValue) else p for p in parts]
            if any(_is_eos(code, p) for p in inner):
                yield "appends_eos", True, node.lineno
        elif isinstance(node, ast.List) and any(isinstance(e, ast.Starred) for e in node.elts):
            if any(_is_eos(code, e) for e in node.elts):  # [*prompt, *answer, eos_token_id]
                yield "appends_eos", True, node.lineno
        elif isinstance(node, ast.Assign) and _sets_add_eos(node):
            yield "appends_eos", code.value(node.value) is True, node.lineno


def _holds_eos(code: Code, node: ast.expr) -> bool:
    return any(_is_eos(code, n) for n in ast.walk(node))


def _sets_add_eos(node: ast.Assign) -> bool:
    return dotted(node.targets[0]).endswith(".add_eos_token")


def _sides(node: ast.BinOp | ast.AugAssign) -> list[ast.expr]:
    return [node.left, node.right] if isinstance(node, ast.BinOp) else [node.value]


def _is_eos(code: Code, node: ast.AST) -> bool:
    if isinstance(node, ast.List) and len(node.elts) == 1:
        node = node.elts[0]
    if isinstance(node, ast.Call) and not node.args:
        node = node.func  # tokenizer.eos_id()
    if isinstance(node, ast.Attribute):
        return node.attr in ("eos_token", "eos_token_id", "eos_id")
    if not isinstance(node, ast.Name):
        return False
    if re.fullmatch(r"(?i)eos(_token)?(_id)?", node.id):
        return True
    bound = code.bound(node)
    return len(bound) == 1 and isinstance(bound[0].value, ast.Attribute) and (
        _is_eos(code, bound[0].value)
    )  # fmt: skip
