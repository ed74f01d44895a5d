"""Hand-built diagnoses of every shape that a report can take; all numbers are invented."""

from __future__ import annotations

import math
from dataclasses import replace

from ftdoctor.model import (
    Artifact,
    ArtifactState,
    Curve,
    Diagnosis,
    Edit,
    Fact,
    Finding,
    Moment,
    NextCheck,
    Panel,
    RankedCause,
    RunSummary,
    Severity,
    Span,
    State,
    Unchecked,
    Unseen,
    Verdict,
    Weight,
    Where,
)

STARTED = 1_789_650_341.0


def wobble(index: int) -> float:
    """Return noise between -1 and 1 that is the same everywhere."""
    return math.sin(index * 12.9898) * math.cos(index * 4.1414)


def curve(name: str, values: list[float], *, split: str = "train", every: int = 2) -> Curve:
    steps = tuple(every * (i + 1) for i in range(len(values)))
    rounded = tuple(round(v, 6) if math.isfinite(v) else v for v in values)
    return Curve(name, split, steps, rounded, "trainer_state.json", len(values))


def falling(count: int, start: float = 2.7, end: float = 0.95) -> list[float]:
    return [end + (start - end) * math.exp(-6 * i / count) + 0.05 * wobble(i) for i in range(count)]


def cosine(count: int, peak: float = 2e-4) -> list[float]:
    warm = count // 20
    return [
        peak * (i + 1) / warm
        if i < warm
        else peak * 0.5 * (1 + math.cos(math.pi * (i - warm) / (count - warm)))
        for i in range(count)
    ]


LOSS_ZERO = Finding(
    "loss-drops-to-zero",
    "Train loss is exactly zero to the end of the log",
    State.PRESENT,
    "Loss is exactly 0.0 for 288 logged steps, from 0.97 at step 408 to the end at step 986",
    (Fact("loss", 0.0, Where("trainer_state.json", line=2470)),),
    curves=("loss",),
    span=Span(411, None, 400, STARTED + 1903),
)
NAN_NORM = Finding(
    "gradient-norm-nan",
    "Gradient norm is NaN",
    State.PRESENT,
    "`grad_norm` is NaN from step 411 to 986, after 47-fold growth in 70 steps",
    (
        Fact("grad_norm", math.nan, Where("trainer_state.json", line=2471)),
        Fact("grad_norm", math.nan, Where("trainer_state.json", line=5921)),
    ),
    curves=("grad_norm",),
    span=Span(411, None, 400, STARTED + 1903),
)
HALF_MPS = Finding(
    "half-precision-on-mps",
    "Half precision was on and the device was MPS",
    State.PRESENT,
    "`fp16` was on and the device was `mps`",
    (
        Fact("fp16", True, Where("train.py", line=118)),
        Fact("line", "Using device: mps", Where("stdout.log", line=14)),
    ),
)
NO_OVERFLOW = Finding(
    "overflow-lines",
    "The loss scaler reports overflows",
    State.ABSENT,
    "No `overflow` or `skipping step` in 1,204 lines of the log",
)
TORCH_UNKNOWN = Finding(
    "torch-older-than-2.1",
    "PyTorch is older than 2.1",
    State.UNOBSERVABLE,
    "No list of packages was found",
    missing=("pip freeze output", "environment.txt"),
)
OSCILLATES = Finding(
    "loss-oscillates",
    "Loss oscillates before the break",
    State.ABSENT,
    "Loss does not oscillate: 12 turns in 205 points, amplitude 0.04",
    (Fact("loss", 2.68, Where("trainer_state.json", line=12)),),
    curves=("loss",),
)
NO_EOS = Finding(
    "examples-lack-eos",
    "Training examples do not end with the end-of-text token",
    State.PRESENT,
    "0 of 7,888 examples end with token 2 `</s>`; all end with the text `<|endoftext|>`",
    (
        Fact("line", '"eos_token": "</s>",', Where("tokenizer_config.json", line=31)),
        Fact("script.literal", 'text += "<|endoftext|>"', Where("train.py", line=87)),
        Fact("data.ends_with_eos", 0, Where("data/train.jsonl", row=1)),
    ),
)
RUN_ON = Finding(
    "generations-hit-limit",
    "Generations run to the length limit",
    State.UNOBSERVABLE,
    "No file of sampled outputs was found",
    missing=("generations.jsonl", "a predictions file"),
)

