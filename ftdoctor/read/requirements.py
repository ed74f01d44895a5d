"""Declared and installed packages: requirements files, locks, freezes, pyproject, conda."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.imports import normalised
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import Source

SIZE_LIMIT = 16 << 20  # bytes; lock files with hashes reach some megabytes
LIMIT = 5000  # packages taken from one file
_REQUIREMENT = re.compile(
    r"([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*(?:(===?|=)\s*([^\s;,#]+))?", re.ASCII
)
_EGG = re.compile(r"#egg=([\w.-]+)")
_REPOSITORY = re.compile(r"git\+[^\s@]+/([\w.-]+?)(?:\.git)?(?:@\S*)?(?:\s|$)")
_LISTED = re.compile(r"([A-Za-z0-9][\w.-]*)\s+(\d[\w.+!-]*)(?:\s+\S+)*")
_CONDA_NAMES = {"pytorch": "torch", "pytorch-gpu": "torch", "faiss-cpu": "faiss-cpu"}


@dataclass(frozen=True, slots=True)
class Package:
    """One package: its name as PEP 503 compares it, the exact version if given, the line."""

    name: str
    version: str
    line: int


def read(source: Source) -> Reading:
    """Read one file of packages.

    Facts: `requirements.declared` (all names), `requirements.complete` (true for locks and
    freezes, which hold every package), `environment.package.<name>` where the version is exact.
    """
    name = source.name.lower()
    try:
        text = source.text(SIZE_LIMIT)
        packages, complete = _packages(name, text)
    except (ValueError, TypeError, KeyError, AttributeError, configparser.Error) as error:
        reason = f"not readable as {name}: {error}; run `pip freeze > requirements.txt`"
        return Reading(ArtifactState.DAMAGED, reason)
    return _reading(source.path, packages[:LIMIT], complete, _python_of(text))


def _packages(name: str, text: str) -> tuple[list[Package], bool]:
    """Return the packages by the file's format, and whether it lists the whole environment."""
    parse: Callable[[str], Iterable[Package]]
    if name == "pyproject.toml":
        return list(_pyproject(text)), False
    if name == "setup.cfg":
        return list(_setup_cfg(text)), False
    if name == "pipfile":
        return list(_pipfile(text)), False
    if name == "pipfile.lock":
        return list(_pipfile_lock(text)), True
    if name in ("poetry.lock", "uv.lock", "pdm.lock"):
        return list(_toml_lock(text)), True
    if name.endswith((".yml", ".yaml")):
        return list(_conda(text)), name.startswith("conda-lock")
    parse = _lines
    packages = list(parse(text))
    pinned = sum(1 for p in packages if p.version)
    return packages, "freeze" in name or _is_freeze(packages, pinned)


def _is_freeze(packages: list[Package], pinned: int) -> bool:
    """Say whether a list is an environment's whole content: long, and every version exact.

    60 packages: judgement; torch and transformers alone bring about 40.
    """
    return len(packages) >= 60 and pinned >= 0.95 * len(packages)


def _reading(path: str, packages: list[Package], complete: bool, python: str) -> Reading:
    declared = sorted({p.name for p in packages})
    facts = [
        Fact("requirements.declared", declared, Where(path)),
        Fact("requirements.complete", complete, Where(path)),
    ]
    facts += [
        Fact(f"environment.package.{p.name}", p.version, Where(path, line=p.line or None))
        for p in packages
        if p.version and "*" not in p.version
    ]
    if python:
        facts.append(Fact("environment.python", python, Where(path)))
    return Reading(taken=f"{len(declared)} packages", facts=tuple(facts))


def _python_of(text: str) -> str:
    found = re.search(r"(?m)^\s*-\s*python\s*=+\s*(\d[\d.]*)", text)
    return found.group(1) if found else ""


