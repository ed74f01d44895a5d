"""Import names and the distributions that provide them, where the two differ."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

# Import name -> distribution names on the package index, any of which provides it.
DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "yaml": ("pyyaml", "ruamel-yaml"),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "sklearn": ("scikit-learn",),
    "skimage": ("scikit-image",),
    "PIL": ("pillow",),
    "bs4": ("beautifulsoup4", "bs4"),
    "dotenv": ("python-dotenv",),
    "dateutil": ("python-dateutil",),
    "docx": ("python-docx",),
    "pptx": ("python-pptx",),
    "fitz": ("pymupdf",),
    "faiss": ("faiss-cpu", "faiss-gpu", "faiss"),
    "jwt": ("pyjwt",),
    "git": ("gitpython",),
    "github": ("pygithub",),
    "google": ("google-generativeai", "google-genai", "protobuf", "google-cloud-storage"),
    "sentence_transformers": ("sentence-transformers",),
    "huggingface_hub": ("huggingface-hub",),
    "rouge_score": ("rouge-score",),
    "flash_attn": ("flash-attn",),
    "langchain_core": ("langchain-core", "langchain"),
    "llama_cpp": ("llama-cpp-python",),
    "llamafactory": ("llamafactory", "llama-factory"),
    "tinker_cookbook": ("tinker-cookbook",),
    "mlx": ("mlx",),
    "mlx_lm": ("mlx-lm",),
    "pytorch_lightning": ("pytorch-lightning", "lightning"),
    "lightning": ("lightning", "pytorch-lightning"),
    "tensorboardX": ("tensorboardx",),
    "attr": ("attrs",),
    "attrs": ("attrs",),
    "Levenshtein": ("levenshtein", "python-levenshtein"),
    "serial": ("pyserial",),
    "Crypto": ("pycryptodome",),
    "openai_harmony": ("openai-harmony",),
    "IPython": ("ipython",),
    "ipywidgets": ("ipywidgets",),
    "pkg_resources": ("setuptools",),
    "psycopg2": ("psycopg2", "psycopg2-binary"),
    "MySQLdb": ("mysqlclient",),
    "zmq": ("pyzmq",),
    "magic": ("python-magic",),
    "Bio": ("biopython",),
    "torch_xla": ("torch-xla",),
    "ruamel": ("ruamel-yaml",),
    "win32com": ("pywin32",),
    "jose": ("python-jose",),
    "slugify": ("python-slugify",),
    "umap": ("umap-learn",),
    "hdbscan": ("hdbscan",),
    "snowflake": ("snowflake-connector-python",),
    "sparsembed": ("sparsembed",),
    "community": ("python-louvain",),
    "tinker": ("tinker",),
    "deepspeed": ("deepspeed",),
    "codecarbon": ("codecarbon",),
}
# Distributions that bring others along, so that a script may import those undeclared.
BRINGS: dict[str, tuple[str, ...]] = {
    "torch": ("numpy", "jinja2", "networkx", "sympy", "fsspec", "filelock", "typing-extensions"),
    "transformers": (
        "numpy", "tokenizers", "safetensors", "huggingface-hub", "pyyaml", "regex", "requests",
        "tqdm", "filelock", "packaging",
    ),
    "datasets": (
        "numpy", "pandas", "pyarrow", "requests", "tqdm", "fsspec", "huggingface-hub", "pyyaml",
        "dill", "multiprocess", "xxhash", "packaging", "aiohttp", "filelock",
    ),
    "accelerate": ("numpy", "torch", "psutil", "pyyaml", "safetensors", "huggingface-hub"),
    "peft": (
        "numpy", "torch", "transformers", "accelerate", "safetensors", "psutil", "tqdm", "pyyaml",
        "huggingface-hub",
    ),
    "trl": ("transformers", "datasets", "accelerate", "torch", "numpy", "rich"),
    "unsloth": (
        "torch", "transformers", "datasets", "accelerate", "peft", "trl", "bitsandbytes",
        "sentencepiece", "tqdm", "numpy", "psutil", "wheel", "protobuf", "huggingface-hub",
        "tyro", "unsloth-zoo", "xformers", "triton",
    ),
    "axolotl": (
        "torch", "transformers", "datasets", "accelerate", "peft", "trl", "bitsandbytes", "fire",
        "pyyaml", "wandb", "numpy", "scipy", "scikit-learn", "sentencepiece", "requests",
    ),
    "llamafactory": (
        "torch", "transformers", "datasets", "accelerate", "peft", "trl", "gradio", "scipy",
        "sentencepiece", "fire", "pyyaml", "numpy", "pandas", "matplotlib", "fastapi", "uvicorn",
        "pydantic", "einops", "tiktoken",
    ),
    "sentence-transformers": (
        "torch", "transformers", "scikit-learn", "scipy", "huggingface-hub", "tqdm", "pillow",
        "numpy",
    ),
    "scikit-learn": ("numpy", "scipy", "joblib", "threadpoolctl"),
    "pandas": ("numpy", "python-dateutil", "pytz"),
    "matplotlib": ("numpy", "pillow", "python-dateutil", "packaging"),
    "seaborn": ("matplotlib", "pandas", "numpy"),
    "nltk": ("tqdm", "regex", "joblib", "click"),
    "wandb": ("requests", "pyyaml", "click", "psutil", "gitpython", "pydantic"),
    "gradio": ("fastapi", "uvicorn", "pydantic", "numpy", "pandas", "requests", "httpx", "pillow"),
    "streamlit": ("numpy", "pandas", "requests", "pillow", "altair"),
    "fastapi": ("pydantic", "starlette"),
    "openai": ("httpx", "pydantic", "tqdm"),
    "langchain": ("pydantic", "requests", "pyyaml", "sqlalchemy", "langchain-core"),
    "spacy": ("numpy", "requests", "tqdm", "pydantic", "jinja2"),
    "evaluate": ("datasets", "numpy", "pandas", "requests", "tqdm", "huggingface-hub"),
    "vllm": (
        "torch", "transformers", "numpy", "fastapi", "uvicorn", "pydantic", "requests", "openai",
        "ray", "psutil", "sentencepiece", "pyyaml", "pillow",
    ),
    "lightning": ("torch", "numpy", "tqdm", "pyyaml", "torchmetrics", "pytorch-lightning"),
    "tinker": ("httpx", "pydantic", "numpy", "transformers", "torch"),
    "tinker-cookbook": (
        "tinker", "torch", "transformers", "datasets", "numpy", "pydantic", "rich", "chz",
        "blobfile", "aiohttp",
    ),
    "mlx-lm": ("mlx", "numpy", "transformers", "protobuf", "pyyaml", "jinja2"),
    "jupyter": ("ipython", "ipywidgets", "notebook"),
    "fastchat": ("fastapi", "httpx", "numpy", "requests", "rich", "pydantic", "torch"),
    "bitsandbytes": ("torch", "numpy"),
    "deepspeed": ("torch", "numpy", "psutil", "pydantic", "tqdm"),
    "auto-gptq": ("transformers", "datasets", "accelerate", "peft", "torch", "numpy"),
    "rouge-score": ("nltk", "numpy", "absl-py", "six"),
    "huggingface-hub": ("requests", "tqdm", "pyyaml", "fsspec", "filelock", "packaging"),
}  # fmt: skip


def imported_modules(tree: ast.AST) -> list[str]:
    """Return the top-level modules that must be there: no relative, optional or typing imports."""
    return sorted(set(_required(tree)))


def _required(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name.split(".")[0] for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            if child.module and child.level == 0:
                yield child.module.split(".")[0]
        elif isinstance(child, ast.Try):
            for part in (*child.orelse, *child.finalbody):
                yield from _required(part)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        else:
            yield from _required(child)


def is_standard(module: str) -> bool:
    """Say whether a module comes with Python (or is private to it)."""
    return module in sys.stdlib_module_names or module.startswith("_")


def normalised(distribution: str) -> str:
    """Return a distribution's name as PEP 503 compares it: lower case, one dash."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def provided(module: str, declared: frozenset[str]) -> bool:
    """Say whether one of the declared distributions (normalised names) provides a module."""
    names = {normalised(module), *DISTRIBUTIONS.get(module, ())}
    if names & declared:
        return True
    prefixed = {f"{n}-" for n in names}
    if any(d.startswith(tuple(prefixed)) for d in declared if module in ("google", "langchain")):
        return True
    brought = {b for d in declared for b in BRINGS.get(d, ())}
    brought |= {b for d in brought for b in BRINGS.get(d, ())}
    return bool(names & brought)
