"""What a script does besides prompts: labels, padding, paths, devices, saving, fragile indexing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from ftdoctor.read.code import UNKNOWN, Code, argparse_default, dotted, keyword
from ftdoctor.read.script_best import kept_best_of
from ftdoctor.read.script_boundary import boundaries_of
from ftdoctor.read.script_classes import classes_of
from ftdoctor.read.script_keys import keys_of
from ftdoctor.read.script_labels import answers_of, appended_ends, labels_of
from ftdoctor.read.script_loop import label_shifts_of, loop_faults_of, trained_over, walked_rows_of
from ftdoctor.read.script_options import options_of
from ftdoctor.read.script_pairs import pairs_of
from ftdoctor.read.script_picks import picks_of
from ftdoctor.read.script_rewards import rewards_of
from ftdoctor.read.script_targets import targets_of
from ftdoctor.read.script_tokens import tokens_of
from ftdoctor.read.script_turns import turn_ends_of
from ftdoctor.read.script_written import written_rows_of

Found = tuple[str, Any, int]  # fact name without `script.`, value, line
_COLLATORS = re.compile(r"(?:^|\.)(DataCollator\w+|default_data_collator)$")
_TRAINERS = re.compile(r"(?:^|\.)(\w*Trainer)$")
_DEVICE = re.compile(r"(?:cpu|mps|cuda(?::\d+)?|xla|npu(?::\d+)?|xpu)")
_DATA_READERS = {
    "load_from_disk", "read_json", "read_csv", "read_parquet", "from_json", "from_csv",
}  # fmt: skip
_ADAPTER_NAME = re.compile(r"adapter|lora|peft", re.IGNORECASE)
_PATH_NAME = re.compile(r"path|dir|folder|checkpoint|ckpt|file|model|adapter", re.IGNORECASE)
_MODEL_NAME = re.compile(
    r"(?:^|[.\s=(])(?:model|base_model|inputs?|from_pretrained\(.*\))\.to$", re.DOTALL
)
# `model.half()`, `model.to(torch.bfloat16)`: the type in which a script keeps its weights.
_CASTS = {"half": "float16", "bfloat16": "bfloat16", "float": "float32"}
_CAST_MODEL = re.compile(
    r"(?:^|[.\s=(])(?:model|base_model|from_pretrained\(.*\)|to\(.*\))\.(?:to|half|bfloat16|float)$",
    re.DOTALL,
)
_TORCH_TYPE = re.compile(r"(?:^|\.)(bfloat16|float16|half|float32)$")
_MACHINE = re.compile(r"is_available|is_built|device_count|platform|args|machine")
_ANSWER_NAME = re.compile(
    r"(?i)response|output|answer|generat|complet|predict|result|decoded|reply|\btext\b|^raw"
)


def facts_of(code: Code, role: str) -> Iterator[Found]:
    """Yield (name without `script.`, value, line) for everything but prompts."""
    if role in ("other", "data"):  # a module that a training script may take its rows from
        for part in (
            labels_of(code),
            boundaries_of(code),
            appended_ends(code),
            loop_faults_of(code),
            kept_best_of(code),
            classes_of(code),
            keys_of(code),
            turn_ends_of(code),
            _encodings(code),
            _asked(code),
            picks_of(code),
        ):
            for name, value, line in part:
                yield f"{role}.{name}", value, line
        return
    parts = [_paths(code), _devices(code), _tokenizer(code), _fragile(code), _asked(code)]
    parts.append(picks_of(code))
    if role == "train":
        parts += [labels_of(code), boundaries_of(code), appended_ends(code), answers_of(code)]
        parts += [_training(code), _frozen(code), loop_faults_of(code), label_shifts_of(code)]
        parts += [targets_of(code), tokens_of(code), walked_rows_of(code), rewards_of(code)]
        parts += [kept_best_of(code), keys_of(code), _encodings(code), classes_of(code)]
        parts += [options_of(code), turn_ends_of(code), pairs_of(code), written_rows_of(code)]
    for part in parts:
        for name, value, line in part:
            yield f"{role}.{name}", value, line


_PREFERENCE_TRAINERS = re.compile(r"(?:DPO|KTO|IPO|XPO|NashMD)\w*Trainer$")
_SAME_MODEL = {"to", "cuda", "eval", "train", "half", "bfloat16", "float", "requires_grad_"}
_ASKS_A_SERVER = re.compile(r"(?:^|\.)(?:completions|responses)\.create$")


def _asked(code: Code) -> Iterator[Found]:
    """Yield the models that a client asks an OpenAI-compatible server for."""
    for name, call in code.calls():
        asked = keyword(call, "model") if _ASKS_A_SERVER.search(name) else None
        value = code.value(asked) if asked is not None else None
        if isinstance(value, str):
            yield "asked_model", value, call.lineno


# --- training ---------------------------------------------------------------------------------


def _training(code: Code) -> Iterator[Found]:
    evaluates = None
    for name, call in code.calls():
        last = name.rsplit(".", 1)[-1]
        found = _COLLATORS.search(name)
        if found:
            masked = code.value(keyword(call, "mlm")) is not False
            mlm = found.group(1) == "DataCollatorForLanguageModeling" and masked
            yield "collator", f"{found.group(1)}{' (mlm)' if mlm else ''}", call.lineno
        found = _TRAINERS.search(name)
        if found:
            yield "trainer", found.group(1), call.lineno
            given = keyword(call, "eval_dataset")
            none = isinstance(given, ast.Constant) and given.value is None
            evaluates = evaluates or (given is not None and not none)
            yield from _policy_and_reference(code, call)
            if (rows := _same_rows(code, keyword(call, "train_dataset"), given)) is not None:
                yield "evaluates_on_training_rows", rows, call.lineno
        if last in ("evaluate", "validate", "test") and "trainer" in name.lower():
            evaluates = True
        if last in _CONVERTERS:
            yield "converts_rows", last, call.lineno
        if (cast := _cast(last, call)) is not None:
            yield "weights_dtype", cast, call.lineno
        if _reads_in_order(code, last, call):
            yield "reads_in_order", last, call.lineno
        if (maker := _formatting(last, call)) is not None:
            yield "formatting", maker, call.lineno
        if last in ("enable_input_require_grads", "prepare_model_for_kbit_training"):
            yield "input_require_grads", True, call.lineno
        elif last == "gradient_checkpointing_enable":
            yield "gradient_checkpointing", True, call.lineno
        elif last == "train_test_split":
            evaluates = evaluates if evaluates is not None else False
    if evaluates is not None:
        yield "evaluates", evaluates, 1


def _policy_and_reference(code: Code, call: ast.Call) -> Iterator[Found]:
    """Yield from where a preference trainer's model and its reference are loaded, if both are."""
    reference = keyword(call, "ref_model") or (call.args[1] if len(call.args) > 1 else None)
    policy = keyword(call, "model") or (call.args[0] if call.args else None)
    if not _PREFERENCE_TRAINERS.search(dotted(call.func)):
        return
    sources = [_loaded_from(code, node, 4) for node in (policy, reference)]
    if all(sources):
        yield "policy_model", sources[0], call.lineno
        yield "reference_model", sources[1], call.lineno


