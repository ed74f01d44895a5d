"""Excerpts: a quoted row counts, prose and code around it are taken at their word, logs are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdoctor.diagnose import diagnose_run
from ftdoctor.library import load
from ftdoctor.read import read_run
from ftdoctor.read.rows import parse_row

LIBRARY = load()


def present(path: Path) -> set[str]:
    return {
        f.symptom for f in diagnose_run(read_run(path), LIBRARY).findings if f.state == "present"
    }


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pasted.log"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("'loss': 0.0, 'grad_norm': nan   (7b, LoRA)", {"loss": 0.0, "grad_norm": None}),
        ("{'loss': 0.5, 'grad_norm': 1.5, 'learning_rate': 1e-", {"loss": 0.5, "grad_norm": 1.5}),
        ("{'loss': 0.5, ... 'reward_std': 0.0}", {"loss": 0.5, "reward_std": 0.0}),
        ("DLL 2024-01-01 10:00:00 - PARAMETER loss_scale : 1e-09", {"loss_scale": 1e-9}),
    ],
)
def test_a_quoted_part_of_a_row_is_read(text: str, values: dict[str, float | None]) -> None:
    row = parse_row(text)
    assert row is not None
    assert {k: None if v != v else v for k, v in row.values.items()} == values


def test_a_line_of_a_json_dump_alone_is_no_row_of_a_log(tmp_path: Path) -> None:
    path = written(tmp_path, '  "loss": 0.5,\n' + "some other line\n" * 600)
    assert read_run(path).series("loss") is None


def test_one_quoted_row_shows_groups_without_variance(tmp_path: Path) -> None:
    row = "{'loss': 0.0, 'grad_norm': 0.0, 'reward': 0.4, 'reward_std': 0.0, 'frac_reward_zero_std': 1.0}"
    assert "groups-without-variance" in present(written(tmp_path, row))


def test_one_row_of_a_whole_log_shows_nothing_of_the_kind(tmp_path: Path) -> None:
    row = "{'loss': 0.0, 'grad_norm': 0.0, 'reward': 0.4, 'reward_std': 0.0, 'frac_reward_zero_std': 1.0}"
    path = written(tmp_path, row + "\n" + "INFO loading something\n" * 600)
    assert "groups-without-variance" not in present(path)


@pytest.mark.parametrize(
    ("text", "symptom"),
    [
        ("the model does not stop generating answers", "never-stops-generating"),
        ("it never emits the EOS token", "never-stops-generating"),
        ("after the merge it outputs gibberish", "answers-gibberish"),
        ("the tuned model is exactly the same as the base", "answers-like-base"),
    ],
)
def test_prose_counts_as_told(tmp_path: Path, text: str, symptom: str) -> None:
    assert symptom in present(written(tmp_path, text + "\n"))


@pytest.mark.parametrize(
    "text",
    [
        "training did not stop early",
        "Epoch 3 ends, the loss is the same as before",
        "stop token set",
    ],
)
def test_other_prose_does_not(tmp_path: Path, text: str) -> None:
    told = {"never-stops-generating", "answers-like-base", "answers-gibberish"}
    assert not told & present(written(tmp_path, text + "\n"))


def test_quoted_code_and_a_printed_tokenizer_tell_the_padding(tmp_path: Path) -> None:
    assert "pad-token-is-end-token" in present(written(tmp_path, "tok.pad_token = tok.eos_token\n"))
    printed = "T(special_tokens={'eos_token': '</s>', 'pad_token': '</s>'}, padding_side='left')\n"
    assert "pad-token-is-end-token" in present(written(tmp_path, printed))
    printed = printed.replace("'pad_token': '</s>'", "'pad_token': '<unk>'")
    assert "pad-token-is-end-token" not in present(written(tmp_path, printed))


def test_the_last_words_count_in_any_order_once_lines_were_left_out(tmp_path: Path) -> None:
    text = (
        "... 4, reducing to 2\n"
        "Exception: Current loss scale already at minimum - cannot decrease scale anymore.\n"
        "{'loss': 2.0, 'learning_rate': 0.0002, 'epoch': 0.3}\n"
    )
    assert "loss-scale-at-minimum" in present(written(tmp_path, text))


def test_a_scale_below_one_fell_there(tmp_path: Path) -> None:
    text = "step 900 loss_scale: 3.7e-09\nstep 901 loss_scale: 1.9e-09\n"
    assert present(written(tmp_path, text)) & {
        "loss-scale-falls-to-minimum",
        "loss-scale-collapses",
    }
