"""What the log says ended a run before its first step stands before what settings alone tell."""

from __future__ import annotations

from ftdoctor.diagnose import diagnose_run
from ftdoctor.examples import run_from_example
from ftdoctor.library import load
from ftdoctor.model import Diagnosis

NO_TEMPLATE = (
    "Traceback (most recent call last):\n"
    '  File "train.py", line 20, in <module>\n'
    "ValueError: Cannot use chat template functions because tokenizer.chat_template is not set\n"
)
WRONG_LAYERS = {"model_name_or_path": "gpt2", "lora.target_modules": ["q_proj", "v_proj"]}


def diagnosed(**example: object) -> Diagnosis:
    return diagnose_run(run_from_example(example), load())


def test_a_list_of_layers_is_not_judged_after_an_error_of_another_kind() -> None:
    found = diagnosed(settings=WRONG_LAYERS, files={"train.log": NO_TEMPLATE})
    assert found.causes[0].id == "chat-template-missing"
    assert "lora-target-mismatch" not in [c.id for c in found.causes]


def test_a_list_of_layers_is_judged_where_nothing_else_ended_the_run() -> None:
    found = diagnosed(settings=WRONG_LAYERS)
    assert found.causes[0].id == "lora-target-mismatch"


def test_the_fatal_error_stands_before_a_plain_setting() -> None:
    rows = "".join(f'{{"prompt": "Ask {n}", "completion": "Say {n}"}}\n' for n in range(4))
    files = {"train.log": NO_TEMPLATE, "train.jsonl": rows}
    assert diagnosed(files=files).causes[0].id == "chat-template-missing"
