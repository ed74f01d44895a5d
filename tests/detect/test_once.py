"""What is worked out of a run is worked out once, and never taken for another run's."""

from __future__ import annotations

from ftdoctor.detect.once import KEPT, once_per_run
from ftdoctor.examples import run_from_example
from ftdoctor.model import Run


def test_once_for_each_of_the_last_runs() -> None:
    asked: list[str] = []

    @once_per_run
    def name_of(run: Run) -> str:
        asked.append(run.name)
        return run.name

    runs = [run_from_example({"metrics": {}}) for _ in range(KEPT + 1)]
    for run in (*runs, *runs[1:]):
        assert name_of(run) == run.name
    assert len(asked) == KEPT + 1
    name_of(runs[0])
    assert len(asked) == KEPT + 2
