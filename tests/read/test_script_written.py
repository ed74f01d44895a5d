"""Rows that a script writes by a template of its own; pairs that are encoded apart; picked names."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

import pytest

from ftdoctor.read.code import Code, parse
from ftdoctor.read.rows import parse_row
from ftdoctor.read.script_pairs import pairs_of
from ftdoctor.read.script_picks import picks_of
from ftdoctor.read.script_written import written_rows_of

LOAD = "model = AutoModelForCausalLM.from_pretrained('m')\ntok.pad_token = tok.eos_token\n"
FORMAT = "FORM = 'Message of a customer:\\n{}\\nReply:\\n{}'\n"


def _names(
    reader: Callable[[Code], Iterator[tuple[str, object, int]]], script: str
) -> list[object]:
    code, _ = parse(textwrap.dedent(script))
    assert code is not None
    return [value for _, value, _ in reader(code)]


@pytest.mark.parametrize(
    "made",
    [
        FORMAT + "texts = [FORM.format(r['message'], r['reply']) for r in rows]",
        "texts = [f\"Kunde: {r['frage']}\\nTeam: {r['antwort']}\" for r in rows]",
        "texts = ['Frage ' + r['frage'] + ' dazu ' + r['antwort'] for r in rows]",
        'def form(r):\n    return f"Ask: {r.q} Tell: {r.a}"\ntexts = list(map(form, rows))',
    ],
)
def test_rows_of_free_columns(made: str) -> None:
    assert _names(written_rows_of, LOAD + made)


@pytest.mark.parametrize(
    "made",
    [
        FORMAT + "texts = [FORM.format(r['message'], r['reply']) + tok.eos_token for r in rows]",
        FORMAT
        + "texts = [FORM.format(r['message'], r['reply']) for r in rows]\nids += [tok.eos_token_id]",
        "texts = [f\"Ask: {r['q']} Tell: {r['a']}</s>\" for r in rows]",
        "texts = [f\"Ask: {r['q']} Tell: {r['a']} ###\" for r in rows]",
        "texts = [f\"Ask: {r['q']}\" for r in rows]",
        "for r in rows:\n    p = f\"Ask: {r['q']} of {r['a']}\"\n    out = model.generate(tok(p))",
        'for r in rows:\n    print(f"step {r.step} loss {r.loss}")',
    ],
)
def test_no_rows_or_rows_with_an_end(made: str) -> None:
    assert not _names(written_rows_of, LOAD + made)


def test_no_causal_model_no_row() -> None:
    made = "model = AutoModelForSeq2SeqLM.from_pretrained('m')\n"
    assert not _names(written_rows_of, made + "t = [f\"a {r['x']} b {r['y']}\" for r in rows]")


def test_losses_between_embeddings() -> None:
    assert _names(pairs_of, "loss = F.cross_entropy(a @ b.T, torch.arange(len(a)))")
    assert _names(pairs_of, "target = torch.arange(n)\nloss = F.cross_entropy(s, target)")
    assert _names(pairs_of, "loss = losses.MultipleNegativesRankingLoss(model)")
    assert not _names(pairs_of, "loss = F.cross_entropy(logits, labels)")


def test_picked_names() -> None:
    found = _names(picks_of, "c = sorted(glob.glob('out/checkpoint-*'))[-1]")
    assert found == [["out/checkpoint-*", "last"]]
    assert not _names(
        picks_of, "c = sorted(glob.glob('out/checkpoint-*'), key=os.path.getmtime)[-1]"
    )
    assert not _names(picks_of, "c = sorted(glob.glob('data/*.jsonl'))[0]")


def test_a_row_that_names_the_splits_alone() -> None:
    row = parse_row("ep 5 train 0.0006 valid 0.0003 acc 1.000 macro-f1 1.000")
    assert row is not None
    assert row.values["eval_loss"] == 0.0003
    assert row.values["eval_acc"] == 1.0
    assert parse_row("train 320 dev 50 params 0.89M") is None
    beside = parse_row("epoch 2 loss 0.31 train 0.93 valid 0.90 acc 0.9")
    assert beside is not None
    assert "eval_loss" not in beside.values
