from __future__ import annotations

import math
from pathlib import Path

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read import console, logtext, sieve
from ftdoctor.read.console import read_console
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import local_source, memory_source
from ftdoctor.read.trainer_state import read_trainer_state

SHARED = Path(__file__).parents[3] / "shared"
SAMPLES = SHARED / "formats" / "samples"


def read(text: str | bytes) -> Reading:
    content = text.encode() if isinstance(text, str) else text
    return read_console(memory_source("train.log", content))


def sample(path: str) -> Reading:
    if not (SAMPLES / path).exists():
        pytest.skip("samples are not here")
    return read_console(local_source(SAMPLES, SAMPLES / path))


def facts(reading: Reading) -> dict[str, object]:
    return {fact.name: fact.value for fact in reading.facts}


def settings(reading: Reading) -> dict[str, object]:
    return {fact.name: fact.value for fact in reversed(reading.settings)}


def texts(reading: Reading) -> list[str]:
    return [line.text for line in reading.lines]


def bar(at: int, of: int, desc: str = "") -> str:
    return f"\r{desc}{100 * at // of:3d}%|██        | {at}/{of} [00:01<00:09,  2.00it/s]"


def hf(loss: float, epoch: float) -> str:
    return f"{{'loss': {loss}, 'grad_norm': 1.0, 'learning_rate': 1e-05, 'epoch': {epoch}}}\n"


# --- steps ---


@pytest.mark.parametrize(
    "folder",
    ["hf-v5", "hf-v457", "hf-v446", "hf-v5-nan", "hf-v457-nan", "hf-v5-nanfilter", "trl-dpo",
     "trl-sft-lora", "trl-grpo"],
)  # fmt: skip
def test_stdout_gives_the_steps_of_the_state(folder: str) -> None:
    printed = sample(f"{folder}/stdout.log")
    kept = read_trainer_state(local_source(SAMPLES, SAMPLES / folder / "trainer_state.json"))
    assert [row.step for row in printed.metrics] == [row.step for row in kept.metrics]
    assert facts(printed)["progress.finished"] is True
    assert facts(printed)["progress.max_steps"] == facts(kept)["progress.max_steps"]


def test_lagging_bar_is_corrected_by_its_redraw() -> None:
    reading = read(
        bar(9, 100) + "\r   \r" + hf(1.0, 0.1) + bar(10, 100) + bar(19, 100) + hf(0.9, 0.2)
    )
    assert [row.step for row in reading.metrics] == [10, 19]