def _loaded_from(code: Code, node: ast.expr | None, depth: int) -> str | None:
    """Return the path or name that a model is loaded from, an adapter's where there is one."""
    if node is None or depth <= 0:
        return None
    if isinstance(node, ast.Name):
        bound = code.bound(node)
        if len(bound) != 1:
            return None
        value = code.value(bound[0].value)  # the name itself may be given as a text
        return value if isinstance(value, str) else _loaded_from(code, bound[0].value, depth - 1)
    if not isinstance(node, ast.Call):
        value = code.value(node)
        return value if isinstance(value, str) else None
    last = dotted(node.func).rsplit(".", 1)[-1]
    if last == "from_pretrained" and node.args:
        place = 1 if "Peft" in dotted(node.func) else 0
        value = code.value(node.args[place]) if len(node.args) > place else None
        return value if isinstance(value, str) else None
    inner = node.func.value if isinstance(node.func, ast.Attribute) else None
    return _loaded_from(code, inner, depth - 1) if last in _SAME_MODEL else None


def _cast(last: str, call: ast.Call) -> str | None:
    """Return the type to which a call casts the whole model, None if it is no such call."""
    if last not in ("to", *_CASTS) or not _CAST_MODEL.search(ast.unparse(call.func)):
        return None
    if last != "to":
        return _CASTS[last] if not call.args else None
    for node in (*call.args, *(k.value for k in call.keywords)):
        found = _TORCH_TYPE.search(dotted(node)) if isinstance(node, ast.Attribute) else None
        if found:
            return _CASTS.get(found.group(1), found.group(1))
    return None


