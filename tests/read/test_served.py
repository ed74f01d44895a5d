"""The templates of training and of a GGUF, rendered and compared token by token."""

from __future__ import annotations

import json

from ftdoctor.examples import run_from_example
from ftdoctor.read.served import NEVER, PROBES, Conversation, Side, differences

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_PROMPT = CHATML.partition("{% if")[0]
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML


def differing(training: str, serving: str, bos: str = "") -> dict[str, int]:
    tokens = {"bos_token": bos} if bos else {}
    found = differences(Side(training, {}), Side(serving, tokens), PROBES)
    return {d.conversation.name: d.token for d in found}


def test_equal_templates_differ_nowhere() -> None:
    assert differing(CHATML, CHATML) == {}


def test_a_bos_at_the_start_is_no_difference() -> None:
    assert differing(CHATML, "{{ bos_token }}" + CHATML, bos="<s>") == {}


def test_a_missing_generation_prompt_is_found_in_prompts_only() -> None:
    found = differing(CHATML, NO_PROMPT)
    assert {p.name for p in PROBES if p.asks} == set(found)


def test_a_refused_system_message_is_a_difference_without_place() -> None:
    assert differing(CHATML, NO_SYSTEM) == {"a system message": NEVER}


def test_the_first_differing_token_is_told_with_both_texts() -> None:
    other = CHATML.replace("<|im_end|>", "<|end|>")
    first = next(differences(Side(CHATML, {}), Side(other, {}), PROBES))
    assert first.training.startswith("<|im_end|>")
    assert first.serving.startswith("<|end|>")
    assert not first.of_space


def test_white_space_alone_is_told_apart() -> None:
    first = next(differences(Side(CHATML, {}), Side(CHATML.replace("\n", " "), {}), PROBES))
    assert first.of_space


def test_broken_templates_end_nothing() -> None:
    assert differing("{{ x", "{{ x") == {}
    assert set(differing(CHATML, "{{ x").values()) == {NEVER}


def test_tools_are_rendered() -> None:
    calls = [p for p in PROBES if p.kind == "tools"]
    told = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
    assert [d.token for d in differences(Side(CHATML, {}), Side(told + CHATML, {}), calls)] == [0]


def test_training_rows_are_rendered_by_both() -> None:
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a"}]}
    odd = CHATML.replace(
        "{{ m.content }}", "{{ m.content | upper if m.content == 'hi' else m.content }}"
    )
    run = run_from_example(
        {
            "files": {"train.jsonl": json.dumps(row) + "\n"},
            "facts": {
                "gguf.tensor_count": 9,
                "gguf.chat_template": odd,
                "tokenizer.chat_template": CHATML,
            },
        }
    )
    told = run.fact("template.served")
    assert told is not None
    assert [d["conversation"] for d in told.value] == ["training row train.jsonl:1"]


def test_conversation_may_hold_other_things_than_text() -> None:
    parts = Conversation(
        "row", "x", ({"role": "user", "content": [{"type": "text", "text": "a"}]},)
    )
    assert list(differences(Side(CHATML, {}), Side(CHATML, {}), [parts])) == []
