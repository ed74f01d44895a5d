"""What a log says outside of its metric rows: settings, counts, devices, versions, aggregates."""

from __future__ import annotations

import re
from typing import Any

from ftdoctor.model import Fact, Where
from ftdoctor.read.numeric import parse_number

SETTING_LIMIT = 2_000  # characters of one setting

_STEP = re.compile(
    r"(?i)(?:checkpoint|step|iter|ckpt s|global step|weights/)[-_ :]?0*(\d+)\b|Iter (\d+):"
)


def step_of(text: str) -> int | None:
    """Return the step that a line about a checkpoint names."""
    found = [m[1] or m[2] for m in _STEP.finditer(text)]
    return int(found[-1]) if found else None


# --- settings and counts ----------------------------------------------------------------------

# Labels of the Trainer's and Unsloth's banners: ("setting" or "fact", name).
_LABELS = {
    "num examples": ("fact", "progress.num_examples"),
    "num epochs": ("setting", "num_train_epochs"),
    "instantaneous batch size per device": ("setting", "per_device_train_batch_size"),
    "batch size per device": ("setting", "per_device_train_batch_size"),
    "total train batch size": ("setting", "total_train_batch_size"),
    "total batch size": ("setting", "total_train_batch_size"),
    "gradient accumulation steps": ("setting", "gradient_accumulation_steps"),
    "total optimization steps": ("fact", "progress.max_steps"),
    "total steps": ("fact", "progress.max_steps"),
    "number of trainable parameters": ("fact", "log.trainable_parameters"),
    "trainable parameters": ("fact", "log.trainable_parameters"),
    "num gpus used": ("fact", "environment.gpu_count"),
    "num gpus": ("fact", "environment.gpu_count"),
}
_LABEL = re.compile(
    rf"(?i)\b({'|'.join(sorted(_LABELS, key=len, reverse=True))})(?: \([^)]*\))? = ([\d,]+)"
    r"(?: of ([\d,]+))?"
)
_SECTION = re.compile(r"\*{3,} ?(?:Running )?(\w+)(?: (\w+))? ?\*{3,}")
_AGGREGATE = re.compile(r"^\s+(\w+)\s+=\s+(\S+)\s*$")
# One pattern, its groups in the order of the names.
_SINGLE: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(pattern), names)
    for pattern, names in (
        (
            r"trainable params: ([\d,]+) \|\| all params: ([\d,]+)",
            ("log.trainable_parameters", "log.total_parameters"),
        ),
        (r"Unsloth:? (\d[\w.]+): Fast", ("environment.package.unsloth",)),
        (r"Transformers: (\d[\w.+]*\w)", ("environment.package.transformers",)),
        (r"Torch: (\d[\w.+]*\w)", ("environment.package.torch",)),
        (r"(?:Bfloat16|BF16) = (TRUE|FALSE)", ("environment.bf16",)),
        (r"((?:NVIDIA|Tesla|AMD) [\w -]+?)\. Num GPUs", ("environment.gpu",)),
        (r"GPU = ([\w -]+?)\. Max memory", ("environment.gpu",)),
        (r"(?:dist_world_size|world[_ ]size)\s*[=:]\s*(\d+)", ("environment.world_size",)),
        (
            r"(?i)\bdevice(?: type| name)?\s*[:=]\s*(?:torch\.device\()?"
            r"['\"]?(cuda|mps|cpu|xpu|npu|tpu)\b",
            ("environment.device",),
        ),
        (r"(?i)using device:? ['\"]?(cuda|mps|cpu|xpu|npu|tpu)\b", ("environment.device",)),
        (r"GPU available: (?:True|False) ?\(?(cuda|mps)?", ("environment.device",)),
        (r"Training for \d+ batches x \d+ epochs = (\d+) steps", ("progress.max_steps",)),
        (r"Starting training\.\.\., iters: (\d+)", ("progress.max_steps",)),
        (r"return code = (-?\d+)", ("log.exit_code",)),
        (r"failed \(exitcode: (-?\d+)\)", ("log.exit_code",)),
    )
)
_PER_EPOCH = re.compile(r"Num update steps per epoch = ([\d,]+)")
_TRAINERS: tuple[tuple[str, str], ...] = (
    ("==((====))==  Unsloth", "unsloth"),
    ("[axolotl.", "axolotl"),
    ("llamafactory", "llama-factory"),
    ("llmtuner", "llama-factory"),
    ("mlx_lm.lora", "mlx"),
    ("tinker_cookbook", "tinker"),
    ("tinker://", "tinker"),
    ("***** Running training *****", "hf"),
)
# `model=Qwen/Qwen3-8B seed=42 rank=32 lr=5e-06`: announced by hand-written trainers.
_ANNOUNCED = re.compile(r"\b([A-Za-z_]\w*)\s?=\s?([^\s,|;()]+)")
_KNOWN = frozenset(
    {"lr", "learning_rate", "rank", "lora_rank", "lora_r", "lora_alpha", "batch_size", "epochs",
     "num_epochs", "seed", "model", "model_name", "max_length", "max_seq_length", "weight_decay",
     "warmup_steps", "grad_accum", "gradient_accumulation_steps", "group", "group_size", "temp",
     "temperature"}
)  # fmt: skip
# The box with which mlx-lm begins (cli_ui.py, print_lora_run_header): the names of a line's values.
_BOXED = re.compile(r"\s*│\s+(\S.*?)\s{2,}(\S.*?)\s*│?\s*")
_BOX: dict[str, tuple[re.Pattern[str], tuple[str, ...]]] = {
    label: (re.compile(pattern), names)
    for label, pattern, names in (
        ("model", r"(.+)", ("model",)),
        (
            "type",
            r"(\w+)(?: · (\d+) layers)?(?: · rank (\d+))?",
            ("fine_tune_type", "num_layers", "lora_rank"),
        ),
        ("dataset", r"(.+)", ("data",)),
        ("optimizer", r"(\w+)(?: · lr ([\d.e+-]+))?.*", ("optimizer", "learning_rate")),
        ("batch · iters", r"([\d,]+) · ([\d,]+)", ("batch_size", "iters")),
        ("max seq", r"([\d,]+)", ("max_seq_length",)),
    )
}
# Short names that scripts give their arguments; read as such only beside a learning rate.
_SHORT = {
    "wd": "weight_decay", "bs": "batch_size", "bsz": "batch_size", "ga": "grad_accum",
    "gas": "grad_accum", "accum": "grad_accum", "accum_steps": "grad_accum",
    "ep": "num_epochs", "nep": "num_epochs", "clip": "max_grad_norm",
    "grad_clip": "max_grad_norm", "max_len": "max_length", "maxlen": "max_length",
    "seq_len": "max_length", "wu": "warmup_steps", "steps": "max_steps", "b1": "adam_beta1",
    "beta1": "adam_beta1", "b2": "adam_beta2", "beta2": "adam_beta2",
}  # fmt: skip
_PRINTED_DICT = re.compile(r"\{['\"]\w+['\"]: .*\}")
_ENTRY = re.compile(r"['\"](\w+)['\"]: ('[^']*'|\"[^\"]*\"|\[[^\]]*\]|[^,{}]+)")
_NAMESPACE = re.compile(r"\bNamespace\((.*)\)\s*$")
_DUMP_START = re.compile(r"(?:\w*(?:Arguments|Config|Args))\($")
_DUMP_ITEM = re.compile(r"^\s*(\w+)=(.*?),?\s*$")
_ARGUMENT = re.compile(r"(\w+)=('[^']*'|\"[^\"]*\"|\[[^\]]*\]|[^,]+)")
# karpathy/nanoGPT configurator.py: the text of a configuration file, or one option.
_OVERRIDES = re.compile(r"\s*Overriding config with \S+:\s*$")
_OVERRIDE = re.compile(r"\s*Overriding: ([A-Za-z_]\w*) = (.+)$")
_PYTHON_ITEM = re.compile(r"([A-Za-z_]\w*) = ('[^']*'|\"[^\"]*\"|[-+.\w]+)\s*(?:#.*)?$")
_COMMAND = re.compile(r"(?:\bcmd = |^\+ |^\$ |Executing: )(.*--\w.*)$")
_OPTION = re.compile(r"--([A-Za-z][\w-]*)(?:[ =](?!--)('[^']*'|\"[^\"]*\"|[^\s]+))?")
_DEEPSPEED_ITEM = re.compile(r"\[config\.py:\d+:print\]\s+(\w+) \.{3,} (.+)$")
_ROOT_CAUSE = "Root Cause (first observed failure)"
_FAILURE_ITEM = re.compile(r"^\s*(rank|exitcode)\s*: (-?\d+)")
_WANDB = re.compile(r"^wandb:\s+(\S.*?)\s+(\S+)\s*$")


