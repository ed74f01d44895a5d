"""Find the files of a run: a folder, an archive, a file or standard input."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ftdoctor.choose import choose_run
from ftdoctor.errors import UnreadableRunError
from ftdoctor.kinds import KINDS, Found, Peek, classify, looks_like_log
from ftdoctor.model import Artifact, ArtifactState
from ftdoctor.read.source import TEXT_LIMIT, Source, local_source, memory_source

MAX_FILES = 5000  # files of one run
MAX_DEPTH = 12  # folders within folders
FOLDER_ARCHIVES = 2 << 30  # bytes that the archives in a folder of this machine may hold together
PLACE_ARCHIVES = 64 << 20  # the same in a remote place, where they must be fetched, or an archive
FOLDERS_PASSED_OVER = {
    ".git": "version control",
    ".hg": "version control",
    ".svn": "version control",
    "__pycache__": "compiled Python",
    "node_modules": "packages",
    "site-packages": "packages",
    ".venv": "Python environment",
    "venv": "Python environment",
    ".ipynb_checkpoints": "editor copies",
    ".mypy_cache": "cache",
    ".pytest_cache": "cache",
    ".ruff_cache": "cache",
    ".tox": "Python environment",
    ".eggs": "packages",
}
# How the reasons begin for which a file that may matter was not opened; others are by design.
NOT_OPENED = (
    "no permission",
    "cannot be opened",
    "beyond the limit",
    "an archive of",
    "holds more",
)
WHAT_A_RUN_LOOKS_LIKE = (
    "A run is a folder with at least one of: trainer_state.json, a log of standard output, "
    "metrics.jsonl, wandb/ or TensorBoard files, a training configuration or script, "
    "tokenizer files, adapter or model weights, training data (JSONL)."
)


@dataclass(frozen=True, slots=True)
class Discovery:
    """What lies in a place: files with their kinds, what was passed over and why, and other runs.

    `root` is for display; `chosen` and `others` name runs, and are empty for a lone run.
    """

    root: str
    found: tuple[Found, ...]
    skipped: tuple[Artifact, ...] = ()
    chosen: str = ""
    others: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        """Return the files of the run."""
        return tuple(item.source for item in self.found)


def discover(path: str | Path, *, choose: str = "") -> Discovery:
    """Return the files of the run at `path`: a folder, a file, an archive, a URL, or "-" (stdin).

    If the place holds several runs, `choose` names one by its folder (or W&B id); without it the
    newest complete one is taken. UnreadableRunError says what was found if there is no run.
    """
    text = str(path)
    skipped: list[Artifact] = []
    if text == "-":
        content = sys.stdin.buffer.read(TEXT_LIMIT)
        root, sources = "standard input", [_standard_input(content)]
    elif opened := _open_place(text):
        root, members = opened
        sources = list(_with_archives(members, skipped, PLACE_ARCHIVES))
    else:
        local = Path(text).expanduser()
        if not os.path.lexists(local):
            raise UnreadableRunError(
                f"{text}: no such file or folder, or no permission to reach it"
            )
        local = local.resolve()
        root = str(local)
        if local.is_dir():
            sources = list(_with_archives(walk(local, skipped), skipped, FOLDER_ARCHIVES))
        else:
            sources = [local_source(local.parent, local)]
    found = tuple(Found(source, classify(source)) for source in sources)
    if not is_run(item for item in found if not _may_be_ticket(item)):
        found = tuple(_as_ticket(item) for item in found)
        if not is_run(found):
            raise UnreadableRunError(_not_a_run(text, found, skipped))
    choice = choose_run(found, choose)
    for folder, name in choice.others.items():
        reason = f"another run: name it by --run {name} to diagnose it"
        skipped.append(Artifact(folder or ".", "", 0, ArtifactState.SKIPPED, reason))
    for folder in choice.apart:
        reason = f"not of the chosen run {choice.name}"
        skipped.append(Artifact(folder or ".", "", 0, ArtifactState.SKIPPED, reason))
    others = tuple(sorted(set(choice.others.values())))
    return Discovery(root, choice.kept, tuple(skipped), choice.name, others)


def _standard_input(content: bytes) -> Source:
    """Name a text that came without one: a ticket opens with prose or sets its logs apart."""
    from ftdoctor.read.ticket import looks_like_ticket, opens_as_ticket

    ticket = memory_source("stdin.md", content)
    peek = Peek(ticket)
    if looks_like_ticket(peek) and opens_as_ticket(peek.window):
        return ticket
    return memory_source("stdin.log", content)


def _open_place(text: str) -> tuple[str, list[Source]] | None:
    if os.path.isdir(text):  # Path.is_dir raises where a parent folder may not be entered
        return None
    from ftdoctor.places import open_place

    return open_place(text)


def _with_archives(
    sources: Iterable[Source], skipped: list[Artifact], budget: int
) -> Iterator[Source]:
    """Yield the files with compressed logs and archives replaced by what they hold.

    `budget` is how many bytes they may hold together, the rest stay closed.
    """
    from ftdoctor.places import INSIDE_LIMIT, inside

    walked = list(sources)
    names = {source.path for source in walked}
    for source in walked:
        opened = inside(source, min(budget, INSIDE_LIMIT))
        if opened is None:
            yield source
            continue
        budget -= sum(member.size for member in opened.members)
        fresh = [member for member in opened.members if member.path not in names]
        reason = opened.reason
        if len(fresh) < len(opened.members):
            reason = "packed copy of a file that lies beside it"
        if reason:
            state = ArtifactState.DAMAGED if opened.damaged else ArtifactState.SKIPPED
            skipped.append(Artifact(source.path, "", source.size, state, reason))
        yield from fresh


# --- walking ----------------------------------------------------------------------------------


def walk(root: Path, skipped: list[Artifact]) -> Iterator[Source]:
    """Yield the regular files below `root`, sorted; what is passed over goes to `skipped`."""
    count = 0

    def unlisted(error: OSError) -> None:
        reason = f"cannot be listed: {error.strerror}"
        if isinstance(error, PermissionError):
            reason = "no permission to list: run as the user who owns it, or chmod +rx"
        skipped.append(_passed_over(root, Path(error.filename), reason))

    for folder, names, files in os.walk(root, onerror=unlisted):
        here = Path(folder)
        depth = len(here.relative_to(root).parts)
        for name in sorted(names):
            reason = _folder_reason(here / name, depth)
            if reason:
                skipped.append(_passed_over(root, here / name, reason))
        names[:] = sorted(n for n in names if not _folder_reason(here / n, depth))
        for name in sorted(files):
            path = here / name
            reason = _file_reason(path, root)
            if not reason and count >= MAX_FILES:
                reason = f"beyond the limit of {MAX_FILES:,} files"
                skipped.append(_passed_over(root, path, reason))
                return
            if reason:
                skipped.append(_passed_over(root, path, reason))
                continue
            count += 1
            try:
                yield local_source(root, path)
            except OSError as error:
                skipped.append(_passed_over(root, path, f"cannot be opened: {error.strerror}"))


def _folder_reason(path: Path, depth: int) -> str:
    if os.path.islink(path):
        return "symbolic link to a folder: not followed"
    if path.name in FOLDERS_PASSED_OVER:
        return f"{FOLDERS_PASSED_OVER[path.name]}: not part of the run"
    if os.path.exists(path / "pyvenv.cfg"):  # unlike Path.exists(), no exception
        return "Python environment: not part of the run"
    if depth + 1 > MAX_DEPTH:
        return f"deeper than {MAX_DEPTH} folders"
    return ""


def _file_reason(path: Path, root: Path) -> str:
    if os.path.islink(path):
        target = Path(os.path.realpath(path))  # unlike resolve(), no exception for a loop
        if not target.is_relative_to(root):
            return "symbolic link out of the run: not followed"
        # The hub cache names files in snapshots/ by links to blobs/: the link has the name.
        if "blobs" not in target.parts:
            return f"symbolic link to {target.relative_to(root).as_posix()}, read there"
    if not os.path.isfile(path):
        return "no regular file"
    if not os.access(path, os.R_OK):
        return "no permission to read: run as the user who owns it, or chmod +r"
    return ""


def _passed_over(root: Path, path: Path, reason: str) -> Artifact:
    relative = path.relative_to(root).as_posix()
    return Artifact(relative, "", 0, ArtifactState.SKIPPED, reason)


# --- is it a run ------------------------------------------------------------------------------

# Source code and settings are found everywhere; these words make them those of a training.
_TRAINING = re.compile(
    r"train|fine.?tun|transformers|peft|\btorch|\bmlx|tinker|axolotl|lora|llama|epoch",
    re.IGNORECASE,
)
# What makes a file of these kinds evidence of a run. The Trainer writes such headings into the
# card of a model that it trained.
WORDS_OF_A_RUN = {
    **dict.fromkeys(("script", "notebook", "shell", "settings"), _TRAINING),
    "ticket": re.compile(
        rf"{_TRAINING.pattern}|\b(?:SFT|[DK]PO|GRPO|RLHF|GGUF|Ollama|vLLM)|learning.rate|微调|训练",
        re.IGNORECASE,
    ),
    "model-card": re.compile(r"(?m)^#+ Training (?:hyperparameters|results|procedure)"),
}
PROSE = (".md", ".markdown", ".txt", ".rst")
# What the text of a ticket is taken for before anybody looks whether it is one.
_TICKET_KINDS = ("media", "console", "model-card")


def _may_be_ticket(item: Found) -> bool:
    kind = item.kind.id if item.kind else ""
    if not item.source.name.lower().endswith(PROSE):
        return False
    return not kind or (kind in _TICKET_KINDS and not (kind == "model-card" and _is_evidence(item)))


def _as_ticket(item: Found) -> Found:
    """Take prose for a ticket where there is nothing else, or for the log that it quotes."""
    if not _may_be_ticket(item):
        return item
    from ftdoctor.read.ticket import looks_like_ticket

    peek = Peek(item.source)
    told = "ticket" if looks_like_ticket(peek) else "console" if looks_like_log(peek) else ""
    if not told:
        return item
    taken = Found(item.source, next(kind for kind in KINDS if kind.id == told))
    return taken if _is_evidence(taken) else item


def is_run(found: Iterable[Found]) -> bool:
    """Say whether any file alone is evidence of a run."""
    return any(_is_evidence(item) for item in found)


def _is_evidence(item: Found) -> bool:
    if item.kind is None or not item.kind.evidence:
        return False
    words, peek = WORDS_OF_A_RUN.get(item.kind.id), Peek(item.source)
    if words is None or words.search(peek.window):
        return True
    return item.kind.id == "ticket" and looks_like_log(peek)


def _not_a_run(path: str, found: tuple[Found, ...], skipped: list[Artifact]) -> str:
    if not found and not skipped:
        seen = "it is empty"
    else:
        suffixes = Counter(Path(item.source.path).suffix or "(no suffix)" for item in found)
        common = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5))
        seen = f"found {len(found)} files ({common})" if found else "every entry was passed over"
    return f"{path}: no fine-tuning run here: {seen}. {WHAT_A_RUN_LOOKS_LIKE}"
