"""Write docs/dependencies.md: what is needed, from which version on, what for, and its licence.

python docs/make_dependencies.py     # in an environment with `.[dev,fleet,remote,zstd]`
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "dependencies.md"
# Import names where they are not the distribution's, "" for what fsspec loads by itself.
IMPORTS = {"pyyaml": "yaml", "google-re2": "re2", "gcsfs": "", "s3fs": "", "huggingface_hub": "",
           "dask": ""}  # fmt: skip
WHAT_FOR = {
    "polars": "the frames of a run: metrics, lines, events, tensors, rows; Parquet and Arrow",
    "tokenizers": "token counts and ids of data rows by the run's own tokenizer.json",
    "numpy": "statistics of curves and tensors",
    "scipy": "tests of shifts and of association",
    "matplotlib": "the plots of the report, as SVG",
    "typer": "the command line",
    "rich": "progress and the summary in the terminal",
    "jinja2": "the page; chat templates of runs, in a sandbox",
    "pyyaml": "signatures and configurations, by nodes only",
    "orjson": "JSON several times as fast as the standard library's",
    "google-re2": "patterns of signatures and logs in linear time",
    "fsspec": "runs in buckets and on servers",
    "gcsfs": "gs:// places", "s3fs": "s3:// places", "huggingface_hub": "hf:// places",
    "dask": "triage of many runs on a cluster", "distributed": "triage of many runs on a cluster",
    "zstandard": "archives packed by zstd",
}  # fmt: skip
SPDX = {
    "MIT License": "MIT", "Apache Software License": "Apache-2.0", "BSD License": "BSD-3-Clause",
    "Python Software Foundation License": "PSF-2.0", "Apache License 2.0": "Apache-2.0",
    "BSD": "BSD-3-Clause",
}  # fmt: skip


def declared() -> Iterator[tuple[str, str, str]]:
    """Yield name, lower bound and extra of what a user may install, as pyproject.toml says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    for extra, requirements in groups.items():
        for requirement in requirements if extra != "dev" else ():
            name, bound = re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)", requirement).groups()
            yield name, bound, extra


def importing(name: str) -> list[str]:
    """Return the modules that import a dependency."""
    module = IMPORTS.get(name, name)
    pattern = re.compile(rf"^\s*(?:import|from) {module}\b", re.MULTILINE)
    files = sorted((ROOT / "ftdoctor").rglob("*.py"))
    return [f.relative_to(ROOT).as_posix() for f in files
            if module and pattern.search(f.read_text(encoding="utf-8"))]  # fmt: skip


def licence(name: str) -> str:
    """Return the licence that an installed distribution states."""
    try:
        stated = metadata(name)
    except PackageNotFoundError:
        return ""
    classified = [c.rpartition(" :: ")[2] for c in stated.get_all("Classifier") or []
                  if c.startswith("License ::") and not c.endswith("OSI Approved")]  # fmt: skip
    said = stated.get("License-Expression") or next(iter(classified), "") or stated.get("License")
    first = (said or "").strip().partition("\n")[0]
    return SPDX.get(first, first)


def page() -> str:
    """Return the page; a licence is left empty where the package is not installed."""
    lines = [
        "# Dependencies", "",
        "The lower bounds are tested by `.ci/lowest`; licences as the installed packages state "
        "them. Written by `docs/make_dependencies.py`.", "",
        "| package | from | extra | what for | licence |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, bound, extra in declared():
        cells = [name, bound, extra, WHAT_FOR[name], licence(name)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    missing = [name for name, _, _ in declared() if not licence(name)]
    if missing:
        sys.exit(f"install these first: {' '.join(missing)}")
    PAGE.write_text(page(), encoding="utf-8")
