"""A ticket or post: prose, with pieces of code, settings, rows, Modelfiles and logs pasted into it.

Each piece is read by the reader of its own kind, and every place is a line of the ticket itself.
Pieces of code make one training script unless they generate or serve. Rows that somebody picked
tell a format and are never counted. What is no other piece is read as console output; sentences
that ask or deny are left out of it, and the others are the user's word on the model.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from ftdoctor.kinds import LOG_MARKS, Found, Peek, classify, looks_like_log
from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read import script, shell
from ftdoctor.read.code import parse, syntax_tree
from ftdoctor.read.console import read_console
from ftdoctor.read.excerpt import told_facts
from ftdoctor.read.items import read_one
from ftdoctor.read.names import SETTINGS
from ftdoctor.read.prose import Said, denies, is_prose, named_facts, sentences
from ftdoctor.read.reading import Reading, joined, relocated
from ftdoctor.read.script_prompts import described
from ftdoctor.read.source import Source, memory_source

MOST_BYTES = 64 << 10  # judgement: the longest issues of public trackers with their logs folded in
MOST_LINES = 60  # of one statement outside of a fence, a long prompt template in the middle
SUFFIXES = (".md", ".txt", ".rst", ".markdown")
# What a piece of JSON or YAML may be; other kinds are told by names of files only.
KINDS_OF_PIECES = frozenset({
    "adapter-config", "tokenizer-config", "tokenizer", "trainer-state", "model-config",
    "openai-events", "results", "metrics-jsonl", "trainer-log", "settings", "history",
})  # fmt: skip
ROWS = frozenset({"data-json"})
_FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})\s*([\w+-]*)")
_PYTHON = frozenset({"python", "py", "python3", "ipython"})
_SHELL = frozenset({"bash", "sh", "shell", "zsh", "console", "powershell", "cmd"})
_FIRST_PERSON = re.compile(
    r"(?<![\w'/-])(?:I|I'(?:m|ve|d|ll)|[Mm]y|[Ww]e|[Oo]ur|me|[Ii]ch|[Mm]eine?[mnrs]?|[Ww]ir|[Uu]nser\w*)"
    r"(?![\w/=:('-])|[我们咱]|(?<!\w)(?:je|mon|j'ai|nous|yo|mi)(?!\w)"
)
_STATEMENT = re.compile(
    r"(?:(?:from|import) [\w.]+|(?:async )?def \w+\(|class \w+[(:]|@\w|try:$"
    r"|(?:for|while|if|with) .*:$|[\w.\[\]\"', ]+\s*[+|]?=\s*\S|[A-Za-z_][\w.]*\()"
)
_COMMAND = re.compile(r"^\s*(?:\(\w+\)\s*)?(?:\$|%|PS [^>]*>|[\w.-]+@[\w.-]+:[^$#]*[$#])\s+(\S.*)$")
_REPL = re.compile(r"^\s*(?:>>>|In ?\[\d*\]:)\s?(.*)$")
_ANSWER = re.compile(r"^\s*(?:Out ?\[\d*\]:)?\s*(\S.{0,60})$")
# A statement goes on with what is indented, blank, or closes or adds to what is open.
_GOES_ON = re.compile(r"\s|$|[)\]}]|(?:else|elif|except|finally)\b")
_CLOSERS = ("", ")", "))", "})", "]", "}")


@dataclass(frozen=True, slots=True)
class Piece:
    """Lines that belong together: `start` is the line of the first in the ticket, from 1.

    `fenced` pieces are set apart by the writer; the others are found between the prose.
    """

    start: int
    lines: tuple[str, ...]
    language: str = ""
    fenced: bool = True

    @property
    def text(self) -> str:
        """Return the text without the indentation that all its lines share."""
        return "\n".join(self.lines)


def looks_like_ticket(peek: Peek) -> bool:
    """Say whether a text was written by somebody about a run, and is no log alone."""
    if peek.binary or peek.source.size > MOST_BYTES or not peek.name.endswith(SUFFIXES):
        return False
    prose = [line for line in peek.window.splitlines() if is_prose(line)]
    if any(map(_FIRST_PERSON.search, prose)):
        return True
    if peek.name.startswith("readme"):  # of a repository, which shows how its code is used
        return False
    return bool(prose) and ("\n```" in peek.window or not looks_like_log(peek))


def opens_as_ticket(text: str) -> bool:
    """Say whether a text begins as people write, with words or a heading, or has fenced pieces.

    The samples that a log prints may hold sentences too.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    return is_prose(first) or first.startswith(("# ", "## ", "### ", "**")) or "\n```" in text


