"""From a path to a `Run`: discover the files, let each kind's reader read, redact, assemble."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ftdoctor.limits import NEVER, Deadline

if TYPE_CHECKING:
    from ftdoctor.model import Run


@dataclass(frozen=True, slots=True)
class Options:
    """How to read: `choose` names one run if the place holds several.

    `added` are files outside the run, each with its role (`read/added.py`). What is not read
    before the deadline is passed over.
    """

    choose: str | None = None
    added: tuple[tuple[str, Path], ...] = ()
    deadline: Deadline = NEVER


def read_run(path: str | Path, *, options: Options | None = None) -> Run:
    """Read the run at `path`; UnreadableRunError if nothing there is evidence of one.

    A file that cannot be read is an artifact with a reason, never an exception.
    """
    from ftdoctor.discover import discover
    from ftdoctor.errors import UnreadableRunError
    from ftdoctor.limits import ASSEMBLY_SHARE, TimeUpError
    from ftdoctor.read.added import added_source
    from ftdoctor.read.assemble import assemble
    from ftdoctor.read.items import clean_paths, read_items
    from ftdoctor.redact import Redactor

    options = options or Options()
    more = tuple(added_source(role, file) for role, file in options.added)
    deadline = options.deadline
    try:
        with deadline.interrupting():
            discovery = discover(path, choose=options.choose or "")
    except TimeUpError:
        raise UnreadableRunError(
            f"{path}: its files could not be listed within {deadline.seconds:g} s (--timeout): "
            "copy the run to a local disk first"
        ) from None
    redactor = Redactor()
    discovery = clean_paths(replace(discovery, found=(*discovery.found, *more)), redactor)
    items = read_items(discovery.found, redactor, deadline)
    return assemble(discovery, items, redactor, deadline.later(ASSEMBLY_SHARE))
