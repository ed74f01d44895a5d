"""Labels and answers that scripts make by hand: copied or masked, ended or not."""

from __future__ import annotations

import pytest

from ftdoctor.read.code import parse
from ftdoctor.read.script_labels import answers_of, appended_ends, labels_of

JOINED = "    q = tok(row['ask'])['input_ids']\n    a = tok(row['reply'])['input_ids']\n    both = q + a\n"


def kinds(text: str) -> set[str]:
    code, problem = parse(text)
    assert code is not None, problem
    return {value for _, value, _ in labels_of(code)}


@pytest.mark.parametrize(
    "made",
    [
        "both.copy()",
        "both[:]",
        "list(both)",
        "copy.deepcopy(both)",
        "[i for i in both]",
        "torch.tensor(both)",
    ],
)
def test_a_copy_of_joined_ids_is_no_masking(made: str) -> None:
    text = f"def f(row):\n{JOINED}    return {{'input_ids': both, 'labels': {made}}}\n"
    assert kinds(text) == {"copied"}


def test_a_copy_under_another_name_is_followed() -> None:
    text = f"def f(row):\n{JOINED}    goal = list(both)\n    return dict(input_ids=both, labels=goal)\n"
    assert kinds(text) == {"copied"}


@pytest.mark.parametrize(
    "text",
    [
        "def f(q, a):\n    return {'input_ids': q + a, 'labels': [-100] * len(q) + a}\n",
        "def f(q, a, p):\n    ids = q + a\n    labels = ids.copy()\n    labels[:p] = [-100] * p\n"
        "    return {'input_ids': ids, 'labels': labels}\n",
        "def f(ids, p):\n    labels = ids.clone()\n    labels[:p] = -100\n    return labels\n",
        "def f(E):\n    return dict(pad=tok.pad_token_id, labels=g([[-100] * len(x) + y for x, y in E], -100))\n",
    ],
)
def test_a_hidden_prompt_is_masked(text: str) -> None:
    assert "masked" in kinds(text)


@pytest.mark.parametrize(
    "text",
    [
        "c = DataCollatorForSeq2Seq(tok, label_pad_token_id=-100)\n",
        "loss = CrossEntropyLoss(ignore_index=-100)\n",
        "labels = labels + [-100] * (size - len(labels))\n",
        "y = pad_sequence(rows, batch_first=True, padding_value=-100)\n",
        "labels[batch['attention_mask'] == 0] = -100\n",
    ],
)
def test_padding_of_labels_hides_no_prompt_and_no_end(text: str) -> None:
    assert kinds(text) == set()


def test_padding_by_the_id_of_the_pad_token_is_told() -> None:
    assert kinds("labels[labels == tok.pad_token_id] = -100\n") == {"pad-masked"}


def test_masking_that_an_option_turns_off_does_not_count() -> None:
    body = (
        "def train(train_on_inputs={}):\n  def f(row):\n    out = tok(row)\n"
        "    out['labels'] = out['input_ids'].copy()\n    if not train_on_inputs:\n"
        "        out['labels'] = [-100] * 5 + out['labels'][5:]\n    return out\n"
    )
    assert kinds(body.format("True")) == {"copied"}
    assert kinds(body.format("False")) == {"copied", "masked"}


def test_targets_of_an_encoder_decoder_are_no_copy() -> None:
    assert kinds("y = tok(row['summary'])\nx['labels'] = y_labels['input_ids']\n") == set()


def test_an_answer_tokenised_alone_is_found() -> None:
    code, _ = parse("ids = tok(row['reply_output'], add_special_tokens=False).input_ids\n")
    assert code is not None
    ((_, value, line),) = answers_of(code)
    assert line == 1
    assert value["stops"] == []


@pytest.mark.parametrize(
    "text",
    [
        "x = tok(row['output'] + tok.eos_token, add_special_tokens=False)\n",
        "ids = a + b + [tok.eos_token_id]\n",
        "ids = [*a, *b, tok.eos_token_id]\n",
        "END = tok.eos_token\ntext = text + END\n",
        "ids = torch.cat([a, torch.tensor([tok.eos_token_id])])\n",
        "text = ''.join([q, a, tok.eos_token])\n",
        "ids += [tok.eos_id()]\n",
    ],
)
def test_an_appended_end_token_is_seen(text: str) -> None:
    code, _ = parse(text)
    assert code is not None
    assert any(value for _, value, _ in appended_ends(code))


def test_a_pad_token_set_to_the_end_token_appends_nothing() -> None:
    code, _ = parse("tok.pad_token = tok.eos_token\nif x == tok.eos_token_id:\n    pass\n")
    assert code is not None
    assert not list(appended_ends(code))
