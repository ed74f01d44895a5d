"""Find the runs beneath folders, globs, lists of paths and remote prefixes."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ftdoctor.choose import CHECKPOINT, PARTS
from ftdoctor.discover import FOLDERS_PASSED_OVER, MAX_DEPTH, discover, is_run
from ftdoctor.errors import FtdoctorError, UnreadableRunError
from ftdoctor.fleet.record import Place
from ftdoctor.kinds import Found, classify
from ftdoctor.places import PACKED_NAMES, REMOTE, TAR_NAMES, ZIP_NAMES
from ftdoctor.read.source import Source

LIST_LIMIT = 64 << 20  # bytes of a list of paths
OWN = re.compile(r"ftdoctor-.+\.(?:html|jsonl|csv|parquet)|ftdoctor-reports")  # our own output
LOOKED_INTO = 30  # files of one folder that are opened to see whether they are of a run
# Levels of evidence: data alone, a script or settings, files that a run made.
NOTHING, DATA, RECIPE, MADE = range(4)
ARCHIVES = tuple(n for n in (*ZIP_NAMES, *TAR_NAMES, *PACKED_NAMES))

# What a run leaves in its own folder; one such file makes the folder a run.
MAIN = re.compile(
    r"trainer_state\.json|trainer_log\.jsonl|training_args\.bin|adapter_(?:config\.json|model\..+)"
    r"|(?:all|train)_results\.json|checkpoints\.jsonl|.*metrics\.jsonl|wandb-(?:summary|metadata)"
    r"\.json|run-\w+\.wandb|.*tfevents.*|.+\.(?:safetensors|gguf)|pytorch_model.*\.bin"
)
MAIN_KINDS = frozenset({
    "console", "trainer-state", "trainer-log", "metrics-jsonl", "csv-log", "tensorboard",
    "ray-result", "ray-progress", "mlflow-meta", "openai-events", "openai-metrics", "results",
})  # fmt: skip
# Files of which one run has one, by the tool that writes them: two of a tool may be two runs.
TOOL_OF = {
    "trainer_state.json": "hf",
    "trainer_log.jsonl": "llama-factory",
    "checkpoints.jsonl": "tinker",
    "metrics.csv": "csv",
    "result.json": "ray",
}
# Lightning's, W&B's and the HF Trainer's TensorBoard folders.
NUMBERED_PART = re.compile(
    r"version_\d+|(?:offline-)?run-\d{8}_\d{6}-\w+|latest-run"
    r"|[A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d_.+"
)
# Log names that say nothing of which run it is.
PLAIN_LOG = re.compile(
    r"(?:train(?:ing|er)?|eval|test|log|output|console|run|debug|error|info|nohup|std_?(?:out|err)"
    r"|main|launch|job|slurm|out|err|accelerate|torchrun|deepspeed)?(?:[-_.](?:out|err|log))*"
)
STREAM = re.compile(r"[-_.]?(?:std_?)?(?:out|err|log)$|[-_.]?(?:rank|node|worker|local)[-_]?\d+")


@dataclass(slots=True)
class _Node:
    """A folder: its address, its files (paths are names), and its folders, listed when asked."""

    address: str
    name: str
    files: list[Source]
    folders: Callable[[], Iterator[_Node]]


@dataclass(slots=True)
class _Home:
    """A folder that is a run, with what would make it several: main files by tool and folder."""

    address: str
    stamp: str
    modified: float
    strong: bool
    anchors: set[tuple[str, str]] = field(default_factory=set)
    choose: str = ""
    only: tuple[str, ...] = ()


@dataclass(slots=True)
class _Survey:
    """A folder after a look at everything beneath it."""

    address: str
    part: bool
    stamp: str
    modified: float
    homes: list[_Home]
    anchors: set[tuple[str, str]]

    @property
    def itself(self) -> bool:
        return len(self.homes) == 1 and self.homes[0].address == self.address


def find_runs(roots: Iterable[str]) -> Iterator[Place]:
    """Yield the runs beneath the roots, each once, in the order of the roots and their folders.

    A root is a folder, a file (log or archive), a glob, an address that fsspec knows, or a text
    file with one of these per line (`@FILE`, or a file whose lines are all paths). A root without
    a run is yielded itself, so that it becomes a row with a reason. FtdoctorError for a glob or
    list that names nothing.
    """
    seen: set[str] = set()
    for root in _expanded(roots):
        for place in _beneath(root):
            if place.id not in seen:
                seen.add(place.id)
                yield place


# --- what the roots name ------------------------------------------------------------------------


def _expanded(roots: Iterable[str]) -> Iterator[str]:
    for root in roots:
        listed = _lines_of(root)
        if listed is not None:
            for line in listed:
                yield from _globbed(line)
        else:
            yield from _globbed(root)


def _lines_of(root: str) -> list[str] | None:
    """Return the paths of a list, relative ones taken from here or else from beside the list."""
    marked = root.startswith("@")
    path = Path(root[1:] if marked else root).expanduser()
    if not path.is_file() or path.stat().st_size > LIST_LIMIT:
        if marked:
            raise FtdoctorError(f"{path}: no such list of paths, or larger than {LIST_LIMIT:,} B")
        return None
    if not marked and path.name.lower().endswith(ARCHIVES):
        return None
    with path.open("rb") as stream:
        if b"\0" in stream.read(4096):
            return None
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        return [] if marked else None
    found = [_resolved(line, path.parent) for line in lines]
    # A list may name a few runs that have gone; a log names none that is there.
    if not marked and _resolved(lines[0], path.parent, known=True) is None:
        return None
    return [line for line in found if line is not None]


def _resolved(line: str, beside: Path, *, known: bool = False) -> str | None:
    if REMOTE.match(line):
        return line
    for candidate in (Path(line).expanduser(), beside / line):
        if candidate.exists() or (glob.has_magic(line) and glob.glob(str(candidate))):
            return str(candidate)
    return None if known else line


def _globbed(root: str) -> Iterator[str]:
    if not glob.has_magic(root) or (not REMOTE.match(root) and Path(root).exists()):
        yield root
        return
    if REMOTE.match(root):
        system, pattern = _remote_system(root)
        found = [str(system.unstrip_protocol(name)) for name in sorted(system.glob(pattern))]
    else:
        found = sorted(glob.glob(os.path.expanduser(root), recursive=True))
    if not found:
        raise UnreadableRunError(f"{root}: nothing matches this pattern")
    yield from found


def _beneath(root: str) -> Iterator[Place]:
    if REMOTE.match(root):
        nodes = _remote_node(root)
    else:
        path = Path(root).expanduser().absolute()
        if not path.is_dir():
            yield _file_place(path)
            return
        path = path.resolve()
        nodes = _local_node(str(path), path.name)
    if nodes is None:
        yield Place(root)
        return
    count = 0
    for home in _survey(nodes, 0, top=True).homes:
        for place in _split(home):
            count += 1
            yield place
    if not count:
        yield Place(nodes.address)


def _file_place(path: Path) -> Place:
    try:
        stat = path.stat()
    except OSError:
        return Place(str(path))
    return Place(str(path), stamp=_stamp([(path.name, stat.st_size, stat.st_mtime)], []),
                 modified=stat.st_mtime)  # fmt: skip


def _split(home: _Home) -> Iterator[Place]:
    """Yield the run of a folder, or each of its runs where main files of one tool are several."""
    whole = Place(home.address, home.choose, home.only, home.stamp, home.modified or None)
    tools = [tool for tool, _ in home.anchors]
    if home.choose or len(tools) == len(set(tools)):
        yield whole
        return
    try:
        found = discover(home.address)
    except UnreadableRunError:
        yield whole
        return
    if not found.others:
        yield whole
        return
    for name in (found.chosen or ".", *found.others):
        yield Place(home.address, name, (), home.stamp, whole.modified)


# --- looking at folders -------------------------------------------------------------------------


def _survey(node: _Node, depth: int, *, top: bool = False) -> _Survey:
    """Return what lies in a folder and beneath it, decided from the leaves to the root."""
    inner = [_survey(child, depth + 1) for child in node.folders()] if depth < MAX_DEPTH else []
    stamp = _stamp([(f.name, f.size, f.modified) for f in node.files], [s.stamp for s in inner])
    modified = max([0.0, *(f.modified or 0.0 for f in node.files), *(s.modified for s in inner)])
    anchors = {(tool, node.address) for f in node.files if (tool := TOOL_OF.get(f.name))}
    part = node.name.lower() in PARTS or bool(CHECKPOINT.search(node.name + "/"))
    if NUMBERED_PART.fullmatch(node.name):
        part = True
        if node.name.startswith(("run-", "offline-run-")):
            anchors = {("wandb", node.address)}
    survey = _Survey(node.address, part, stamp, modified, [], anchors)
    survey.homes = _settle(node, survey, inner, top=top)
    if survey.itself:
        survey.anchors = survey.homes[0].anchors
    return survey


def _settle(node: _Node, survey: _Survey, inner: list[_Survey], *, top: bool) -> list[_Home]:
    """Decide whether a folder is a run, a part of the one above, or a place of several runs."""
    parts = [s for s in inner if s.part and s.itself]
    apart = [home for s in inner if not (s.part and s.itself) for home in s.homes]
    runs = [home for home in apart if home.strong]
    evidence = _evidence(node.files)
    strong = evidence == MADE or any(CHECKPOINT.search(_last(s.address) + "/") for s in parts)
    whole = _Home(survey.address, survey.stamp, survey.modified, strong or bool(runs))
    whole.strong |= any(s.homes[0].strong for s in parts)
    whole.anchors = survey.anchors | {
        (tool, node.address if CHECKPOINT.search(_last(s.address) + "/") else folder)
        for s in inner
        if s.itself
        for tool, folder in s.homes[0].anchors
    }
    own_parts = [s.homes[0] for s in parts if s.homes[0].strong]
    if not parts and not apart and (logs := _separate(node, strong)):
        return logs
    if strong or evidence == RECIPE or (evidence == DATA and not runs):
        if len(runs) <= 1:
            return [whole]
        if survey.anchors:  # a run of its own above others, as an output folder in an output folder
            whole.choose = "."
            return [whole, *runs, *own_parts]
        return [*runs, *own_parts]
    if len(runs) <= 1 and own_parts:
        return [whole]
    if parts and not apart and (top or len(parts) > 1):
        return [whole]
    if top and not runs and not own_parts:
        return apart
    return [*apart, *(s.homes[0] for s in parts if s.homes[0].strong or not apart)]


def _last(address: str) -> str:
    return address.rpartition("/")[2]


def _evidence(files: Sequence[Source]) -> int:
    """Return the most that the files of a folder say of a run, in the order of the levels."""
    if any(MAIN.fullmatch(file.name) for file in files):
        return MADE
    level = NOTHING
    for file in files[:LOOKED_INTO]:
        found = Found(file, classify(file))
        if found.kind is not None and found.kind.id in MAIN_KINDS:
            return MADE
        if level < RECIPE and is_run((found,)):
            data = found.kind is not None and found.kind.id.startswith(("data-", "generations"))
            level = max(level, DATA if data else RECIPE)
    return level


def _separate(node: _Node, strong: bool) -> list[_Home]:
    """Return the runs of a folder of archives, or of logs with a name for each run."""
    archives = [f for f in node.files if f.name.lower().endswith(ARCHIVES)]
    if archives and not strong:
        return [_file_home(node, [file]) for file in archives]
    if not strong or any(MAIN.fullmatch(f.name) for f in node.files):
        return []
    groups: dict[str, list[Source]] = {}
    for file in node.files:
        stem = file.name.lower().rpartition(".")[0] or file.name.lower()
        while (shorter := STREAM.sub("", stem)) != stem:
            stem = shorter
        groups.setdefault(stem, []).append(file)
    named = {stem: files for stem, files in groups.items() if not PLAIN_LOG.fullmatch(stem)}
    if len(named) < 2 or len(named) < len(groups):
        return []
    if not all(_evidence(files) == MADE for files in named.values()):
        return []
    return [_file_home(node, files) for files in named.values()]


def _file_home(node: _Node, files: list[Source]) -> _Home:
    stamp = _stamp([(f.name, f.size, f.modified) for f in files], [])
    modified = max(f.modified or 0.0 for f in files)
    if len(files) == 1 or REMOTE.match(node.address):
        return _Home(f"{node.address}/{files[0].name}", stamp, modified, True)
    only = tuple(sorted(f.name for f in files))
    return _Home(node.address, stamp, modified, True, only=only)


def _stamp(files: Iterable[tuple[str, int, float | None]], inner: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name, size, modified in files:
        digest.update(f"{name}\0{size}\0{modified}\n".encode("utf-8", "surrogateescape"))
    for stamp in inner:
        digest.update(stamp.encode())
    return digest.hexdigest()[:32]


# --- listing ------------------------------------------------------------------------------------


def _local_node(address: str, name: str) -> _Node:
    files: list[Source] = []
    folders: list[str] = []
    try:
        entries = sorted(os.scandir(address), key=lambda entry: entry.name)
    except OSError:
        entries = []
    names = {entry.name for entry in entries}
    for entry in entries if "pyvenv.cfg" not in names else ():
        if OWN.fullmatch(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in FOLDERS_PASSED_OVER:
                folders.append(entry.name)
        elif entry.is_file(follow_symlinks=False):
            stat = entry.stat(follow_symlinks=False)
            path = Path(entry.path)
            files.append(
                Source(entry.name, stat.st_size, stat.st_mtime, partial(_open, path), path)
            )
    return _Node(address, name, files, lambda: (_local_node(f"{address}/{f}", f) for f in folders))


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _remote_system(root: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise UnreadableRunError(
            f"{root}: reading remote places needs `pip install 'ftdoctor-forensics[remote]'`"
        ) from None
    try:
        system, path = fsspec.core.url_to_fs(root)
    except Exception as error:  # each protocol has its own errors: unknown, packages, credentials
        raise UnreadableRunError(f"{root}: {type(error).__name__}: {error}") from error
    return system, str(path)


def _remote_node(root: str) -> _Node | None:
    """Return the tree beneath a remote prefix, None if it is one file or cannot be listed."""
    system, path = _remote_system(root)
    base = path.rstrip("/")
    try:
        if system.info(path).get("type") == "file":
            return None
        listed = system.find(path, detail=True)
    except Exception:  # told by the row of this root, whose reading fails the same way
        return None
    tree: dict[str, Any] = {}
    for name, detail in sorted(listed.items()):
        *folders, file = str(name).removeprefix(base).lstrip("/").split("/")
        here = tree
        for folder in folders:
            here = here.setdefault(folder + "/", {})
        here[file] = (str(name), int(detail.get("size") or 0), _time_of(detail))
    address = str(system.unstrip_protocol(base))
    return _tree_node(system, tree, address, address.rpartition("/")[2])


def _tree_node(system: Any, tree: dict[str, Any], address: str, name: str) -> _Node:
    files = [
        Source(file, size, modified, partial(system.open, path, "rb"))
        for file, (path, size, modified) in (i for i in tree.items() if not i[0].endswith("/"))
    ]
    folders = [
        key[:-1] for key in tree if key.endswith("/") and key[:-1] not in FOLDERS_PASSED_OVER
    ]
    return _Node(
        address,
        name,
        files,
        lambda: (_tree_node(system, tree[f"{f}/"], f"{address}/{f}", f) for f in folders),
    )


def _time_of(detail: dict[str, Any]) -> float | None:
    for key in ("mtime", "LastModified", "last_modified", "updated"):
        value = detail.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, datetime):
            return value.timestamp()
    return None
