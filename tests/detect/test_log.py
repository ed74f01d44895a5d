"""Detectors on console text: what counts as seen, survived, explained."""

from __future__ import annotations

import textwrap

import pytest

from ftdoctor.detect import log, once
from ftdoctor.examples import run_from_example
from ftdoctor.model import Call, Run, State

ROWS = "".join(
    f"{{'loss': {2 - i / 10}, 'grad_norm': 0.4, 'learning_rate': 1e-05, 'epoch': {i / 10}}}\n"
    for i in range(1, 6)
)
TRACE = """\
Traceback (most recent call last):
  File "train.py", line 9, in <module>
    model = AutoModel.from_pretrained(name)
  File "/venv/lib/python3.11/site-packages/torch/nn/modules/module.py", line 12, in convert
    return t.to(device)
RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB
"""


def run_of(text: str) -> Run:
    return run_from_example({"files": {"train.log": text}})


def test_match_quotes_the_line_its_place_and_how_often_it_came() -> None:
    seen = log.matches(run_of("start\ndisk is full\ndisk is full\nend\n"), patterns=["is full"])
    assert seen.state is State.PRESENT
    assert seen.text == "train.log:2: “disk is full”, 2 times"
    assert str(seen.facts[0].where) == "train.log:2"


def test_match_names_the_ranks() -> None:
    text = "[rank0]: bad thing\n[rank3]: bad thing\n"
    assert log.matches(run_of(text), patterns=["bad"]).text.endswith("(ranks 0, 3), 2 times")


def test_quotation_is_short() -> None:
    seen = log.matches(run_of("bad " + "x" * 5000 + " end\n"), patterns=["bad"])
    assert len(seen.text) <= log.QUOTE + 2
    assert seen.text.endswith("end”")


def test_match_without_console_text_is_unobservable() -> None:
    run = run_from_example({"metrics": {"loss": [1.0]}})
    seen = log.matches(run, patterns=["x"])
    assert seen.state is State.UNOBSERVABLE
    assert seen.missing == (log.LOG,)


def test_excused_lines_do_not_count() -> None:
    run = run_of("error: no space on /dev/shm\n")
    assert log.matches(run, patterns=["no space"], unless=["shm"]).state is State.ABSENT


def test_count_below_the_least_is_absent() -> None:
    assert log.matches(run_of("a bad\n"), patterns=["bad"], at_least=2).state is State.ABSENT


def test_fatal_message_that_training_survived_is_absent() -> None:
    survived = log.matches(run_of("ERROR: x failed\n" + ROWS), patterns=["x failed"], fatal=True)
    assert survived.state is State.ABSENT
    assert "went on" in survived.text
    assert log.matches(run_of(ROWS + "x failed\n"), patterns=["x failed"], fatal=True).state == (
        State.PRESENT
    )


def test_message_before_a_new_start_is_absent_when_fatal() -> None:
    text = "x failed: error\n***** Running training *****\nmore\n"
    assert log.matches(run_of(text), patterns=["x failed"], fatal=True).state is State.ABSENT


def test_traceback_is_told_by_its_frames() -> None:
    run = run_of(TRACE)
    loading, stepping = [r"from_pretrained\("], [r"optimizer\.step"]
    found = log.traceback(run, ends_with=["out of memory"], through=loading)
    assert found.state is State.PRESENT
    assert "from_pretrained" in found.text
    other = log.traceback(run, ends_with=["out of memory"], through=stepping)
    assert other.state is State.ABSENT
    barred = log.traceback(
        run, ends_with=["out of memory"], through=loading, not_through=["convert"]
    )
    assert barred.state is State.ABSENT


def test_exception_without_frames_is_unobservable() -> None:
    run = run_of("RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB\n")
    seen = log.traceback(run, ends_with=["out of memory"], through=["x"])
    assert seen.state is State.UNOBSERVABLE
    assert seen.missing == ("full traceback",)


def test_frames_of_another_exception_do_not_count() -> None:
    text = TRACE.replace("CUDA out of memory. Tried to allocate 2.00 GiB", "other") + (
        "Traceback (most recent call last):\n"
        '  File "train.py", line 20, in <module>\n'
        "    trainer.train()\n"
        "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB\n"
    )
    seen = log.traceback(run_of(text), ends_with=["out of memory"], through=["from_pretrained"])
    assert seen.state is State.ABSENT


def test_unknown_exception_is_unexplained_and_a_known_one_is_not() -> None:
    text = "Traceback (most recent call last):\nmylib.StrangeError: what\n"
    run = run_of(text)
    log.prepare(run, [])
    assert log.unexplained_exception(run).state is State.PRESENT
    known = run_of(text)
    log.prepare(known, [Call("detect", "log.matches", {"patterns": ["StrangeError"]})])
    assert log.unexplained_exception(known).state is State.ABSENT


def test_unknown_exception_of_one_wording() -> None:
    run = run_of("Traceback (most recent call last):\nValueError: `a_b` must be set\n")
    log.prepare(run, [])
    meant = log.unexplained_exception(run, ends_with=["must be"])
    assert meant.state is State.PRESENT
    assert log.unexplained_exception(run, ends_with=["cannot be"]).state is State.ABSENT


