"""An adapter that was taken off instead of merged."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdoctor.detect import merging
from ftdoctor.model import State
from ftdoctor.read import read_run

LOADED = "from peft import PeftModel\nmodel = PeftModel.from_pretrained(base, 'adapter')\n"


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        (
            "with model.disable_adapter():\n    m = model.unload()\nm.save_pretrained('x')",
            "present",
        ),
        ("model.get_base_model().save_pretrained('merged')", "present"),
        ("m = model.merge_and_unload()\nm.save_pretrained('merged')", "absent"),
        ("model.merge_adapter()\nm = model.unload()\nm.save_pretrained('merged')", "absent"),
        ("base = model.unload()\nprint(base)\nmodel.save_pretrained('adapter')", "absent"),
    ],
)
def test_saved_without_merge(tmp_path: Path, lines: str, state: str) -> None:
    (tmp_path / "export.py").write_text(LOADED + lines + "\n")
    assert merging.saves_without_merge(read_run(tmp_path)).state == State(state)


def test_without_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "export.py").write_text("model.save_pretrained('out')\n")
    assert merging.saves_without_merge(read_run(tmp_path)).state is State.UNOBSERVABLE
