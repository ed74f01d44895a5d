"""Whether a script trains an encoder on pairs, each text of which is encoded by itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from ftdoctor.read.code import Code

Found = tuple[str, object, int]
# Losses of sentence-transformers, PyTorch and pytorch-metric-learning that compare embeddings.
_COMPARES = re.compile(
    r"(?:MultipleNegatives\w*|Contrastive\w*|Triplet\w*|CosineSimilarity|CoSENT|AnglE|NTXent|NPairs"
    r"|CosineEmbedding|TripletMargin\w*|InfoNCE|info_nce|SupCon)_?(?:Ranking)?_?(?:[Ll]oss)?$"
    r"|^(?:cosine_embedding_loss|triplet_margin_loss|SentenceTransformerTrainer)$"
)


def pairs_of(code: Code) -> Iterator[Found]:
    """Yield `encodes_apart` with its line: a loss between the embeddings of two texts.

    Either by the name of the loss, or a cross entropy whose right classes are the places in the
    batch, `cross_entropy(scores, arange(n))`.
    """
    for name, call in code.calls():
        last = name.rsplit(".", 1)[-1]
        if _COMPARES.search(last) or (_is_cross_entropy(last) and _by_place(code, call)):
            yield "encodes_apart", True, call.lineno
            return


def _is_cross_entropy(last: str) -> bool:
    return "cross_entropy" in last.lower() or last.lower().endswith(("loss_fn", "criterion", "ce"))


def _by_place(code: Code, call: ast.Call) -> bool:
    given = [*call.args[1:2], *(k.value for k in call.keywords if k.arg in ("target", "labels"))]
    for node in given:
        bound = code.bound(node) if isinstance(node, ast.Name) else []
        made = [node, *(each.value for each in bound)]
        if any("arange(" in ast.unparse(each) for each in made):
            return True
    return False