def read_ticket(source: Source) -> Reading:
    """Read every piece by the reader of its kind and join what they gave."""
    lines = source.text(MOST_BYTES).replace("\r\n", "\n").expandtabs(4).split("\n")
    path = source.path
    readings: list[Reading] = []
    code: dict[str, list[Piece]] = {"train": [], "test": [], "convert": []}
    left = list(lines)
    fenced: set[int] = set()
    for piece in pieces(lines):
        if piece.fenced:
            fenced.update(range(piece.start, piece.start + len(piece.lines)))
        role = _role(piece)
        if role:
            code[role].append(piece)
        elif (reading := _read(piece, path)) is not None:
            readings.append(reading)
        else:
            continue
        left[piece.start - 1 : piece.start - 1 + len(piece.lines)] = [""] * len(piece.lines)
    readings += [_script(found, role, path) for role, found in code.items() if found]
    said = _said(left, fenced, path)
    for sentence in said:
        if denies(sentence.text):
            for number in sentence.lines:
                if not LOG_MARKS.search(left[number - 1]):
                    left[number - 1] = ""
    readings.append(read_console(memory_source(path, "\n".join(_answered(left)).encode())))
    pasted = Fact("run.pasted", True, Where(path))
    facts = [pasted, *told_facts(said), *named_facts(said)]
    return _joined(readings, Reading(facts=tuple(facts)))


# --- taking it apart --------------------------------------------------------------------------


def pieces(lines: Sequence[str]) -> Iterator[Piece]:
    """Yield what is fenced or indented, and Python and Modelfiles that stand in the open."""
    at = 0
    while at < len(lines):
        piece, at = _next(lines, at)
        if piece is not None:
            yield piece


def _next(lines: Sequence[str], at: int) -> tuple[Piece | None, int]:
    """Return the piece that begins at an index, if one does, and where to go on."""
    fence = _FENCE.match(lines[at])
    if fence:
        end = at + 1
        while end < len(lines) and not lines[end].strip().startswith(fence[1]):
            end += 1
        return _dedented(at + 1, lines[at + 1 : end], fence[2].lower()), end + 1
    if lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()):
        body = list(takewhile(lambda line: line.startswith("    ") or not line.strip(), lines[at:]))
        return _dedented(at, body), at + len(body)
    end = _statements(lines, at)
    if end == at:
        end = _modelfile(lines, at)
    if end > at:
        return Piece(at + 1, tuple(lines[at:end]), fenced=False), end
    return None, at + 1


def _dedented(at: int, lines: Sequence[str], language: str = "") -> Piece:
    widths = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    width = min(widths, default=0)
    return Piece(at + 1, tuple(line[width:] for line in lines), language)


def _statements(lines: Sequence[str], at: int) -> int:
    """Return the end of the Python that begins at an index, the index itself if none does.

    Statements are taken one by one as long as they parse; one may span blank lines.
    """
    end = at
    while end < len(lines):
        if not lines[end].strip() or (end > at and lines[end].startswith("#")):
            end += 1
            continue
        after = _statement(lines, end)
        if after == end:
            break
        end = after
    while end > at and not lines[end - 1].strip():
        end -= 1
    return end if _is_code(_tree("\n".join(lines[at:end]))) else at


def _statement(lines: Sequence[str], at: int) -> int:
    """Return the end of one statement at the left margin, the index itself if there is none."""
    if lines[at][:1].isspace() or not _STATEMENT.match(lines[at]):
        return at
    best = at
    for end in range(at + 1, min(len(lines), at + MOST_LINES) + 1):
        if best > at and not _GOES_ON.match(lines[end - 1]):
            break
        if _tree("\n".join(lines[at:end])) is not None:
            best = end
    return best


