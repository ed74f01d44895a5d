"""The one table of file kinds: how each is recognised, and which reader takes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from importlib.metadata import entry_points

from ftdoctor.read.source import Source, decode

HEAD = 16 << 10  # bytes looked at to tell a file's kind
LOG_WINDOW = 256 << 10  # bytes of a text searched for the marks of a training log
LFS_MARK = b"version https://git-lfs"
PAGE_LIMIT = 32 << 20  # bytes of a saved page searched for a table of losses
PROGRESS_COLUMN = re.compile(rb"<th[^<>]*>\s*(?:Training Loss|train_loss|loss)\s*<", re.IGNORECASE)


class Peek:
    """The first bytes of a file in the forms that recognisers ask for, each computed once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.path = source.path
        self.name = source.name.lower()
        try:
            self.head = source.head(HEAD)
        except OSError:
            self.head = b""

    @cached_property
    def binary(self) -> bool:
        """Say whether the file is no text: a NUL in the head without UTF-16's mark."""
        # A tail of NULs is what a crash of the machine leaves of a text.
        sample = self.head.rstrip(b"\0")
        return b"\0" in sample and not self.head.startswith((b"\xff\xfe", b"\xfe\xff"))

    @cached_property
    def text(self) -> str:
        """Return the head decoded, empty for binary files."""
        return "" if self.binary else decode(self.head).lstrip("\ufeff").rstrip("\0")

    @cached_property
    def window(self) -> str:
        """Return a longer piece of the start and the end, for logs with a long preamble."""
        if self.binary:
            return ""
        size = self.source.size
        try:
            with self.source.open() as stream:
                start = stream.read(LOG_WINDOW)
                if size <= LOG_WINDOW:
                    return decode(start)
                stream.seek(max(LOG_WINDOW, size - LOG_WINDOW // 4))
                return decode(start) + "\n" + decode(stream.read(LOG_WINDOW // 4))
        except OSError:  # gone since it was listed; its reader will say so
            return ""

    @cached_property
    def keys(self) -> frozenset[str]:
        """Return the top keys of the JSON object in the head, or of an array's first objects."""
        return frozenset(json_keys(self.text))

    @cached_property
    def jsonl(self) -> bool:
        """Say whether the file is one JSON object per line."""
        first, _, rest = self.text.lstrip().partition("\n")
        if not first.startswith("{"):
            return False
        if not rest.strip():
            return self.name.endswith((".jsonl", ".ndjson")) or self.source.size > HEAD
        return first.rstrip().endswith("}") and rest.lstrip()[:1] in ("{", "")

    @cached_property
    def yaml_keys(self) -> frozenset[str]:
        """Return the top-level keys of a YAML head (`key:` in the first column)."""
        return frozenset(re.findall(r"(?m)^([A-Za-z_][\w.-]*):(?:\s|$)", self.text))

    @cached_property
    def columns(self) -> frozenset[str]:
        """Return the column names in the first line of a CSV or TSV."""
        first = self.text.partition("\n")[0]
        separator = "\t" if self.name.endswith(".tsv") else ","
        return frozenset(name.strip().strip('"') for name in first.split(separator))


Sniff = Callable[[Peek], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file.

    `names` are lower-case globs on the whole relative path; `sniff` looks at content. A kind
    without a sniff is decided by its name. `reader` is "module:function" below `ftdoctor.read`
    (with a dot in the module: of another package), or "" with `why` for a kind that is known and
    not read. With `evidence`, such a file alone makes a folder a run.
    """

    id: str
    reader: str = ""
    names: tuple[str, ...] = ()
    sniff: Sniff | None = None
    why: str = ""
    evidence: bool = True

    def named(self, path: str) -> bool:
        """Say whether the path matches one of the globs (case does not matter)."""
        lowered = "/" + path.lower()
        return any(fnmatchcase(lowered, "*/" + pattern) for pattern in self.names)


@dataclass(frozen=True, slots=True)
class Found:
    """A file and its kind, None if no kind claims it."""

    source: Source
    kind: Kind | None


def json_keys(text: str, limit: int = 400) -> list[str]:
    """Return keys of a JSON object's top level from a possibly cut text.

    For an array, or for objects that hold no scalar, the keys of its first object are returned.
    """
    found: list[str] = []
    stripped = text.lstrip()
    base = 2 if stripped[:1] == "[" else 1
    if stripped[:1] not in ("{", "["):
        return found
    depth = 0
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"(\s*:)?|[{}\[\]]', stripped):
        mark = match.group()
        if mark in "{[":
            depth += 1
        elif mark in "}]":
            depth -= 1
            if depth <= 0:
                break
        elif match.group(2) and depth == base:
            found.append(match.group(1))
            if len(found) >= limit:
                break
    return found


def has(*keys: str) -> Sniff:
    """Recognise JSON that has all of the keys."""
    wanted = frozenset(keys)
    return lambda peek: wanted <= peek.keys


def has_any(*keys: str) -> Sniff:
    """Recognise JSON that has one of the keys."""
    wanted = frozenset(keys)
    return lambda peek: bool(wanted & peek.keys)


def starts(*marks: bytes) -> Sniff:
    """Recognise a file by its first bytes."""
    return lambda peek: peek.head.startswith(marks)


def line_has(pattern: str) -> Sniff:
    """Recognise text by a regular expression on the head."""
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda peek: bool(peek.text and compiled.search(peek.text))


def both(*parts: Sniff) -> Sniff:
    """Recognise if all parts do."""
    return lambda peek: all(part(peek) for part in parts)


def never(_: Peek) -> bool:
    """Recognise nothing by content: for kinds that take what no other kind claims."""
    return False


def _safetensors(peek: Peek) -> bool:
    size = int.from_bytes(peek.head[:8], "little")
    return len(peek.head) > 8 and 2 <= size <= 100_000_000 and peek.head[8:9] == b"{"


def _tfevents(peek: Peek) -> bool:
    # A TFRecord: u64 length, u32 crc, then an Event whose first field is wall_time (tag 0x09).
    size = int.from_bytes(peek.head[:8], "little")
    return len(peek.head) > 21 and 9 <= size < 1 << 24 and peek.head[12:13] == b"\x09"


def _pickled_args(peek: Peek) -> bool:
    return "training_args" in peek.name and peek.head[:2] in (b"PK", b"\x80\x02")


def _arrow(peek: Peek) -> bool:
    return peek.name.endswith(".arrow") and peek.head.startswith((b"\xff\xff\xff\xff", b"ARROW1"))


def _parquet_generations(peek: Peek) -> bool:
    return peek.head.startswith(b"PAR1") and any(
        fnmatchcase(peek.name, pattern) for pattern in PARQUET_GENERATIONS
    )


def _progress_page(peek: Peek) -> bool:
    # An exported notebook begins with half a megabyte of style sheets: the whole page is searched.
    if not peek.name.endswith((".html", ".htm")) or peek.source.size > PAGE_LIMIT:
        return False
    try:
        with peek.source.open() as stream:
            return bool(PROGRESS_COLUMN.search(stream.read(PAGE_LIMIT)))
    except OSError:
        return False


def _generations(peek: Peek) -> bool:
    from ftdoctor.read.data import looks_like_generations

    keys = peek.columns if _csv(peek) else peek.keys
    return bool(keys) and looks_like_generations(peek.name, keys)


def _rows(peek: Peek) -> bool:
    from ftdoctor.read.data import looks_like_python_rows, looks_like_rows

    if peek.name.endswith((".json", ".jsonl", ".ndjson")) and looks_like_python_rows(peek.text):
        return True
    return bool(peek.keys) and looks_like_rows(peek.keys)


def _table(peek: Peek) -> bool:
    from ftdoctor.read.data import looks_like_classes, looks_like_rows

    return _csv(peek) and (looks_like_rows(peek.columns) or looks_like_classes(peek.source))


def _token_ids(peek: Peek) -> bool:
    """Recognise rows of token ids as plain numbers, as nanoGPT and Megatron keep them."""
    return (
        any(fnmatchcase(peek.name.lower(), pattern) for pattern in TOKEN_ID_NAMES)
        and peek.binary
        and any(peek.head)
        and not _torch(peek)
        and not peek.head.lstrip().startswith(b"<")
    )


def _torch(peek: Peek) -> bool:
    return peek.head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")) and (
        peek.name.endswith((".bin", ".pt", ".pth", ".ckpt"))
    )


def _modelfile(peek: Peek) -> bool:
    return bool(
        re.search(r"(?im)^\s*FROM\s+\S", peek.text)
        and re.search(r"(?im)^(TEMPLATE|PARAMETER|ADAPTER)\s+\S", peek.text)
    )


SETTING_KEYS = frozenset({
    "learning_rate", "lr", "model_name_or_path", "base_model", "model_name", "num_train_epochs",
    "num_epochs", "epochs", "per_device_train_batch_size", "micro_batch_size", "batch_size",
    "lora_r", "lora_alpha", "lora_rank", "lora", "finetuning_type", "training_args", "trainer",
    "optimizer", "adapter", "sequence_len", "max_seq_length", "zero_optimization",
    "deepspeed_plugin", "distributed_type", "training", "fine_tune_type", "renderer_name",
    "gradient_accumulation_steps", "datasets", "dataset", "fp16", "bf16", "output_dir", "peft",
    "tokenizer",
})  # fmt: skip


def _settings(peek: Peek) -> bool:
    if peek.jsonl:
        return False
    keys = peek.keys or (peek.yaml_keys if peek.name.endswith((".yaml", ".yml")) else frozenset())
    return len(SETTING_KEYS & keys) >= 2


def _tokenizer_config(peek: Peek) -> bool:
    # BERT-like config.json files name a tokenizer_class too.
    marks = {"tokenizer_class", "added_tokens_decoder"} & peek.keys
    return bool(marks) and not _model_config(peek)


def _model_config(peek: Peek) -> bool:
    return "model_type" in peek.keys and bool(
        {"architectures", "vocab_size", "hidden_size", "transformers_version"} & peek.keys
    )


HEX_RUN = r"(?:^|/)[0-9a-f]{32}/"


def _mlflow(folder: str) -> Sniff:
    pattern = re.compile(HEX_RUN + folder + "/")
    return lambda peek: bool(pattern.search(peek.path))


def _mlflow_meta(peek: Peek) -> bool:
    return bool(re.search(HEX_RUN + r"meta\.yaml$", peek.path)) and bool(
        {"run_id", "run_uuid"} & peek.yaml_keys
    )


def _csv(peek: Peek) -> bool:
    return peek.name.endswith((".csv", ".tsv")) and not peek.binary


STEP_KEYS = frozenset({
    "step", "global_step", "_step", "iteration", "iter", "epoch", "current_steps",
    "training_iteration",
})  # fmt: skip
METRIC_WORD = re.compile(r"loss|nll|reward|(?:^|[/_])lr$|learning_rate|acc|grad", re.IGNORECASE)
DATA_KEYS = frozenset({
    "messages", "conversations", "prompt", "instruction", "text", "completion", "chosen",
    "input_ids", "question",
})  # fmt: skip


def _csv_log(peek: Peek) -> bool:
    return (
        _csv(peek)
        and bool(STEP_KEYS & peek.columns)
        and any(METRIC_WORD.search(column) for column in peek.columns)
    )


_LIST_OF_LOSSES = re.compile(
    r'"[\w/ .-]*(?:loss|acc(?:uracy)?|perplexity|reward)[\w/ .-]*"'
    r"\s*:\s*\[\s*(?:-?[\d.]|NaN|null|\])"
)
_ROW_OF_LOSSES = re.compile(
    r'\A\s*\[\s*\{[^{}\[\]]*"[\w/ .-]*(?:loss|perplexity|reward)[\w/ .-]*"'
    r"\s*:\s*(?:-?[\d.]|NaN)"
)


def _history(peek: Peek) -> bool:
    """Recognise JSON of a list per metric or of rows of metrics; the Trainer's state is neither."""
    if not peek.name.endswith(".json") or '"log_history"' in peek.text:
        return False
    columns = peek.text.lstrip().startswith("{") and _LIST_OF_LOSSES.search(peek.text)
    return bool(columns or _ROW_OF_LOSSES.search(peek.text))


def _openai_metrics(peek: Peek) -> bool:
    return peek.head.startswith((b"step,train_loss", b"c3RlcCx0cmFpbl9sb3Nz"))


def _metrics_jsonl(peek: Peek) -> bool:
    return (
        peek.jsonl
        and not DATA_KEYS & peek.keys
        and bool(STEP_KEYS & peek.keys)
        and (any(METRIC_WORD.search(key) for key in peek.keys) or "data" in peek.keys)
    )


LOG_MARKS = re.compile(
    r"""\{'(?:loss|eval_loss|train_runtime|train_loss)':|'learning_rate':\s
    |Traceback\ \(most\ recent\ call\ last\)|^Step\ \d+\ \||^Iter\ \d+:\ (?:Train|Val)\ loss
    |\[(?:INFO|WARNING|ERROR)\|[\w.]+:\d+\]|\s-\s(?:INFO|WARNING|ERROR)\s-\s
    |\[\s*(?:INFO|WARNING|ERROR)\s*\]|OVERFLOW!|\biteration\s+\d+/\s*\d+\s\||\bstep:\d+\s-\s
    |\d+%\|.{0,40}\|\s*\d+/\d+\s\[|slurmstepd:|srun:|CUDA\ out\ of\ memory|==\(\(====\)\)==
    |\b(?:train_|eval_|val_)?loss\s*[=:]\s*-?(?:\d|nan|inf)|\bEpoch\s*\[?\d+\s*/\s*\d+
    |^\W*(?:Step|Epoch)\W+Training\ Loss\b
    |\b(?:iter|iteration|step|epoch|batch)\ +\d+\W.{0,40}\bloss\s+-?(?:\d|nan|inf)
    |\.py:\d+:\ \w*Warning:|^\s*precision\s+recall\s+f1-score\s+support
    |Total\ optimization\ steps|trainable\ params:|torch\.distributed|\busage:\ \S+\.py
    |(?:Runtime|Value|Key|Type|Import|ModuleNotFound|FileNotFound|Assertion)Error:""",
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)


# A setting `loss: 1.0` is no line of a log.
NO_LOGS = (".yaml", ".yml", ".toml", ".csv", ".tsv", ".xml", ".ini", ".cfg")


def looks_like_log(peek: Peek) -> bool:
    """Recognise console output by the marks of trainers, loggers, launchers and tracebacks."""
    if (
        peek.binary
        or peek.name.endswith(NO_LOGS)
        or (peek.text.lstrip()[:1] in ("{", "[") and peek.keys)
    ):
        return False
    return bool(LOG_MARKS.search(peek.window))


# Names that weights have; other `.bin` files are weights only if they begin as torch files do.
TORCH_NAMES = (
    "*.pt", "*.pth", "*.ckpt", "*model*.bin", "*adapter*.bin", "*weight*.bin", "*checkpoint*.bin",
    "*ckpt*.bin", "*lora*.bin", "*consolidated*.bin", "*head*.bin", "*embed*.bin", "*proj*.bin",
    "*state*.bin",
)  # fmt: skip
TOKEN_ID_NAMES = (
    "train.bin", "train[_-]*.bin", "train[0-9]*.bin", "val*.bin", "test*.bin", "dev*.bin",
    "eval*.bin", "*tokens*.bin", "*_ids.bin", "*_document.bin", "*_document.idx",
)  # fmt: skip
STATE_NAMES = (
    "optimizer.pt", "optimizer.bin", "optimizer_*.pt", "optimizer.safetensors", "scheduler.pt",
    "scheduler.bin", "scaler.pt", "rng_state*.pth", "random_states_*.pkl", "*_optim_states.pt",
    "*_model_states.pt", "global_step*/*", "latest",
)  # fmt: skip
MEDIA_NAMES = (
    "*.png", "*.jpg", "*.jpeg", "*.svg", "*.gif", "*.pdf", "*.webp", "*.mp4", "*.html", "*.css",
    "*.md", "*.rst", "*.tex", "*.diff", "*.patch", "license*",
)  # fmt: skip
SHELL_NAMES = (
    "*.sh", "*.bash", "*.zsh", "*.slurm", "*.sbatch", "*.pbs", "*.lsf", "*.bat", "*.cmd", "*.ps1",
    "makefile", "*.mk", "dockerfile", "dockerfile.*",
)  # fmt: skip
REQUIREMENTS_NAMES = (
    "requirements*.txt", "*requirements.txt", "requirements/*.txt", "constraints*.txt",
    "*freeze*.txt", "pip_list*.txt", "conda_list*.txt", "pyproject.toml", "setup.cfg", "pipfile",
    "pipfile.lock", "poetry.lock", "uv.lock", "pdm.lock", "environment.yml", "environment.yaml",
    "conda.yml", "conda.yaml", "conda-lock.yml",
)  # fmt: skip
VOCABULARY_NAMES = (
    "vocab.json", "merges.txt", "vocab.txt", "vocab.bpe", "encoder.json", "*.tiktoken", "*.spm",
    "tokenizer.model", "spiece.model", "sentencepiece*.model",
)  # fmt: skip
PROCESSOR_NAMES = (
    "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
)  # fmt: skip
DATA_NAMES = (
    "train*.jsonl", "eval*.jsonl", "val*.jsonl", "test*.jsonl", "dev*.jsonl", "*dataset*.jsonl",
    "data/*.jsonl",
)  # fmt: skip
TABLE_NAMES = (
    "train*.csv", "eval*.csv", "val*.csv", "test*.csv", "dev*.csv", "*dataset*.csv", "train*.tsv",
    "eval*.tsv", "val*.tsv", "test*.tsv", "dev*.tsv",
)  # fmt: skip
DATA_TEXT_NAMES = ("train*.txt", "corpus*.txt", "data/*.txt")
PARQUET_GENERATIONS = ("completions*", "generations*", "predictions*", "*outputs*")
SETTINGS_NAMES = (
    "*config*.json", "*.toml", "*args*.json", "params.json", "hparams*.json", "*.yaml", "*.yml",
)  # fmt: skip
CONSOLE_NAMES = (
    "nohup*", "*.log", "*.out", "*.err", "running_log.txt", "*log*.txt", "stdout*", "stderr*",
    "slurm-*", "error.txt",
)  # fmt: skip

# Order matters: the first sniff that agrees wins (without a sniff: the name), then the first name.
KINDS: tuple[Kind, ...] = (
    # known by signature
    Kind("gguf", "gguf:read_gguf", ("*.gguf",), starts(b"GGUF")),
    Kind("wandb-binary", "wandb:read_binary", ("*.wandb",), starts(b":W&B")),
    Kind("tensorboard", "tensorboard:read_tensorboard", ("events.out.tfevents.*",), _tfevents),
    Kind(
        "training-args", "training_args:read_training_args", ("training_args.bin",), _pickled_args
    ),
    Kind(
        "training-state",
        names=STATE_NAMES,
        why="optimizer state: only its presence is used",
        evidence=False,
    ),
    Kind(
        "token-ids",
        sniff=_token_ids,
        why="token ids as plain numbers: not read; the text they were made of is",
        evidence=False,
    ),
    Kind("torch-weights", "torch_file:read_torch_file", TORCH_NAMES, _torch),
    Kind("safetensors", "safetensors:read_safetensors", ("*.safetensors",), _safetensors),
    Kind("data-arrow", "arrow:read_arrow", ("*.arrow",), _arrow),
    Kind("generations", "data:read_generations", (), _parquet_generations),
    Kind("data-parquet", "data:read_parquet", ("*.parquet",), starts(b"PAR1")),
    Kind(
        "mlflow-database",
        "mlflow:read_database",
        ("mlflow.db", "mlruns.db"),
        starts(b"SQLite format 3\0"),
    ),
    Kind(
        "pickle",
        names=("*.pkl", "*.pickle", "*.joblib"),
        evidence=False,
        why="a pickle is a program: not loaded",
    ),
    # known by name alone
    Kind("notebook", "notebook:read", ("*.ipynb",)),
    Kind("script", "script:read", ("*.py", "*.pyw")),
    Kind("shell", "shell:read", SHELL_NAMES),
    Kind("requirements", "requirements:read", REQUIREMENTS_NAMES, evidence=False),
    Kind("model-card", "card:read_card", ("readme.md",)),
    Kind("html-table", "tables:read_html", (), _progress_page),
    Kind("media", names=MEDIA_NAMES, why="picture, document or patch", evidence=False),
    Kind("script", "script:read", (), line_has(r"\A#!.*python")),
    Kind("shell", "shell:read", (), line_has(r"\A#!.*sh\r?$")),
    Kind(
        "modelfile",
        "modelfile:read_modelfile",
        ("modelfile", "modelfile.*", "*.modelfile"),
        _modelfile,
    ),
    Kind("chat-template", "tokenizer:read_template_file", ("*.jinja", "*.jinja2")),
    Kind("mlflow-metric", "mlflow:read_metric", (), _mlflow("metrics")),
    Kind("mlflow-param", "mlflow:read_param", (), _mlflow("params")),
    Kind(
        "mlflow-experiment",
        sniff=lambda peek: {"experiment_id", "artifact_location"} <= peek.yaml_keys,
        why="describes the folder of the tracker",
        evidence=False,
    ),
    Kind("mlflow-tag", sniff=_mlflow("tags"), why="a tag of the tracker", evidence=False),
    Kind("mlflow-meta", "mlflow:read_meta", (), _mlflow_meta),
    # JSON, YAML and CSV known by their keys
    Kind(
        "weights-index",
        "safetensors:read_index",
        ("*.safetensors.index.json", "*.bin.index.json"),
        has("weight_map"),
    ),
    Kind(
        "trainer-state",
        "trainer_state:read_trainer_state",
        ("*trainer_state*.json",),
        has_any("log_history", "best_model_checkpoint"),
    ),
    Kind(
        "adapter-config", "settings:read_adapter_config", ("adapter_config.json",), has("peft_type")
    ),
    Kind(
        "tokenizer-config",
        "tokenizer:read_tokenizer_config",
        ("tokenizer_config.json",),
        _tokenizer_config,
    ),
    Kind(
        "tokenizer", "tokenizer:read_tokenizer", ("tokenizer.json",), has("added_tokens", "model")
    ),
    Kind(
        "special-tokens",
        "tokenizer:read_special_tokens",
        ("special_tokens_map.json", "added_tokens.json"),
    ),
    Kind("chat-template-json", "tokenizer:read_template_json", ("chat_template.json",)),
    Kind(
        "vocabulary",
        names=VOCABULARY_NAMES,
        evidence=False,
        why="vocabulary: tokenizer.json is read instead",
    ),
    Kind("processor-config", "tokenizer:read_processor", PROCESSOR_NAMES),
    Kind("dataset-info", "data:read_dataset_info", ("dataset_info.json",), has("_data_files")),
    Kind("generation-config", "settings:read_generation_config", ("generation_config.json",)),
    Kind("wandb-summary", "wandb:read_summary", ("wandb-summary.json",)),
    Kind("wandb-metadata", "wandb:read_metadata", ("wandb-metadata.json",)),
    Kind(
        "wandb-config",
        "wandb:read_config",
        ("wandb/*/files/config.yaml",),
        lambda peek: bool({"_wandb", "wandb_version"} & peek.yaml_keys),
    ),
    Kind(
        "tinker-checkpoints",
        "checkpoints:read_tinker_checkpoints",
        ("*checkpoints.jsonl",),
        has_any("state_path", "sampler_path"),
    ),
    Kind("tinker-listing", "checkpoints:read_tinker_listing", (), has("tinker_path")),
    Kind("openai-events", "openai:read_openai", (), line_has(r'"fine_tuning\.job')),
    Kind(
        "results",
        "results:read_results",
        (
            "all_results*.json",
            "train_results*.json",
            "eval_results*.json",
            "test_results*.json",
            "predict_results*.json",
        ),
        has_any("train_runtime", "eval_runtime", "train_samples_per_second"),
    ),
    Kind("history", "history:read_history", (), _history),
    Kind(
        "trainer-log",
        "metrics_jsonl:read_metrics_jsonl",
        ("trainer_log.jsonl",),
        has("current_steps", "total_steps"),
    ),
    Kind(
        "timing-spans",
        "metrics_jsonl:read_timing_spans",
        ("timing_spans.jsonl",),
        both(has("spans"), line_has(r'"wall_start"')),
    ),
    Kind("ray-result", "ray:read_result", (), has("training_iteration")),
    Kind(
        "ray-progress",
        "csv_log:read_csv_log",
        (),
        both(_csv, lambda peek: "training_iteration" in peek.columns),
    ),
    Kind("openai-metrics", "openai:read_step_metrics", ("step_metrics.csv",), _openai_metrics),
    Kind("csv-log", "csv_log:read_csv_log", ("metrics.csv",), _csv_log),
    Kind(
        "metrics-jsonl",
        "metrics_jsonl:read_metrics_jsonl",
        ("*metrics.jsonl", "metrics.jsonl.pre_resume_*"),
        _metrics_jsonl,
    ),
    Kind("model-config", "settings:read_model_config", (), _model_config),
    # training data and what the model generated
    Kind("generations", "data:read_generations", (), _generations),
    Kind("data-json", "data:read_json", DATA_NAMES, _rows),
    Kind("data-csv", "data:read_csv", TABLE_NAMES, _table),
    # configuration
    Kind("settings", "settings:read_settings", (), _settings),
    # logs, by looks
    Kind("console", "console:read_console", CONSOLE_NAMES, looks_like_log),
    # by name, when nothing else claims it
    Kind("ticket", "ticket:read_ticket", (), never),
    Kind("data-text", "data:read_text", DATA_TEXT_NAMES, never),
    Kind("settings", "settings:read_settings", SETTINGS_NAMES, never),
)


@cache
def added_kinds() -> tuple[Kind, ...]:
    """Return the kinds of other packages: entry points of group `ftdoctor.readers`, each a Kind."""
    return tuple(entry.load() for entry in entry_points(group="ftdoctor.readers"))


def classify(source: Source) -> Kind | None:
    """Return a file's kind, content before name, or None if no kind claims it.

    The kinds of other packages are asked first: who adds one knows the file better.
    """
    peek = Peek(source)
    kinds = (*added_kinds(), *KINDS)
    pointer = peek.head.startswith(LFS_MARK)
    if not pointer and source.size:
        for kind in kinds:
            if kind.sniff(peek) if kind.sniff else kind.named(source.path):
                return kind
    return next((kind for kind in kinds if kind.named(source.path)), None)