NAN_CAUSE = RankedCause(
    id="nan-gradients-mps-fp16",
    title="NaN gradients from fp16 on MPS",
    probability=0.94,
    severity=Severity.CRITICAL,
    stage="numerics",
    prior=0.012,
    weights=(
        Weight("half-precision-on-mps", 6.2, "risk"),
        Weight("gradient-norm-nan", 15.2, "for"),
        Weight("loss-drops-to-zero", 11.6, "for"),
        Weight("overflow-lines", -1.9, "against"),
    ),
    unseen=(Unseen("torch-older-than-2.1", 3.0, -0.4, ("pip freeze output", "environment.txt")),),
    mechanism="Half-precision activations overflow past 65,504 in the attention logits. AdamW then"
    " writes NaN into every trained tensor in the same step.\n\nThe trainer's filter keeps NaN out"
    " of the log: a window that holds nothing but NaN is written as 0.0.",
    fix="Train in fp32 on MPS, or in bf16 on a device that has it. Clip gradients at 1.0.",
    verdict="fp16 on Apple MPS turned the gradients into NaN",
    edit=Edit("train.py", 118, "    fp16=True,", "    fp16=False,"),
    setting_fix="Set `fp16` to `false`.",
    leads_to=("Generations are empty",),
    next_check="Train 20 steps in fp32 from checkpoint-400: `grad_norm` stays finite.",
    references=("https://github.com/pytorch/pytorch/issues/1", "javascript:alert(1)"),
    span=Span(411, None, 400, STARTED + 1903),
)
EOS_CAUSE = RankedCause(
    id="eos-not-in-training-data",
    title="Training text ends with a string that is not this tokenizer's EOS",
    probability=0.91,
    severity=Severity.CRITICAL,
    stage="tokenizer",
    prior=0.03,
    weights=(Weight("examples-lack-eos", 21.9, "for"), Weight("overflow-lines", 3.2, "explained")),
    unseen=(Unseen("generations-hit-limit", 8.0, -7.5, ("generations.jsonl",)),),
    mechanism="The model never sees its own end-of-text token, so it never learns to write it.",
    fix="- Append `tokenizer.eos_token` to every example.\n- Keep the labels of that token.",
    verdict="the training text never ends with the tokenizer's EOS",
    edit=Edit("train.py", 87, 'text += "<|endoftext|>"', "text += tokenizer.eos_token"),
    leads_to=("The model never stops generating",),
)
LR_CAUSE = RankedCause(
    id="learning-rate-too-high",
    title="Learning rate too high",
    probability=0.11,
    severity=Severity.HIGH,
    stage="optimisation",
    prior=0.05,
    weights=(
        Weight("gradient-norm-nan", 10.1, "for"),
        Weight("loss-oscillates", -3.5, "against"),
        Weight("loss-drops-to-zero", -2.9, "explained"),
    ),
    unseen=(),
    mechanism="Steps overshoot.",
    fix="Halve the learning rate.",
    setting_fix="Set `learning_rate` to `1e-4`.",
    explained_by="nan-gradients-mps-fp16",
)
UNLIKELY_CAUSE = replace(
    LR_CAUSE, id="all-labels-masked", title="All labels are masked", probability=0.02
)
ADVICE = RankedCause(
    id="no-evaluation",
    title="No evaluation during training",
    probability=0.88,
    severity=Severity.LOW,
    stage="evaluation",
    prior=0.2,
    weights=(Weight("no-eval-rows", 14.6, "for"),),
    unseen=(),
    mechanism="Without it nobody sees overfitting.",
    fix="Hold out 5% and evaluate every 100 steps.",
    setting_fix="Set `eval_strategy` to `steps`.",
)
NO_EVAL = Finding(
    "no-eval-rows", "No evaluation was logged", State.PRESENT, "0 of 493 log rows are evaluations"
)

