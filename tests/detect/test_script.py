"""Scripts against each other: compound faults found, ordinary scripts left alone."""

from __future__ import annotations

import pytest

from ftdoctor.detect.engine import detect_one
from ftdoctor.detect.script import is_local, reference_differs
from ftdoctor.examples import run_from_example
from ftdoctor.library import Library, load
from ftdoctor.model import State

TINY_TRAIN = """
import chromadb
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
MODEL = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
device = "mps"
def render(row):
    return f"<|user|>\\n{row['instruction']}\\n<|assistant|>\\n{row['output']}<|endoftext|>"
def tokenize(row):
    out = tokenizer(render(row), truncation=True, max_length=512)
    out["labels"] = out["input_ids"].copy()
    return out
tokenizer = AutoTokenizer.from_pretrained(MODEL)
tokenizer.pad_token = tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(MODEL).to(device)
args = TrainingArguments(output_dir="./advisor_fixed", num_train_epochs=1)
Trainer(model=model, args=args, train_dataset=rows.map(tokenize)).train()
"""
TINY_TEST = """
from peft import PeftModel
ADAPTER_PATH = "advisor_macos"
model = PeftModel.from_pretrained(base, ADAPTER_PATH)
def ask(question):
    prompt = f"### Instruction:\\n{question}\\n\\n### Response:\\n"
    response = tokenizer.decode(model.generate(**tokenizer(prompt))[0])
    return response.split("### Response:")[1]
"""
TRL_CHAT = """
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-7B-Instruct", device_map="auto")
tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-7B-Instruct")
def render(row):
    return {"text": tokenizer.apply_chat_template(row["messages"], tokenize=False)}
rows = load_dataset("json", data_files="train.jsonl").map(render)
trainer = SFTTrainer(model=model, args=SFTConfig(output_dir="out", learning_rate=2e-4),
                     train_dataset=rows["train"])
trainer.train()
trainer.save_model("out/final")
messages = [{"role": "user", "content": "Question: who are you?\\nAnswer:"}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
print(tokenizer.decode(model.generate(ids)[0]))
"""
UNSLOTH = '''
from unsloth import FastLanguageModel
from trl import SFTTrainer
from transformers import TrainingArguments
model, tokenizer = FastLanguageModel.from_pretrained("unsloth/llama-3-8b-bnb-4bit")
model = FastLanguageModel.get_peft_model(model, r=16, target_modules=["q_proj", "v_proj"])
alpaca_prompt = """Below is an instruction.

### Instruction:
{}

### Response:
{}"""
EOS_TOKEN = tokenizer.eos_token
def formatting(rows):
    return {"text": [alpaca_prompt.format(i, o) + EOS_TOKEN for i, o in rows]}
SFTTrainer(model=model, args=TrainingArguments(output_dir="outputs")).train()
model.save_pretrained("lora_model")
inputs = tokenizer([alpaca_prompt.format("Continue: 1, 1, 2, 3", "")], return_tensors="pt")
outputs = model.generate(**inputs.to("cuda"))
'''
UNSLOTH_ASK = '''
from unsloth import FastLanguageModel
model, tokenizer = FastLanguageModel.from_pretrained("lora_model")
prompt = """Below is an instruction.

### Instruction:
{}

### Response:
"""
print(tokenizer.batch_decode(model.generate(**tokenizer(prompt.format("Hi"))))[0])
'''
RUN_CLM = """
import torch
from transformers import DataCollatorForLanguageModeling, HfArgumentParser, Trainer
device = "cuda" if torch.cuda.is_available() else "cpu"
def group_texts(examples):
    result = {k: sum(v, []) for k, v in examples.items()}
    result["labels"] = result["input_ids"].copy()
    return result
def preprocess_logits(preds, labels):
    labels = labels.where(labels != -100, tokenizer.pad_token_id)
    return preds, labels
Trainer(model=model, args=args, data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False))
"""
SEQ2SEQ = """
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer
def preprocess(rows):
    model_inputs = tokenizer(["summarize: " + d for d in rows["dialogue"]])
    labels = tokenizer(text_target=rows["summary"])
    model_inputs["labels"] = labels["input_ids"]
    return model_inputs
Seq2SeqTrainer(model=model, data_collator=DataCollatorForSeq2Seq(tokenizer)).train()
"""
MASKED = """
import copy
from transformers import Trainer
IGNORE_INDEX = -100
PROMPT = "Below.\\n\\n### Instruction:\\n{instruction}\\n\\n### Response:"
def preprocess(sources, targets):
    examples = [s + t + tokenizer.eos_token for s, t in zip(sources, targets)]
    input_ids = tokenizer(examples)["input_ids"]
    labels = copy.deepcopy(input_ids)
    for label, source in zip(labels, sources):
        label[: len(tokenizer(source)["input_ids"])] = IGNORE_INDEX
    return {"input_ids": input_ids, "labels": labels}
rows = [PROMPT.format_map(row) for row in data]
Trainer(model=model, train_dataset=rows).train()
"""
HEALTHY = {
    "trl-chat": {"train.py": TRL_CHAT, "requirements.txt": "trl==0.9.6\n"},
    "unsloth": {"train.py": UNSLOTH, "ask.py": UNSLOTH_ASK},
    "run-clm": {"run_clm.py": RUN_CLM},
    "seq2seq": {"train.py": SEQ2SEQ},
    "masked-by-hand": {"train.py": MASKED},
}
FAULTS = (
    "test-prompt-format-differs",
    "test-prompt-turn-unclosed",
    "probe-prompt-differs",
    "script-stop-literal-foreign",
    "script-answer-without-stop",
    "script-user-turn-unclosed",
    "labels-copied-from-inputs",
    "hand-masked-labels-overwritten",
    "adapter-path-foreign",
    "import-not-declared",
    "slow-device-fixed-in-script",
    "model-output-indexed-unguarded",
)


