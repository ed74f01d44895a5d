"""Tickets: pieces are read as what they are, at their lines; prose counts unless it asks or denies."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdoctor.diagnose import diagnose_run
from ftdoctor.errors import UnreadableRunError
from ftdoctor.library import load
from ftdoctor.model import Diagnosis, Run
from ftdoctor.read import read_run

LIBRARY = load()
CODE = """tokenizer.pad_token = tokenizer.eos_token
collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
args = TrainingArguments(output_dir="out", learning_rate=3e-4, num_train_epochs=2)
trainer = Trainer(model=model, args=args, data_collator=collator)
"""


def run_of(tmp_path: Path, text: str, name: str = "question.md") -> Run:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_run(path)


def diagnosed(tmp_path: Path, text: str) -> Diagnosis:
    return diagnose_run(run_of(tmp_path, text), LIBRARY)


def present(tmp_path: Path, text: str) -> set[str]:
    return {f.symptom for f in diagnosed(tmp_path, text).findings if f.state == "present"}


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    "body",
    [
        f"```python\n{CODE}```\n",
        f"```\n{CODE}```\n",
        f"~~~\n{CODE}~~~\n",
        f"\n{indented(CODE)}\n",
        f"\n{CODE}\n",
        f"```py\n{CODE}",
    ],
    ids=["tagged", "fenced", "tildes", "indented", "open", "never closed"],
)
def test_code_is_read_as_a_script_however_it_was_pasted(tmp_path: Path, body: str) -> None:
    run = run_of(tmp_path, f"I trained a model on my chats with this script:\n{body}\nThanks!\n")
    rate = run.setting("learning_rate")
    assert rate is not None
    assert rate.value == 3e-4
    lines = (tmp_path / "question.md").read_text().splitlines()
    assert rate.where.path == "question.md"
    assert "learning_rate" in lines[(rate.where.line or 0) - 1]


def test_pieces_of_one_script_are_read_together_and_the_test_apart(tmp_path: Path) -> None:
    first, second = CODE.split("args =")
    text = f"""I train my model so:

```python
{first}```

and then

```python
args ={second}```

I ask it like this:

```python
model = PeftModel.from_pretrained(base, "out")
inputs = tokenizer("### Instruction:\\nName a river\\n\\n### Response:\\n")
print(model.generate(**inputs))
```
"""
    run = run_of(tmp_path, text)
    assert run.fact("script.train.collator") is not None
    assert run.fact("script.train.pad_token") is not None
    assert run.fact("script.test.prompt") is not None
    assert run.fact("script.train.prompt") is None


def test_what_was_cut_off_at_its_end_is_still_code(tmp_path: Path) -> None:
    text = "I use these for my run:\n\n```\nargs = SFTConfig(learning_rate=1e-3,\n    packing=True,\n```\n"
    assert run_of(tmp_path, text).setting("packing") is not None
    bare = (
        "My arguments of the trainer are:\n\n```\nlearning_rate=1e-3,\nnum_train_epochs=2,\n```\n"
    )
    assert run_of(tmp_path, bare).setting("learning_rate") is not None


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (
            "```yaml\nbase_model: a/b\nlearning_rate: 2e-4\nmicro_batch_size: 2\n```",
            "learning_rate",
        ),
        ('```json\n{"peft_type": "LORA", "r": 16, "lora_alpha": 32}\n```', "lora.r"),
        ("```bash\npython train.py --learning_rate 2e-4 --bf16 True\n```", "learning_rate"),
        ("```\n$ python train.py --learning_rate 2e-4 --bf16 True\n```", "learning_rate"),
    ],
)
def test_settings_are_read_as_settings(tmp_path: Path, body: str, name: str) -> None:
    fact = run_of(tmp_path, f"I fine-tune my model with this:\n\n{body}\n").setting(name)
    assert fact is not None
    assert (fact.where.line or 0) >= 4


@pytest.mark.parametrize("fence", ["```", ""])
def test_a_modelfile_is_read(tmp_path: Path, fence: str) -> None:
    text = f'I fine-tuned a model and this is my file:\n\n{fence}\nFROM ./m.gguf\nTEMPLATE """<|im_start|>user\n{{{{ .Prompt }}}}<|im_end|>"""\nPARAMETER stop "<|im_end|>"\n{fence}\n'
    run = run_of(tmp_path, text)
    template = run.fact("modelfile.template")
    assert template is not None
    assert template.where.line == 5
    assert run.fact("modelfile.stop") is not None


def test_rows_tell_a_format_and_are_never_counted(tmp_path: Path) -> None:
    rows = '{"text": "### Human: a\\n### Assistant: b</s>"}\n' * 3
    run = run_of(tmp_path, f"Here are rows of my training file:\n\n```\n{rows}```\n")
    assert run.data.is_empty()
    assert run.fact("script.train.prompt") is not None


def test_a_log_is_read_as_a_log(tmp_path: Path) -> None:
    rows = "".join(f"{{'loss': {2 - i / 10}, 'epoch': {i / 10}}}\n" for i in range(12))
    trace = (
        'Traceback (most recent call last):\n  File "t.py", line 1, in <module>\nValueError: bad\n'
    )
    run = run_of(tmp_path, f"My training stops with an error:\n\n```\n{rows}{trace}```\n")
    series = run.series("loss")
    assert series is not None
    assert len(series) == 12
    assert "traceback" in set(run.events["kind"])


def test_an_interpreter_s_answer_belongs_to_its_question(tmp_path: Path) -> None:
    text = "My training is slow, I train on a card:\n\n>>> torch.cuda.is_available()\nFalse\n"
    assert "cuda-not-available" in present(tmp_path, text)
    assert "cuda-not-available" not in present(tmp_path, text.replace("False", "True"))


@pytest.mark.parametrize(
    ("said", "symptom"),
    [
        ("After the answer it never stops and goes on.", "never-stops-generating"),
        ("It writes and writes until max_new_tokens is reached.", "never-stops-generating"),
        ("Es hört nach der Antwort nicht mehr auf.", "never-stops-generating"),
        ("模型停不下来，一直生成到最大长度。", "never-stops-generating"),
        ("Why does my model never stop generating?", "never-stops-generating"),
        ("It answers and then talks to itself.", "continues-with-user-turn"),
        ("Danach beantwortet es sich selbst.", "continues-with-user-turn"),
        ("In production it answers exactly like the base model.", "answers-like-base"),
        ("My LoRA adapter has no effect at all.", "answers-like-base"),
        ("微调后的输出和原模型一样。", "answers-like-base"),
        ("The model outputs gibberish now.", "answers-gibberish"),
    ],
)
def test_prose_tells_an_outcome(tmp_path: Path, said: str, symptom: str) -> None:
    text = f"I have fine-tuned a model on my data.\n{said}\n"
    assert symptom in present(tmp_path, text)


@pytest.mark.parametrize(
    "said",
    [
        "Is it normal that the model never stops generating?",
        "It used to go on until max_new_tokens, and that is fixed.",
        "The output is not the same as the base model.",
        "It doesn't output gibberish.",
        "I wonder whether it outputs gibberish after the merge.",
        "The base model outputs gibberish.",
        "Es liefert kein Kauderwelsch.",
        "My LoRA adapter has no effect on speed.",
    ],
)
def test_what_is_asked_denied_or_said_of_the_base_tells_none(tmp_path: Path, said: str) -> None:
    text = f"I have fine-tuned a model on my data.\n{said}\n"
    told = {"never-stops-generating", "answers-like-base", "answers-gibberish"}
    assert not told & present(tmp_path, text)


def test_what_was_ruled_out_is_no_evidence(tmp_path: Path) -> None:
    text = (
        "I train my model and it dies after step 100.\nIt is not a CUDA out of memory, I checked.\n"
    )
    printed = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    assert "accelerator-out-of-memory" not in present(tmp_path, text)
    assert "accelerator-out-of-memory" in present(tmp_path, f"{text}\n```\n{printed}\n```\n")
    assert "accelerator-out-of-memory" in present(
        tmp_path, f"I train my model and it dies:\n{printed}\n"
    )


def test_a_healthy_run_that_is_asked_about_raises_no_alarm(tmp_path: Path) -> None:
    rows = "".join(
        f"{{'loss': {1.9 * 0.97**i:.4f}, 'grad_norm': 1.1, 'learning_rate': {2e-4 * (1 - i / 40):.3e}, 'epoch': {i / 20:.2f}}}\n"
        for i in range(40)
    )
    text = f"""Is it normal that the loss is so noisy?

I have fine-tuned Qwen2.5-7B on 4k rows. Is it a problem that it never goes below 0.5?

```
{rows}```

```python
{CODE.replace("tokenizer.eos_token", "'<pad>'")}```
"""
    found = diagnosed(tmp_path, text)
    assert all(c.probability < 0.25 for c in found.causes), found.causes[:2]


def test_versions_and_the_model_are_taken_from_prose(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        "I want to fine-tune Qwen2.5-7B-Instruct with transformers 4.38.2 and peft==0.9.0.\n",
    )
    version, family = run.fact("environment.package.transformers"), run.fact("model.family")
    assert version is not None
    assert version.value == "4.38.2"
    assert run.fact("environment.package.peft") is not None
    assert family is not None
    two = run_of(tmp_path, "I fine-tune Qwen2.5-7B-Instruct, and my friend takes Llama-3.1-8B.\n")
    assert two.fact("model.family") is None


def test_prose_about_other_things_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRunError):
        run_of(tmp_path, "I baked my bread with 500 g of flour and it never rises.\n")


def test_beside_other_evidence_prose_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("{'loss': 1.0, 'epoch': 1.0}\n" * 3)
    (tmp_path / "notes.md").write_text("I have fine-tuned my model and it never stops.\n")
    assert read_run(tmp_path).fact("observed.never-stops") is None