def test_buffered_rows_after_one_bar_get_regular_steps() -> None:
    rows = "".join(hf(2 - 0.1 * n, n / 80 * 5) for n in range(1, 11))
    reading = read(
        "   \\\\   /|    Num examples = 80 | Num Epochs = 1 | Total steps = 50\n"
        + bar(30, 50) + "\n" + rows[: len(rows) // 2] + rows[len(rows) // 2 :] + bar(50, 50)
        + "\n{'train_runtime': 5.0, 'train_loss': 1.5, 'epoch': 0.625}\n"
    )  # fmt: skip
    assert [row.step for row in reading.metrics] == list(range(5, 55, 5))


def test_epochs_give_steps_when_there_is_no_bar() -> None:
    head = (
        "***** Running training *****\n  Num examples = 2,182\n  Num Epochs = 100\n"
        "  Total train batch size (w. parallel, distributed & accumulation) = 128\n"
        "  Total optimization steps = 1,700\n"
    )
    reading = read(head + "".join(hf(1.0, round(5 * n / 17.047, 2)) for n in range(1, 300)))
    assert [row.step for row in reading.metrics] == list(range(5, 1500, 5))


def test_steps_within_epochs_are_unfolded() -> None:
    text = "".join(
        f"epoch {e}/2  step {s}/3  loss {1 / (e * s)}\n" for e in (1, 2) for s in (1, 2, 3)
    )
    assert [row.step for row in read(text).metrics] == [1, 2, 3, 4, 5, 6]


def test_global_steps_with_epochs_are_not_unfolded() -> None:
    text = "".join(f"Epoch {1 + s // 10} | step {s} | loss: 0.5\n" for s in range(1, 20, 3))
    assert [row.step for row in read(text).metrics] == list(range(1, 20, 3))


def test_rows_with_epoch_only_are_counted() -> None:
    text = "".join(f"Epoch {n // 4}, Loss: {1 / (n + 1)}, Positive Score: 0.5\n" for n in range(12))
    assert [row.step for row in read(text).metrics] == list(range(1, 13))


def test_a_gap_in_the_log_is_bridged_by_printed_steps() -> None:
    def launch(first: int, last: int) -> str:
        text = ""
        for n in range(first, last + 1):
            text += f"Epoch 0, Loss: {1 / n}\n"
            if n % 10 == 0:
                text += f"[Rank 0] step={n}, skipped=0, lr=[1e-05], mom=[(0.9, 0.99)]\n"
        return text

    rows = read(launch(1, 30) + launch(991, 1020)).metrics
    steps = [row.step for row in rows if "Loss" in row.values]
    assert steps[:30] == list(range(1, 31))
    assert steps[-20:] == list(range(1001, 1021))


def test_bar_postfix_is_a_row_per_step() -> None:
    def redraw(at: int, epoch: int, loss: float) -> str:
        return f"\rEpoch {epoch}:  10%|█  | {at}/2 [00:01<00:02, 1.0it/s, loss={loss}, acc=0.5]"

    reading = read(redraw(1, 0, 0.9) + redraw(1, 0, 0.8) + redraw(2, 0, 0.7) + redraw(1, 1, 0.6))
    assert [(row.step, row.values["loss"]) for row in reading.metrics] == [
        (1, 0.8),
        (2, 0.7),
        (3, 0.6),
    ]


def test_bars_of_other_work_give_no_steps() -> None:
    reading = read(bar(3, 4, "Loading checkpoint shards: ") + "\n" + hf(1.0, 0.5))
    assert reading.metrics[0].step is None
    assert any("Loading checkpoint shards" in text for text in texts(reading))
    assert "progress.max_steps" not in facts(reading)


def test_downloads_are_told_once() -> None:
    redraws = "".join(f"\rmodel-00003.safetensors: {n}%|██  | {n / 10}G/4.92G" for n in range(9))
    reading = read("\rFetching 3 files:   0%|          | 0/3 [00:00<?, ?it/s]" + redraws + "\n")
    assert len(reading.lines) == 2
    assert "Fetching 3 files:" in texts(reading)[0]
    assert "0.8G/4.92G" in texts(reading)[1]


def test_loose_rows_need_repetition() -> None:
    assert len(read("train_loss: 1.0\ntrain_loss: 0.9\ntrain_loss: nan\n").metrics) == 3
    once = read("Average reward: 0.5\n")
    assert not once.metrics
    assert texts(once) == ["Average reward: 0.5"]


def test_results_of_several_runs_are_no_curve() -> None:
    text = "".join(f"Trial {n}: LR=0.0001, BS=2, Final Loss=0.6\n" for n in range(5))
    assert not read(text).metrics


# --- settings and facts ---


def test_unsloth_banner() -> None:
    reading = sample("unsloth/stdout.log")
    found = facts(reading)
    assert found["progress.max_steps"] == 346
    assert found["progress.num_examples"] == 2764
    assert found["log.trainable_parameters"] == 40_370_176
    assert found["log.total_parameters"] == 7_655_986_688
    assert found["environment.gpu"] == "NVIDIA A100-SXM4-40GB"
    assert found["environment.package.transformers"] == "4.57.3"
    assert found["run.trainer"] == "unsloth"
    assert settings(reading)["gradient_accumulation_steps"] == 8
    assert settings(reading)["total_train_batch_size"] == 8


def test_evaluation_banner_does_not_change_the_training_counts() -> None:
    reading = read(
        "***** Running training *****\n  Num examples = 64\n***** Running Evaluation *****\n"
        "  Num examples = 16\n"
    )
    assert [f.value for f in reading.facts if f.name == "progress.num_examples"] == [64]


def test_peft_and_announced_settings() -> None:
    reading = read(
        "trainable params: 4,194,304 || all params: 6,742,609,920 || trainable%: 0.0622\n"
        "[x] 7473 examples | model=Qwen/Qwen3-8B seed=42 rank=32 lr=5e-06\n"
    )
    assert facts(reading)["log.trainable_parameters"] == 4_194_304
    assert settings(reading) == {
        "model": "Qwen/Qwen3-8B",
        "seed": 42,
        "lora_rank": 32,
        "lr": 5e-06,
    }


def test_rank_of_a_process_is_no_adapter_rank() -> None:
    assert "lora_rank" not in settings(read("Initialized host=a rank=3 world_size=8\n"))


def test_arguments_dump_and_command_line() -> None:
    reading = read(
        "Training parameters TrainingArguments(\nlearning_rate=2e-05,\nfp16=True,\n)\n"
        "[t] [INFO] [runner.py:5:main] cmd = /bin/python -u train.py --num_train_epochs 3 --bf16\n"
    )
    found = settings(reading)
    assert found["learning_rate"] == 2e-05
    assert found["fp16"] is True
    assert found["num_train_epochs"] == 3
    assert found["bf16"] is True


def test_wandb_summary_block_is_no_curve() -> None:
    reading = read("wandb: Run summary:\nwandb:       eval/loss 0.79\nwandb: train/loss 0.5\n")
    assert not reading.metrics
    assert facts(reading)["summary.eval/loss"] == 0.79


def test_aggregates_block() -> None:
    reading = read("***** train metrics *****\n  epoch      =     3.0\n  train_loss =  0.55\n")
    assert facts(reading)["summary.train_loss"] == 0.55
    assert not reading.metrics


# --- events ---


def test_torchrun_names_the_first_rank_and_hides_its_own_exception() -> None:
    reading = sample("tracebacks/torchrun_two_ranks.log")
    found = {e.rank: e.text for e in reading.events if e.kind == "traceback"}
    assert found[1].startswith("torch.OutOfMemoryError")
    assert found[0].startswith("torch.distributed.DistBackendError")
    assert not any("ChildFailedError" in text for text in found.values())
    assert facts(reading)["log.first_failed_rank"] == 1
    assert facts(reading)["log.exit_code"] == 1


def test_slurm_endings() -> None:
    reading = sample("slurm/slurm-4242.out")
    assert [e.kind for e in reading.events].count("killed") == 3
    assert reading.metrics[0].values["loss"] == 1.9
    assert "progress.finished" not in facts(reading)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Killed", "killed"),
        ("run.sh: line 3: 12345 Killed                  python train.py", "killed"),
        ("train.py: error: argument --fp16: Truthy value expected: got s", "exit"),
        ("bash: ./run.sh: /bin/bash^M: bad interpreter: No such file or directory", "exit"),
        ("Saving model checkpoint to out/checkpoint-500", "checkpoint-saved"),
        ("  Continuing training from global step 100", "resumed"),
        ("x.py:3: FutureWarning: `tokenizer` is deprecated", "warning"),
        ("Training completed. Do not forget to share your model on huggingface.co/models =)",
         "finished"),
    ],
)  # fmt: skip
def test_kinds_of_events(text: str, kind: str) -> None:
    assert [event.kind for event in read(text + "\n").events] == [kind]


