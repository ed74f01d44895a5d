"""The run's own tokenizer at work, in a second process if there is one: loading it takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ftdoctor.aside import begin

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ftdoctor.kinds import Found
    from ftdoctor.read.source import Source

T = TypeVar("T")
FILE = "tokenizer.json"
AT_ONCE = 100  # texts tokenised together: what is made of one of 600 characters takes 45 KB
_loaded: dict[tuple[Path, int, float | None], Tokenizer | None] = {}  # the last one


def load(source: Source) -> Tokenizer | None:
    """Return the tokenizer of a file, without truncation or padding; None if it is none."""
    if source.local is None:
        return _load(source)
    key = source.local, source.size, source.modified
    if key not in _loaded:
        _loaded.clear()  # before another takes as much memory
        _loaded[key] = _load(source)
    return _loaded[key]


def _load(source: Source) -> Tokenizer | None:
    from tokenizers import Tokenizer

    try:
        made = Tokenizer.from_buffer(source.data())
        made.no_truncation()
        made.no_padding()
    except Exception:
        return None
    return made


def forget() -> None:
    """Free the last tokenizer, 50 MB for 150,000 tokens, where it was loaded."""
    _loaded.clear()


def begin_loading(found: Iterable[Found]) -> None:
    """Begin to load the tokenizer if data rows will ask for it, and no file but one can be it."""
    found = tuple(found)
    sources = [f.source for f in found if f.source.name == FILE]
    if len(sources) == 1 and any(f.kind and f.kind.id.startswith("data-") for f in found):
        ask(loads, sources[0])


def ask(function: Callable[..., T], source: Source, *arguments: Any) -> Callable[[], T]:
    """Begin to call a function with the tokenizer of a file before the other arguments.

    Both, and what it returns, can be pickled.
    """
    if source.local is None:  # its opener belongs to this process
        return lambda: function(load(source), *arguments)
    return begin(_call, function, source, *arguments)


def _call(function: Callable[..., T], source: Source, *arguments: Any) -> T:
    return function(load(source), *arguments)


def loads(tokenizer: Tokenizer | None) -> bool:
    """Say whether there is a tokenizer."""
    return tokenizer is not None


def count(
    tokenizer: Tokenizer | None, texts: Sequence[str], last: int
) -> list[tuple[int, list[int]]]:
    """Return the number of tokens of each text, and the last ids; empty without a tokenizer."""
    if tokenizer is None:
        return []
    found: list[tuple[int, list[int]]] = []
    for start in range(0, len(texts), AT_ONCE):
        # A lone surrogate, as half an escape gives, is no text for the tokenizer.
        clean = [t.encode("utf-8", "replace").decode() for t in texts[start : start + AT_ONCE]]
        encoded = tokenizer.encode_batch_fast(clean, add_special_tokens=False)
        found += [(len(each.ids), each.ids[-last:]) for each in encoded]
    return found
