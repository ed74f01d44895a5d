from __future__ import annotations

from ftdoctor.read.logtext import clean
from ftdoctor.read.traceback import Trace, Tracebacks


def traces(text: str) -> list[Trace]:
    assembler = Tracebacks()
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        done, _ = assembler.feed(clean(line.encode(), number))
        found += done
    return found + assembler.finish()


PLAIN = """Traceback (most recent call last):
  File "/home/u/train.py", line 188, in <module>
    state = tc.save_state()
            ^^^^^^^^^^^^^^^
  File "/venv/lib/python3.12/site-packages/tinker/lib/telemetry.py", line 394, in _wrapper
    return func(*args, **kwargs)
TypeError: save_state() missing 1 required positional argument: 'name'
next line"""


def test_user_frame_comes_first_and_packages_after() -> None:
    (trace,) = traces(PLAIN)
    lines = trace.text().split("\n")
    assert lines[0].startswith("TypeError: save_state() missing")
    assert lines[1] == '  File "/home/u/train.py", line 188, in <module>'
    assert lines[2] == "    state = tc.save_state()"
    assert "telemetry.py" in lines[3]
    assert trace.last.line == 7


def test_chain_keeps_its_root() -> None:
    (trace,) = traces(
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n'
        "KeyError: 'labels'\n\n"
        "During handling of the above exception, another exception occurred:\n"
        '\nTraceback (most recent call last):\n  File "a.py", line 3, in <module>\n'
        "ValueError: bad sample 17\n"
    )
    assert [raised.type for raised in trace.chain] == ["KeyError", "ValueError"]
    assert trace.text().startswith("ValueError: bad sample 17")
    assert "after KeyError: 'labels'" in trace.text()


def test_ranks_are_told_apart() -> None:
    found = traces(
        "[rank1]: Traceback (most recent call last):\n[rank0]: Traceback (most recent call last):\n"
        '[rank1]:   File "t.py", line 1, in <module>\n[rank0]:   File "t.py", line 2, in <module>\n'
        "[rank1]: torch.OutOfMemoryError: CUDA out of memory.\n[rank0]: RuntimeError: NCCL error\n"
    )
    assert {trace.rank: trace.last.type for trace in found} == {
        1: "torch.OutOfMemoryError",
        0: "RuntimeError",
    }


def test_message_of_several_lines() -> None:
    (trace,) = traces(
        'Traceback (most recent call last):\n  File "t.py", line 1, in <module>\n'
        "RuntimeError: Error(s) in loading state_dict for X:\n\tsize mismatch for a: b\nloss 1\n"
    )
    assert "size mismatch for a: b" in trace.last.title


def test_notebook_form() -> None:
    (trace,) = traces(
        "ValueError                                Traceback (most recent call last)\n"
        "Cell In[5], line 3\n      1 x = 1\n----> 3 trainer.train()\n"
        "File /usr/lib/python3.11/dist-packages/trl/x.py:12, in train(self)\n---> 12 raise\n"
        "ValueError: nothing to train\n"
    )
    assert trace.last.title == "ValueError: nothing to train"
    place = trace.last.place()
    assert place is not None
    assert place.file == "Cell In[5]"


def test_launchers_exception_is_marked() -> None:
    (trace,) = traces(
        'Traceback (most recent call last):\n  File "bin/torchrun", line 10, in <module>\n'
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
    )
    assert trace.from_launcher


def test_traceback_that_the_log_ends_in_is_one_without_a_name() -> None:
    (trace,) = traces('Traceback (most recent call last):\n  File "a.py", line 1, in f\n')
    assert trace.last.title == "Traceback: the log ends before the exception is named"
    assert traces("Traceback (most recent call last):\n") == []


def test_last_of_a_chain_need_not_be_named() -> None:
    stack = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    take()\n'
    again = "During handling of the above exception, another exception occurred:"
    (trace,) = traces(f"{stack}KeyError: 1\n\n{again}\n\n{stack}")
    assert trace.last.title == "KeyError: 1"


def test_exceptions_of_a_group() -> None:
    found = traces(
        "  + Exception Group Traceback (most recent call last):\n"
        '  |   File "a.py", line 10, in <module>\n  |     main()\n'
        "  | ExceptionGroup: unhandled errors (1 sub-exception)\n"
        "  +-+---------------- 1 ----------------\n"
        "    | Traceback (most recent call last):\n"
        '    |   File "a.py", line 3, in x\n    |     frob()\n'
        "    | ValueError: frob is odd\n    +------------------------------------\n"
    )
    assert "ValueError: frob is odd" in [trace.last.title for trace in found]


def test_words_about_tracebacks_are_none() -> None:
    assert traces("see the traceback above\nValueError: not raised here\n") == []


def test_an_exception_of_any_name_is_taken_right_below_its_stack() -> None:
    stack = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    take()\n'
    (trace,) = traces(f"{stack}LeaseRevoked: ticket 7 was taken back\n")
    assert trace.last.title == "LeaseRevoked: ticket 7 was taken back"
    (trace,) = traces(f"{stack}Loading: 3\nDataLoader: 4 workers\nKeyError: 1\n")
    assert trace.last.title == "KeyError: 1"


def test_any_name_below_a_stack_is_taken_if_no_better_one_follows() -> None:
    stack = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    take()\n'
    for name in ("Revoked: ticket 7", "leases.errors.gone: ticket 7"):
        (trace,) = traces(f"{stack}{name}\n")
        assert trace.last.title == name
    (trace,) = traces(f"{stack}Loading: 3\nValueError: odd\n")
    assert trace.last.title == "ValueError: odd"
