"""What words that two texts share tell: the rarer a word is, the more."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

COMMON = 0.3  # of the texts above which a word is grammar


def rarity(texts: Sequence[AbstractSet[str]]) -> Mapping[str, float]:
    """Return the bits that a word tells by being shared; words of many texts tell nothing."""
    spread = Counter(word for text in texts for word in text)
    return {
        word: math.log2(len(texts) / count)
        for word, count in spread.items()
        if count <= COMMON * len(texts)
    }


def shared_bits(one: AbstractSet[str], other: AbstractSet[str], rare: Mapping[str, float]) -> float:
    """Return the bits of the rare words that both have, the same in whatever order they come."""
    return math.fsum(rare.get(word, 0.0) for word in one & other)