FILES = (
    Artifact("trainer_state.json", "Hugging Face trainer log", 268_012, ArtifactState.READ,
             taken="493 points"),
    Artifact("train.py", "training script (parsed, not run)", 9_120, ArtifactState.READ,
             taken="31 settings"),
    Artifact("stdout.log", "console output", 131_004, ArtifactState.PARTIAL,
             reason="the last line is cut off", taken="1,204 lines"),
    Artifact("notes.bin", "", 40, ArtifactState.UNKNOWN, reason="no known kind"),
    Artifact("checkpoint-800/optimizer.pt", "pickle", 101_000_000, ArtifactState.DAMAGED,
             reason="ends at byte 71,303,168 of 101,000,000; copy it again"),
)  # fmt: skip
UNCHECKED = (
    Unchecked("torch-older-than-2.1", "PyTorch is older than 2.1", ("pip freeze output",),
              ("nan-gradients-mps-fp16",)),
    Unchecked("generations-hit-limit", "Generations run to the length limit",
              ("generations.jsonl",), ("eos-not-in-training-data", "no-chat-template")),
    Unchecked("generations-empty", "Generations are empty", ("generations.jsonl",), ()),
    Unchecked("generations-repeat", "Generations repeat", ("generations.jsonl",), ("a", "b")),
)  # fmt: skip
TIMELINE = (
    Moment(0, STARTED, "Training starts: 7,888 examples, 1 epoch", Where("stdout.log", line=22)),
    Moment(400, STARTED + 1854, "Last checkpoint before: step 400", None, "checkpoint"),
    Moment(411, STARTED + 1903, "Gradient norm is NaN", Where("trainer_state.json", line=2471),
           "onset"),
    Moment(986, STARTED + 4589, "Training completes", Where("stdout.log", line=1204), "finished"),
)  # fmt: skip


def one_cause() -> Diagnosis:
    """Loss falls to zero at step 411: NaN gradients."""
    count, broken = 493, 205
    norm = [3 * math.exp(-i / 12) + 0.66 + 0.08 * wobble(i) for i in range(170)]
    norm += [0.66 * math.exp(3.85 * i / 35) for i in range(broken - 170)]
    return Diagnosis(
        run=RunSummary(
            "tinyllama-advisor-0917",
            model="TinyLlama-1.1B-Chat",
            method="LoRA r=16",
            trainer="TRL SFTTrainer",
            steps_done=986,
            steps_planned=986,
            started=STARTED,
            ended=STARTED + 4589,
            ending="finished",
            versions={"torch": "2.0.1", "transformers": "4.44.0"},
        ),
        verdict=Verdict(
            "cause",
            "Fp16 on Apple MPS turned the gradients into NaN, from step 411 on.",
            lead="94% probability that “NaN gradients from fp16 on MPS” is a root cause.",
            action="Restart from the checkpoint of step 400, after this change. Set `fp16` to"
            " `false`.",
        ),
        causes=(NAN_CAUSE, LR_CAUSE, UNLIKELY_CAUSE),
        advice=(ADVICE,),
        findings=(LOSS_ZERO, NAN_NORM, HALF_MPS, NO_OVERFLOW, TORCH_UNKNOWN, OSCILLATES, NO_EVAL),
        unexplained=(),
        no_known_cause=0.01,
        next_checks=(
            NextCheck(
                "pip freeze output",
                "Add pip freeze output: it would show whether “PyTorch is older than 2.1”.",
                0.12,
                ("nan-gradients-mps-fp16",),
            ),
        ),
        unchecked=UNCHECKED,
        timeline=TIMELINE,
        curves=(
            curve("loss", falling(broken) + [0.0] * (count - broken)),
            curve("grad_norm", norm + [math.nan] * (count - broken)),
            curve("learning_rate", cosine(count)),
        ),
        panels=(),
        artifacts=FILES,
        redactions={"Hugging Face token": 2, "W&B key": 1},
        versions={"ftdoctor": "0.1.0", "python": "3.11.7"},
        input_digest="5b1e07c9" * 8,
        signature_digest="9f3c41d2" * 8,
        status=1,
    )


def two_causes() -> Diagnosis:
    """The same run, and the training text lacks the end-of-text token."""
    d = one_cause()
    return replace(
        d,
        causes=(NAN_CAUSE, EOS_CAUSE, LR_CAUSE, UNLIKELY_CAUSE),
        findings=(*d.findings, NO_EOS, RUN_ON),
    )


