"""Every folder of the shared format samples yields what its README says a reader must find."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ftdoctor.model import ArtifactState, Run
from ftdoctor.read import Options, read_run

Read = Callable[..., Run]


@pytest.fixture(scope="module")
def read(shared: Path) -> Read:
    samples = shared / "formats" / "samples"
    kept: dict[str, Run] = {}

    def read_sample(name: str, choose: str | None = None) -> Run:
        key = f"{name} {choose}"
        if key not in kept:
            kept[key] = read_run(samples / name, options=Options(choose=choose))
        return kept[key]

    return read_sample


def steps(run: Run, name: str = "loss", split: str = "train") -> list[int]:
    series = run.series(name, split)
    return [] if series is None else [int(step) for step in series.steps]


def values(run: Run, name: str = "loss", split: str = "train") -> list[float]:
    series = run.series(name, split)
    return [] if series is None else [float(value) for value in series.values]


def setting(run: Run, name: str) -> Any:
    fact = run.setting(name)
    return None if fact is None else fact.value


def fact(run: Run, name: str, path: str = "") -> Any:
    found = [f.value for f in run.facts.get(name, ()) if f.where.path.startswith(path)]
    return found[0] if found else None


def state(run: Run, path: str) -> tuple[ArtifactState, str]:
    [artifact] = [a for a in run.artifacts if a.path.endswith(path)]
    return artifact.state, artifact.reason


def events(run: Run, kind: str) -> list[str]:
    return run.events.filter(pl.col("kind") == kind)["text"].to_list()


def all_read(run: Run) -> bool:
    return {a.state for a in run.artifacts} <= {ArtifactState.READ, ArtifactState.SKIPPED}


# --- Hugging Face -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "first_rate", "tokenizer", "home", "map_file"),
    [
        ("hf-v5", 0.0, "TokenizersBackend", "chat_template.jinja", False),
        ("hf-v457", 0.0, "PreTrainedTokenizerFast", "chat_template.jinja", True),
        ("hf-v446", 0.0025, "PreTrainedTokenizerFast", "tokenizer_config.json", True),
    ],
)
def test_trainer(
    read: Read, sample: str, first_rate: float, tokenizer: str, home: str, map_file: bool
) -> None:
    run = read(sample)
    assert all_read(run)
    assert steps(run) == [1, 2, 4, 6, 8, 10, 12, 14, 16]
    assert steps(run, split="eval") == [4, 8, 12, 16]
    assert values(run, "learning_rate")[0] == first_rate
    assert setting(run, "per_device_train_batch_size") == 4
    assert setting(run, "gradient_accumulation_steps") == 2
    assert setting(run, "num_train_epochs") == 2
    assert fact(run, "progress.num_examples") == 64
    assert fact(run, "progress.max_steps") == 16
    assert fact(run, "progress.finished") is True
    assert fact(run, "summary.train_loss") == pytest.approx(
        4.83 if sample == "hf-v5" else 4.59, 3e-3
    )
    assert fact(run, "tokenizer.class") == tokenizer
    assert fact(run, "tokenizer.chat_template_home") == home
    assert ("special_tokens_map.json" in fact(run, "tokenizer.files")) is map_file


@pytest.mark.parametrize("sample", ["hf-v5", "hf-v457", "hf-v446"])
def test_standard_output_alone_gives_the_same_curve(read: Read, shared: Path, sample: str) -> None:
    alone = read(f"{sample}/stdout.log")
    whole = read(sample)
    assert steps(alone) == steps(whole)
    assert values(alone) == pytest.approx(values(whole), rel=1e-3)
    quoted = "'loss': '" in (shared / "formats/samples" / sample / "stdout.log").read_text()
    assert quoted is (sample == "hf-v5")


def test_tensorboard_alone_has_the_curve_and_the_arguments(read: Read) -> None:
    alone = read("hf-v5/runs")
    assert values(alone) == pytest.approx(values(read("hf-v5")), rel=1e-6)
    assert setting(alone, "gradient_accumulation_steps") == 2
    assert setting(alone, "learning_rate") == setting(read("hf-v5"), "learning_rate")


@pytest.mark.parametrize("sample", ["hf-v5-nan", "hf-v457-nan"])
def test_nan_from_step_4_on(read: Read, sample: str) -> None:
    run = read(sample)
    loss = dict(zip(steps(run), values(run), strict=True))
    assert all(math.isnan(value) is (step >= 4) for step, value in loss.items())
    assert math.isnan(fact(run, "summary.train_loss"))


def test_nan_filter_leaves_zeros_with_a_nan_gradient(read: Read) -> None:
    run = read("hf-v5-nanfilter")
    loss = dict(zip(steps(run), values(run), strict=True))
    norm = dict(zip(steps(run, "grad_norm"), values(run, "grad_norm"), strict=True))
    assert loss[4] == pytest.approx(6.567, abs=1e-3)
    assert all(loss[step] == 0.0 and math.isnan(norm[step]) for step in loss if step > 4)


def test_trl_sft(read: Read) -> None:
    run = read("trl-sft-lora")
    assert all_read(run)
    assert steps(run) == [2, 4, 6, 8]
    for name in ("entropy", "mean_token_accuracy", "num_tokens"):
        assert len(values(run, name)) == 4, name
    assert fact(run, "run.trainer") == "trl"
    assert fact(run, "run.kind") == "sft"
    assert fact(run, "args.class").endswith("SFTConfig")
    assert setting(run, "lora.r") == 4
    assert fact(run, "weights.lora_b_zero") == 0


def test_trl_dpo(read: Read) -> None:
    run = read("trl-dpo")
    assert all_read(run)
    assert values(run)[0] == pytest.approx(math.log(2), abs=1e-4)
    for part in ("rewards/chosen", "rewards/margins", "rewards/accuracies", "logps/rejected"):
        assert steps(run, part) == [2, 4, 6, 8], part
    assert fact(run, "run.kind") == "preference"


def test_trl_grpo(read: Read) -> None:
    run = read("trl-grpo")
    assert all_read(run)
    for name in ("reward", "reward_std", "frac_reward_zero_std", "completions/clipped_ratio"):
        assert steps(run, name) == [2, 4], name
    assert fact(run, "run.kind") == "rl"
    assert fact(run, "data.generations.rows") == 16


# --- other trainers ---------------------------------------------------------------------------


def test_axolotl(read: Read) -> None:
    run = read("axolotl")
    assert all_read(run)
    assert setting(run, "learning_rate") == 2e-4
    assert "learning_rate" in {f.value for f in run.facts["config.number_as_text"]}
    assert fact(run, "run.trainer") == "axolotl"
    assert steps(run) == [1]
    assert fact(run, "data.train.rows") == 8
    supervised = fact(run, "data.supervised")
    assert supervised["kept"] == 8 * 2  # the first two of four labels are -100
    assert supervised["all"] == 8 * 4


def test_lightning(read: Read) -> None:
    run = read("lightning")
    loss = dict(zip(steps(run), values(run), strict=True))
    assert [step for step, value in loss.items() if math.isnan(value)] == [6]
    assert steps(run, split="eval") == [3]
    assert setting(run, "lora.r") == 8


def test_llamafactory(read: Read) -> None:
    run = read("llamafactory")
    assert steps(run) == [10, 20, 30, 40, 50, 60]
    assert values(run, split="eval") == [0.71]
    assert run.series("grad_norm") is None
    assert setting(run, "template") == "llama3"
    assert fact(run, "model.family") == "qwen-3"
    assert setting(run, "learning_rate") == 1e-4
    assert fact(run, "progress.finished") is True


def test_torchtune(read: Read) -> None:
    run = read("torchtune")
    assert steps(run) == list(range(1, 10))
    assert math.isnan(values(run)[-1])
    assert math.isnan(values(run, "grad_norm")[-1])
    assert fact(run, "run.trainer") == "torchtune"
    assert setting(run, "lora.r") == 64


def test_mlx_old_and_new_form(read: Read) -> None:
    old, new = read("mlx-lm/old_until_2026-06.log"), read("mlx-lm/new_2026-06.log")
    assert steps(old) == steps(new) == [10, 20]
    assert values(old)[0] == values(new)[0] == 1.945
    assert math.isnan(values(old)[1])
    assert values(old, split="eval") == values(new, split="eval") == [2.391]
    assert values(old, "learning_rate") == [1e-5, 1e-5]
    assert values(new, "num_tokens") == [5000.0, 10100.0]


def test_unsloth(read: Read) -> None:
    run = read("unsloth")
    assert fact(run, "run.trainer") == "unsloth"
    assert fact(run, "environment.gpu") == "NVIDIA A100-SXM4-40GB"
    assert fact(run, "environment.bf16") is True
    assert fact(run, "progress.num_examples") == 2764
    assert fact(run, "progress.max_steps") == 346
    assert fact(run, "log.trainable_parameters") == 40_370_176
    assert fact(run, "environment.package.transformers") == "4.57.3"


def test_deepspeed(read: Read) -> None:
    run = read("deepspeed")
    assert values(run, "skipped_steps") == [3.0]
    assert values(run, "learning_rate") == [9.5e-5]
    assert values(run, "loss_scale")[-1] == 1.0
    assert "already at minimum" in " ".join(run.lines["text"])


def test_megatron(read: Read) -> None:
    run = read("megatron")
    assert steps(run) == [100, 110]
    assert values(run)[0] == pytest.approx(2.131231)
    assert values(run, split="eval") == [2.2]
    assert values(run, "skipped_steps") == [0.0, 2.0]
    assert fact(run, "progress.max_steps") == 1000


def test_nemo(read: Read) -> None:
    run = read("nemo")
    assert steps(run) == [0, 1]
    assert values(run) == [11.02, 9.761]
    assert values(run, split="eval") == [9.9]


def test_verl(read: Read) -> None:
    console, logger = read("verl/console.log"), read("verl/file_logger.jsonl")
    assert values(console, "reward") == pytest.approx([0.32, 0.33])
    assert math.isnan(values(console, "grad_norm")[1])
    assert math.isnan(values(logger, "grad_norm")[1])
    assert steps(logger, "reward") == [1, 2]
    assert steps(console, "gsm8k/reward/mean@1", "eval") == [0]


def test_openrlhf(read: Read) -> None:
    run = read("openrlhf")
    assert values(run) == [0.69, 0.66]
    assert values(run, "chosen_reward") == [0.01, 0.05]


def test_slurm(read: Read) -> None:
    run = read("slurm")
    killed = " ".join(events(run, "killed"))
    assert "oom_kill event" in killed
    assert "Out Of Memory" in killed
    assert "DUE TO TIME LIMIT" in killed
    assert values(run) == [1.9]


def test_tracebacks_name_the_first_failing_rank(read: Read) -> None:
    run = read("tracebacks/torchrun_two_ranks.log")
    assert fact(run, "log.first_failed_rank") == 1
    found = run.events.filter(pl.col("kind") == "traceback")
    by_rank = dict(zip(found["rank"], found["text"], strict=True))
    assert by_rank[1].startswith("torch.OutOfMemoryError")
    assert by_rank[0].startswith("torch.distributed.DistBackendError")
    assert not any("ChildFailedError" in text for text in by_rank.values())


def test_a_chained_traceback_is_one_event_with_its_root(read: Read) -> None:
    [text] = events(read("tracebacks/chained.log"), "traceback")
    assert text.startswith("ValueError: bad sample 17")
    assert "after KeyError: 'labels'" in text


# --- Tinker -----------------------------------------------------------------------------------


def test_tinker_sft(read: Read) -> None:
    run = read("tinker-sft")
    assert all_read(run)
    assert steps(run) == list(range(40))
    assert len(steps(run, split="eval")) == 4
    assert setting(run, "ttl_seconds") == 7 * 24 * 3600
    records = [f.value for f in run.facts["checkpoint.record"]]
    assert [(r["name"], bool(r.get("final"))) for r in records] == [
        ("000020", False), ("final", True),
    ]  # fmt: skip
    assert fact(run, "checkpoint.lasting") == 1
    assert fact(run, "run.trainer") == "tinker"


def test_tinker_sft_old(read: Read) -> None:
    run = read("tinker-sft-old")
    assert fact(run, "checkpoint.last_step") == 20
    assert fact(run, "checkpoint.ttl_assumed") is True
    assert "/sampler_weights/" in fact(run, "checkpoint.sampler_path")


def test_tinker_rl(read: Read) -> None:
    run = read("tinker-rl")
    assert values(run, "frac_mixed")[0] == 0.8
    assert values(run, "frac_mixed")[-1] == pytest.approx(0.1)
    assert fact(run, "run.kind") == "rl"
    assert fact(run, "progress.max_steps") == 8


# --- damage -----------------------------------------------------------------------------------


def test_truncated_last_line(read: Read) -> None:
    run = read("damage/truncated_last_line.jsonl")
    assert len(values(run)) == 10
    assert state(run, "truncated_last_line.jsonl")[0] is ArtifactState.PARTIAL
    assert "line 11" in state(run, "truncated_last_line.jsonl")[1]


def test_steps_repeated_by_a_resume(read: Read) -> None:
    run = read("damage/resume_duplicates.jsonl")
    series = run.series("loss")
    assert series is not None
    assert [int(s) for s in series.steps] == [*range(1, 11), *range(7, 14)]
    assert list(series.segments) == [0] * 10 + [1] * 7


def test_nan_literals(read: Read) -> None:
    run = read("damage/nan_literals.jsonl")
    assert values(run)[0] == 1.0
    assert math.isnan(values(run)[1])
    assert values(run)[2] == -math.inf
    assert values(run, "grad_norm") == [math.inf]


def test_interleaved_ranks(read: Read) -> None:
    run = read("damage/two_ranks_interleaved.jsonl")
    found, reason = state(run, "two_ranks_interleaved.jsonl")
    assert found is ArtifactState.PARTIAL
    assert "2 damaged line" in reason
    assert steps(run) == [1, 2]


def test_nul_tail(read: Read) -> None:
    run = read("damage/nul_tail.jsonl")
    assert values(run) != []
    assert state(run, "nul_tail.jsonl")[0] is ArtifactState.PARTIAL
    assert "64 NUL" in state(run, "nul_tail.jsonl")[1]


def test_byte_order_mark_and_crlf(read: Read) -> None:
    run = read("damage/bom_crlf.jsonl")
    assert steps(run) == [1, 2]
    assert state(run, "bom_crlf.jsonl")[0] is ArtifactState.READ


def test_cut_trainer_state(read: Read) -> None:
    run = read("damage/trainer_state_truncated.json")
    assert steps(run) == [1, 2]
    assert state(run, "trainer_state_truncated.json")[0] is ArtifactState.PARTIAL


# --- weights ----------------------------------------------------------------------------------


def test_safetensors(read: Read) -> None:
    run = read("safetensors")
    assert state(run, "ok.safetensors") == (ArtifactState.READ, "")
    assert fact(run, "weights.nan_tensors", "nan_bf16") == ["lm_head.weight"]
    assert fact(run, "weights.nan_tensors", "ok") == []
    assert fact(run, "weights.lora_b_zero", "lora_B") == 1
    assert fact(run, "weights.truncated_bytes", "truncated_data") == 5
    assert fact(run, "weights.lost_tensors", "truncated_data") == ["b"]
    forms = {f.where.path: f.value for f in run.facts["weights.damage_form"]}
    assert forms["truncated_header.safetensors"] == "truncated-header"
    assert forms["huge_header_len.safetensors"] == "bad-header-length"
    assert forms["offset_hole.safetensors"] == "offsets"
    assert "git lfs pull" in state(run, "lfs_pointer.safetensors")[1]
    assert fact(run, "weights.not_copied") == 2


def test_gguf(read: Read) -> None:
    run = read("gguf")
    for version, name in enumerate(("tiny_v1.gguf", "tiny_v2.gguf", "tiny_v3.gguf"), start=1):
        assert fact(run, "gguf.version", name) == version
        assert fact(run, "gguf.vocab_size", name) == 7
        assert fact(run, "gguf.eos_token_id", name) == 2
    assert fact(run, "gguf.end_texts", "tiny_v3.gguf") == {
        "</s>": "control",
        "<|im_end|>": "control",
    }
    assert fact(run, "gguf.chat_template", "no_chat_template") is None
    assert "<|im_end|>" in fact(run, "gguf.chat_template", "tiny_v3")
    assert fact(run, "gguf.damage_form", "truncated_in_metadata") == "truncated-header"
    assert fact(run, "gguf.damage_form", "truncated_in_data") == "truncated"
    assert fact(run, "gguf.split_count", "model-00001") == 2
    assert len(fact(run, "weights.nan_tensors", "nan_f32")) == 1


# --- trackers ---------------------------------------------------------------------------------


def test_tensor_style_scalars(read: Read) -> None:
    run = read("tensorboard-tensor")
    assert steps(run) == [1, 2, 3, 4, 5]
    assert math.isnan(values(run)[-1])


def test_cut_event_file(read: Read) -> None:
    run = read("tensorboard-truncated")
    assert len(values(run)) == 4
    assert state(run, ".1.0")[0] is ArtifactState.PARTIAL


def test_wandb_offline(read: Read) -> None:
    run = read("wandb", "abc123xy")
    assert steps(run) == [5, 10, 15, 20, 25, 30]
    assert [math.isnan(value) for value in values(run)] == [False] * 4 + [True] * 2
    assert values(run, "grad_norm")[-1] == math.inf
    assert fact(run, "log.exit_code") == 1
    assert setting(run, "lora.r") == 16
    assert fact(run, "run.others") == ["def456uv"]


def test_wandb_online(read: Read) -> None:
    run = read("wandb", "def456uv")
    assert setting(run, "learning_rate") == 2e-4
    assert setting(run, "lora.r") == 16
    assert fact(run, "environment.gpu") == "NVIDIA H100 80GB HBM3"
    assert fact(run, "run.program") == "train.py"


def test_mlflow(read: Read) -> None:
    run = read("mlflow")
    assert steps(run) == [10, 20, 30, 40, 50, 60]
    assert math.isnan(values(run)[-1])
    assert fact(run, "run.status") == "failed"
    assert setting(run, "learning_rate") == 2e-4


def test_ray(read: Read) -> None:
    run = read("ray")
    assert steps(run) == [1, 2, 3]
    assert setting(run, "learning_rate") == 1e-4
    assert "RayTaskError" in " ".join(run.lines["text"])


def test_openai(read: Read) -> None:
    run = read("openai")
    assert values(run) == [2.4152, *values(run)[1:2], 1.8541]
    assert steps(run, split="eval") == [1]
    assert fact(run, "progress.max_steps") == 3


# --- tokenizers, templates, data --------------------------------------------------------------


def test_ollama_modelfile(read: Read) -> None:
    run = read("ollama")
    assert fact(run, "modelfile.from") == "./model-q4_k_m.gguf"
    assert fact(run, "modelfile.stop") == ["<|im_end|>"]
    assert fact(run, "modelfile.adapter") == "./lora.gguf"
    assert fact(run, "modelfile.parameter.num_ctx") == "4096"
    assert "{{ .System }}" in fact(run, "modelfile.template")


def test_tokenizer_variants(read: Read) -> None:
    run = read("tokenizer-variants")
    assert fact(run, "tokenizer.chat_template_home") == "chat_template.jinja"
    named = {
        f.where.path.partition("/")[0]: set(f.value) for f in run.facts["tokenizer.named_templates"]
    }
    assert named == {"jinja_files": {"tool_use"}, "list_chat_template": {"default", "tool_use"}}
    eos = {f.where.path.partition("/")[0]: f.value for f in run.facts["tokenizer.eos_token"]}
    assert eos["list_chat_template"] == "</s>"  # given as an AddedToken object
    assert fact(run, "tokenizer.extra_special_tokens", "dict_extra") == ["<image>"]
    assert fact(run, "tokenizer.model_max_length", "list_chat_template") is None


@pytest.mark.parametrize(
    ("file", "layout", "count"),
    [
        ("alpaca.json", "alpaca", 1),
        ("dpo_implicit_conversational.jsonl", "preference", 1),
        ("dpo_pairs.jsonl", "preference", 1),
        ("hf_tools_dict_arguments.jsonl", "messages", 1),
        ("kto.jsonl", "kto", 1),
        ("multimodal.jsonl", "multimodal", 2),
        ("openai_messages.jsonl", "messages", 2),
        ("openai_preference.jsonl", "preference", 1),
        ("openai_tools.jsonl", "messages", 1),
        ("pretokenized.jsonl", "pretokenised", 1),
        ("prompt_completion.jsonl", "prompt-completion", 2),
        ("sharegpt.json", "sharegpt", 1),
        ("text.jsonl", "text", 1),
    ],
)
def test_layouts_of_training_data(read: Read, file: str, layout: str, count: int) -> None:
    run = read(f"data/{file}")
    assert fact(run, "data.layout") == layout
    assert fact(run, "data.train.rows") == count


def test_broken_training_data(read: Read) -> None:
    run = read("data/broken.jsonl")
    found, reason = state(run, "broken.jsonl")
    assert found is ArtifactState.PARTIAL
    assert "line 3 is a Python dict" in reason
    assert fact(run, "data.invalid_rows") == 2
    assert fact(run, "data.blank_rows") == 1


def test_every_sample_folder_has_a_test(shared: Path) -> None:
    text = Path(__file__).read_text()
    folders = {p.name for p in (shared / "formats" / "samples").iterdir() if p.is_dir()}
    assert {name for name in folders if f'"{name}' not in text} == set()