_WHOLE_MODEL = re.compile(r"^(?:self\.)?(?:model|net|llm|lm)$")
_NEW_LAYER = re.compile(r"\bnn\.(?!Parameter\b)|Linear|Head|Layer")
_ADAPTS = re.compile(
    r"get_peft_model|LoraConfig|PeftModel|add_adapter|prepare_model_for|peft_config"
)


def _frozen(code: Code) -> Iterator[Found]:
    """Yield where a script freezes every weight of the model and gives none of them back.

    A layer that is put into the model afterwards, an adapter or a later `True` gives some back.
    """
    lines = [
        node.lineno
        for node in ast.walk(code.tree)
        if isinstance(node, ast.stmt | ast.expr)
        and ((isinstance(node, ast.For) and _freezes_all(node)) or _freezes_model(node))
    ]
    if not lines or _ADAPTS.search(ast.unparse(code.tree)):
        return
    frozen = min(lines)
    if not any(_gives_back(node, frozen) for node in ast.walk(code.tree)):
        yield "freezes_everything", True, frozen


def _freezes_all(loop: ast.For) -> bool:
    """Say whether a loop over all parameters of the model does nothing but freeze them."""
    over = loop.iter
    if not isinstance(over, ast.Call) or not isinstance(over.func, ast.Attribute):
        return False
    whole = over.func.attr in ("parameters", "named_parameters")
    whole = whole and bool(_WHOLE_MODEL.match(ast.unparse(over.func.value)))
    return whole and len(loop.body) == 1 and _sets_gradient(loop.body[0]) is False


def _freezes_model(node: ast.AST) -> bool:
    """Say whether a statement is `model.requires_grad_(False)`."""
    if not isinstance(node, ast.Expr) or _sets_gradient(node) is not False:
        return False
    called = getattr(node.value, "func", None)
    return isinstance(called, ast.Attribute) and bool(_WHOLE_MODEL.match(ast.unparse(called.value)))


def _sets_gradient(node: ast.AST) -> bool | None:
    """Return what a statement sets `requires_grad` to, None if it does not, or not by a literal."""
    value: ast.expr | None = None
    if isinstance(node, ast.Assign):
        target = node.targets[0]
        if not isinstance(target, ast.Attribute) or target.attr != "requires_grad":
            return None
        value = node.value
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        if dotted(node.value.func).rsplit(".", 1)[-1] != "requires_grad_":
            return None
        value = node.value.args[0] if node.value.args else ast.Constant(True)
    if value is None:
        return None
    return bool(value.value) if isinstance(value, ast.Constant) else True


def _gives_back(node: ast.AST, frozen: int) -> bool:
    """Say whether a node makes something trainable, or puts a new layer into the model later on."""
    if _sets_gradient(node) is True:
        return True
    if not isinstance(node, ast.Assign) or node.lineno < frozen:
        return False
    made = ast.unparse(node.value.func) if isinstance(node.value, ast.Call) else ""
    return bool(_NEW_LAYER.search(made))


# Methods of data sets that give the same rows in another order or form, and those that take some.
_KEEPING = frozenset(
    {"shuffle", "map", "with_format", "with_transform", "cast", "cast_column", "flatten_indices"}
    | {"rename_column", "rename_columns", "remove_columns", "select_columns", "to_iterable_dataset"}
)
_NARROWING = _KEEPING | {"select", "take", "head", "tail", "sample", "shard"}