class Headers:
    """Gathers settings and facts from the lines of one log; `look` takes them in order."""

    def __init__(self, path: str) -> None:
        self.planned: int | None = None
        self._facts: list[Fact] = []
        self._settings: list[Fact] = []
        self._per_epoch: float | None = None
        self._total_batch: int | None = None
        self._path = path
        self._first_failure = False
        self._section = ""
        self._dump = False
        self._overrides = False
        self._epochs: float | None = None
        self._trainers: set[str] = set()
        self._wandb_summary = False

    @property
    def in_summary(self) -> bool:
        """Say whether the lines are now the aggregates at the end of a run."""
        return self._section == "metrics" or self._wandb_summary

    @property
    def steps_per_epoch(self) -> float | None:
        """Return the optimizer steps of one epoch as far as the banner tells them.

        Examples by batch is exact, but not for GRPO, which repeats prompts: it must agree with the
        planned steps. With max_steps set the Trainer prints the epochs rounded up.
        """
        if self._per_epoch is not None or not self.planned or not self._epochs:
            return self._per_epoch
        planned = self.planned / self._epochs
        examples = next((f.value for f in self._facts if f.name == "progress.num_examples"), None)
        if examples and self._total_batch:
            exact = float(examples / self._total_batch)
            if abs(exact - planned) <= 1:
                return exact
        return planned if planned == int(planned) else None

    def found(self) -> list[Fact]:
        """Return the facts; of exit codes only the last, which is that of the last launch."""
        codes = [fact for fact in self._facts if fact.name == "log.exit_code"]
        return [f for f in self._facts if f.name != "log.exit_code"] + codes[-1:]

    def settings(self) -> list[Fact]:
        """Return the settings, those of the last launch first, each value once."""
        seen: dict[tuple[str, str], Fact] = {}
        for fact in reversed(self._settings):
            seen.setdefault((fact.name, repr(fact.value)), fact)
        return list(seen.values())

    def look(self, text: str, line: int, *, before_rows: bool, stated: bool = True) -> None:
        """Take one line that is no metric row; `stated`: it may hold a device, version or count."""
        where = Where(self._path, line=line)
        if self._in_dump(text, where) or self._in_block(text, where):
            return
        if before_rows and self._in_overrides(text, where):
            return
        if "│" in text and self._in_box(text, where):
            return
        if self._failure(text, where):
            return
        section = _SECTION.search(text) if "***" in text else None
        if section:
            self._section = (section[2] or section[1]).lower()
        if " = " in text:
            self._labels(text, where)
        if stated:
            self._singles(text, where)
        for mark, trainer in _TRAINERS:
            if mark in text and trainer not in self._trainers:
                self._trainers.add(trainer)
                self._facts.append(Fact("run.trainer", trainer, where))
        if before_rows and "{" in text:
            self._printed_dict(text, where)
        if "=" in text or "--" in text or "...." in text:
            self._assignments(text, where, before_rows=before_rows)

    # --- blocks ---

    def _in_dump(self, text: str, where: Where) -> bool:
        """Take a line of `TrainingArguments(` … `)`, as the examples of transformers print it."""
        if not self._dump:
            self._dump = text.endswith("(") and bool(_DUMP_START.search(text))
            return self._dump
        found = _DUMP_ITEM.match(text)
        if found:
            self._set(found[1], _value(found[2]), where)
        else:
            self._dump = False
        return found is not None

    def _in_overrides(self, text: str, where: Where) -> bool:
        """Take a line of nanoGPT's configuration file, which it prints, or of an option."""
        option = _OVERRIDE.match(text)
        if option:
            self._set(option[1], _value(option[2]), where)
            return True
        if not self._overrides:
            self._overrides = bool(_OVERRIDES.match(text))
            return self._overrides
        item = _PYTHON_ITEM.match(text)
        if item:
            self._set(item[1], _value(item[2]), where)
        else:
            self._overrides = text.startswith("#")
        return self._overrides or item is not None

    def _in_block(self, text: str, where: Where) -> bool:
        """Take a line of `***** train metrics *****` or of W&B's `Run summary:`."""
        if text.startswith("wandb:"):
            if "Run summary:" in text:
                self._wandb_summary = True
                return True
            found = _WANDB.match(text) if self._wandb_summary else None
            if found and (value := parse_number(found[2])) is not None:
                self._facts.append(Fact(f"summary.{found[1]}", value, where))
                return True
            self._wandb_summary = self._wandb_summary and text.strip() in ("wandb:", "wandb: ")
            return False
        if self._section == "metrics":
            found = _AGGREGATE.match(text)
            if found:
                value = parse_number(found[2])
                if value is not None:
                    self._facts.append(Fact(f"summary.{found[1]}", value, where))
                return True
            self._section = ""
        return False

    def _in_box(self, text: str, where: Where) -> bool:
        """Take a line of mlx-lm's box."""
        line = _BOXED.fullmatch(text)
        pattern, names = _BOX.get(line[1], (None, ())) if line else (None, ())
        found = pattern.fullmatch(line[2]) if line and pattern else None
        if found is None:
            return False
        for name, raw in zip(names, found.groups(), strict=True):
            if raw is not None:
                digits = raw.replace(",", "")
                self._set(name, int(digits) if digits.isdigit() else _value(raw), where)
        if "iters" in names:
            self.planned = int(found[2].replace(",", ""))
            self._facts.append(Fact("progress.max_steps", self.planned, where))
        return True

    def _failure(self, text: str, where: Where) -> bool:
        """Take a line of torchrun's `Root Cause (first observed failure):`."""
        if _ROOT_CAUSE in text:
            self._first_failure = True
            return True
        found = _FAILURE_ITEM.match(text) if self._first_failure else None
        if found is None:
            return False
        name = "log.first_failed_rank" if found[1] == "rank" else "log.exit_code"
        self._facts.append(Fact(name, int(found[2]), where))
        self._first_failure = found[1] == "rank"
        return True

    # --- single lines ---

    def _labels(self, text: str, where: Where) -> None:
        if self._section in ("evaluation", "prediction"):
            return
        for found in _LABEL.finditer(text):
            what, name = _LABELS[found[1].lower()]
            value = int(found[2].replace(",", ""))
            if what == "setting":
                self._set(name, value, where)
                if name == "num_train_epochs":
                    self._epochs = float(value)
                elif name == "total_train_batch_size":
                    self._total_batch = value
            else:
                self._facts.append(Fact(name, value, where))
            if name == "progress.max_steps":
                self.planned = value
            if found[3]:
                total = int(found[3].replace(",", ""))
                self._facts.append(Fact("log.total_parameters", total, where))
        per_epoch = _PER_EPOCH.search(text)
        if per_epoch:
            self._per_epoch = float(per_epoch[1].replace(",", ""))

    def _singles(self, text: str, where: Where) -> None:
        for pattern, names in _SINGLE:
            found = pattern.search(text)
            if not found:
                continue
            for name, raw in zip(names, found.groups(), strict=True):
                if name == "environment.device" and raw is None:
                    raw = "cpu"  # noqa: PLW2901
                value = _scalar(raw.lower() if name == "environment.device" else raw, name)
                self._facts.append(Fact(name, value, where))
                if name == "progress.max_steps":
                    self.planned = int(value)

    def _printed_dict(self, text: str, where: Where) -> None:
        """Take arguments printed as a Python dict or as JSON, which hold a learning rate."""
        printed = _PRINTED_DICT.search(text)
        entries: dict[str, str] = dict(_ENTRY.findall(printed.group())) if printed else {}
        if len(entries) >= 3 and entries.keys() & {"lr", "learning_rate"} and "loss" not in entries:
            for key, raw in entries.items():
                self._set(_SHORT.get(key, key), _value(raw), where)

    def _assignments(self, text: str, where: Where, *, before_rows: bool) -> None:
        namespace = _NAMESPACE.search(text)
        if namespace:
            arguments: dict[str, str] = dict(_ARGUMENT.findall(namespace[1]))
            short = _SHORT if arguments.keys() & {"lr", "learning_rate"} else {}
            for key, raw in arguments.items():
                self._set(short.get(key, key), _value(raw), where)
            return
        item = _DEEPSPEED_ITEM.search(text)
        if item:
            self._set(f"deepspeed.{item[1]}", _value(item[2]), where)
            return
        command = _COMMAND.search(text)
        if command:
            for key, raw in _OPTION.findall(command[1]):
                self._set(key, _value(raw) if raw else True, where)
            return
        if before_rows and not _LABEL.search(text):
            self._announced(text, where)

    def _announced(self, text: str, where: Where) -> None:
        pairs = _ANNOUNCED.findall(text)
        known = [(key, raw) for key, raw in pairs if key.lower() in _KNOWN]
        if len(pairs) < 2 or not known or len(text) > 400:
            return
        if any(key in ("lr", "learning_rate") for key, _ in known):
            known += [(key, raw) for key, raw in pairs if key in ("wd", "bs", "bsz", "ga", "clip")]
        names = {key.lower() for key, _ in pairs}
        for key, raw in known:
            name = _SHORT.get(key.lower(), key.lower())
            if name == "rank":
                # Beside a learning rate it is the adapter's, alone a process's number.
                if not names & {"lr", "learning_rate"}:
                    continue
                name = "lora_rank"
            self._set(name, _value(raw), where)

    def _set(self, name: str, value: Any, where: Where) -> None:
        if len(self._settings) < SETTING_LIMIT:
            self._settings.append(Fact(name, value, where))


def _value(raw: str) -> Any:
    """Return a printed Python value: number, bool, None or text."""
    text = raw.strip().rstrip(",").strip("'\"")
    words = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
    if text in words:
        return words[text]
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    number = parse_number(text) if re.match(r"[-+.\d]", text) else None
    return number if number is not None else text


def _scalar(raw: str, name: str) -> Any:
    if name.startswith("environment.package."):
        return raw
    if raw in ("TRUE", "FALSE"):
        return raw == "TRUE"
    return int(raw.replace(",", "")) if re.fullmatch(r"-?[\d,]+", raw) else raw