def _tree(text: str) -> ast.Module | None:
    try:
        return syntax_tree(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_code(tree: ast.Module | None) -> bool:
    """Say whether a tree is more than words or rows that happen to be Python."""
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    for node in tree.body if tree is not None else ():
        if isinstance(node, kinds):
            return True
        # `loss (train)` and `step=10` are no code; `tokenizer.pad_token = x` and `f(a=1)` are.
        if isinstance(node, ast.Assign):
            plain = isinstance(node.value, ast.Constant | ast.Name | ast.Dict | ast.List)
            if not plain or isinstance(node.targets[0], ast.Attribute):
                return True
        if any(isinstance(n, ast.Call) and (n.keywords or _dotted(n)) for n in ast.walk(node)):
            return True
    return False


def _dotted(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute)


def _modelfile(lines: Sequence[str], at: int) -> int:
    """Return the end of the Modelfile that begins at an index with FROM."""
    if not re.match(r"FROM \S+$", lines[at]):
        return at
    end, quoted = at, False
    while end < len(lines) and (
        quoted or re.match(r"(?:FROM|TEMPLATE|PARAMETER|SYSTEM|ADAPTER|MESSAGE)\b|\s*$", lines[end])
    ):
        quoted ^= lines[end].count('"""') % 2 == 1
        end += 1
    return end


# --- reading the pieces -----------------------------------------------------------------------


def _role(piece: Piece) -> str:
    """Return what a piece of Python does: train, test or convert; "" if it is no Python."""
    if _REPL.match(piece.text) or _COMMAND.match(piece.text):
        return ""
    text = _code_of(piece)
    code = parse(text)[0] if text else None
    if code is None:
        return ""
    if any(name.endswith(".create") for name, _ in code.calls()):  # a client of a server
        return "test"
    role = script.role_of(code, "")
    return role if role in ("test", "convert") else "train"


def _code_of(piece: Piece) -> str:
    """Return a piece's Python, what was cut off at its end closed; "" if it is another thing."""
    for closer in _CLOSERS:
        if _is_code(_tree(piece.text + closer)):
            return piece.text + closer
    if piece.language in _PYTHON:
        return piece.text
    if _is_keywords(piece.text):
        return _as_keywords(piece.text)
    return ""


def _is_keywords(text: str) -> bool:
    """Say whether a text is a few keyword arguments of settings, without the call around them."""
    tree = _tree(f"f(\n{text}\n)")
    call = getattr(tree.body[0], "value", None) if tree and tree.body else None
    if not isinstance(call, ast.Call) or call.args:
        return False
    return sum(k.arg in SETTINGS for k in call.keywords) >= 2


def _as_keywords(text: str) -> str:
    return f"TrainingArguments({text}\n)"


def _script(found: Sequence[Piece], role: str, path: str) -> Reading:
    """Read all pieces of a role as one script, each line at its place."""
    lines: list[str] = []
    for piece in found:
        lines += [""] * (piece.start - 1 - len(lines))
        lines += _code_of(piece).split("\n")
    return script.reading_of(
        "\n".join(lines), path, lambda line: Where(path, line=line), assumed=role
    )


def _read(piece: Piece, path: str) -> Reading | None:
    """Read a piece that is no Python by the reader of its kind; None for console output."""
    text = piece.text
    if piece.language in _SHELL and not any(map(_COMMAND.match, piece.lines)):
        reading = shell.reading_of(text, path)
        return _shifted(reading, path, piece.start - 1) if reading.settings else None
    bare = text.lstrip()
    name = "piece.json" if bare[:1] in ("{", "[") else "piece.yaml"
    if re.search(r"(?m)^TEMPLATE\s", text) or re.match(r"FROM \S+\n", bare):
        name = "Modelfile"
    elif re.search(r"(?m)^\s*(?:loss|step)\s*[:=]", text):
        return None
    content = memory_source(name, text.encode())
    kind = classify(content)
    if kind is None or not bare:
        return None
    if kind.id in ROWS:
        return _rows(piece, path)
    known = kind.id in KINDS_OF_PIECES and kind.sniff is not None and kind.sniff(Peek(content))
    if not known and kind.id != "modelfile":
        return None
    reading = read_one(Found(content, kind))
    if reading.state is ArtifactState.DAMAGED:
        return None
    return _shifted(reading, path, piece.start - 1)


def _rows(piece: Piece, path: str) -> Reading:
    """Return the prompt formats of rows that were picked; how many they are says nothing."""
    import json

    facts = []
    for number, line in enumerate(piece.lines, start=piece.start):
        try:
            row = json.loads(line.strip().rstrip(","))
        except (ValueError, RecursionError):
            continue
        text = _text_of(row) if isinstance(row, dict) else ""
        said = described(text)
        if said["formats"]:
            facts.append(Fact("script.train.prompt", said, Where(path, line=number)))
    return Reading(facts=tuple(facts[:3]))


def _text_of(row: dict[str, Any]) -> str:
    """Return the text that a row gives to the model as it stands."""
    parts = [row.get(key) for key in ("text", "prompt", "completion")]
    return "".join(part for part in parts if isinstance(part, str))


def _answered(lines: list[str]) -> Iterator[str]:
    """Yield the lines with what an interpreter answered put behind what it was asked."""
    asked = ""
    for line in lines:
        found = _REPL.match(line)
        answer = _ANSWER.match(line)
        yield f"{asked} -> {answer[1]}" if asked and answer and not found else line
        asked = found[1].strip() if found else ""


def _said(lines: Sequence[str], fenced: set[int], path: str) -> tuple[Said, ...]:
    """Return the sentences of the prose: what stands in no fence and is no line of a log."""
    prose = [
        (number, line.lstrip("> "))
        for number, line in enumerate(lines, start=1)
        if line.strip() and number not in fenced and not LOG_MARKS.search(line)
        if not _COMMAND.match(line) and not _REPL.match(line)
    ]
    return tuple(sentences(prose, path))


# --- joining ----------------------------------------------------------------------------------


def _shifted(reading: Reading, path: str, by: int) -> Reading:
    """Return what a reader gave of a piece, at its lines in the ticket; its rows do not count."""
    moved = relocated(reading, path, lambda line: max(line, 1) + by)
    return replace(moved, records=(), record_count=0)


def _joined(readings: Sequence[Reading], told: Reading) -> Reading:
    whole = joined([*readings, told])
    return replace(
        whole,
        taken=f"{len(readings) - 1} pieces beside the prose: {len(whole.metrics)} metric rows, "
        f"{len(whole.settings)} settings, {len(whole.facts)} facts",
        metrics=tuple(sorted(whole.metrics, key=lambda row: row.line)),
        curve="console" if whole.metrics else "",
    )
