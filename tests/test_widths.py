"""Hidden sizes by the names of published models; other names tell nothing."""

from __future__ import annotations

import pytest

from ftdoctor.families import width_of


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("mistralai/Mistral-7B-v0.1", 4096),
        ("unsloth/llama-3-8b-bnb-4bit", 4096),
        ("meta-llama/Llama-3.2-1B-Instruct", 2048),
        ("Qwen/Qwen2.5-0.5B-Instruct", 896),
        ("Qwen/Qwen2.5-Coder-7B", 3584),
        ("Qwen/Qwen3-30B-A3B", None),
        ("Qwen/Qwen2.5-VL-7B-Instruct", None),
        ("google/gemma-2-2b-it", 2304),
        ("google/gemma-2b", 2048),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 2048),
        ("acme/tiny-llama-2-7b-test", None),
        ("microsoft/phi-2", 2560),
        ("acme/our-model-7b", None),
    ],
)
def test_width(name: str, width: int | None) -> None:
    assert width_of(name) == width