_CONVERTERS = {"standardize_sharegpt", "standardize_data_formats", "to_sharegpt"}
_SHUFFLING = re.compile(r"(?:^|[._])(?:shuffle|permutation|randperm)$")
_TRAIN_NAME = re.compile(r"(?i)train(?!er\b)")
_JUDGED_NAME = re.compile(r"(?i)val|eval|test|dev|held")


def _reads_in_order(code: Code, last: str, call: ast.Call) -> bool:
    """Say whether a call makes training read its rows from first to last.

    A DataLoader without `shuffle` or a sampler does, and a SequentialSampler over training rows,
    unless the file shuffles anything at all.
    """
    if last not in ("SequentialSampler", "DataLoader") or not call.args + call.keywords:
        return False
    given = call.args[0] if call.args else keyword(call, "dataset")
    target = code.parents.get(call)
    named = ast.unparse(target.targets[0]) if isinstance(target, ast.Assign) else ""
    around = code.function_of(call)
    words = f"{named} {ast.unparse(given) if given is not None else ''}"
    if last == "SequentialSampler":
        words += f" {getattr(around, 'name', '')}"
    if named not in trained_over(code) and (
        not _TRAIN_NAME.search(words) or _JUDGED_NAME.search(words)
    ):
        return False
    if any(_SHUFFLING.search(name) for name, _ in code.calls()):
        return False
    if last == "SequentialSampler":
        return True
    if keyword(call, "sampler") is not None or keyword(call, "batch_sampler") is not None:
        return False
    shuffled = keyword(call, "shuffle")
    by_place = len(call.args) > 2 or any(k.arg is None for k in call.keywords)
    return not by_place and (shuffled is None or code.value(shuffled) is False)


def _same_rows(code: Code, train: ast.expr | None, given: ast.expr | None) -> str | None:
    """Return the source of the training rows if evaluation is given the same, or a part of them."""
    if train is None or given is None:
        return None
    whole = _widened(code, train, _KEEPING)
    if not isinstance(whole, ast.Name | ast.Subscript | ast.Attribute):
        return None
    of = _source(whole)
    return of if _source(_widened(code, given, _NARROWING)) == of else None


def _widened(code: Code, node: ast.expr, through: frozenset[str]) -> ast.expr:
    """Return the rows that others were made of by the methods named, and through names.

    A name that is set several times may have lost those rows since.
    """
    for _ in range(8):
        inner: ast.expr = node
        if isinstance(node, ast.Name) and len(bound := code.bound(node)) == 1:
            inner = bound[0].value
        whole = inner if isinstance(inner, ast.Name) else _made_of(code, inner, through)
        if whole is None or whole is node:
            break
        if isinstance(whole, ast.Name):
            names = code.bindings.get(code.scope(inner), {})
            if len(names.get(whole.id, [])) > 1:
                break
        node = whole
    return node


def _made_of(code: Code, node: ast.expr, through: frozenset[str]) -> ast.expr | None:
    """Return what a method, a slice or a split was applied to, None if it is none of them."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.value if node.func.attr in through else None
    if not isinstance(node, ast.Subscript) or through is _KEEPING:
        return None
    if isinstance(node.slice, ast.Slice):
        rows = node.value
        by_place = isinstance(rows, ast.Attribute) and rows.attr == "iloc"
        return rows.value if by_place else rows  # type: ignore[attr-defined]
    parts: ast.expr = node.value
    if isinstance(parts, ast.Name) and len(bound := code.bound(parts)) == 1:
        parts = bound[0].value
    if isinstance(parts, ast.Call) and isinstance(parts.func, ast.Attribute):
        return parts.func.value if parts.func.attr == "train_test_split" else None
    return None


def _formatting(last: str, call: ast.Call) -> str | None:
    """Return the name of the function that makes the rows' text or columns, if one is passed."""
    function = keyword(call, "formatting_func")
    if function is None and last == "map" and call.args:
        function = call.args[0]
    if isinstance(function, ast.Lambda):
        return "lambda"
    return dotted(function) if isinstance(function, ast.Name | ast.Attribute) else None


# --- tokenizer --------------------------------------------------------------------------------