@pytest.mark.parametrize("text", ["Killing two birds", "The process was finished by hand", "a: b"])
def test_words_that_are_no_events(text: str) -> None:
    assert not read(text + "\n").events


def test_events_have_the_step_before_them() -> None:
    reading = read(
        "Step 10/50 | loss=1\nTraceback (most recent call last):\n"
        '  File "t.py", line 188, in <module>\n    x()\nTypeError: no name\n'
    )
    (event,) = reading.events
    assert (event.kind, event.step, event.line) == ("traceback", 10, 5)
    assert 'File "t.py", line 188' in event.text


def test_launches_in_one_file_are_sessions() -> None:
    launch = "***** Running training *****\n" + bar(1, 4) + "\n" + hf(1.0, 0.25)
    reading = read(launch + "Killed\n" + launch + bar(4, 4) + "\n" + hf(0.5, 1.0))
    assert facts(reading)["progress.sessions"] == 2


def test_banner_of_every_rank_is_one_session() -> None:
    assert facts(read("***** Running training *****\n" * 4))["progress.sessions"] == 1


def test_finished_is_taken_back_by_a_later_crash() -> None:
    done = "{'train_runtime': 5.0, 'train_loss': 1.5, 'epoch': 1.0}\n"
    assert facts(read(done)).get("progress.finished") is True
    crash = 'Traceback (most recent call last):\n  File "t.py", line 1, in f\nOSError: full\n'
    assert "progress.finished" not in facts(read(done + crash))


