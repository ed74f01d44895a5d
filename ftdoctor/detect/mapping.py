"""Detectors on which column of the rows is read as the prompt, and which as the answer."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import MIN_ROWS, no_rows, of_split
from ftdoctor.model import Fact, Observation, Run, Where

MAPPED_SETS = 200  # entries of a registry that are looked at
INSTRUCTION_WORDS = 2  # that all answers share
LOOKED_AT = 400  # rows
# Words by which columns are named, in some of the languages in which data sets are made.
_ASKING = frozenset((
    "question", "questions", "prompt", "prompts", "instruction", "instructions", "query",
    "input", "inputs", "user", "human", "problem", "source", "src", "request", "pregunta",
    "consulta", "entrada", "instruccion", "instrucción", "frage", "anfrage", "eingabe",
    "anweisung", "requete", "requête", "entree", "domanda", "pergunta", "soru", "vopros", "问题",
    "指令", "输入", "質問", "質問文", "입력", "질문", "вопрос",
))  # fmt: skip
_ANSWERING = frozenset((
    "answer", "answers", "response", "responses", "output", "outputs", "completion",
    "completions", "reply", "assistant", "gpt", "bot", "solution", "target", "tgt", "label",
    "summary", "respuesta", "salida", "antwort", "ausgabe", "reponse", "réponse", "sortie",
    "risposta", "resposta", "cevap", "otvet", "答案", "回答", "输出", "回復", "답변", "출력",
    "ответ",
))  # fmt: skip
_WORDS = re.compile(r"[^\W\d_]+")
# What is asked of a model at the start of a request; with a colon, of most tasks.
_INSTRUCTION = re.compile(
    r"(?i)^\W*(?:please |can you |bitte |por favor )?(?:translate|summari[sz]e|classify|extract"
    r"|write|convert|rewrite|paraphrase|explain|generate|answer the|list|identify|correct|complete"
    r"|describe|determine|label the|given|you are|fix|solve|find|compute|calculate|name the|return"
    r"|tag|übersetze|fasse|schreibe?|erkläre|traduce|traduis|resume|escribe|clasifica|extrae"
    r"|extrais|traduza|écris|riassumi|traduci)\b"
)
_MAPPED = (
    ("field_instruction", "field_output"), ("field_input", "field_output"),
    ("prompt_column", "response_column"), ("input_key", "output_key"),
)  # fmt: skip


def _meaning(name: str) -> str:
    """Return what the name of a column says: `asks`, `answers`, or "" for neither or both."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = set(_WORDS.findall(spaced))
    asks, answers = bool(words & _ASKING), bool(words & _ANSWERING)
    return "" if asks == answers else "asks" if asks else "answers"


def _mappings(run: Run) -> Iterator[tuple[str, str, Fact]]:
    """Yield the columns that are read as prompt and as answer, and where it is said."""
    for fact in run.facts.get("data.registry", ()):
        used = run.setting("dataset")
        names = set(re.split(r"[,\s]+", str(used.value))) if used else set()
        for name, entry in list(fact.value.items())[:MAPPED_SETS]:
            if not isinstance(entry, dict) or (names and name not in names):
                continue
            columns, tags = entry.get("columns"), entry.get("tags")
            if isinstance(columns, dict):
                yield str(columns.get("prompt", "")), str(columns.get("response", "")), fact
            if isinstance(tags, dict):
                yield str(tags.get("user_tag", "")), str(tags.get("assistant_tag", "")), fact
    for prompt, answer in _MAPPED:
        asked, said = run.setting(prompt), run.setting(answer)
        if asked is not None and said is not None:
            yield str(asked.value), str(said.value), asked


@detector("mapping.swapped")
def swapped(run: Run) -> Observation:
    """Find the prompt read from a column named after answers, the answer from one that asks."""
    seen = [m for m in _mappings(run) if m[0] and m[1]]
    if not seen:
        return unobservable("No file says which columns are read", "dataset_info.json")
    for prompt, answer, fact in seen:
        if _meaning(prompt) == "answers" and _meaning(answer) == "asks":
            said = f"the prompt is read from `{prompt}` and the answer from `{answer}`"
            return present(f"{fact.where}: {said}", replace(fact, value=said))
    return absent(f"`{seen[0][0]}` is read as the prompt and `{seen[0][1]}` as the answer")


@detector("mapping.answers_instruct")
def answers_instruct(run: Run, *, above: float) -> Observation:
    """Find answers that all begin with one instruction, such as `Translate to German:`.

    The answer is what the mapping says, else what the reader takes for it.
    """
    rows = of_split(run, "train")
    if rows.height < MIN_ROWS:
        return no_rows("train")
    records = [json.loads(r) for r in rows["record"].head(LOOKED_AT) if r]
    keys = {k for record in records if isinstance(record, dict) for k in record}
    pairs = [(p, a) for p, a, _ in _mappings(run) if a in keys and p in keys]
    if pairs:
        given = [(r.get(pairs[0][0]), r.get(pairs[0][1])) for r in records if isinstance(r, dict)]
    else:
        given = list(
            zip(rows["prompt"].head(LOOKED_AT), rows["response"].head(LOOKED_AT), strict=True)
        )
    texts = [(str(p or ""), a) for p, a in given if isinstance(a, str) and a.strip()]
    if len(texts) < MIN_ROWS:
        return unobservable("The answers are not known", "training data")
    starts = Counter(" ".join(answer.split()[:INSTRUCTION_WORDS]) for _, answer in texts)
    start, count = starts.most_common(1)[0]
    asking = sum(bool(_INSTRUCTION.search(p)) or p.strip().endswith("?") for p, _ in texts)
    share = count / len(texts)
    said = f"{share:.0%} of the answers begin with “{start}”"
    instructs = _INSTRUCTION.search(start) and len(start.split()) == INSTRUCTION_WORDS
    if share > above and instructs and asking < (1 - above) * len(texts):
        return present(
            f"{said}, and the prompts ask for nothing",
            Fact("data.response", start, Where(rows["path"][0])),
        )
    return absent("The answers do not begin with one instruction")
