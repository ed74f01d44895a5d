"""Files of packages: names, exact versions, and whether they list everything."""

from __future__ import annotations

from typing import Any

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.imports import provided
from ftdoctor.read.reading import Reading
from ftdoctor.read.requirements import read
from ftdoctor.read.source import memory_source


def reading(path: str, text: str) -> Reading:
    return read(memory_source(path, text.encode()))


def fact(found: Reading, name: str) -> Any:
    return next((f.value for f in found.facts if f.name == name), None)


def versions(found: Reading) -> dict[str, str]:
    prefix = "environment.package."
    return {f.name.removeprefix(prefix): f.value for f in found.facts if f.name.startswith(prefix)}


CASES = {
    "requirements.txt": (
        "torch==2.1.0 ; python_version > '3.8'\n-r more.txt\n# note\nPyYAML>=6\n"
        "git+https://example.com/x/trl.git@main\nunsloth[colab] @ git+https://example.com/u.git\n",
        ["pyyaml", "torch", "trl", "unsloth"],
        {"torch": "2.1.0"},
    ),
    "pip_list.txt": (
        "Package Version\n------- -------\ntorch 2.1.0+cu118\nPeft 0.10.0 /home/user/peft\n",
        ["peft", "torch"],
        {"torch": "2.1.0+cu118", "peft": "0.10.0"},
    ),
    "pyproject.toml": (
        '[project]\ndependencies = ["torch>=2", "trl==0.9.6"]\n'
        '[tool.poetry.dependencies]\npython = "^3.10"\npeft = "0.10.0"\n',
        ["peft", "torch", "trl"],
        {"trl": "0.9.6", "peft": "0.10.0"},
    ),
    "environment.yml": (
        "name: x\nchannels:\n  - conda-forge\ndependencies:\n  - python=3.10\n"
        "  - pytorch=2.1.0=py3.10_cuda\n  - pip:\n    - transformers==4.40.0\n",
        ["torch", "transformers"],
        {"torch": "2.1.0", "transformers": "4.40.0"},
    ),
    "uv.lock": (
        '[[package]]\nname = "torch"\nversion = "2.5.1"\n',
        ["torch"],
        {"torch": "2.5.1"},
    ),
    "Pipfile.lock": (
        '{"default": {"torch": {"version": "==2.1.0"}}, "develop": {}}',
        ["torch"],
        {"torch": "2.1.0"},
    ),
}


@pytest.mark.parametrize("path", CASES)
def test_each_format(path: str) -> None:
    text, declared, exact = CASES[path]
    found = reading(path, text)
    assert fact(found, "requirements.declared") == declared
    assert versions(found) == exact


def test_a_lock_lists_everything_and_requirements_do_not() -> None:
    assert fact(reading("uv.lock", CASES["uv.lock"][0]), "requirements.complete") is True
    assert fact(reading("requirements.txt", "torch\n"), "requirements.complete") is False
    freeze = "\n".join(f"package-{n}==1.0" for n in range(80))
    assert fact(reading("requirements.txt", freeze), "requirements.complete") is True


@pytest.mark.parametrize("path", ["pyproject.toml", "uv.lock", "Pipfile.lock", "setup.cfg"])
def test_a_damaged_file_is_told_with_a_remedy(path: str) -> None:
    found = reading(path, "[[[ not = \n this\n")
    if path != "setup.cfg":
        assert found.state is ArtifactState.DAMAGED
        assert "pip freeze" in found.reason


def test_import_names_that_differ_from_distributions() -> None:
    declared = frozenset({"pyyaml", "opencv-python-headless", "scikit-learn", "trl"})
    assert all(provided(m, declared) for m in ("yaml", "cv2", "sklearn", "transformers", "numpy"))
    assert not provided("chromadb", declared)