@pytest.mark.parametrize(
    "line",
    [
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:",
        "subprocess.CalledProcessError: Command '['python']' returned non-zero exit status 1.",
        "BrokenPipeError: [Errno 32] Broken pipe",
    ],
)
def test_wrapper_is_no_error_of_its_own(line: str) -> None:
    run = run_of(line + "\n")
    assert log.unexplained_exception(run).state is State.ABSENT
    assert log.no_own_error(run).state is State.PRESENT


def test_proportion_reads_units() -> None:
    pattern = r"of (?P<whole>[0-9.]+ [KMGT]iB) .* and (?P<part>[0-9.]+ (?:bytes|[KMGT]iB)) unused"
    text = "error: of 2.00 GiB all, and 512.00 MiB unused\n"
    assert log.proportion(run_of(text), pattern=pattern, above=0.2).state is State.PRESENT
    assert log.proportion(run_of(text), pattern=pattern, above=0.3).state is State.ABSENT
    assert log.proportion(run_of("none\n"), pattern=pattern, above=0.3).state is State.UNOBSERVABLE
    few = "error: of 2.00 GiB all, and 304 bytes unused\n"
    assert log.proportion(run_of(few), pattern=pattern, above=0.2).state is State.ABSENT


def test_processes_that_print_other_values_differ() -> None:
    text = "[Rank 1] timeout in ALLREDUCE\n[Rank 2] timeout in {}\n"
    call = {"pattern": r"timeout in (?P<value>\w+)", "by": r"\[Rank (?P<by>\d+)\]"}
    assert log.differs(run_of(text.format("GATHER")), **call).state is State.PRESENT
    assert log.differs(run_of(text.format("ALLREDUCE")), **call).state is State.ABSENT


def test_wrong_pattern_is_told() -> None:
    with pytest.raises(ValueError, match="not a pattern that RE2 takes"):
        log.matches(run_of("x\n"), patterns=["(?=x)"])


def test_text_is_scanned_once_for_all_prepared_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of("a bad\n")
    calls = [Call("detect", "log.matches", {"patterns": [p], "unless": ["z"]}) for p in "ab"]
    log.prepare(run, calls)
    monkeypatch.setattr(log, "scan", lambda *_: pytest.fail("scanned again"))
    assert log.matches(run, patterns=["a"], unless=["z"]).state is State.PRESENT


def test_text_of_another_run_is_not_taken_for_it() -> None:
    for number in range(3 * once.KEPT):
        run = run_of(f"number {number}\n")
        assert log.matches(run, patterns=[f"number {number}$"]).state is State.PRESENT


def test_error_in_the_log_of_an_earlier_start_is_survived() -> None:
    files = {"slurm-101.out": "x failed: error\n", "slurm-102.out": ROWS}
    run = run_from_example({"files": files})
    assert log.matches(run, patterns=["x failed"], fatal=True).state is State.ABSENT
    swapped = {"slurm-101.out": ROWS, "slurm-102.out": "x failed: error\n"}
    run = run_from_example({"files": swapped})
    assert log.matches(run, patterns=["x failed"], fatal=True).state is State.PRESENT


def test_log_of_a_parallel_process_is_no_earlier_start() -> None:
    progress = {"rank_1.log": 5, "run-2.log": 5}
    paths = ["rank_0.log", "rank_1.log", "run-1.log", "run-2.log"]
    assert log.earlier_starts(paths, progress) == {"run-1.log"}


WATCHED = """\
Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/wandb/sdk/lib/asyncio_manager.py", line 195, in wrap
    await fn()
  File "/usr/lib/python3.11/contextlib.py", line 217, in __aexit__
    await anext(self.gen)
  File "/venv/lib/python3.11/site-packages/wandb/sdk/mailbox/response_handle.py", line 123, in wait
    raise HandleError()
wandb.sdk.mailbox.HandleError
"""


def test_what_a_tracker_raises_in_its_own_thread_ends_no_run() -> None:
    assert log.unexplained_exception(run_of(WATCHED)).state is State.ABSENT
    called = WATCHED.replace(
        "last):\n", 'last):\n  File "train.py", line 3, in <module>\n    x()\n'
    )
    assert log.unexplained_exception(run_of(called)).state is State.PRESENT
    assert log.unexplained_exception(run_of(TRACE)).state is State.PRESENT


MISMATCH = (
    "RuntimeError: Error(s) in loading state_dict for Linear: size mismatch for weight: copying a "
    "param with shape torch.Size([3, 4]) from checkpoint, the shape is torch.Size([5, 4])."
)
ACROSS = ["param with shape torch.Size.* the shape is torch.Size"]