# --- lines ---


def test_lines_keep_number_rank_time_and_count() -> None:
    reading = read("a\nb\nb\nb\n[rank3]: 2024-05-01 10:00:00 c\n")
    assert [(x.text, x.line, x.count, x.rank) for x in reading.lines] == [
        ("a", 1, 1, None),
        ("b", 2, 3, None),
        ("2024-05-01 10:00:00 c", 5, 1, 3),
    ]
    assert reading.lines[2].time == 1714557600.0


def test_text_glued_to_a_bar_is_kept_without_it() -> None:
    reading = read(bar(1, 250).strip() + "Both `max_new_tokens` and `max_length` are set\n")
    assert texts(reading) == ["Both `max_new_tokens` and `max_length` are set"]


def test_colours_and_nul_bytes_go() -> None:
    assert texts(read(b"\x1b[1;31mError\x1b[0m: x\0\n")) == ["Error: x"]


def test_a_tail_of_nul_bytes_is_told() -> None:
    text = "loading\n" + hf(1.5, 0.1)
    reading = read(text.encode() + b"\0" * 5000)
    assert reading.state is ArtifactState.PARTIAL
    assert "went down" in reading.reason
    assert len(reading.metrics) == 1
    assert read(b"\0" * 5000).state is ArtifactState.DAMAGED
    assert read(text.encode("utf-16")).state is ArtifactState.READ


def test_repeated_messages_and_bars_of_a_long_log_are_thinned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logtext, "WHOLE", 1000)
    monkeypatch.setattr(logtext, "EDGE", 500)
    monkeypatch.setattr(logtext, "BLOCK", 4000)
    monkeypatch.setattr(sieve, "SAME_SHAPE", 3)
    warnings = "".join(f"x.py:{n}: UserWarning: nothing requires grad\n" for n in range(500))
    text = "begin\n" * 600 + warnings + "ValueError: once\n" + warnings + "end\n" * 900
    kept = texts(read(text))
    assert 3 <= sum("UserWarning" in line for line in kept) < 40  # with those at the edges
    assert "ValueError: once" in kept


def test_many_lines_are_bounded_and_trouble_is_kept() -> None:
    noise = [f"reading sample {'abc'[n % 3]} {n}" for n in range(30_000)]
    noise[15_000] = "ValueError: in the middle"
    reading = read("\n".join(noise))
    assert len(reading.lines) == console.FIRST_LINES + console.LAST_LINES + 1
    assert "ValueError: in the middle" in texts(reading)
    assert "not kept" in reading.taken


