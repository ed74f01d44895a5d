"""Prompt formats told by their markers: which format a text is in, how its turns are closed.

The markers are those of public chat templates and of the instruction formats that hand-written
scripts use (Alpaca headings, Vicuna, question and answer, ...).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Texts that end a turn or a document in some family (llama.cpp's llama-vocab.cpp lists those that
# it treats as end of generation; `[EOS]` and `<|end_of_turn|>` are of hand-written formats).
STOP_TEXTS = (
    "<|endoftext|>", "</s>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "<eos>",
    "<end_of_turn>", "<turn|>", "<|eom_id|>", "<EOT>", "[EOT]", "[EOS]", "<|return|>",
    "<end_of_utterance>", "<｜end▁of▁sentence｜>", "<|end_of_turn|>", "<|eot|>",
    "<|END_OF_TURN_TOKEN|>", "<|eos|>",
)  # fmt: skip
_STOP = re.compile("|".join(re.escape(text) for text in STOP_TEXTS))


@dataclass(frozen=True, slots=True)
class Format:
    """A prompt format: the pattern that tells it, and the header that opens the model's turn."""

    id: str
    tells: re.Pattern[str]
    answer: re.Pattern[str]


def _format(name: str, tells: str, answer: str) -> Format:
    return Format(name, re.compile(tells), re.compile(answer))


# A heading may go on up to its colon ("### Answer in one word:"); what follows is the answer, which
# many scripts begin on the same line.
_TO_COLON = r"\b(?:[^\n{:：]{0,60}[:：])?"

# The special tokens of model families first, then plain words that hand-written scripts use.
TOKEN_FORMATS = (
    _format("chatml", r"<\|im_start\|>", r"<\|im_start\|>(?:assistant|\{\w+\})"),
    _format(
        "llama-3",
        r"<\|start_header_id\|>",
        r"<\|start_header_id\|>(?:assistant|\{\w+\})<\|end_header_id\|>",
    ),
    _format("llama-4", r"<\|header_start\|>", r"<\|header_start\|>assistant<\|header_end\|>"),
    _format("gemma", r"<start_of_turn>", r"<start_of_turn>(?:model|\{\w+\})"),
    _format("llama-2-inst", r"\[/?INST\]", r"\[/INST\]"),
    _format("deepseek", r"<｜(?:User|Assistant)｜>", r"<｜Assistant｜>"),
    _format("glm", r"\[gMASK\]", r"<\|assistant\|>"),
    _format("glm-rounds", r"\[Round \S+\]", r"答："),
    _format("pipe-roles", r"<\|(?:user|assistant|prompter)\|>", r"<\|assistant\|>"),
    _format("command-r", r"<\|START_OF_TURN_TOKEN\|>", r"<\|CHATBOT_TOKEN\|>"),
)
# Headings of hand-written formats in German, Spanish, French and Chinese.
_ASKED = (
    r"Frage|Anweisung|Eingabe|Benutzer|Nutzer|Pregunta|Instrucción|Consigne|问题?|指令|输入|用户"
)
_ANSWERED = r"Antwort|Ausgabe|Respuesta|Réponse|回答|答案?|输出|助手|回复"
WORD_FORMATS = (
    _format("human-bot-tags", r"<(?:human|bot|HUMAN|ASSISTANT)>:?", r"<(?:bot|ASSISTANT)>:?"),
    _format(
        "alpaca",
        r"(?m)^\s*#{2,3} ?(?:Instructions?|Response|Input)\b",
        r"(?m)^\s*#{2,3} ?(?:Response|Output|Answer)" + _TO_COLON,
    ),
    _format(
        "hash-roles",
        r"#{2,3} ?(?:Human|User|Assistant|System|Question|Answer|Context|Prompt|Completion"
        rf"|{_ASKED}|{_ANSWERED})\b",
        rf"#{{2,3}} ?(?:Assistant|Answer|Completion|{_ANSWERED})" + _TO_COLON,
    ),
    _format("vicuna", r"\bUSER: |\bASSISTANT:", r"\bASSISTANT:"),
    _format(
        "human-assistant",
        r"(?m)^(?:Human|Assistant|User|Bot|AI) ?:",
        r"(?m)^(?:Assistant|Bot|AI) ?:",
    ),
    _format(
        "instruct-output",
        r"(?m)^(?:Instruct|Instruction|Input|Output|Response) ?:",
        r"(?m)^(?:Output|Response) ?:",
    ),
    _format(
        "question-answer",
        rf"(?m)^(?:Question|Answer|Q|A|{_ASKED}|{_ANSWERED}) ?[:：]",
        rf"(?m)^(?:Answer|A|{_ANSWERED}) ?[:：]",
    ),
)
FORMATS = (*TOKEN_FORMATS, *WORD_FORMATS)


def formats_of(text: str) -> tuple[str, ...]:
    """Return the ids of the formats whose markers a text holds, most special first, two at most.

    Word formats (Alpaca headings and the like) inside a turn of a token format are content, so
    they count only where no token format is found.
    """
    for formats in (TOKEN_FORMATS, WORD_FORMATS):
        found = tuple(f.id for f in formats if f.tells.search(text))
        if found:
            return found[:2]
    return ()


def stops_in(text: str) -> tuple[str, ...]:
    """Return the stop texts in a text, in order of occurrence."""
    return tuple(m.group() for m in _STOP.finditer(text))


def answer_part(text: str) -> str | None:
    """Return what follows the last header of the model's turn, or None if no header is found."""
    found = _last_answer(text)
    return text[found.end() :] if found else None


def prompt_closer(text: str) -> str | None:
    r"""Return the stop text right before the model's header ("" for none), None without a header.

    It closes the turn before: `<|user|>\n{q}</s>\n<|assistant|>` gives `</s>`.
    """
    found = _last_answer(text)
    if found is None or found.start() == 0:
        return None
    before = text[: found.start()].rstrip()
    stops = [stop for stop in STOP_TEXTS if before.endswith(stop)]
    if before.endswith("{eos_token}"):
        return "{eos_token}"
    return max(stops, key=len) if stops else ""


def _last_answer(text: str) -> re.Match[str] | None:
    found = formats_of(text)
    for known in FORMATS:
        if known.id in found:
            matches = list(known.answer.finditer(text))
            if matches:
                return matches[-1]
    return None
