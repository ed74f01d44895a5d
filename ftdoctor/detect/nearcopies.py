"""Near copies among texts by MinHash: signatures of word shingles, compared by bands.

Broder, "On the resemblance and containment of documents" (1997). With 5 bands of 11 of the 64
values a pair with a similarity of 0.8 is compared with a chance of 36 %, one of 0.95 with 98 %.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEAR = 0.8  # Jaccard similarity of word shingles from which two texts are near copies
SHORTEST = 40  # characters; shorter texts are alike by chance
WORDS = 2000  # of one text
VALUES, BANDS, ROWS = 64, 5, 11


def near_copies(known: list[str], asked: list[str] | None = None) -> Iterator[int]:
    """Yield the indices of the asked texts that nearly repeat a known one.

    Without `asked`, those of the known texts that nearly repeat an earlier one.
    """
    index = _Index()
    for i, text in enumerate(known):
        if len(text) < SHORTEST:
            continue
        made = _signature(text)
        if asked is None and index.holds(made):
            yield i
        index.add(made)
    for j, text in enumerate(asked or ()):
        if len(text) >= SHORTEST and index.holds(_signature(text)):
            yield j


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


def _signature(text: str) -> NDArray[np.uint32]:
    """Return the least value of each permutation over the text's shingles of three words."""
    import numpy as np

    words = text.split()[:WORDS]
    shingles = {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
    digests = b"".join([hashlib.sha1(s.encode()).digest()[:4] for s in shingles])
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