def test_long_log_is_searched_in_its_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logtext, "WHOLE", 1000)
    monkeypatch.setattr(logtext, "EDGE", 500)
    monkeypatch.setattr(logtext, "BLOCK", 4000)
    noise = "just some words of no importance whatever\n" * 200
    crash = 'Traceback (most recent call last):\n  File "t.py", line 1, in f\nOSError: full\n'
    steps = "".join(
        bar(n, 90) + bar(n + 1, 90) + "\r   \r" + hf(1.0, n / 90) + bar(n + 1, 90) + noise
        for n in range(9, 89, 10)
    )
    text = noise + steps + crash + noise + "the last words\n"
    reading = read(text)
    assert [row.step for row in reading.metrics] == list(range(10, 90, 10))
    assert [event.kind for event in reading.events] == ["traceback"]
    lines = text.split("\n")
    assert all("'loss'" in lines[row.line - 1] for row in reading.metrics)
    assert lines[reading.events[0].line - 1] == "OSError: full"
    assert texts(reading)[-1] == "the last words"


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\0" * 50, b"\r\r\r", b"\xff\xfe\x00", bytes(range(256)) * 20]
)
def test_anything_can_be_read(content: bytes) -> None:
    read(content)


# --- samples of other trainers ---


@pytest.mark.parametrize(
    ("path", "steps", "names"),
    [
        ("torchtune/log_1730000000.txt", list(range(1, 10)), {"loss", "lr", "grad_norm"}),
        ("megatron/stdout.log", [100, 110, 100], {"lm loss", "grad norm", "loss scale"}),
        ("nemo/stdout.log", [0, 1], {"reduced_train_loss", "val_loss", "lr"}),
        ("mlx-lm/old_until_2026-06.log", [1, 10, 20], {"Val loss", "Train loss"}),
        ("mlx-lm/new_2026-06.log", [1, 10, 20], {"val_loss", "loss"}),
        ("verl/console.log", [0, 1, 2], {"actor/grad_norm", "critic/score/mean"}),
        ("openrlhf/console.log", [1, 2], {"loss", "acc", "lr"}),
        ("deepspeed/stdout.log", [10, 10, 10, 10], {"loss_scale", "skipped_steps"}),
    ],
)
def test_samples_of_other_trainers(path: str, steps: list[int], names: set[str]) -> None:
    reading = sample(path)
    assert [row.step for row in reading.metrics] == steps
    assert names <= {name for row in reading.metrics for name in row.values}


def test_nan_of_torchtune_and_mlx() -> None:
    assert math.isnan(sample("torchtune/log_1730000000.txt").metrics[-1].values["loss"])
    assert math.isnan(sample("mlx-lm/old_until_2026-06.log").metrics[-1].values["Train loss"])


def test_an_infinite_epoch_gives_no_step() -> None:
    head = "  Num Epochs = 3\n  Total optimization steps = 300\n"
    text = f"{head}{{'loss': 1.0, 'epoch': 1e999}}\n{{'loss': 0.9, 'epoch': 2.0}}\n"
    found = read_console(memory_source("train.log", text.encode()))
    assert [row.step for row in found.metrics][1:] == [200]


def test_the_box_and_the_coloured_table_of_mlx_are_read() -> None:
    found = read(
        "╭─ mlx_lm.lora ─────────────╮\n"
        "\x1b[34m│\x1b[0m    \x1b[39mtype         \x1b[0m   \x1b[1mlora · 4 layers · rank 8\x1b[0m  │\n"
        "│    optimizer       adam · lr 8.0e-02      │\n"
        "│    batch · iters   4 · 1,000              │\n"
        "│    max seq         2,048                  │\n"
        "  iter   train_loss     tok/s     tokens\n"
        "  \x1b[38;5;244m   1\x1b[0m    \x1b[1;35mval\x1b[0m \x1b[1m  nan\x1b[0m    1.88s\n"
        "  \x1b[38;5;244m   5\x1b[0m    \x1b[1;32m7.166 ▼\x1b[0m    \x1b[1m  159\x1b[0m      0.7k\n"
        "  save  0000005_adapters.safetensors\n"
        "    10    8.166 ▲      159      1.4k\n"
    )
    given = {fact.name: fact.value for fact in found.settings}
    assert (given["learning_rate"], given["lora_rank"], given["iters"]) == (0.08, 8, 1000)
    assert given["max_seq_length"] == 2048
    losses = [row.values["loss"] for row in found.metrics if "loss" in row.values]
    assert losses == [7.166, 8.166]
    assert [row.step for row in found.metrics] == [1, 5, 10]
