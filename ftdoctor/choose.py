"""Tell the runs of one place apart and choose one: the one that is named, else the newest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ftdoctor.errors import UnreadableRunError
from ftdoctor.kinds import Found
from ftdoctor.read.source import Source, decode

CHECKPOINT = re.compile(r"(?:^|/)(?:checkpoint[-_]\w+|(?:global_step|epoch|step)[-_]?\d+)(?:/|$)")
WANDB_RUN = re.compile(r"^((?:.*/)?(?:offline-)?run-(\d{8}_\d{6})-(\w+))/")
LIGHTNING_RUN = re.compile(r"^(.*?version_(\d+))/")
# Files of which a run has one, by the tool that writes it; the tools that say most come first.
ANCHORS = {
    "trainer-state": "hf",
    "trainer-log": "llama-factory",
    "tinker-checkpoints": "tinker",
    "csv-log": "csv",
    "wandb-binary": "wandb",
    "wandb-config": "wandb",
    "wandb-summary": "wandb",
    "mlflow-meta": "mlflow",
    "ray-result": "ray",
}
TOOLS = (*dict.fromkeys(ANCHORS.values()), "log")
RECIPE_KINDS = frozenset({"script", "notebook", "shell", "settings"})
WITHOUT_CURVE = frozenset({"wandb-config", "wandb-summary", "mlflow-meta"})
# What several runs of one project use together; all else lies in the folder of its run.
SHARED_KINDS = frozenset({
    "data-json", "data-csv", "data-parquet", "data-arrow", "data-text", "dataset-info", "script",
    "notebook", "shell", "requirements",
})  # fmt: skip
# Folders that trackers make beside the runs' own.
TRACKER_FOLDERS = frozenset({
    "wandb", "mlruns", "runs", "log", "logs", "lightning_logs", "tb_logs", "tensorboard",
})  # fmt: skip
# Folders inside a run's folder, by the names that trainers and people give them.
PARTS = frozenset({
    "out", "output", "outputs", "data", "dataset", "datasets", "log", "logs", "wandb", "mlruns",
    "runs", "lightning_logs", "tb_logs", "tensorboard", "checkpoints", "ckpt", "ckpts", "adapter",
    "final", "final_model", "merged", "merged_model", "lora_adapter", "tokenizer", "weights",
    "export", "exported", "eval", "evals", "evaluation", "results", "scripts", "src", "configs",
    "config", "gguf", "samples", "generations", "artifacts", "best", "last", "latest", "code",
    "files", "tmp", "cache", ".hydra",
})  # fmt: skip
FIRST_ROWS_WITHIN = 64 << 10  # bytes; only short fields stand before log_history
COPIED_WITHIN = 120  # seconds; files of one age were copied or checked out: it says nothing


@dataclass(frozen=True, slots=True)
class Choice:
    """The files of the chosen run, its name, and the names of other runs by folder.

    `apart` are folders whose files belong to no run that is known, but not to the chosen one.
    """

    kept: tuple[Found, ...]
    name: str = ""
    others: Mapping[str, str] = field(default_factory=dict)
    apart: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Anchor:
    """A main file of a run: the run's folder, what identifies it, and how good it is.

    `key`: two files are of one run if the shorter key is how the longer one begins. `order` is:
    whether it holds a curve, the time in its name, its time, its size.
    """

    tool: str
    folder: str
    key: tuple[str, ...]
    name: str
    order: tuple[bool, str, float, int]


_Run = list[_Anchor]


def choose_run(found: tuple[Found, ...], choose: str = "") -> Choice:
    """Choose one run if the same tool left its main file in several.

    Two folders are two runs if the first rows of their trainer_state.json differ, their W&B
    folders have different ids, and so on. The newest is taken, of equal age the longest, or the
    one that `choose` names by its folder or id. Files above the runs stay with any of them.
    UnreadableRunError if no run has that name.
    """
    runs = _runs(list(_anchors(found)) or list(_logs(found)))
    wanted = choose.strip("/")
    if wanted and not any(_is_named(run, wanted) for run in runs):
        return _folder(found, wanted, runs)
    spread = _are_spread(runs)
    winners: list[_Run] = []
    losers: list[_Run] = []
    age = 1  # of the chosen run, counted from the newest: tools' runs of one age belong together
    for tool in sorted(TOOLS, key=lambda tool: not _names_one_of(tool, runs, wanted)):
        own = [run for run in runs if run[0].tool == tool]
        if spread and winners:
            losers += [run for run in own if not _are_related(run, winners[0])]
            own = [run for run in own if _are_related(run, winners[0])]
        if not own:
            continue
        index = max(0, len(own) - age)
        if _names_one_of(tool, own, wanted):
            index = next(i for i, run in enumerate(own) if _is_named(run, wanted))
            age = len(own) - index
        winners.append(own[index])
        losers += own[:index] + own[index + 1 :]
    if not losers:
        return Choice(found)
    return _put_apart(found, winners, losers, spread)


def _put_apart(
    found: tuple[Found, ...], winners: list[_Run], losers: list[_Run], spread: bool
) -> Choice:
    chosen = {anchor.folder for run in winners for anchor in run}
    others = {
        _home(a, chosen, losers): a.name for run in losers for a in run if a.folder not in chosen
    }
    kept: list[Found] = []
    apart: dict[str, None] = {}
    for item in found:
        if _is_of_another(item, others, chosen):
            continue
        if spread and not _may_belong(item, chosen):
            apart[item.source.path.rpartition("/")[0]] = None
            continue
        kept.append(item)
    return Choice(tuple(kept), winners[0][-1].name, others, tuple(apart))


def _folder(found: tuple[Found, ...], wanted: str, runs: list[_Run]) -> Choice:
    """Take a folder by name that holds no main file, only a log for instance."""
    kept = tuple(item for item in found if _is_below(item.source.path, wanted))
    if not kept:
        known = ", ".join(sorted({run[-1].name for run in runs})) or "none"
        raise UnreadableRunError(f"no run `{wanted}` here; runs found: {known}")
    return Choice(kept, wanted, {a.folder: a.name for run in runs for a in run})


# --- the runs ---------------------------------------------------------------------------------


def _anchors(found: tuple[Found, ...]) -> Iterator[_Anchor]:
    times = [item.source.modified or 0.0 for item in found]
    dated = bool(times) and max(times) - min(times) > COPIED_WITHIN
    for item in found:
        kind = item.kind.id if item.kind else ""
        source = item.source
        tool = ANCHORS.get(kind, "")
        tracked = WANDB_RUN.match(source.path)
        if kind == "console" and tracked:
            tool = "wandb"
        folder = source.path.rpartition("/")[0]
        stamp = name = ""
        key: tuple[str, ...] = ()
        if tool == "wandb" and tracked:
            folder, stamp, name = tracked.groups()
            key = (name,)
        elif tool in ("", "wandb"):
            continue
        elif match := CHECKPOINT.search(folder):
            folder = folder[: match.start()]
        elif match := LIGHTNING_RUN.match(source.path):
            folder, stamp = match.group(1), match.group(2).zfill(8)
        if tool == "hf":
            key = _first_rows(source)
        modified = (source.modified or 0.0) if dated else 0.0
        order = (kind not in WITHOUT_CURVE, stamp, modified, source.size)
        yield _Anchor(tool, folder, key or (folder,), name or folder or ".", order)


def _logs(found: tuple[Found, ...]) -> Iterator[_Anchor]:
    """Yield console logs that lie beside the program or the settings that made them.

    A log alone in its folder may be one of several of a run: of a rank, of an attempt.
    """
    folders = {
        item.source.path.rpartition("/")[0]
        for item in found
        if item.kind is not None and item.kind.id in RECIPE_KINDS
    }
    for item in found:
        folder, _, name = item.source.path.rpartition("/")
        if item.kind is not None and item.kind.id == "console" and folder in folders:
            order = (True, "", item.source.modified or 0.0, item.source.size)
            yield _Anchor("log", folder, (folder,), folder or name, order)


def _first_rows(source: Source) -> tuple[str, ...]:
    """Return the first rows of log_history: states of one run begin alike, wherever they lie.

    The very first is not enough: runs of one seed differ only after their first update.
    """
    try:
        head = decode(source.head(FIRST_ROWS_WITHIN))
    except OSError:
        return ()
    history = re.search(r'"log_history"\s*:\s*\[', head)
    rows = head[history.end() :].partition("]")[0] if history else ""
    return tuple(re.findall(r"\{[^{}]*\}", rows))


def _runs(anchors: Sequence[_Anchor]) -> list[_Run]:
    """Group anchors of one tool that share a folder or a key; runs and anchors oldest first."""
    folders: dict[tuple[str, str], _Run] = {}
    for anchor in anchors:
        folders.setdefault((anchor.tool, anchor.folder), []).append(anchor)
    runs: list[_Run] = []
    for folder in folders.values():
        related = [run for run in runs if _is_same(folder, run)]
        runs = [run for run in runs if run not in related]
        runs.append([*folder, *(other for run in related for other in run)])
    for run in runs:
        run.sort(key=lambda anchor: anchor.order)
    return sorted(runs, key=lambda run: (run[-1].order, run[-1].folder))


def _is_same(one: _Run, other: _Run) -> bool:
    """Compare the longest keys: an early checkpoint alone may be of any run of its seed."""
    short, long = sorted((max((a.key for a in run), key=len) for run in (one, other)), key=len)
    return one[0].tool == other[0].tool and long[: len(short)] == short


def _is_named(run: _Run, wanted: str) -> bool:
    return any(wanted in (a.name, a.folder, a.folder.rpartition("/")[2]) for a in run)


def _names_one_of(tool: str, runs: list[_Run], wanted: str) -> bool:
    return bool(wanted) and any(_is_named(run, wanted) for run in runs if run[0].tool == tool)


def _are_spread(runs: list[_Run]) -> bool:
    """Say whether runs of one tool lie in different folders at the top: several projects."""
    tops: dict[str, set[str]] = {}
    for run in runs:
        top = run[-1].folder.partition("/")[0]
        if top and top not in TRACKER_FOLDERS:
            tops.setdefault(run[0].tool, set()).add(top)
    return any(len(found) > 1 for found in tops.values())


def _are_related(run: _Run, chosen: _Run) -> bool:
    return any(
        a.folder.partition("/")[0] in TRACKER_FOLDERS
        or _is_below(a.folder, b.folder)
        or _is_below(b.folder, a.folder)
        for a in run
        for b in chosen
    )


# --- whose file -------------------------------------------------------------------------------


def _home(anchor: _Anchor, chosen: Iterable[str], losers: Iterable[_Run]) -> str:
    """Return the folder of which all belongs to a run: `lr-3/` of a run in `lr-3/out/`.

    That is the first folder above which is not named for a part of a run, unless the chosen run or
    another of the same tool lies in it too.
    """
    home = anchor.folder
    while home.rpartition("/")[2] in PARTS:
        home = home.rpartition("/")[0]
    of_tool = (a.folder for run in losers for a in run if a.tool == anchor.tool)
    strangers = [*chosen, *(folder for folder in of_tool if folder != anchor.folder)]
    shared = not home or any(_is_below(folder, home) for folder in strangers)
    return anchor.folder if shared else home


def _is_below(path: str, folder: str) -> bool:
    return folder in ("", path) or path.startswith(folder + "/")


def _is_of_another(item: Found, others: Iterable[str], chosen: Iterable[str]) -> bool:
    """Say whether a file lies in the folder of a run that was not chosen.

    If that folder holds the chosen run too, only the other run's main files are put aside.
    """
    path = item.source.path
    inner = [folder for folder in chosen if _is_below(path, folder)]
    for folder in others:
        if not _is_below(path, folder) or any(_is_below(own, folder) for own in inner):
            continue
        if not any(_is_below(own, folder) for own in chosen):
            return True
        if item.kind is not None and item.kind.id in ANCHORS:
            return True
    return False


def _may_belong(item: Found, chosen: Iterable[str]) -> bool:
    """Say whether a file among several projects may be of the chosen run."""
    folder = item.source.path.rpartition("/")[0]
    if item.kind is not None and item.kind.id in SHARED_KINDS:
        return True
    if folder.partition("/")[0] in TRACKER_FOLDERS:
        return True
    return any(_is_below(folder, own) or _is_below(own, folder) for own in chosen)