@pytest.mark.parametrize("quote", ["", "> "])
@pytest.mark.parametrize("width", [64, 72, 80, 100])
def test_a_message_is_found_however_a_window_broke_it(width: int, quote: str) -> None:
    at_a_column = [MISMATCH[i : i + width] for i in range(0, len(MISMATCH), width)]
    for lines in (at_a_column, textwrap.wrap(MISMATCH, width)):
        text = "".join(f"{quote}{line}\n" for line in ["start", *lines, "end"])
        seen = log.matches(run_of(text), patterns=ACROSS)
        assert seen.state is State.PRESENT
        assert str(seen.facts[0].where) == "train.log:2"


def test_lines_of_their_own_are_not_joined() -> None:
    first, second = MISMATCH[:100], MISMATCH[100:]
    for between in (
        "{'loss': 1.2, 'epoch': 0.1}",
        "",
        '  File "train.py", line 3, in <module>',
        "ValueError: other",
        "2025-01-02 10:11:12 INFO next",
    ):
        text = f"{first}\n{between}\n{second}\n"
        assert log.matches(run_of(text), patterns=ACROSS).state is State.ABSENT
    short = "Error: shape is\nnot told\n"
    assert log.matches(run_of(short), patterns=["is.* ?not told"]).state is State.ABSENT


@pytest.mark.parametrize(
    "line",
    [
        "&gt; ValueError: You can&#39;t train &quot;this&quot;",
        "\N{LEFT SINGLE QUOTATION MARK}x\N{RIGHT SINGLE QUOTATION MARK} You can"
        "\N{RIGHT SINGLE QUOTATION MARK}t train \N{LEFT DOUBLE QUOTATION MARK}this"
        "\N{RIGHT DOUBLE QUOTATION MARK}",
    ],
)
def test_quotes_of_web_pages_and_word_processors_are_plain(line: str) -> None:
    assert log.matches(run_of(line + "\n"), patterns=['can\'t train "this"']).state is State.PRESENT


@pytest.mark.parametrize(
    "before",
    [
        "> ",
        "> > ",
        "worker-0  | ",
        "[stderr] ",
        "2025-03-02T10:11:12.345Z ",
        "2025-03-02T10:11:12.345Z stderr F ",
        "2025-03-02 10:11:12,345 - ",
        "[2025-03-02 10:11:12,345] [ERROR] [cli.main:90] [PID:12] ",
        "ERROR:root:",
        "[ERROR] training failed with ",
        "    ",
    ],
)
def test_exception_behind_what_a_mail_a_container_or_a_logger_puts_before_it(before: str) -> None:
    run = run_of(f"{before}ValueError: something unheard of\n")
    log.prepare(run, [])
    assert log.unexplained_exception(run).state is State.PRESENT


def test_prose_about_an_exception_is_none() -> None:
    run = run_of("We had a ValueError: it was gone after a restart\n")
    log.prepare(run, [])
    assert log.unexplained_exception(run).state is State.ABSENT


def test_a_class_of_errors_yields_to_what_names_the_error() -> None:
    run = run_of("ZeroDivisionError: all labels are masked\n")
    known = Call("detect", "log.matches", {"patterns": ["all labels are masked"]})
    whole = {"patterns": ["ZeroDivisionError: "], "yields": True}
    log.prepare(run, [known, Call("detect", "log.matches", whole)])
    assert log.matches(run, patterns=["ZeroDivisionError: "]).state is State.PRESENT
    seen = log.matches(run, patterns=["ZeroDivisionError: "], yields=True)
    assert seen.state is State.ABSENT


def test_folder_that_the_hub_was_asked_for() -> None:
    folder = "ValueError: Can't find 'adapter_config.json' at 'outputs/final'\n"
    assert log.folder_sought_on_hub(run_of(folder)).state is State.PRESENT
    name = "ValueError: Can't find 'adapter_config.json' at 'someone/some-adapter'\n"
    assert log.folder_sought_on_hub(run_of(name)).state is State.ABSENT


def test_exit_code_that_a_launcher_tells_does_not_account_for_an_exception() -> None:
    failed = "failed (exitcode: {}) local_rank: 0 (pid: 1) of binary: python"
    call = Call("detect", "log.matches", {"patterns": [r"failed \(exitcode"], "fatal": True})
    for code, state in ((1, State.PRESENT), (-9, State.ABSENT)):
        run = run_of(f"{TRACE.replace('CUDA out of memory', 'odd')}{failed.format(code)}\n")
        log.prepare(run, [call])
        assert log.unexplained_exception(run).state is state


def test_message_that_its_signature_excuses_is_not_known_by_it() -> None:
    call = {"patterns": ["NoneType"], "unless": ["no attribute 'frob'"]}
    for name, state in (("frob", State.PRESENT), ("strip", State.ABSENT)):
        run = run_of(f"AttributeError: 'NoneType' object has no attribute '{name}'\n")
        log.prepare(run, [Call("detect", "log.matches", call)])
        assert log.unexplained_exception(run).state is state


def test_unknown_exception_that_passed_through_a_frame() -> None:
    run = run_of(TRACE)
    log.prepare(run, [])
    assert log.unexplained_exception(run, through=[r"modules/module\.py"]).state is State.PRESENT
    assert log.unexplained_exception(run, through=["argparse"]).state is State.ABSENT