def chain() -> Diagnosis:
    """A cause that led to another one and to a crash; overfitting with evaluation curves."""
    grows = Finding(
        "grad-norm-grows",
        "Gradient norm grows before the break",
        State.PRESENT,
        "Gradient norm rises 47-fold in the 70 steps before step 411",
        (Fact("grad_norm", 31.0, Where("trainer_state.json", line=2051)),),
        curves=("grad_norm",),
        span=Span(340, 410),
    )
    rises = Finding(
        "eval-loss-rises",
        "Evaluation loss rises while train loss falls",
        State.PRESENT,
        "Evaluation loss rises from 1.12 at step 240 to 1.61 at step 960",
        (Fact("eval_loss", 1.61, Where("trainer_state.json", line=4400)),),
        curves=("eval/loss",),
        span=Span(240, None, 240),
    )
    top = replace(NAN_CAUSE, weights=(*NAN_CAUSE.weights, Weight("grad-norm-grows", 4.0, "for")))
    child = replace(
        LR_CAUSE,
        id="overfitting",
        title="The model memorised its training set",
        probability=0.74,
        weights=(Weight("eval-loss-rises", 16.0, "for"),),
        explained_by="",
        beneath=top.id,
        span=rises.span,
    )
    d = one_cause()
    evaluated = [1.9 - 0.78 * min(i / 3, 1) + 0.055 * max(i - 3, 0) for i in range(13)]
    return replace(
        d,
        run=replace(d.run, ending="crashed"),
        causes=(top, child, UNLIKELY_CAUSE),
        findings=(*d.findings, grows, rises),
        curves=(*d.curves, curve("loss", evaluated, split="eval", every=75)),
    )


TRACEBACK = """Traceback (most recent call last):
  File "/home/~/train.py", line 61, in <module>
    dataset = load_dataset("json", data_files="data/train.jsonl")
  File "/usr/lib/python3/site-packages/datasets/load.py", line 2132, in load_dataset
    builder_instance = load_dataset_builder(
FileNotFoundError: Unable to find '/home/~/data/train.jsonl'
"""


def _crash(finding: Finding, cause: RankedCause, text: str, action: str) -> Diagnosis:
    d = one_cause()
    return replace(
        d,
        verdict=Verdict("cause", text, action=action),
        causes=(cause, UNLIKELY_CAUSE),
        findings=(finding, TORCH_UNKNOWN),
        timeline=(
            Moment(None, STARTED, "Training script starts", Where("stdout.log", line=1), "started"),
            Moment(None, STARTED + 9, finding.title, finding.facts[0].where, "traceback"),
        ),
        advice=(),
    )


def crash_before_first_step() -> Diagnosis:
    """The data set is not where the script looks; there is no curve at all."""
    finding = Finding(
        "dataset-file-not-found",
        "The data set file does not exist",
        State.PRESENT,
        "The script stops with FileNotFoundError for `data/train.jsonl`",
        (
            Fact("traceback", TRACEBACK, Where("stdout.log", line=7)),
            Fact("dataset", "data/train.jsonl", Where("train.py", line=61)),
        ),
    )
    cause = replace(
        NAN_CAUSE,
        id="dataset-path-wrong",
        title="The data set path does not exist",
        probability=0.97,
        stage="script",
        prior=0.02,
        weights=(Weight(finding.symptom, 32.0, "for"),),
        unseen=(),
        mechanism="A relative path is looked up from the folder in which the script was started.",
        fix="Give the path in full, or start the script in its folder.",
        edit=None,
        setting_fix="",
        leads_to=(),
        span=None,
        next_check="",
    )
    d = _crash(
        finding,
        cause,
        "Training never began: the data set `data/train.jsonl` does not exist.",
        "Give the path in full, or start the script in its folder.",
    )
    run = replace(d.run, steps_done=None, steps_planned=None, ending="crashed", ended=None)
    return replace(d, run=run, curves=())


