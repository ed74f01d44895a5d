"""One training example token by token: which tokens are trained on, which ones end a turn."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftdoctor.model import Fact, Where
from ftdoctor.read.arrow import MASKED
from ftdoctor.read.layout import understand

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST = 160  # tokens told: half of them from the start, half from the end
LOOKED_AT = 200  # rows among which one of a readable length is looked for
READABLE = (8, 120)  # tokens that fit a page without cutting

# Marks of a turn that are plain text in most vocabularies; special tokens are marks by themselves.
_TURNS = re.compile(
    r"<\|[\w ]{2,30}\|>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|</?s>"
    r"|(?m:^(?:###? ?(?:Instruction|Input|Response|User|Assistant|Human|System|Question|Answer):?"
    r"|(?:USER|ASSISTANT|Human|Assistant|User):))"
)


@dataclass(frozen=True, slots=True)
class Masking:
    """What is known of the labels: of the prompt's tokens, the answer's, and the EOS tokens'.

    With a `marker` the labels begin after its tokens, wherever they stand; without them, nowhere.
    """

    prompt: bool | None
    answer: bool | None
    eos: bool | None
    why: str
    marker: str = ""


NOT_FOUND = ", which this row does not have: nothing in it is learnt"
UNKNOWN = Masking(None, None, None, "")


def example_fact(
    tokenizer: Tokenizer | None,
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    eos: str,
    limit: int | None,
) -> Fact | None:
    """Return the fact `data.example` of the first readable training row, None without tokens.

    Its value holds `tokens` (list of {text, label, special, eos, turn}; false and unknown are left
    out), `row` (line in the file), `why` (what the labels are known by), `eos` (the token's text),
    and `cut` (number of tokens kept) if the row is longer than the maximum length. `settings` are
    those that `masking_of` asks for.
    """
    if tokenizer is None:
        return None
    train = [r for r in rows if r["split"] == "train" and r["rendered"]][:LOOKED_AT]
    low, high = READABLE
    row = next(
        (r for r in train if low <= (r["n_tokens"] or 0) <= high), train[0] if train else None
    )
    if row is None:
        return None
    if row["layout"] == "pretokenised":
        tokens, why = _of_ids(json.loads(row["record"]), tokenizer, eos), "the labels in the file"
    else:
        masking = masking_of(row, settings)
        tokens = _of_text(row, tokenizer, masking, eos)
        lost = masking.marker and not any(token.get("label") for token in tokens)
        why = f"{masking.why}{NOT_FOUND if lost else ''}"
    if not tokens:
        return None
    value: dict[str, Any] = {"row": row["line"], "why": why, "eos": eos}
    if limit is not None and len(tokens) > limit:
        value["cut"] = limit
        for token in tokens[limit:]:
            token["cut"] = True
            token.pop("label", None)
    if len(tokens) > MOST:
        value["total"] = len(tokens)
        tokens = [*tokens[: MOST // 2], {"text": " … "}, *tokens[-MOST // 2 :]]
    return Fact("data.example", {"tokens": tokens, **value}, Where(row["path"], line=row["line"]))


def masking_of(row: Mapping[str, Any], settings: Mapping[str, Any]) -> Masking:
    """Return what settings and script say of the labels of a rendered row.

    `settings` may hold completion_only_loss, assistant_only_loss, train_on_inputs, trainer,
    collator, pad_is_eos, and of the script: labels (list of what it does with them), place, marker
    and boundary (see `read/script_boundary.py`).
    """
    collator = str(settings.get("collator") or "")
    labels = settings.get("labels") or []
    if settings.get("assistant_only_loss") is True:
        return Masking(False, True, True, "`assistant_only_loss` is on")
    if settings.get("completion_only_loss") is True:
        return Masking(False, True, True, "`completion_only_loss` is on")
    if settings.get("train_on_inputs") is False:
        return Masking(False, True, True, "`train_on_inputs` is off")
    by_name = next((name for name in labels if name in _MASKING), "")
    if by_name:
        return _by_script(settings, _MASKING[by_name])
    kept = not settings.get("pad_is_eos")
    if collator == _LM_COLLATOR:
        told = f"{_LM_COLLATOR} trains on all tokens but the pad token"
        told += "" if kept else ", which is the EOS token"
        told += ", whatever the script has masked" if "masked" in labels else ""
        return Masking(True, True, kept, told)
    if "masked" in labels:
        return _by_script(settings, "the script sets labels of the prompt to -100")
    if "copied" in labels:
        return Masking(True, True, kept or "pad-masked" not in labels,
                       "the script copies input_ids to labels")  # fmt: skip
    if settings.get("train_on_inputs") is True:
        return Masking(True, True, True, "`train_on_inputs` is on")
    if row["layout"] in ("preference", "kto"):
        return Masking(False, True, True, "preference training scores the answers alone")
    if settings.get("trainer") == "trl" and row["layout"] in ("messages", "text"):
        # SFTTrainer: with assistant_only_loss off, conversations and texts are trained on whole.
        return Masking(True, True, True, "SFTTrainer trains on whole conversations by default")
    return UNKNOWN


_LM_COLLATOR = "DataCollatorForLanguageModeling"
_MASKING = {
    "completion-only": "DataCollatorForCompletionOnlyLM masks the prompt",
    "responses-only": "`train_on_responses_only` masks the prompts",
    "assistant-only": "`assistant_only_loss` is on",
}


def _by_script(settings: Mapping[str, Any], told: str) -> Masking:
    """Return the mask of a script whose end is counted, looked for, or cannot be told."""
    place = f" ({settings['place']})" if settings.get("place") else ""
    labels = settings.get("labels") or []
    eos = not settings.get("pad_is_eos") or not {"pad-masked", "completion-only"} & set(labels)
    marker = settings.get("marker")
    if isinstance(marker, str) and marker:
        return Masking(False, True, eos, f"{told}{place} up to the tokens of `{marker}`", marker)
    if settings.get("boundary") == "length" or "assistant-only" in labels:
        return Masking(False, True, eos, f"{told}{place} and keeps the others")
    reason = "; how far the mask reaches is computed in a way that only a run would show"
    return Masking(False, None, None, f"{told}{place}{reason}")


def _of_ids(record: Mapping[str, Any], tokenizer: Tokenizer, eos: str) -> list[dict[str, Any]]:
    ids = [i for i in record.get("input_ids") or [] if isinstance(i, int)][:4000]
    labels = record.get("labels")
    special = _special(tokenizer)
    tokens = []
    for place, number in enumerate(ids):
        text = tokenizer.decode([number], skip_special_tokens=False)
        known = labels if isinstance(labels, list) and place < len(labels) else None
        label = known[place] != MASKED if known else None
        tokens.append(_token(text, label, text in special, text == eos, turn=text in special))
    return tokens


def _of_text(
    row: Mapping[str, Any], tokenizer: Tokenizer, masking: Masking, eos: str
) -> list[dict[str, Any]]:
    text = str(row["rendered"])[:20_000]
    encoding = tokenizer.encode(text, add_special_tokens=False)
    special = _special(tokenizer)
    answers = list(_answers(row, text))
    turns = [m.span() for m in _TURNS.finditer(text)]
    begins = _after_marker(encoding.ids, masking.marker, tokenizer) if masking.marker else 0
    tokens = []
    for place, ((start, end), piece) in enumerate(
        zip(encoding.offsets, encoding.tokens, strict=True)
    ):
        shown = text[start:end] or piece
        is_eos = shown.strip() == eos
        inside = any(start < stop and end > begin for begin, stop in answers)
        if masking.marker and len(answers) < 2:
            inside = place >= begins
        label = masking.answer if inside and place >= begins else masking.prompt
        if is_eos and label and masking.eos is False:
            label = False
        in_turn = any(start < stop and end > begin for begin, stop in turns)
        tokens.append(_token(shown, label, shown in special, is_eos, turn=in_turn))
    return tokens


def _after_marker(ids: Sequence[int], marker: str, tokenizer: Tokenizer) -> int:
    """Return the place after the first occurrence of a text's tokens; the end without one.

    Tokens are compared, as scripts do: the same text may be other tokens after another text.
    """
    wanted = list(tokenizer.encode(marker, add_special_tokens=False).ids)
    places = range(len(ids) - len(wanted) + 1)
    found = (place for place in places if list(ids[place : place + len(wanted)]) == wanted)
    first = next(found, None) if wanted else None
    return len(ids) if first is None else first + len(wanted)


def _token(
    text: str, label: bool | None, special: bool, is_eos: bool, *, turn: bool
) -> dict[str, Any]:
    token: dict[str, Any] = {"text": text}
    if label is not None:
        token["label"] = label
    marks = {"special": special, "eos": is_eos, "turn": turn and not is_eos}
    return token | {name: True for name, held in marks.items() if held}


def _special(tokenizer: Tokenizer) -> set[str]:
    added = tokenizer.get_added_tokens_decoder()
    return {token.content for token in added.values() if token.special}


def _answers(row: Mapping[str, Any], text: str) -> Iterator[tuple[int, int]]:
    """Yield where answers stand in the text: to the next mark of a turn, that mark included."""
    example = understand(json.loads(row["record"]))
    contents = [
        str(m.get("content") or "") for m in example.messages if m.get("role") == "assistant"
    ] or [example.response]
    at = 0
    for content in contents:
        wanted = content.strip()
        start = text.find(wanted, at) if len(contents) > 1 else text.rfind(wanted)
        if not wanted or start < 0:
            continue
        at = start + len(wanted)
        mark = _TURNS.search(text, at)
        end = len(text) if len(contents) == 1 else mark.end() if mark else len(text)
        if mark and not text[at : mark.start()].strip():
            end = mark.end()
        yield start, end
