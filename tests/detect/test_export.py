"""Detectors on exports and serving: GGUF metadata, Modelfiles, bases, and healthy look-alikes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftdoctor.detect import export
from ftdoctor.examples import run_from_example
from ftdoctor.model import Run, State

SHARED = Path(__file__).parents[3] / "shared"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def run_of(**facts: Any) -> Run:
    return run_from_example({"facts": {k.replace("__", "."): v for k, v in facts.items()}})


def gguf(**more: Any) -> Run:
    return run_of(gguf__tensor_count=291, **{f"gguf__{k}": v for k, v in more.items()})


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (CHATML, "ChatML"),
        ("<|start_header_id|>user<|end_header_id|>", "Llama 3"),
        ("<|user|>\n{{ m }}<|end|>", "Phi-3"),
        ("<|user|>\n{{ m }}</s>", "Zephyr"),
        ("[INST] {{ m }} [/INST]", "Llama 2 and Mistral"),
        ("### Instruction:\n{{ .Prompt }}", "Alpaca"),
    ],
)
def test_formats(template: str, name: str) -> None:
    found = export.format_of(template)
    assert found is not None
    assert found[0] == name


def test_template_missing_only_where_a_chat_model_can_have_one() -> None:
    assert export.gguf_template_missing(gguf()).state is State.PRESENT
    assert export.gguf_template_missing(gguf(chat_template=CHATML)).state is State.ABSENT
    for look_alike in (
        run_of(gguf__tensor_count=0),
        gguf(type="adapter"),
        gguf(split_no=1),
        gguf(architecture="bert"),
        run_of(),
    ):
        assert export.gguf_template_missing(look_alike).state is State.UNOBSERVABLE


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared corpus")
def test_vocabulary_only_files_show_nothing() -> None:
    from ftdoctor.read import read_run

    for path in (SHARED / "corpus" / "gguf").glob("*.gguf"):
        run = read_run(path)
        assert export.gguf_template_missing(run).state is State.UNOBSERVABLE
        assert export.gguf_pre_tokenizer(run).state is State.UNOBSERVABLE
        assert export.gguf_stop_token(run, rescued=False).state is State.UNOBSERVABLE
        assert export.gguf_id_out_of_range(run).state is State.ABSENT


@pytest.mark.parametrize(
    ("more", "plain", "rescued"),
    [
        ({"eos_token": "</s>", "end_texts": {"<|im_end|>": "normal"}}, "present", "absent"),
        ({"eos_token": "</s>", "end_texts": {}}, "present", "absent"),
        ({"eos_token": "</s>", "end_texts": {"<|im_end|>": "control"}}, "absent", "present"),
        ({"eos_token": "<|im_end|>"}, "absent", "absent"),
        ({"eos_token": "<|endoftext|>", "eot_token": "<|im_end|>"}, "absent", "absent"),
    ],
)
def test_stop_token(more: dict[str, Any], plain: str, rescued: str) -> None:
    run = gguf(chat_template=CHATML, **more)
    assert export.gguf_stop_token(run, rescued=False).state == plain
    assert export.gguf_stop_token(run, rescued=True).state == rescued


def test_template_that_writes_the_eos_variable_is_fine() -> None:
    run = gguf(chat_template="[INST] {{ m }} [/INST]{{ eos_token }}", eos_token="<eos>")
    assert export.gguf_stop_token(run, rescued=False).state is State.ABSENT


def test_a_padded_embedding_needs_a_padded_token_list() -> None:
    assert export.gguf_vocabulary(gguf(vocab_size=12, embedding_rows=12)).state is State.ABSENT
    assert export.gguf_vocabulary(gguf(vocab_size=9, embedding_rows=12)).state is State.PRESENT
    assert export.gguf_vocabulary(gguf(vocab_size=13, embedding_rows=12)).state is State.PRESENT


def test_templates_of_one_format_do_not_differ() -> None:
    run = gguf(chat_template=CHATML + " ")
    other = run_of(
        gguf__tensor_count=9, gguf__chat_template="[INST]", tokenizer__chat_template=CHATML
    )
    assert export.gguf_differs(run, of="chat_template").state is State.UNOBSERVABLE
    assert export.gguf_differs(other, of="chat_template").state is State.PRESENT


def test_modelfile_takes_the_template_of_its_gguf() -> None:
    with_template = gguf(chat_template=CHATML)
    assert export.modelfile_incomplete(with_template, lacks="template").state is State.UNOBSERVABLE
    facts = {"modelfile__from": "./m.gguf", "gguf__tensor_count": 9}
    bare = run_of(**facts)
    full = run_of(**facts, gguf__chat_template=CHATML)
    alone = run_of(modelfile__from="llama3")
    assert export.modelfile_incomplete(bare, lacks="template").state is State.PRESENT
    assert export.modelfile_incomplete(full, lacks="template").state is State.ABSENT
    assert export.modelfile_incomplete(alone, lacks="template").state is State.UNOBSERVABLE


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", "meta-llama/Llama-3.1-8B-Instruct"),
        ("unsloth/mistral-7b-v0.3-bnb-4bit", "mistralai/Mistral-7B-v0.3"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "Qwen/Qwen2.5-7B-Instruct"),
        ("unsloth/Qwen2.5-7B-unsloth-bnb-4bit", "Qwen/Qwen2.5-7B"),
    ],
)
def test_quantised_twins_have_one_key(left: str, right: str) -> None:
    assert export.base_key(left) == export.base_key(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-v0.3"),
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"),
    ],
)
def test_other_models_have_other_keys(left: str, right: str) -> None:
    assert export.base_key(left) != export.base_key(right)


def test_local_paths_say_nothing_about_the_base() -> None:
    facts = {"script.test.model_path": "./merged"}
    settings = {"lora.base_model": "mistralai/Mistral-7B-v0.1"}
    run = run_from_example({"facts": facts, "settings": settings})
    assert export.base_differs(run).state is State.UNOBSERVABLE
