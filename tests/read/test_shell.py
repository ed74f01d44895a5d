"""Shell scripts: line endings, launch options, variables, installs."""

from __future__ import annotations

from typing import Any

import pytest

from ftdoctor.read.reading import Reading
from ftdoctor.read.shell import read
from ftdoctor.read.source import memory_source


def reading(text: str, path: str = "run.sh") -> Reading:
    return read(memory_source(path, text.encode()))


def facts(found: Reading, name: str) -> list[Any]:
    return [f.value for f in found.facts if f.name == name]


def settings(found: Reading) -> dict[str, Any]:
    return {f.name: f.value for f in found.settings}


def test_windows_line_endings_are_told_with_the_first_such_line() -> None:
    found = reading("#!/bin/bash\necho a\r\npython train.py\r\n")
    [fact] = [f for f in found.facts if f.name == "shell.crlf"]
    assert (fact.value, fact.where.line) == (True, 2)


def test_unix_line_endings_are_told_too() -> None:
    assert facts(reading("#!/bin/bash\necho a\n"), "shell.crlf") == [False]


def test_windows_scripts_may_have_windows_line_endings() -> None:
    assert facts(reading("python train.py\r\n", "run.bat"), "shell.crlf") == []


def test_launch_options_are_settings_with_the_line_of_the_command() -> None:
    found = reading(
        "#!/bin/bash\nLR=2e-4\n\ntorchrun --nproc_per_node=2 train.py \\\n"
        "  --learning_rate $LR --num-train-epochs 3 --bf16 \\\n"
        "  --lora_target_modules q_proj v_proj --warmup_steps -1 lora.r=8\n"
    )
    assert settings(found) == {
        "nproc_per_node": 2,
        "learning_rate": 2e-4,
        "num_train_epochs": 3,
        "bf16": True,
        "lora_target_modules": ["q_proj", "v_proj"],
        "warmup_steps": -1,
        "lora.r": 8,
    }
    assert {f.where.line for f in found.settings} == {4}


def test_commands_that_do_not_train_give_no_settings() -> None:
    assert settings(reading("python download.py --revision main\nls --all\n")) == {}


def test_secrets_in_variables_are_left_out() -> None:
    found = reading("export HF_TOKEN=abc\nexport CUDA_VISIBLE_DEVICES=0,1\n")
    assert facts(found, "shell.env.HF_TOKEN") == []
    assert facts(found, "shell.env.CUDA_VISIBLE_DEVICES") == ["0,1"]


def test_installed_packages_are_told() -> None:
    found = reading("pip install -q 'torch==2.1' Flash_Attn && python train.py\n")
    assert facts(found, "requirements.installed") == [["flash-attn", "torch"]]


@pytest.mark.parametrize(
    "text", ["", "python train.py 'unclosed\n", "\\\n", "a=\\\n\\\n", "$(", "\0"]
)
def test_odd_input_never_raises(text: str) -> None:
    assert reading(text).taken