def crash_in_the_middle() -> Diagnosis:
    """GPU memory runs out at step 604; the curves up to there are healthy."""
    finding = Finding(
        "cuda-out-of-memory",
        "CUDA ran out of memory",
        State.PRESENT,
        "torch.OutOfMemoryError at step 604 while allocating 2.50 GiB on a 24 GB GPU",
        (
            Fact(
                "traceback",
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB."
                " GPU 0 has a total capacity of 23.68 GiB of which 1.31 GiB is free.",
                Where("stdout.log", line=611),
            ),
        ),
        span=Span(604, 604, 600, STARTED + 2800),
    )
    cause = replace(
        NAN_CAUSE,
        id="gpu-memory-exhausted",
        title="GPU memory ran out on a long batch",
        probability=0.78,
        stage="infrastructure",
        weights=(Weight(finding.symptom, 24.6, "for"),),
        unseen=(),
        edit=Edit("config.yaml", 9, "per_device_train_batch_size: 8",
                  "per_device_train_batch_size: 4"),
        leads_to=(),
        span=finding.span,
    )  # fmt: skip
    d = _crash(
        finding,
        cause,
        "Probably: GPU memory ran out on a long batch at step 604.",
        "Set `per_device_train_batch_size` to `4` and double `gradient_accumulation_steps`.",
    )
    return replace(
        d,
        run=replace(d.run, steps_done=604, ending="crashed"),
        curves=(curve("loss", falling(302)), curve("grad_norm", falling(302, 3.0, 0.7))),
    )


def healthy() -> Diagnosis:
    """Nothing found in a run with evaluation."""
    d = one_cause()
    evaluated = [1.9 - 0.8 * (1 - math.exp(-i / 3)) for i in range(13)]
    return replace(
        d,
        verdict=Verdict(
            "healthy",
            "No known failure found; 4 checks could not be made.",
            lead="214 checks were made; the likeliest cause stays below 5%.",
        ),
        causes=(UNLIKELY_CAUSE,),
        advice=(ADVICE,),
        findings=(OSCILLATES, NO_OVERFLOW, TORCH_UNKNOWN, NO_EVAL),
        timeline=(TIMELINE[0], TIMELINE[3]),
        curves=(
            curve("loss", falling(493)),
            curve("loss", evaluated, split="eval", every=75),
            curve("grad_norm", falling(493, 3.0, 0.7)),
            curve("learning_rate", cosine(493)),
        ),
        redactions={},
        status=0,
    )


def no_known_cause() -> Diagnosis:
    """A plain symptom that nothing in the library explains."""
    d = one_cause()
    stuck = Finding(
        "loss-plateaus-high",
        "Loss stays at its first value",
        State.PRESENT,
        "Loss stays at 2.69 ± 0.05 from step 2 to 986",
        (Fact("loss", 2.69, Where("trainer_state.json", line=12)),),
        curves=("loss",),
        span=Span(2),
    )
    return replace(
        d,
        verdict=Verdict(
            "unknown",
            "No known cause is likely. Strongest symptom: loss stays at its first value.",
            lead=stuck.text,
            action="Add the files named under “What could not be checked” and diagnose again.",
        ),
        causes=(replace(LR_CAUSE, probability=0.21, explained_by=""), UNLIKELY_CAUSE),
        findings=(stuck, OSCILLATES, NAN_NORM, LOSS_ZERO, TORCH_UNKNOWN),
        unexplained=(stuck.symptom,),
        no_known_cause=0.66,
        curves=(curve("loss", [2.69 + 0.05 * wobble(i) for i in range(493)]),),
        timeline=(TIMELINE[0], TIMELINE[3]),
        status=0,
    )


def nothing_readable() -> Diagnosis:
    """A folder that holds two files, one damaged, one of no known kind."""
    return replace(
        one_cause(),
        run=RunSummary("run-7"),
        verdict=Verdict("unreadable", "Nothing here could be read: 2 files, ends at byte 12."),
        causes=(),
        advice=(),
        findings=(),
        next_checks=(),
        unchecked=(),
        timeline=(),
        curves=(),
        artifacts=(FILES[3], replace(FILES[4], path="trainer_state.json", size=12)),
        redactions={},
        status=3,
    )


QUESTION = ("Which", "plan", "covers", "a", "broken", "phone", "screen", "?")
ANSWER = ("The", "Plus", "plan", "covers", "it", "after", "ten", "days", ".")
TOKENS = (
    [
        {"text": "<s>", "special": True},
        {"text": "<|user|>", "special": True, "turn": True},
        {"text": "\n"},
    ]
    + [{"text": f"{w} "} for w in QUESTION]
    + [{"text": "<|assistant|>", "special": True, "turn": True}, {"text": "\n", "label": True}]
    + [{"text": f"{w} ", "label": True} for w in ANSWER]
    + [{"text": piece, "label": True} for piece in ("<", "|", "end", "of", "text", "|", ">")]
)