def _tokenizer(code: Code) -> Iterator[Found]:
    for node in ast.walk(code.tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            yield from _tokenizer_attribute(code, node, node.targets[0])
    for name, call in code.calls():
        last = name.rsplit(".", 1)[-1]
        if last == "from_pretrained" and "Tokenizer" in name:
            side = code.value(keyword(call, "padding_side"))
            if isinstance(side, str):
                yield "padding_side", side, call.lineno
        elif last in ("add_special_tokens", "add_tokens") and call.args:
            value = code.value(call.args[0])
            yield "added_tokens", None if value is UNKNOWN else value, call.lineno
        elif last in ("setup_chat_format", "clone_chat_template", "get_chat_template"):
            yield "extends_vocabulary", True, call.lineno
        elif last == "resize_token_embeddings":
            yield "resizes_embeddings", True, call.lineno
        elif name.endswith("tokenizer.save_pretrained"):
            yield "saves_tokenizer", True, call.lineno


def _tokenizer_attribute(code: Code, node: ast.Assign, target: ast.Attribute) -> Iterator[Found]:
    source = node.value.attr if isinstance(node.value, ast.Attribute) else ""
    if target.attr in ("pad_token", "pad_token_id") and "config" not in dotted(target.value):
        if source.startswith("eos_token"):
            yield "pad_token", "eos_token", node.lineno
        elif source:
            yield "pad_token", source, node.lineno
        elif isinstance(value := code.value(node.value), str | int):
            yield "pad_token", value, node.lineno
    elif target.attr == "padding_side" and isinstance(side := code.value(node.value), str):
        yield "padding_side", side, node.lineno
    elif target.attr == "eos_token" and isinstance(value := code.value(node.value), str):
        yield "eos_token", value, node.lineno


# --- paths ------------------------------------------------------------------------------------


def _paths(code: Code) -> Iterator[Found]:
    """Yield model, adapter, data and output paths where their text is known without running."""
    for name, call in code.calls():
        for kind, node in _path_arguments(name, call):
            value = code.value(node)
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, str) and 0 < len(path) < 400 and "\n" not in path:
                    yield kind, path, _written_at(code, node)
    yield from _path_constants(code)


def _written_at(code: Code, node: ast.expr) -> int:
    if isinstance(node, ast.Name) and len(bound := code.bound(node)) == 1:
        return bound[0].line
    return node.lineno


