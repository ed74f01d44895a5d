"""Tokenizer files of transformers 4 and 5: what each says, and who wins where they disagree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftdoctor.examples import run_from_example
from ftdoctor.model import ArtifactState, Run
from ftdoctor.read import read_run
from ftdoctor.read.source import memory_source
from ftdoctor.read.tokenizer import read_template_file, read_tokenizer, read_tokenizer_config

CONFIG = {
    "tokenizer_class": "LlamaTokenizer",
    "eos_token": {"__type": "AddedToken", "content": "</s>", "special": True},
    "model_max_length": 1000000000000000019884624838656,
    "added_tokens_decoder": {"2": {"content": "</s>", "special": True}},
}


def run_of(**files: Any) -> Run:
    named = {name.replace("__", "/"): content for name, content in files.items()}
    return run_from_example(
        {
            "files": {
                n: c if isinstance(c, str) else json.dumps(c, indent=2) for n, c in named.items()
            }
        }
    )


def value(run: Run, name: str) -> Any:
    fact = run.fact(f"tokenizer.{name}")
    return fact.value if fact else None


def test_an_added_token_object_is_its_text_and_has_its_id() -> None:
    run = run_of(**{"tokenizer_config.json": CONFIG})
    assert (value(run, "eos_token"), value(run, "eos_id")) == ("</s>", 2)
    assert value(run, "model_max_length") is None
    fact = run.fact("tokenizer.eos_token")
    assert fact is not None
    assert fact.where.line == 3


def test_version_5_takes_ids_from_tokenizer_json() -> None:
    tokens = {"added_tokens": [{"id": 7, "content": "<|im_end|>", "special": True}]}
    model = {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}
    run = run_of(
        **{
            "tokenizer_config.json": {
                "tokenizer_class": "TokenizersBackend",
                "eos_token": "<|im_end|>",
            },
            "tokenizer.json": {**tokens, "model": model, "pre_tokenizer": None},
        }
    )
    assert (value(run, "eos_id"), value(run, "vocab_size")) == (7, 8)
    assert value(run, "merges") == "pairs"


def test_the_jinja_file_wins_over_the_key_and_the_difference_is_told() -> None:
    run = run_of(
        **{
            "tokenizer_config.json": {**CONFIG, "chat_template": "{{ old }}"},
            "chat_template.jinja": "{{ messages }}",
        }
    )
    assert value(run, "chat_template") == "{{ messages }}"
    assert value(run, "chat_template_home") == "chat_template.jinja"
    assert value(run, "chat_template_conflict") is True


def test_the_same_template_in_two_homes_is_no_conflict() -> None:
    template = "{{ messages }}"
    run = run_of(
        **{
            "tokenizer_config.json": {**CONFIG, "chat_template": template},
            "chat_template.jinja": template + "\n",
        }
    )
    assert value(run, "chat_template_conflict") is False


def test_named_templates_give_the_default_one(shared: Path) -> None:
    run = read_run(shared / "formats" / "samples" / "tokenizer-variants" / "list_chat_template")
    assert value(run, "chat_template") == "{{ messages[0]['content'] }}"
    assert set(value(run, "named_templates")) == {"default", "tool_use"}


def test_the_tokenizer_nearest_to_the_root_counts_unless_it_is_the_base_models() -> None:
    other = {**CONFIG, "eos_token": "<|im_end|>"}
    run = run_of(**{"output__tokenizer_config.json": CONFIG, "base__tokenizer_config.json": other})
    assert value(run, "eos_token") == "</s>"
    assert value(run, "folders") == ["output", "base"]
    assert [f.value for f in run.facts["tokenizer.eos_token"]] == ["</s>", "<|im_end|>"]


def test_a_post_processor_tells_what_it_adds() -> None:
    processor = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
    }
    content = {"added_tokens": [], "model": {"vocab": {}}, "post_processor": processor}
    reading = read_tokenizer(memory_source("tokenizer.json", json.dumps(content).encode()))
    assert {f.name: f.value for f in reading.facts}["tokenizer.adds_before"] == ["<s>"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"eos_token": 5}', b"\xff\xfe\x00"]
)
def test_damage_is_a_state_and_never_raises(content: bytes) -> None:
    for reader in (read_tokenizer_config, read_tokenizer):
        reading = reader(memory_source("tokenizer_config.json", content))
        assert reading.state in (ArtifactState.DAMAGED, ArtifactState.READ)


def test_other_jinja_files_are_no_chat_templates() -> None:
    reading = read_template_file(memory_source("web/page.jinja", b"<html>{{ x }}</html>"))
    assert reading.state is ArtifactState.SKIPPED


def test_every_public_tokenizer_set_is_read_without_loss(shared: Path) -> None:
    for folder in sorted((shared / "corpus" / "tokenizers").iterdir()):
        run = read_run(folder)
        damaged = [a.path for a in run.artifacts if a.state is ArtifactState.DAMAGED]
        assert not damaged, folder.name
        assert run.fact("template.problem") is None, folder.name
