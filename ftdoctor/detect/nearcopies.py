"""Near copies among texts by MinHash: signatures of word shingles, compared by bands.

Broder, "On the resemblance and containment of documents" (1997). With 5 bands of 11 of the 64
values a pair with a similarity of 0.8 is compared with a chance of 36 %, one of 0.95 with 98 %.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEAR = 0.8  # Jaccard similarity of word shingles from which two texts are near copies
SHORTEST = 40  # characters; shorter texts are alike by chance
WORDS = 2000  # of one text
VALUES, BANDS, ROWS = 64, 5, 11


def near_copies(known: list[str], asked: list[str] | None = None) -> list[int]:
    """Return the indices of the asked texts that nearly repeat a known one.

    Without `asked`, those of the known texts that nearly repeat an earlier one.
    """
    texts = [_shingles(text) if len(text) >= SHORTEST else set() for text in known]
    others = [_shingles(text) if len(text) >= SHORTEST else set() for text in asked or ()]
    often = _twice([*texts, *others])
    index = _Index()
    near: list[int] = []
    for i, shingles in enumerate(texts):
        if _repeats(shingles, often):
            made = _signature(shingles)
            if asked is None and index.holds(made):
                near.append(i)
            index.add(made)
    for j, shingles in enumerate(others):
        if _repeats(shingles, often) and index.holds(_signature(shingles)):
            near.append(j)
    return near


Shingle = tuple[str, ...]


def _shingles(text: str) -> set[Shingle]:
    words = text.split()[:WORDS]
    return set(zip(words, words[1:], words[2:], strict=False)) or {tuple(words)}


def _twice(texts: Iterable[set[Shingle]]) -> set[Shingle]:
    """Return the shingles that stand in more than one text."""
    once: set[Shingle] = set()
    twice: set[Shingle] = set()
    for shingles in texts:
        twice |= shingles & once
        once |= shingles
    return twice


def _repeats(shingles: set[Shingle], often: set[Shingle]) -> bool:
    """Say whether half of a text stands in other texts; else it is no near copy of any of them."""
    return bool(shingles) and 2 * len(shingles & often) >= len(shingles)


class _Index:
    """Signatures, found by any of their bands."""

    def __init__(self) -> None:
        self._bands: list[dict[bytes, list[NDArray[np.uint32]]]] = [{} for _ in range(BANDS)]

    def add(self, made: NDArray[np.uint32]) -> None:
        for band, part in zip(self._bands, _parts(made), strict=True):
            band.setdefault(part, []).append(made)

    def holds(self, made: NDArray[np.uint32]) -> bool:
        """Say whether a signature that shares a band is near."""
        return any(
            float((other == made).sum()) / VALUES >= NEAR
            for band, part in zip(self._bands, _parts(made), strict=True)
            for other in band.get(part, ())
        )


def _parts(made: NDArray[np.uint32]) -> list[bytes]:
    return [made[n * ROWS : (n + 1) * ROWS].tobytes() for n in range(BANDS)]


def _signature(shingles: set[Shingle]) -> NDArray[np.uint32]:
    """Return the least value of each permutation over a text's shingles of three words."""
    import numpy as np

    digests = b"".join([hashlib.sha1(" ".join(s).encode()).digest()[:4] for s in shingles])
    # The finalizer of MurmurHash3, then an affine map for each permutation, all modulo 2^32.
    mixed = np.frombuffer(digests, "<u4")
    mixed = (mixed ^ (mixed >> 16)) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * np.uint32(0xC2B2AE35)
    mixed = mixed ^ (mixed >> 16)
    factors, terms = _permutations()
    found: NDArray[np.uint32] = (mixed[:, None] * factors + terms).min(axis=0)
    return found


@cache
def _permutations() -> Any:
    import numpy as np

    chance = np.random.RandomState(1)
    factors = chance.randint(0, 1 << 31, VALUES, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return factors, chance.randint(0, 1 << 32, VALUES, dtype=np.uint32)