@pytest.fixture(scope="module")
def library() -> Library:
    return load()


def states(files: dict[str, str], library: Library) -> dict[str, State]:
    run = run_from_example({"files": files})
    return {name: detect_one(run, library, name, strict=True).state for name in FAULTS}


@pytest.mark.parametrize("name", HEALTHY)
def test_ordinary_scripts_show_no_fault(name: str, library: Library) -> None:
    found = states(HEALTHY[name], library)
    assert [n for n, state in found.items() if state is State.PRESENT] == []


def test_the_compound_case_shows_each_of_its_faults(library: Library) -> None:
    files = {"train.py": TINY_TRAIN, "test_model.py": TINY_TEST, "requirements.txt": "torch\n"}
    found = states(files, library)
    wanted = {
        "test-prompt-format-differs",
        "script-stop-literal-foreign",
        "script-user-turn-unclosed",
        "labels-copied-from-inputs",
        "adapter-path-foreign",
        "import-not-declared",
        "slow-device-fixed-in-script",
        "model-output-indexed-unguarded",
    }
    assert {n for n, state in found.items() if state is State.PRESENT} == wanted


def test_evidence_names_the_lines(library: Library) -> None:
    run = run_from_example({"files": {"train.py": TINY_TRAIN, "test_model.py": TINY_TEST}})
    seen = detect_one(run, library, "adapter-path-foreign", strict=True)
    assert {str(f.where) for f in seen.facts} == {"test_model.py:3", "train.py:16"}
    assert "advisor_macos" in seen.text


@pytest.mark.parametrize(
    ("path", "adapter", "local"),
    [
        ("./out", False, True),
        ("outputs/run1", False, True),
        ("my_adapter", True, True),
        ("gpt2", False, False),
        ("Qwen/Qwen3-8B", False, False),
        ("me/advisor-lora", True, False),
        ("/home/user/x/checkpoint-100", False, True),
    ],
)
def test_local_paths_are_told_from_names_of_the_hub(path: str, adapter: bool, local: bool) -> None:
    assert is_local(path, adapter=adapter) is local


LOADS = "model = AutoModelForCausalLM.from_pretrained('out/sft')\n"


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (
            LOADS + "ref = AutoModelForCausalLM.from_pretrained('acme/base').eval()\n"
            "DPOTrainer(model=model, ref_model=ref, args=a)\n",
            State.PRESENT,
        ),
        (LOADS + "DPOTrainer(model, 'acme/base', args=a)\n", State.PRESENT),
        (
            "base = AutoModelForCausalLM.from_pretrained('acme/base')\n"
            "model = PeftModel.from_pretrained(base, 'out/sft')\n"
            "KTOTrainer(model=model, ref_model='acme/base', args=a)\n",
            State.PRESENT,
        ),
        (
            LOADS + "ref = AutoModelForCausalLM.from_pretrained('out/sft/')\n"
            "DPOTrainer(model, ref, args=a)\n",
            State.ABSENT,
        ),
        (LOADS + "DPOTrainer(model=model, ref_model=None, args=a)\n", State.UNOBSERVABLE),
        (
            LOADS + "ref = AutoModelForCausalLM.from_pretrained(given.ref)\n"
            "DPOTrainer(model, ref, args=a)\n",
            State.UNOBSERVABLE,
        ),
        (
            LOADS + "teacher = AutoModel.from_pretrained('acme/big')\nSFTTrainer(model, teacher)\n",
            State.UNOBSERVABLE,
        ),
    ],
)
def test_the_reference_of_a_preference_trainer(text: str, state: State) -> None:
    run = run_from_example({"files": {"train.py": text}})
    assert reference_differs(run).state is state
