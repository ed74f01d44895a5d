"""Scripts read by their syntax trees: roles, settings, prompts, labels, paths, devices."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from ftdoctor.model import ArtifactState, Fact
from ftdoctor.read.reading import Reading
from ftdoctor.read.script import read
from ftdoctor.read.source import memory_source


def reading(code: str, path: str = "train.py") -> Reading:
    return read(memory_source(path, textwrap.dedent(code).encode()))


def values(facts: tuple[Fact, ...], name: str) -> list[Any]:
    return [fact.value for fact in facts if fact.name == name]


def fact(code: str, name: str, path: str = "train.py") -> list[Any]:
    return values(reading(code, path).facts, name)


def setting(code: str, name: str) -> list[Any]:
    return values(reading(code).settings, name)


TRAINER = "from transformers import Trainer\nTrainer(model=model).train()\n"


@pytest.mark.parametrize(
    ("code", "role"),
    [
        ("trainer = SFTTrainer(model=m)\ntrainer.train()", "train"),
        ("args = TrainingArguments(output_dir='x')", "train"),
        ("loss.backward()\noptimizer.zero_grad()", "train"),
        ("client = service.create_lora_training_client(base_model='Qwen/Qwen3-8B')", "train"),
        ("model = PeftModel.from_pretrained(base, 'x')\nmodel.generate(**ids)", "test"),
        ("llm = LLM(model='x')", "test"),
        ("model = model.merge_and_unload()\nmodel.save_pretrained('y')", "convert"),
        ("rows = load_dataset('json', data_files='a.jsonl')", "data"),
        ("import pytest\ndef test_it():\n    Trainer()", "other"),
        ("x = 1", "other"),
    ],
)
def test_role_is_told_by_the_calls(code: str, role: str) -> None:
    assert fact(code, f"script.{role}.file") == ["train.py"]


# --- settings


def test_settings_come_from_calls_constants_arguments_and_dataclasses() -> None:
    code = """
        import argparse, torch
        from dataclasses import dataclass
        LR = 2e-4
        BATCH_SIZE = 4
        OUT = "runs/" + "one"
        @dataclass
        class Config:
            lora_alpha: int = 32
        parser = argparse.ArgumentParser()
        parser.add_argument("--num-train-epochs", type=int, default=3)
        args = TrainingArguments(output_dir=OUT, learning_rate=LR, warmup_ratio=1 / 10,
                                 per_device_train_batch_size=BATCH_SIZE, bf16=True)
        lora = LoraConfig(r=16, target_modules=["q_proj", "v_proj"])
        bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
        Trainer(args=args).train()
    """
    assert setting(code, "learning_rate") == [2e-4]
    assert setting(code, "warmup_ratio") == [0.1]
    assert setting(code, "output_dir") == ["runs/one"]
    assert setting(code, "num_train_epochs") == [3]
    assert setting(code, "lora_alpha") == [32]
    assert setting(code, "r") == [16]
    assert setting(code, "target_modules") == [["q_proj", "v_proj"]]
    assert setting(code, "bnb_4bit_compute_dtype") == ["bfloat16"]


def test_a_setting_is_placed_where_its_value_is_written() -> None:
    found = reading("LR = 2e-4\n\nargs = TrainingArguments(learning_rate=LR)\n").settings
    assert [(f.name, f.where.line) for f in found] == [("learning_rate", 1)]


def test_a_value_that_only_running_tells_is_no_setting() -> None:
    code = "args = TrainingArguments(fp16=not torch.cuda.is_bf16_supported(), learning_rate=rate())"
    assert reading(code).settings == ()


def test_a_test_script_gives_no_settings() -> None:
    assert reading("LEARNING_RATE = 1e-4\nmodel.generate(ids)").settings == ()


def test_settings_in_a_splatted_dictionary_are_read() -> None:
    assert setting("o = {'learning_rate': 1e-5}\nTrainingArguments(**o)", "learning_rate") == [1e-5]


# --- prompts


def prompt(code: str, side: str = "train") -> list[str]:
    return [p["text"] for p in fact(code, f"script.{side}.prompt")]


def test_f_string_format_percent_and_sum_give_the_same_text() -> None:
    wanted = "<|user|>\n{q}</s>\n<|assistant|>\n{a}</s>"
    ways = [
        "t = f\"<|user|>\\n{row['q']}</s>\\n<|assistant|>\\n{row['a']}</s>\"",
        "t = '<|user|>\\n{q}</s>\\n<|assistant|>\\n{a}</s>'.format(q=row['q'], a=row['a'])",
        "t = '<|user|>\\n%s</s>\\n<|assistant|>\\n%s</s>' % (row['q'], row['a'])",
        "t = '<|user|>\\n' + row['q'] + '</s>\\n<|assistant|>\\n' + row['a'] + '</s>'",
        "t = '\\n'.join(['<|user|>', row['q'] + '</s>', '<|assistant|>', row['a'] + '</s>'])",
    ]
    for way in ways:
        assert prompt(TRAINER + way) == [wanted], way


def test_a_text_is_followed_through_constants_helpers_and_added_pieces() -> None:
    code = """
        HEAD = "### Instruction:\\n{instruction}\\n\\n### Response:\\n"
        def question(row):
            return HEAD.format(instruction=row["instruction"])
        def render(row):
            text = question(row)
            text += row["output"]
            text += tokenizer.eos_token
            return {"text": text}
    """
    text = "### Instruction:\n{instruction}\n\n### Response:\n{output}{eos_token}"
    assert prompt(TRAINER + textwrap.dedent(code)) == [text]


def test_a_template_that_is_filled_elsewhere_is_not_a_prompt_of_its_own() -> None:
    code = """
        PROMPT = "### Instruction:\\n{}\\n\\n### Response:\\n{}"
        def render(rows):
            return [PROMPT.format(i, o) + EOS_TOKEN for i, o in rows]
    """
    found = prompt(TRAINER + textwrap.dedent(code))
    assert found == ["### Instruction:\n{i}\n\n### Response:\n{o}{EOS_TOKEN}"]


def test_markers_messages_and_printed_text_are_no_prompts() -> None:
    code = """
        response_template = "### Response:\\n"
        collator = DataCollatorForCompletionOnlyLM("### Response:\\n", tokenizer=tokenizer)
        print(f"### Response: {answer}")
        if "### Instruction:" in text:
            answer = text.split("### Response:")[-1]
        messages = [{"role": "user", "content": f"Question: {q}\\nAnswer:"}]
    """
    assert prompt(TRAINER + textwrap.dedent(code)) == []


def test_samples_drawn_during_training_are_told_from_training_text() -> None:
    code = """
        def render(row):
            return f"### Instruction:\\n{row['q']}\\n\\n### Response:\\n{row['a']}"
        def sample(q):
            ids = tokenizer(f"### Instruction:\\n{q}\\n\\n### Response:\\n")
            return model.generate(**ids)
        test_prompt = "### Instruction:\\nWhat is a gene?\\n\\n### Response:\\n"
    """
    code = TRAINER + textwrap.dedent(code)
    assert len(prompt(code)) == 1
    assert len(prompt(code, "probe")) == 2


def test_stops_and_the_end_of_the_user_turn_are_told() -> None:
    code = (
        TRAINER + "def f(r):\n    return f'<|user|>\\n{r.q}\\n<|assistant|>\\n{r.a}<|endoftext|>'\n"
    )
    [found] = fact(code, "script.train.prompt")
    assert found["stops"] == ["<|endoftext|>"]
    assert found["closer"] == ""
    assert found["formats"] == ["pipe-roles"]


def test_chat_templates_are_told_by_use_and_by_source() -> None:
    code = TRAINER + (
        "tokenizer.chat_template = '{% for m in messages %}<|im_start|>{{ m }}{% endfor %}'\n"
        "text = tokenizer.apply_chat_template(m, tokenize=False, add_generation_prompt=True)\n"
    )
    assert fact(code, "script.train.applies_chat_template") == [True]
    assert len(fact(code, "script.train.chat_template")) == 1


# --- labels, padding, end token


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("out['labels'] = out['input_ids'].copy()", ["copied"]),
        ("labels = input_ids.clone()", ["copied"]),
        ("batch = {'labels': enc['input_ids'], 'input_ids': enc['input_ids']}", ["copied"]),
        ("out['labels'] = [x.copy() for x in out['input_ids']]", ["copied"]),
        ("inputs['labels'] = targets['input_ids']", []),
        ("model_inputs['labels'] = labels['input_ids']", []),
        ("labels[:, :n] = -100", ["masked"]),
        ("labels = [-100] * n + ids[n:]", ["masked"]),
        ("IGNORE_INDEX = -100", []),
        ("labels[labels == tokenizer.pad_token_id] = -100", ["pad-masked"]),
        ("labels = np.where(labels != -100, labels, tokenizer.pad_token_id)", []),
        ("c = DataCollatorForCompletionOnlyLM(t, tokenizer=tokenizer)", ["completion-only"]),
        ("trainer = train_on_responses_only(trainer, instruction_part='a')", ["responses-only"]),
        ("args = SFTConfig(assistant_only_loss=True)", ["assistant-only"]),
    ],
)
def test_labels(line: str, kinds: list[str]) -> None:
    assert fact(TRAINER + line, "script.train.labels") == kinds


def test_padding_and_added_tokens() -> None:
    code = TRAINER + (
        "tokenizer.pad_token = tokenizer.eos_token\n"
        "tokenizer.padding_side = 'left'\n"
        "tokenizer.add_special_tokens({'pad_token': '[PAD]'})\n"
        "model.config.pad_token_id = 0\n"
    )
    assert fact(code, "script.train.pad_token") == ["eos_token"]
    assert fact(code, "script.train.padding_side") == ["left"]
    assert fact(code, "script.train.added_tokens") == [{"pad_token": "[PAD]"}]


@pytest.mark.parametrize(
    ("line", "appended"),
    [
        ("text = prompt + tokenizer.eos_token", True),
        ("ids.append(tokenizer.eos_token_id)", True),
        ("text = f'{a}{eos_token}'", True),
        ("model.generate(ids, eos_token_id=tokenizer.eos_token_id)", False),
        ("tokenizer.pad_token = tokenizer.eos_token", False),
    ],
)
def test_appended_end_tokens(line: str, appended: bool) -> None:
    assert fact(TRAINER + line, "script.train.appends_eos") == ([True] if appended else [])


# --- paths, devices, fragile code


def test_paths_are_resolved_through_constants_and_joins() -> None:
    code = """
        import os
        BASE = "runs"
        ADAPTER = os.path.join(BASE, "one")
        model = PeftModel.from_pretrained(base, ADAPTER)
        again = AutoModelForCausalLM.from_pretrained(f"{BASE}/two")
        data = load_dataset("json", data_files={"train": "a.jsonl", "test": "b.jsonl"})
        model.generate(ids)
    """
    assert fact(code, "script.test.adapter_path", "ask.py") == ["runs/one"]
    assert fact(code, "script.test.model_path", "ask.py") == ["runs/two"]
    assert fact(code, "script.test.data_path", "ask.py") == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("line", "devices"),
    [
        ("device = 'mps'", ["mps"]),
        ("device = torch.device('cpu')", ["cpu"]),
        ("model = model.to('cpu')", ["cpu"]),
        ("args = TrainingArguments(use_cpu=True)", ["cpu"]),
        ("m = AutoModel.from_pretrained('x', device_map={'': 'cpu'})", ["cpu"]),
        ("device = 'cuda' if torch.cuda.is_available() else 'cpu'", []),
        ("device = 'cpu'\nif torch.cuda.is_available():\n    device = 'cuda'", []),
        ("logits = logits.to('cpu')", []),
        ("model = model.to('cuda')\nother = base_model.to('cpu')", ["cuda"]),
    ],
)
def test_devices(line: str, devices: list[str]) -> None:
    assert fact(TRAINER + line, "script.train.device") == devices


@pytest.mark.parametrize(
    ("line", "fragile"),
    [
        ("a = response.split('### Response:')[1]", True),
        ("a = response.split()[0]", True),
        ("a = json.loads(output)", True),
        ("a = response.split('### Response:')[-1]", False),
        ("a = response.split('x')[0]", False),
        ("a = sys.argv[1].split('=')[1]", False),
        ("if 'x' in response:\n    a = response.split('x')[1]", False),
        ("try:\n    a = json.loads(output)\nexcept ValueError:\n    a = None", False),
        ("a = response.split('x')[1] if 'x' in response else ''", False),
    ],
)
def test_unguarded_indexing_of_the_answer(line: str, fragile: bool) -> None:
    found = fact("out = model.generate(ids)\n" + line, "script.test.unguarded_index", "ask.py")
    assert bool(found) is fragile


# --- damage


def test_lines_of_python_2_are_passed_over_and_told() -> None:
    found = reading("print 'hello'\nargs = TrainingArguments(learning_rate=1e-4)\n")
    assert found.state is ArtifactState.PARTIAL
    assert "line 1" in found.reason
    assert values(found.settings, "learning_rate") == [1e-4]


def test_text_that_is_no_python_is_partial_with_the_place() -> None:
    found = reading("\n".join(f"this is line {n} of prose" for n in range(60)))
    assert found.state is ArtifactState.PARTIAL
    assert "line" in found.reason
    assert values(found.facts, "script.syntax_error")


@pytest.mark.parametrize("code", ["", "x = (" * 3000, "\0", "a = 1\r\nb = 2\r\n", "\ufeffx = 1"])
def test_odd_input_never_raises(code: str) -> None:
    assert reading(code).state in (ArtifactState.READ, ArtifactState.PARTIAL)


def test_code_made_to_grow_without_end_stays_small() -> None:
    lines = ["x0 = '### Instruction: a b c ' * 2"]
    lines += [f"x{n} = x{n - 1} + x{n - 1}" for n in range(1, 60)]
    lines += ["def f(a):\n    return f(a) + f(a)", "y = f('### Response: a b c')", "z = z + z"]
    found = reading("\n".join([TRAINER, *lines]))
    assert found.state is ArtifactState.READ
    assert all(len(str(f.value)) < 30_000 for f in found.facts)


def test_nothing_is_executed(tmp_path: Any) -> None:
    trap = tmp_path / "trap"
    reading(f"open({str(trap)!r}, 'w').write('x')\n__import__('os').mkdir({str(trap)!r} + 'd')")
    assert list(tmp_path.iterdir()) == []


def test_a_text_made_for_every_row_in_a_lambda_is_training_text() -> None:
    code = """
        from transformers import Trainer
        def text_of(row):
            return f"### Question: {row['q']}\\n### Answer: {row['a']}"
        rows = rows.map(lambda row: tokenizer(text_of(row), truncation=True))
        Trainer(model=model, train_dataset=rows).train()
        ask = lambda q: model.generate(**tokenizer(f"### Question: {q}\\n### Answer:"))
    """
    train, probe = fact(code, "script.train.prompt"), fact(code, "script.probe.prompt")
    assert [found["answer"] for found in train] == [" {a}"]
    assert len(probe) == 1