def _path_arguments(name: str, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    last = name.rsplit(".", 1)[-1]
    first = call.args[0] if call.args else None
    if last == "from_pretrained":
        if re.search(r"AutoPeft|PeftConfig", name) and first is not None:
            yield "adapter_path", first
        elif re.search(r"PeftModel", name) and len(call.args) > 1:
            yield "adapter_path", call.args[1]
        elif re.search(r"Tokenizer|Processor", name) and first is not None:
            yield "tokenizer_path", first
        elif re.search(r"Model|LM", name):
            found = first if first is not None else keyword(call, "model_name")
            if found is not None:
                yield "model_path", found
        adapter = keyword(call, "model_id")
        if adapter is not None and "Peft" in name:
            yield "adapter_path", adapter
    elif last in ("load_adapter", "load_lora_adapter", "load_lora_weights") and first is not None:
        yield "adapter_path", first
    elif last in ("LLM", "pipeline", "Llama", "create_sampling_client"):
        for word in ("model", "model_path", "base_model"):
            if (found := keyword(call, word)) is not None:
                yield "base_model" if word == "base_model" else "model_path", found
        if last in ("LLM", "Llama") and first is not None:
            yield "model_path", first
    elif last in (
        "save_pretrained",
        "save_model",
        "save_pretrained_merged",
        "save_pretrained_gguf",
    ):
        if first is not None:
            yield "output_path", first
    elif (found := keyword(call, "output_dir")) is not None:
        yield "output_path", found
    yield from _data_arguments(last, name, call, first)


def _data_arguments(
    last: str, name: str, call: ast.Call, first: ast.expr | None
) -> Iterator[tuple[str, ast.expr]]:
    if last == "load_dataset" and (files := keyword(call, "data_files")) is not None:
        inner = files.values if isinstance(files, ast.Dict) else [files]
        yield from (("data_path", item) for item in inner)
    elif first is not None and (last in _DATA_READERS or (name == "open" and _reads(call))):
        yield "data_path", first


_SINGLE_BYTE = re.compile(
    r"(?i)(?:latin[-_]?[19]|l1|iso[-_]?8859[-_]?(?:1|15)|(?:cp|windows[-_])125\d|cp(?:437|850)"
    r"|mac[-_]?roman)"
)


def _encodings(code: Code) -> Iterator[Found]:
    """Yield [file, encoding] of each text that is read in an encoding of one byte a letter."""
    for name, call in code.calls():
        last = name.rsplit(".", 1)[-1]
        given = code.value(keyword(call, "encoding"))
        if not isinstance(given, str) or not _SINGLE_BYTE.fullmatch(given):
            continue
        if name.endswith("open") and _reads(call):
            found = call.args[0] if call.args else keyword(call, "file")
        elif last == "read_text":
            found = call.func.value if isinstance(call.func, ast.Attribute) else None
        elif last == "load_dataset":
            found = keyword(call, "data_files")
        elif last in _DATA_READERS:
            found = call.args[0] if call.args else None
        else:
            continue
        if isinstance(found, ast.Call) and found.args:  # Path("rows.jsonl").read_text(…)
            found = found.args[0]
        value = code.value(found)
        yield "read_as", [value if isinstance(value, str) else "", given], call.lineno


def _reads(call: ast.Call) -> bool:
    mode = call.args[1] if len(call.args) > 1 else keyword(call, "mode")
    return mode is None or (isinstance(mode, ast.Constant) and "r" in str(mode.value))


def _path_constants(code: Code) -> Iterator[Found]:
    """Yield constants and defaults named like an adapter's path: a script may build on them."""
    named: list[tuple[str, ast.expr]] = []
    for scope, names in code.bindings.items():
        if isinstance(scope, ast.Module | ast.ClassDef):
            named += [(name, bound[-1].value) for name, bound in names.items() if len(bound) == 1]
    for call in (c for n, c in code.calls() if n.endswith("add_argument")):
        named += argparse_default(call)
    for name, node in named:
        if not (_ADAPTER_NAME.search(name) and _PATH_NAME.search(name)):
            continue
        if re.search(r"(?i)name|config|target|module|out", name):
            continue
        value = code.value(node)
        if isinstance(value, str) and value and "\n" not in value:
            yield "adapter_path", value, node.lineno


# --- devices ----------------------------------------------------------------------------------


def _devices(code: Code) -> Iterator[Found]:
    """Yield devices written down without a look at what the machine has."""
    found = [
        (value, at.lineno)
        for node in ast.walk(code.tree)
        for value, at in _device_literals(code, node)
        if not _is_conditional(code, at)
    ]
    elsewhere = any(value.startswith("cuda") for value, _ in found)
    for value, line in found:
        if not (value == "cpu" and elsewhere):  # a part moved aside, not where training runs
            yield "device", value, line


def _device_literals(code: Code, node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        names = [t.id if isinstance(t, ast.Name) else "" for t in node.targets]
        if any(re.search(r"(?i)^_?device(_name)?$", name) for name in names):
            yield from _device_text(node.value)
    elif isinstance(node, ast.Call):
        last = dotted(node.func).rsplit(".", 1)[-1]
        moved = last == "to" and _MODEL_NAME.search(ast.unparse(node.func))
        if node.args and (last == "device" or moved):
            yield from _device_text(node.args[0])
        for item in node.keywords:
            if item.arg in ("device_map", "device"):
                yield from _device_text(item.value)
            elif item.arg in ("use_cpu", "no_cuda") and code.value(item.value) is True:
                yield "cpu", item.value
            elif item.arg == "use_mps_device" and code.value(item.value) is True:
                yield "mps", item.value


def _device_text(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Call) and dotted(node.func).endswith("device") and node.args:
        node = node.args[0]
    if isinstance(node, ast.Dict) and len(node.values) == 1:
        node = node.values[0]
    text = node.value if isinstance(node, ast.Constant) else None
    if isinstance(text, str) and _DEVICE.fullmatch(text):
        yield text, node


def _is_conditional(code: Code, node: ast.expr) -> bool:
    """Say whether a condition on the machine (`is_available`, `platform`) decides on a literal."""
    return any(
        isinstance(around, ast.If | ast.IfExp) and _MACHINE.search(ast.dump(around.test))
        for around in code.ancestors(node)
    ) or _is_fallback(code, node)


def _is_fallback(code: Code, node: ast.expr) -> bool:
    """Say whether a later conditional assignment replaces the literal: `device = "cpu"; if …`."""
    for around in code.ancestors(node):
        if isinstance(around, ast.Assign) and isinstance(around.targets[0], ast.Name):
            name = around.targets[0].id
            names = code.bindings.get(code.scope(around), {}).get(name, [])
            return len(names) > 1
    return False


# --- fragile use of model output --------------------------------------------------------------


def _fragile(code: Code) -> Iterator[Found]:
    """Yield `unguarded_index` where an empty answer of the model would raise."""
    for node in ast.walk(code.tree):
        text = _fragile_text(node)
        if text and not _is_guarded(code, node):
            yield "unguarded_index", text, node.lineno  # type: ignore[attr-defined]


def _fragile_text(node: ast.AST) -> str:
    """Return the source of an expression that fails on empty text, or ""."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        index = node.slice.value
        if not isinstance(index, int) or isinstance(index, bool):
            return ""
        inner = node.value
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute):
            method = inner.func.attr
            fails = (method == "split" and (index >= 1 or not inner.args)) or (
                method in ("splitlines", "findall")
            )
            subject = inner.func.value if method != "findall" else (inner.args or [inner])[-1]
            if fails and _is_answer(subject):
                return _source(node)
        elif isinstance(inner, ast.Name) and _is_stripped_answer(inner) and index == 0:
            return _source(node)
    elif isinstance(node, ast.Call) and dotted(node.func) == "json.loads" and node.args:
        return _source(node) if _is_answer(node.args[0]) else ""
    return ""


def _is_answer(node: ast.AST) -> bool:
    """Say whether an expression is text that a model produced, by its names."""
    return any(
        _ANSWER_NAME.search(n.id if isinstance(n, ast.Name) else n.attr)
        or (isinstance(n, ast.Attribute) and n.attr == "decode")
        for n in ast.walk(node)
        if isinstance(n, ast.Name | ast.Attribute)
    )


def _is_stripped_answer(node: ast.Name) -> bool:
    return bool(re.fullmatch(r"(?i)(response|answer|reply|completion)(_text)?", node.id))


def _is_guarded(code: Code, node: ast.AST) -> bool:
    """Say whether a `try`, a condition or `if` around the expression looks at the same thing."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    inside: ast.AST = node
    for around in code.ancestors(node):
        if isinstance(around, ast.Try) and inside in around.body:
            return True
        if isinstance(around, ast.If | ast.IfExp | ast.While):
            tested = {n.id for n in ast.walk(around.test) if isinstance(n, ast.Name)}
            if tested & names:
                return True
        if isinstance(around, ast.BoolOp | ast.comprehension):
            return True
        if isinstance(around, ast.FunctionDef | ast.AsyncFunctionDef):
            return _returns_early(around, names, getattr(node, "lineno", 0))
        inside = around
    return False


def _returns_early(
    function: ast.FunctionDef | ast.AsyncFunctionDef, names: set[str], line: int
) -> bool:
    for statement in ast.walk(function):
        if isinstance(statement, ast.If) and statement.lineno < line:
            tested = {n.id for n in ast.walk(statement.test) if isinstance(n, ast.Name)}
            leaves = isinstance(statement.body[-1], ast.Return | ast.Continue | ast.Raise)
            if tested & names and leaves:
                return True
    return False


def _source(node: ast.AST) -> str:
    try:
        return ast.unparse(node)[:120]
    except (ValueError, RecursionError):
        return type(node).__name__
