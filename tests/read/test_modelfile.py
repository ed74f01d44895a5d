"""Instructions, quotation and stops of Ollama Modelfiles."""

from __future__ import annotations

from typing import Any

from ftdoctor.model import ArtifactState
from ftdoctor.read.modelfile import read_modelfile
from ftdoctor.read.source import memory_source

TEXT = '''# made by hand
FROM ./model.gguf
adapter ./lora.gguf
TEMPLATE """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}"""
PARAMETER stop "<|im_end|>"
PARAMETER stop <|endoftext|>
PARAMETER num_ctx 4096
SYSTEM You are helpful.
'''


def facts(text: str) -> dict[str, Any]:
    reading = read_modelfile(memory_source("Modelfile", text.encode()))
    return {fact.name: fact.value for fact in reading.facts}


def test_instructions() -> None:
    found = facts(TEXT)
    assert found["modelfile.from"] == "./model.gguf"
    assert found["modelfile.adapter"] == "./lora.gguf"
    assert found["modelfile.template"].startswith("{{ if .System }}<|im_start|>system\n")
    assert found["modelfile.template"].endswith("{{ end }}")
    assert found["modelfile.stop"] == ["<|im_end|>", "<|endoftext|>"]
    assert found["modelfile.parameter.num_ctx"] == "4096"
    assert found["modelfile.system"] == "You are helpful."


def test_lines_are_those_where_an_instruction_begins() -> None:
    reading = read_modelfile(memory_source("Modelfile", TEXT.encode()))
    lines = {fact.name: fact.where.line for fact in reading.facts}
    assert (lines["modelfile.from"], lines["modelfile.template"], lines["modelfile.stop"]) == (
        2,
        4,
        7,
    )


def test_carriage_returns_and_one_line_quotes() -> None:
    found = facts('FROM x\r\nTEMPLATE """{{ .Prompt }}"""\r\nSYSTEM "hi"\r\n')
    assert found["modelfile.template"] == "{{ .Prompt }}"
    assert found["modelfile.system"] == "hi"


def test_unclosed_quotation_is_partial() -> None:
    reading = read_modelfile(memory_source("Modelfile", b'FROM x\nTEMPLATE """{{ .Prompt }}\n'))
    assert reading.state is ArtifactState.PARTIAL
    assert "never closed" in reading.reason


def test_no_from_and_no_stop() -> None:
    assert facts("FROM x\n")["modelfile.stop"] == []
    reading = read_modelfile(memory_source("Modelfile", b"TEMPLATE x\n"))
    assert reading.state is ArtifactState.PARTIAL