def _lines(text: str) -> Iterator[Package]:
    """Yield the packages of a requirements file, `pip freeze`, `pip list` or `conda list`."""
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip().lstrip("\ufeff")
        if not bare or bare.startswith(("#", "-r", "-c", "--", "-f", "-i", "Package ", "---")):
            continue
        bare = re.sub(r"^-e\s+", "", bare)
        package = _package(bare, number)
        if package:
            yield package


def _package(text: str, line: int) -> Package | None:
    """Return the package of one requirement in pip's or conda's notation."""
    repository = _EGG.search(text) or (_REPOSITORY.search(text) if "git+" in text else None)
    if repository and not re.match(r"[\w.-]+\s*(?:\[[^\]]*\])?\s*@", text):
        return Package(normalised(repository.group(1)), "", line)
    if "://" in text.partition("@")[0]:
        return None
    listed = _LISTED.fullmatch(text)
    if listed:
        return Package(normalised(listed.group(1)), listed.group(2), line)
    found = _REQUIREMENT.match(text)
    if not found:
        return None
    return Package(normalised(found.group(1)), found.group(3) or "", line)


def _each(items: Any, text: str) -> Iterator[Package]:
    """Yield packages of a list of requirement strings, each at its line in `text`."""
    lines = text.splitlines()
    for item in items if isinstance(items, list) else []:
        if not isinstance(item, str):
            continue
        line = next((i for i, content in enumerate(lines, start=1) if item in content), 0)
        package = _package(item.strip(), line)
        if package:
            yield package


def _pyproject(text: str) -> Iterator[Package]:
    data = tomllib.loads(text)
    project = data.get("project", {})
    yield from _each(project.get("dependencies"), text)
    groups = [*project.get("optional-dependencies", {}).values()]
    groups += [*data.get("dependency-groups", {}).values()]
    for group in groups:
        yield from _each(group, text)
    poetry = data.get("tool", {}).get("poetry", {})
    tables = [poetry.get("dependencies", {}), poetry.get("dev-dependencies", {})]
    tables += [g.get("dependencies", {}) for g in poetry.get("group", {}).values()]
    for table in tables:
        yield from _table(table)


def _table(table: dict[str, Any]) -> Iterator[Package]:
    for name, value in table.items():
        version = value.get("version", "") if isinstance(value, dict) else str(value)
        if name.lower() != "python":
            exact = version.lstrip("=") if re.fullmatch(r"={0,2}\d[\w.+]*", version) else ""
            yield Package(normalised(name), exact, 0)


def _setup_cfg(text: str) -> Iterator[Package]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read_string(text)
    wanted = parser.get("options", "install_requires", fallback="")
    yield from _each([line for line in wanted.splitlines() if line.strip()], text)


def _pipfile(text: str) -> Iterator[Package]:
    data = tomllib.loads(text)
    for section in ("packages", "dev-packages"):
        yield from _table(data.get(section, {}))


def _pipfile_lock(text: str) -> Iterator[Package]:
    data = json.loads(text)
    for section in ("default", "develop"):
        for name, value in data.get(section, {}).items():
            yield Package(normalised(name), str(value.get("version", "")).lstrip("="), 0)


def _toml_lock(text: str) -> Iterator[Package]:
    for item in tomllib.loads(text).get("package", []):
        if "name" in item:
            yield Package(normalised(item["name"]), str(item.get("version", "")), 0)


def _conda(text: str) -> Iterator[Package]:
    """Yield the packages of an environment.yml; its lines are regular enough to go without YAML."""
    for number, line in enumerate(text.splitlines(), start=1):
        found = re.match(r"\s*-\s*['\"]?(?:[\w-]+::)?([A-Za-z0-9][^'\"#]*)", line)
        if not found or found.group(1).strip() in ("pip", "pip:", "defaults", "conda-forge"):
            continue
        bare = found.group(1).strip()
        if (
            bare.startswith(("python=", "python ", "http"))
            or bare.endswith(":")
            or bare == "python"
        ):
            continue
        package = _package(bare, number)
        if package:
            name = _CONDA_NAMES.get(package.name, package.name)
            version = package.version.split("=")[0]
            yield Package(name, version, number)
