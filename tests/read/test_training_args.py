"""Pickled arguments are read without being unpickled; what could act is refused."""

from __future__ import annotations

import enum
import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import local_source, memory_source
from ftdoctor.read.training_args import OPCODE_LIMIT, read_training_args


class Schedule(enum.Enum):
    COSINE = "cosine"


class Arguments:
    def __init__(self) -> None:
        self.learning_rate = 2e-4
        self.lr_scheduler_type = Schedule.COSINE
        self.num_train_epochs = 3
        self.fp16 = False
        self.report_to = ["none", "wandb"]
        self.hub_token = "hf_secret"
        self.nested = {"a": (1, 2)}
        self._n_gpu = 2
        self.myself = self.report_to


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/ftdoctor-was-here",)


def archive(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("training_args/data.pkl", pickled)
        packed.writestr("training_args/version", "3")
    return buffer.getvalue()


def read(content: bytes) -> Reading:
    return read_training_args(memory_source("training_args.bin", content))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_fields_of_every_protocol(protocol: int) -> None:
    found = read(archive(pickle.dumps(Arguments(), protocol=protocol)))
    values = {fact.name: fact.value for fact in found.settings}
    assert found.state is ArtifactState.READ, found.reason
    assert values["learning_rate"] == 2e-4
    assert values["lr_scheduler_type"] == "cosine"
    assert values["fp16"] is False
    assert values["report_to"] == ["none", "wandb"]
    assert values["nested"] == {"a": [1, 2]}
    facts = {fact.name: fact.value for fact in found.facts}
    assert str(facts["args.class"]).endswith(".Arguments")
    assert facts["environment.gpu_count"] == 2


def test_secret_and_private_fields_are_left_out() -> None:
    found = read(archive(pickle.dumps(Arguments(), protocol=2)))
    names = {fact.name for fact in found.settings}
    assert not names & {"hub_token", "_n_gpu"}
    assert "hf_secret" not in repr(found)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_dangerous_global_is_told_and_not_followed(protocol: int) -> None:
    marker = Path("/tmp/ftdoctor-was-here")
    arguments = Arguments()
    arguments.report_to = Harmful()  # type: ignore[assignment]
    found = read(archive(pickle.dumps(arguments, protocol=protocol)))
    assert found.state is ArtifactState.DAMAGED
    assert [(f.name, f.value) for f in found.facts] == [
        ("security.pickle_globals", [f"{os.system.__module__}.system"])
    ]
    assert not found.settings
    assert not marker.exists()


def test_a_member_of_a_nested_enum_is_its_value() -> None:
    member = b"c__builtin__\ngetattr\n(cx\nSchedulerType\nX\x06\x00\x00\x00COSINEtR"
    found = read(b"\x80\x02cx\nArguments\n)R}X\x01\x00\x00\x00a" + member + b"sb.")
    assert [(fact.name, fact.value) for fact in found.settings] == [("a", "cosine")]


def test_a_call_is_told_even_if_the_pickle_is_cut_behind_it() -> None:
    found = read(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00echoR")
    assert found.state is ArtifactState.DAMAGED
    assert [fact.value for fact in found.facts] == [["posix.system"]]


def test_a_value_that_names_itself_over_and_over_does_not_explode() -> None:
    # Each list holds the one before it a hundred times, five levels deep.
    nested = b"]q\x00(K\x01e" + (b"]q\x01(" + b"h\x00" * 100 + b"eq\x00") * 5
    content = b"\x80\x02cx\nArguments\n)R}X\x01\x00\x00\x00a" + nested + b"sb."
    found = read(content)
    assert len(repr(found.settings)) < 1_000_000


def test_builtins_that_act_are_refused() -> None:
    found = read(b"\x80\x02c__builtin__\neval\nX\x04\x00\x00\x001+1\x85R.")
    assert found.facts[0].name == "security.pickle_globals"


def test_a_pickle_of_old_torch_has_preceding_pickles() -> None:
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, Arguments()]
    found = read(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    assert {f.name: f.value for f in found.settings}["num_train_epochs"] == 3


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 no zip",
        b"",
        b"\x80\x02}q\x00(",
        b"\x80\x02.",
        b"\x80\x02N.",
        archive(b"\x80\x02" + b"0" * 10),
        archive(b"\x80\x02]" + b"h\x05" * 3 + b"."),
        archive(pickle.dumps(Arguments(), protocol=2)[:-30]),
        archive(b"\x80\x02]" + b"N0" * OPCODE_LIMIT + b"."),
    ],
)
def test_damage_is_a_state(content: bytes) -> None:
    found = read(content)
    assert found.state is ArtifactState.DAMAGED
    assert found.reason


def test_every_truncation_is_survived() -> None:
    pickled = pickle.dumps(Arguments(), protocol=2)
    for end in range(len(pickled)):
        assert read(pickled[:end]).state is ArtifactState.DAMAGED


def test_real_files(shared: Path) -> None:
    paths = sorted(shared.glob("corpus/runs/**/training_args.bin"))
    pickles = [p for p in paths if p.read_bytes()[:2] in (b"PK", b"\x80\x02")]
    assert pickles
    for path in pickles:
        found = read_training_args(local_source(path.parent, path))
        assert found.state is ArtifactState.READ, (path, found.reason)
        assert "learning_rate" in {fact.name for fact in found.settings}