def data_only() -> Diagnosis:
    """Training data and a tokenizer, no log: the end-of-text token is missing."""
    d = one_cause()
    return replace(
        d,
        run=RunSummary("support-bot", model="TinyLlama-1.1B-Chat"),
        verdict=Verdict(
            "cause",
            "The training text never ends with the tokenizer's EOS.",
            action="Append `tokenizer.eos_token` to every example.",
        ),
        causes=(replace(EOS_CAUSE, probability=0.96),),
        advice=(),
        findings=(NO_EOS, RUN_ON, NO_OVERFLOW),
        timeline=(),
        curves=(),
        panels=(
            Panel(
                "tokens",
                "One training example as the model sees it",
                {
                    "tokens": TOKENS,
                    "source": "data/train.jsonl",
                    "row": 1,
                    "proves": ["examples-lack-eos"],
                },
            ),
            Panel(
                "lengths",
                "Lengths of the training examples",
                {
                    "edges": list(range(0, 1100, 100)),
                    "counts": [40, 180, 420, 380, 260, 170, 90, 61, 33, 12],
                    "limit": 600,
                },
            ),
            Panel("labels", "Labels", {"counts": {"refund": 480, "plan": 120, "other": 9}}),
            Panel("cost", "Cost", {"training_tokens": 4_120_000, "gpu_hours": 1.27}),
            Panel("of the future", "A kind that this version does not know", {"a": [1, 2], "b": 3}),
        ),
    )


def reinforcement() -> Diagnosis:
    """A GRPO run whose reward collapses while KL explodes."""
    count, broken = 200, 120
    reward = [0.2 + 0.5 * min(i / broken, 1) + 0.05 * wobble(i) for i in range(broken)]
    reward += [max(0.7 - 0.05 * i, 0.02) + 0.02 * wobble(i) for i in range(count - broken)]
    distance = [0.02 + 0.0006 * i + 0.004 * wobble(i) for i in range(broken)]
    distance += [0.1 * math.exp(i / 12) for i in range(count - broken)]
    explodes = Finding(
        "kl-explodes",
        "KL from the reference model explodes",
        State.PRESENT,
        "KL rises from 0.09 at step 240 to 72 at step 400",
        (Fact("kl", 72.0, Where("trainer_state.json", line=1803)),),
        curves=("kl", "reward"),
        span=Span(242, None, 200),
    )
    cause = replace(
        NAN_CAUSE,
        id="kl-coefficient-too-low",
        title="KL coefficient too low",
        probability=0.55,
        stage="reinforcement",
        weights=(Weight("kl-explodes", 20.0, "for"),),
        unseen=(),
        edit=None,
        setting_fix="Set `beta` to `0.04`.",
        span=explodes.span,
        leads_to=("Answers all look alike",),
    )
    d = one_cause()
    return replace(
        d,
        verdict=Verdict(
            "cause",
            "Possibly: the KL coefficient is too low, from step 242 on.",
            action="Restart from the checkpoint of step 200, after this change. Set `beta` to"
            " `0.04`.",
        ),
        causes=(cause, LR_CAUSE),
        findings=(explodes, OSCILLATES, NO_EVAL),
        curves=(
            curve("reward", reward),
            curve("kl", distance),
            curve("entropy", [2.0 * math.exp(-i / 90) for i in range(count)]),
            curve("completions/mean_length", [220 + 3 * i + 20 * wobble(i) for i in range(count)]),
            curve("loss", [0.01 * wobble(i) for i in range(count)]),
        ),
    )


SAMPLES = {
    "one_cause": one_cause,
    "two_causes": two_causes,
    "chain": chain,
    "crash_before_first_step": crash_before_first_step,
    "crash_in_the_middle": crash_in_the_middle,
    "healthy": healthy,
    "no_known_cause": no_known_cause,
    "nothing_readable": nothing_readable,
    "data_only": data_only,
    "reinforcement": reinforcement,
}
