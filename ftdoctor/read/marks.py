"""What a line of a log may hold, told by one pass of an automaton: rows, events, trouble."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import re2

# Checked against the literal messages that the signatures look for; wide on purpose: a line too
# many costs a few bytes, a line too few hides a cause.
TROUBLE = (
    "error|warn|exception|traceback|fatal|critical|panic|assert|nan\\b|\\binf\\b|overflow|underflow"
    "|kill|oom|out of memory|memory|fail|abort|signal|sig[a-z]{3,4}\\b|segfault|fault|core dumped"
    "|cannot|can't|can not|could not|couldn't|unable|not found|no such|denied|invalid|illegal"
    "|missing|mismatch|deprecat|unexpected|truncat|exceed|longer than|too long|ignor|skip|drop"
    "|disk|quota|no space|timeout|timed out|time limit|nccl|cuda|\\bxid\\b|\\becc\\b|xla|rocm|hip "
    "|not set|not support|unsupported|not implement|not initialized|newly initialized|not match"
    "|does not|do not|doesn't|don't|did not|isn't|is not|are not|has no|have no|without|must be"
    "|should|require|only support|at least|at most|already|instead|fallback|falling back|offload"
    "|nothing to|empty|zero|frozen|freez|stuck|hang|stall|slow|retry|retrie|refused|reset|closed"
    "|disconnect|unreachable|preempt|cancel|interrupt|terminat|exit|stopped|stopping|early stop"
    "|corrupt|incomplete|damaged|expired|unauthorized|forbidden|gated"
    "|\\b(?:401|403|404|429|50[023]) [a-z]"
    "|resum|checkpoint|ckpt|saving|saved|trainable|all params|num examples|num epochs|optimization"
    "|batch size|accumulation|running training|running evaluation|train(?:ing)? (?:complete|finish)"
    "|pad_token|eos_token|bos_token|unk_token|chat.template|special tokens|tokenizer|vocab"
    "|dtype|precision|bf16|fp16|float16|loss.scale|gradient|requires_grad|use_cache|attention"
    "|world.size|backend|device|wandb: run|shm|bus error|command|argument|usage:|permission"
    "|connection|download|duplicate|conflict|incompatible|version|undefined symbol|glibc|import"
    "|err\\b|no longer|attempt|data files|columns|your choice|continu|nonfinite|paused|unsloth|sxid"
    "|masked|evaluation_loop|nested_concat|logits"
)
# Metric rows: a word that one of them must hold.
ROW = (
    "(?i)loss|nll|reward|acc|ppl|perplex|norm|entropy|\\bkl\\b|bpb|\\bf1\\b|bleu|rouge|runtime"
    "|\\bwer\\b|step=\\d|\\bval\\b|↓|↑|▼|▲|\\bkl[_/:=]|epoch\\W"
)
# Lines that may state a device, a version, a count or an exit code (see `headers`).
STATEMENT = (
    "(?i)trainable|unsloth|transformers:|torch:|bfloat16|gpu|world.?size|device|iters:|batches x"
    "|return code|exitcode"
)
ROW_WITHIN = "loss|nll|reward|accuracy|perplexity|\\bacc\\b|grad.norm|train_runtime|step=\\d"
# Kinds of events, the first that matches counts.
EVENTS: tuple[tuple[str, str], ...] = (
    (
        "killed",
        r"^(?:.*: line \d+:\s+\d+ )?(?:Killed|Terminated|Bus error|Segmentation fault|Aborted)\b"
        r"|oom[_-]kill|slurmstepd: error: .*(?:CANCELLED|Exceeded .*memory limit|time limit)"
        r"|srun: error: .*(?:Killed|Out Of Memory|Segmentation fault)"
        r"|DUE TO (?:TIME LIMIT|PREEMPTION)"
        r"|return code = -\d|exitcode: -\d|[Ss]ignal (?:9|11|15|SIG(?:KILL|TERM|SEGV)) ",
    ),
    (
        "exit",
        r"failed \(exitcode: \d+\)|exits with return code = [1-9]"
        r"|[Ee]xit(?:ed with)? (?:code|status):? [1-9]|^[\w./-]+: error: |srun: error: .*[Ee]xit"
        r"|^\s*exitcode\s*: |CANCELLED AT"
        r"|^\S+: .*(?:bad interpreter|command not found|cannot execute)",
    ),
    (
        "resumed",
        r"(?i)continuing training from (?:checkpoint|global step|epoch)"
        r"|resum(?:ing|ed) (?:training )?from"
        r"|will skip the first \d+ epochs|loaded checkpoint .* from (?:step|iteration) \d"
        r"|successfully loaded checkpoint from",
    ),
    (
        "checkpoint-saved",
        r"(?i)saving model checkpoint to"
        r"|saved (?:model |adapter |training )?(?:checkpoints?|weights)"
        r"|saving (?:the )?checkpoint|checkpoint saved|successfully saved checkpoint"
        r"|saved adapter weights|-> (?:checkpoint|ckpt) |^\s*save\s+\S+\.safetensors"
        r"|model weights saved in|saved checkpoints?:",
    ),
    (
        "started",
        r"\*\*\*\*\* Running training \*\*\*\*\*|finetuning \| Num GPUs used"
        r"|[Ss]tarting train(?:er\.\.\.|ing)|\bcmd = \S*python|Training for \d+ batches"
        r"|^\+ (?:srun|torchrun|python)",
    ),
    (
        "finished",
        r"(?i)training completed|training (?:has )?finished|training complete\b|\bDONE \|"
        r"|finished training|do not forget to share your model on huggingface"
        r"|`Trainer\.fit` stopped: `max_(?:steps|epochs)",
    ),
    (
        "warning",
        r"\b\w*Warning: |\bWARN(?:ING)?\b[\]:| ]|\[W\d{3,}|^W\d{4} |\bERROR\b[\]:| ]|\bCRITICAL\b",
    ),
)
ROW_MARK, STATEMENT_MARK, INTEREST_MARK = "row", "statement", "interest"
_MEMORY = 64 << 20  # bytes for the automaton


@cache
def marker() -> Callable[[str], frozenset[str]]:
    """Return the function that names what a line may hold: event kinds and the three marks."""
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    together = re2.Set.SearchSet(options)
    names = []
    for name, pattern in (
        *EVENTS,
        (ROW_MARK, ROW),
        (STATEMENT_MARK, STATEMENT),
        (INTEREST_MARK, f"(?i){TROUBLE}"),
    ):
        together.Add(pattern)
        names.append(name)
    together.Compile()
    sets: dict[tuple[int, ...], frozenset[str]] = {}

    def mark(text: str) -> frozenset[str]:
        found = tuple(together.Match(text) or ())
        known = sets.get(found)
        if known is None:
            known = sets[found] = frozenset(names[index] for index in found)
        return known

    return mark


def event_kind(marks: frozenset[str]) -> str | None:
    """Return the kind of event that a line tells of, None for most lines."""
    return next((kind for kind, _ in EVENTS if kind in marks), None)


@cache
def candidate_pattern() -> re2._Regexp[bytes]:
    """Return the RE2 pattern that finds in a block what may be a row or trouble.

    A match ends with its line, so that none has two.
    """
    return re2.compile(f"(?i)(?:{ROW_WITHIN}|{TROUBLE})[^\\n]*".encode())


@cache
def outstanding_pattern() -> re2._Regexp[bytes]:
    """Return the same of what may be a row or tells of an event other than a warning."""
    told = [f"(?:{pattern})" for kind, pattern in EVENTS if kind != "warning"]
    wanted = "|".join([f"(?i:{ROW_WITHIN})", "Traceback", *told])
    return re2.compile(f"(?m)(?:{wanted})[^\\n]*".encode())
