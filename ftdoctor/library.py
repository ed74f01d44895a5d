"""Load, validate and digest the signature library: YAML in, `Library` out, all errors at once.

YAML nodes are walked by hand, for two reasons. Every problem can be reported as
`file:line:column`; and PyYAML follows YAML 1.1, where `1e-4` is text and `no` is a boolean, which
is wrong for both thresholds and words.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ftdoctor.errors import SignatureError
from ftdoctor.folders import folder
from ftdoctor.model import STAGES, Call, Cause, Library, Patch, Severity, Status, Symptom
from ftdoctor.versions import is_range

_INT = re.compile(r"[-+]?\d+")
_FLOAT = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?")
_CONSTANTS: Mapping[str, Any] = {
    "": None, "null": None, "~": None, "true": True, "false": False,
    ".nan": float("nan"), ".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"),
}  # fmt: skip
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

SYMPTOM_KEYS = {
    "symptom", "title", "detect", "with", "all", "any", "not", "leak", "group", "source",
    "false_positives", "told", "status", "examples", "replaces",
}  # fmt: skip
CAUSE_KEYS = {
    "cause", "title", "stage", "severity", "prior", "risk", "shows", "leads_to", "excludes",
    "verdict", "mechanism", "fix", "fix_for", "patch", "next_check", "references", "affects",
    "aliases", "status", "rows", "examples", "replaces",
}  # fmt: skip
TRAINERS = {
    "hf", "trl", "axolotl", "llama-factory", "unsloth", "torchtune", "tinker", "mlx",
    "deepspeed", "megatron", "nemo", "verl", "openrlhf", "openai",
}  # fmt: skip


@dataclass
class _Document:
    """One YAML document: its nodes, plain data of them, and the problems found so far."""

    file: str
    node: Any
    data: Any = None
    problems: list[str] = field(default_factory=list)

    @property
    def line(self) -> int:
        """The line where it begins."""
        return int(self.node.start_mark.line) + 1

    def problem(self, path: tuple[str | int, ...], message: str) -> None:
        mark = _place(self.node, path)
        self.problems.append(f"{self.file}:{mark.line + 1}:{mark.column + 1}: {message}")


def _place(node: Any, path: tuple[str | int, ...]) -> Any:
    """Return the mark of what lies at a path below a node: of a key, the last that is so called."""
    mark = node.start_mark
    for part in path:
        if type(node).__name__ == "SequenceNode" and isinstance(part, int):
            inside = [(n, n.start_mark) for n in node.value[part : part + 1]]
        elif type(node).__name__ == "MappingNode":
            inside = [(value, key.start_mark) for key, value in node.value if key.value == part]
        else:
            inside = []
        if not inside:
            break
        node, mark = inside[-1]
    return mark


# From the key to the next one: the packaged files write their examples as a block.
_EXAMPLES = re.compile(r"^examples:.*\n(?:(?:[ \t].*)?\n)*", re.M)


def load(
    extra: Sequence[Path] = (), *, check_calls: bool = False, examples: bool = True
) -> Library:
    """Load the packaged signatures and those of further files or folders.

    With `check_calls`, detectors are imported and each call's parameters are checked against their
    type hints (slow; `ftdoctor signatures check` and the tests do it). A diagnosis asks for no
    `examples`, more than half of the packaged text and of the time; those of `extra` are read.
    Raises SignatureError that lists every problem of every file.
    """
    problems: list[str] = []
    symptoms: dict[str, Symptom] = {}
    causes: dict[str, Cause] = {}
    digest = hashlib.sha256()
    for path, shown, packaged in _files(extra):
        text = path.read_text(encoding="utf-8")
        digest.update(text.encode())
        if packaged and not examples:
            text = _EXAMPLES.sub(lambda block: "\n" * block.group().count("\n"), text)
        for document in _documents(text, shown, problems):
            _take(document, symptoms, causes)
            problems += document.problems
    problems += _cross_check(symptoms, causes)
    if check_calls:
        problems += _check_calls(symptoms)
    if problems:
        raise SignatureError(tuple(problems))
    return Library(symptoms, causes, digest.hexdigest())


def _files(extra: Sequence[Path]) -> Iterator[tuple[Path, str, bool]]:
    """Yield each file, its name for messages, and whether it is packaged."""
    packaged = folder("signatures")
    for kind in ("symptoms", "causes"):
        for path in sorted((packaged / kind).rglob("*.yaml")):
            yield path, f"signatures/{path.relative_to(packaged).as_posix()}", True
    for place in extra:
        found = sorted(place.rglob("*.yaml")) if place.is_dir() else [place]
        for path in found:
            yield path, str(path), False


def _documents(text: str, file: str, problems: list[str]) -> Iterator[_Document]:
    import yaml

    try:
        for node in yaml.compose_all(text, Loader=_loader()):
            if node is None:
                continue
            document = _Document(file, node)
            document.data = _construct(node, (), document)
            if isinstance(document.data, dict):
                yield document
            else:
                problems.append(f"{file}:{node.start_mark.line + 1}:1: expected a mapping of keys")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        problems.append(f"{file}:{place}: not YAML: {error.problem}")


@cache
def _loader() -> Any:
    """Return a loader that makes nodes only: `_construct` tells their types by the core schema."""
    import yaml

    base: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    nothing = {name: lambda *_: None for name in ("descend_resolver", "ascend_resolver")}
    return type("_Nodes", (base,), {**nothing, "resolve": lambda *_: ""})


def _construct(node: Any, path: tuple[str | int, ...], document: _Document) -> Any:
    """Build plain data from a YAML node by the YAML 1.2 core schema."""
    kind = type(node).__name__
    if kind == "ScalarNode":
        return _scalar(node.value) if not node.style else node.value
    if kind == "SequenceNode":
        return [_construct(n, (*path, i), document) for i, n in enumerate(node.value)]
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        inner = (*path, key)
        if key in data:
            document.problem(inner, f"the key `{key}` stands here twice")
        data[key] = _construct(value_node, inner, document)
    return data


def _scalar(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _take(document: _Document, symptoms: dict[str, Symptom], causes: dict[str, Cause]) -> None:
    data = document.data
    if "symptom" in data:
        _check_keys(document, SYMPTOM_KEYS)
        _register(document, symptoms, _symptom(document), str(data["symptom"]))
    elif "cause" in data:
        _check_keys(document, CAUSE_KEYS)
        _register(document, causes, _cause(document), str(data["cause"]))
    else:
        document.problem((), "a signature begins with `symptom: id` or `cause: id`")


def _register(document: _Document, known: dict[str, Any], made: Any, name: str) -> None:
    if not _ID.fullmatch(name):
        document.problem(("symptom",), f"`{name}` is no id: use lower-case words joined by `-`")
    if name in known and document.data.get("replaces") != name:
        earlier = known[name]
        document.problem(
            (), f"`{name}` is defined at {earlier.file}:{earlier.line} too; say `replaces: {name}`"
        )
    known[name] = made


def _check_keys(document: _Document, allowed: set[str]) -> None:
    for key in document.data:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, 1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            document.problem((key,), f"unknown key `{key}`{hint}")


def _get(
    document: _Document,
    key: str,
    kind: type | tuple[type, ...],
    default: Any = None,
    *,
    required: bool = False,
) -> Any:
    if key not in document.data:
        if required:
            document.problem((), f"the key `{key}` is missing")
        return default
    value = document.data[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        document.problem((key,), f"`{key}` must be {wanted}, not {value!r}")
        return default
    return value


def _probability(document: _Document, path: tuple[str | int, ...], value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        document.problem(path, f"expected a probability above 0 and below 1, not {value!r}")
        return 0.5
    return float(value)


def _symptom(document: _Document) -> Symptom:
    data = document.data
    return Symptom(
        id=str(data["symptom"]),
        title=_get(document, "title", str, "", required=True),
        call=_call(document, data, ()),
        leak=_probability(document, ("leak",), data.get("leak", 0.5)),
        group=_get(document, "group", str, ""),
        source=_get(document, "source", str, ""),
        told=_get(document, "told", str, ""),
        status=_enum(document, "status", Status, Status.STABLE),
        false_positives=_get(document, "false_positives", str, ""),
        examples=tuple(_get(document, "examples", list, [])),
        file=document.file,
        line=document.line,
    )


def _call(document: _Document, data: Mapping[str, Any], path: tuple[str | int, ...]) -> Call:
    """Read one condition: detect/with, symptom, all, any or not."""
    ops = [op for op in ("detect", "symptom", "all", "any", "not") if op in data]
    if path == () and "symptom" in ops:
        ops.remove("symptom")
    if len(ops) != 1:
        document.problem(path, "expected exactly one of `detect`, `all`, `any`, `not`")
        return Call("all")
    op = ops[0]
    if op == "detect":
        part = "all" in path or "not" in path
        return Call("detect", str(data["detect"]), dict(data.get("with") or {}), part=part)
    if op == "symptom":
        return Call("symptom", str(data["symptom"]))
    inner = data[op] if op != "not" else [data[op]]
    if not isinstance(inner, list) or not all(isinstance(i, dict) for i in inner):
        document.problem((*path, op), f"`{op}` takes conditions, each `detect:` or `symptom:`")
        return Call(op)
    parts = tuple(
        _call(document, item, (*path, op, i) if op != "not" else (*path, op))
        for i, item in enumerate(inner)
    )
    return Call(op, parts=parts)


def _cause(document: _Document) -> Cause:
    data = document.data
    stage = _get(document, "stage", str, STAGES[0], required=True)
    if stage not in STAGES:
        document.problem(("stage",), f"no stage `{stage}`; stages are {', '.join(STAGES)}")
    for trainer in data.get("fix_for") or {}:
        if trainer not in TRAINERS:
            document.problem(("fix_for", trainer), f"no trainer `{trainer}`")
    for reference in data.get("references") or []:
        if not str(reference).startswith("https://"):
            document.problem(("references",), f"reference does not open https://: {reference}")
    shows = _get(document, "shows", dict, {}, required=True)
    return Cause(
        id=str(data["cause"]),
        title=_get(document, "title", str, "", required=True),
        stage=stage,
        severity=_enum(document, "severity", Severity, Severity.MEDIUM),
        prior=_probability(document, ("prior",), data.get("prior")),
        shows={k: _probability(document, ("shows", k), v) for k, v in shows.items()},
        mechanism=_get(document, "mechanism", str, "", required=True).strip(),
        fix=_get(document, "fix", str, "", required=True).strip(),
        verdict=_get(document, "verdict", str, ""),
        risk=_odds(document),
        leads_to=tuple(_get(document, "leads_to", list, [])),
        excludes=tuple(_get(document, "excludes", list, [])),
        patch=_patch(document),
        fix_for={k: str(v).strip() for k, v in (data.get("fix_for") or {}).items()},
        next_check=_get(document, "next_check", str, "").strip(),
        references=tuple(_get(document, "references", list, [])),
        affects=_affects(document),
        aliases=tuple(_get(document, "aliases", list, [])),
        status=_enum(document, "status", Status, Status.STABLE),
        rows=tuple(_get(document, "rows", list, [])),
        examples=tuple(_get(document, "examples", list, [])),
        file=document.file,
        line=document.line,
    )


def _affects(document: _Document) -> tuple[str, ...]:
    ranges = tuple(str(v) for v in _get(document, "affects", list, []))
    for index, text in enumerate(ranges):
        if not is_range(text):
            document.problem(
                ("affects", index), f"`{text}` is no version range like `transformers>=4.31,<4.46`"
            )
    return ranges


def _odds(document: _Document) -> dict[str, float]:
    found = {}
    for key, value in _get(document, "risk", dict, {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            document.problem(("risk", key), f"expected an odds ratio above 0, not {value!r}")
        else:
            found[key] = float(value)
    return found


def _patch(document: _Document) -> Patch | None:
    data = _get(document, "patch", dict, None)
    if data is None:
        return None
    if "setting" not in data or not ({"to", "delete"} & set(data)):
        document.problem(("patch",), "`patch` needs `setting` and one of `to`, `delete`")
        return None
    delete = bool(data.get("delete", False))
    return Patch(str(data["setting"]), data.get("to"), delete, data.get("to_full"))


def _enum(document: _Document, key: str, kind: Callable[[str], Any], default: Any) -> Any:
    if key not in document.data:
        return default
    try:
        return kind(document.data[key])
    except ValueError:
        values = ", ".join(str(v.value) for v in kind)  # type: ignore[attr-defined]
        document.problem((key,), f"`{key}` must be one of {values}")
        return default


def _cross_check(symptoms: Mapping[str, Symptom], causes: Mapping[str, Cause]) -> list[str]:
    """Return a problem for every name that points to nothing."""
    problems = []
    aliased: dict[str, str] = {}

    def refer(place: str, name: str, known: Mapping[str, Any], what: str) -> None:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            problems.append(f"{place}: no {what} `{name}`{hint}")

    for cause in causes.values():
        place = f"{cause.file}:{cause.line}:1"
        for name in (*cause.shows, *cause.risk):
            refer(place, name, symptoms, "symptom")
        for name in (*cause.leads_to, *cause.excludes):
            refer(place, name, causes, "cause")
        for name in cause.aliases:
            other = aliased.setdefault(name, cause.id)
            if name in causes or other != cause.id:
                problems.append(f"{place}: the alias `{name}` is the id or alias of another cause")
    for symptom in symptoms.values():
        for name in _named_symptoms(symptom.call):
            refer(f"{symptom.file}:{symptom.line}:1", name, symptoms, "symptom")
    return problems


def _named_symptoms(call: Call) -> Iterator[str]:
    if call.op == "symptom":
        yield call.detector
    for part in call.parts:
        yield from _named_symptoms(part)


def calls_of(call: Call) -> Iterator[Call]:
    """Yield every detector call inside a condition."""
    if call.op == "detect":
        yield call
    for part in call.parts:
        yield from calls_of(part)


def _check_calls(symptoms: Mapping[str, Symptom]) -> list[str]:
    from ftdoctor.detect import check_call

    return [
        f"{symptom.file}:{symptom.line}:1: {problem}"
        for symptom in symptoms.values()
        for call in calls_of(symptom.call)
        for problem in check_call(call.detector, dict(call.parameters))
    ]
