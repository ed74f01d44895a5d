"""The training example that a trainer prints before it begins: its text, and what is learnt of it.

LLaMA-Factory prints `input_ids:`, `inputs:`, `label_ids:` and `labels:`, each with what it names on
the lines below (data/processor/supervised.py, pairwise.py); Axolotl prints every token of a row as
`text(label, id)` if it is asked to debug (utils/tokenization.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftdoctor.model import Fact, Where
from ftdoctor.read.arrow import MASKED

NAME = "data.printed_example"
LINES = 200  # of one text; a longer one is taken for cut off
_KEY = re.compile(r"^(?:chosen_)?(input_ids|inputs|label_ids|labels):\s*$")
_OTHER = re.compile(r"^(?:rejected_\w+|(?:training|eval|unsupervised) example):\s*$")
_ID = re.compile(r"-?\d+")
# What a logger, a progress bar or the next header begins with: the text has ended before it.
_AFTER = re.compile(
    r"^\[?(?:INFO|WARNING|ERROR|DEBUG)\b|^\[\d{4}-\d\d|^\d{4}-\d\d-\d\d|\d+%\||^\{'"
    r"|^\*{5} |^Traceback |^Generating |^Converting |^Running tokenizer|^Loading "
)
_TOKEN = re.compile(r"(?m)\((-100|\d+), (\d+)\)(?: |$)")
_TOKENS = 8  # of one example; fewer are pairs of numbers in prose (judgement)


class Printed:
    """Collects the first example of training that a log shows, from fragments fed in order."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._texts: dict[str, list[str]] = {}
        self._lines: dict[str, int] = {}
        self._open = ""
        self._cut: set[str] = set()
        self._tokens: list[str] = []
        self._done = False

    def feed(self, text: str, line: int) -> None:
        """Take one line of the log."""
        if self._done:
            return
        key = _KEY.match(text) if text.endswith(":") else None
        if key and key[1] not in self._texts:
            self._open = key[1]
            self._texts[self._open], self._lines[self._open] = [], line
        elif self._open:
            self._more(text)
        elif _TOKEN.search(text):
            self._lines.setdefault("inputs", line)
            self._tokens.append(text)
        elif self._tokens:
            self._settle_tokens()

    def _more(self, text: str) -> None:
        if _OTHER.match(text) or _KEY.match(text) or _AFTER.search(text):
            self._done = "labels" in self._texts
            self._open = ""
        elif len(self._texts[self._open]) < LINES:
            self._texts[self._open].append(text)
        else:
            self._cut.add(self._open)

    def _settle_tokens(self) -> None:
        """Take the tokens printed so far as an example; a line end may be one of them."""
        words = _TOKEN.split("\n".join(self._tokens[:LINES]))
        self._tokens = []
        texts, labels, ids = words[:-1:3], words[1::3], words[2::3]
        if len(ids) < _TOKENS:
            self._lines.pop("inputs", None)
            return
        learnt = [text for text, label in zip(texts, labels, strict=True) if int(label) != MASKED]
        self._texts = {
            "input_ids": [" ".join(ids)],
            "label_ids": [" ".join(labels)],
            "inputs": ["".join(texts)],
            "labels": ["".join(learnt)],
        }
        self._done = True

    def facts(self) -> Iterator[Fact]:
        """Yield the example: its texts, the number of its tokens and of those that are learnt.

        `learnt` is none if the labels were not printed whole.
        """
        if self._tokens:
            self._settle_tokens()
        if "inputs" not in self._texts:
            return
        ids = _ID.findall(" ".join(self._texts.get("input_ids", [])))
        labels = _ID.findall(" ".join(self._texts.get("label_ids", [])))
        whole = bool(ids) and len(ids) == len(labels) and "labels" in self._texts
        learnt = [label for label in labels if int(label) != MASKED]
        value = {
            "input": "\n".join(self._texts["inputs"]).strip(),
            "labels": "\n".join(self._texts.get("labels", [])).strip(),
            "tokens": len(ids),
            "learnt": len(learnt) if whole and "labels" not in self._cut else None,
            "last": int(learnt[-1]) if whole and learnt else None,
        }
        yield Fact(NAME, value, Where(self._path, line=self._lines["inputs"]))
