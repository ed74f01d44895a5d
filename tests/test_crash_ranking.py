"""A pasted log must lead to its cause: first errors before their consequences, harmless ones to none."""

from __future__ import annotations

from functools import cache

import pytest

from ftdoctor.detect.engine import detect_all
from ftdoctor.examples import run_from_example
from ftdoctor.library import load
from ftdoctor.model import Library, Severity
from ftdoctor.rank import Ranked, rank

HEALTHY_LIMIT = 0.25

STEP = "{{'loss': {loss}, 'grad_norm': 0.4, 'learning_rate': 1e-05, 'epoch': {epoch}}}"
PROGRESS = "\n".join(STEP.format(loss=2 - i / 10, epoch=i / 10) for i in range(1, 9))
TORCHRUN_END = """\
W0801 13:23:17.366000 32974 torch/distributed/elastic/multiprocessing/api.py:900] Sending process 33051 closing signal SIGTERM
E0801 13:23:20.000000 32974 torch/distributed/elastic/multiprocessing/api.py:874] failed (exitcode: 1) local_rank: 1 (pid: 33054) of binary: python3
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
Root Cause (first observed failure):
[0]:
  rank      : 1 (local_rank: 1)
  exitcode  : 1 (pid: 33054)
"""
WATCHDOG = (
    "[rank0]:[E321 02:07:08.408271257 ProcessGroupNCCL.cpp:607] [Rank 0] Watchdog caught collective"
    " operation timeout: WorkNCCL(SeqNum=1580, OpType=ALLREDUCE, NumelIn=466119168,"
    " NumelOut=466119168, Timeout(ms)=600000) ran for 600060 milliseconds before timing out.\n"
)
OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"
    " capacity of 79.10 GiB of which 1.00 GiB is free. Of the allocated memory 75.11 GiB is"
    " allocated by PyTorch, and 1.03 GiB is reserved by PyTorch but unallocated."
)


def trace(exception: str, *frames: tuple[str, str, str]) -> str:
    """Return a traceback with frames (file, function, code)."""
    lines = ["Traceback (most recent call last):"]
    for number, (file, function, code) in enumerate(frames or [("train.py", "<module>", "main()")]):
        lines += [f'  File "{file}", line {number + 10}, in {function}', f"    {code}"]
    return "\n".join([*lines, exception]) + "\n"


SITE = "/venv/lib/python3.11/site-packages"
LOADING = (
    ("train.py", "<module>", "model = AutoModelForCausalLM.from_pretrained(name)"),
    (f"{SITE}/transformers/modeling_utils.py", "from_pretrained", "return cls._load(...)"),
    (f"{SITE}/torch/nn/modules/module.py", "convert", "return t.to(device)"),
)
STEPPING = (
    ("train.py", "<module>", "trainer.train()"),
    (f"{SITE}/transformers/trainer.py", "training_step", "loss = self.compute_loss(model, inputs)"),
    (f"{SITE}/torch/nn/modules/module.py", "_call_impl", "return forward_call(*args, **kwargs)"),
    (f"{SITE}/transformers/models/llama/modeling_llama.py", "forward", "x = self.up_proj(x)"),
)
OPTIMISING = (
    ("train.py", "<module>", "trainer.train()"),
    (f"{SITE}/transformers/trainer.py", "_inner_training_loop", "self.optimizer.step()"),
    (f"{SITE}/torch/optim/adamw.py", "_init_group", 'state["exp_avg"] = torch.zeros_like(p)'),
)
EVALUATING = (
    ("train.py", "<module>", "trainer.train()"),
    (f"{SITE}/transformers/trainer.py", "evaluation_loop", "all_preds.add(logits)"),
    (f"{SITE}/transformers/trainer_pt_utils.py", "nested_concat", "return torch_pad(a, b)"),
)
LOSS = (
    *STEPPING[:3],
    (f"{SITE}/transformers/loss/loss_utils.py", "ForCausalLMLoss", "logits = logits.float()"),
)
SAVING = (
    ("train.py", "<module>", "trainer.train()"),
    (f"{SITE}/transformers/trainer.py", "_save_checkpoint", "self.save_model(output_dir)"),
    (f"{SITE}/torch/distributed/fsdp/_state_dict_utils.py", "_full_post_state_dict_hook", "..."),
)

CRASHES: list[tuple[str, str]] = [
    ("cuda-oom-activations", PROGRESS + "\n" + trace(OOM, *STEPPING)),
    ("cuda-oom-activations", OOM),
    ("cuda-oom-weights", trace(OOM, *LOADING)),
    ("cuda-oom-optimizer-state", trace(OOM, *OPTIMISING)),
    ("cuda-oom-eval-accumulation", PROGRESS + "\n" + trace(OOM, *EVALUATING)),
    ("cuda-oom-logits-long-seq", PROGRESS + "\n" + trace(OOM, *LOSS)),
    ("cuda-oom-save-gather", PROGRESS + "\n" + trace(OOM, *SAVING)),
    (
        "cuda-oom-other-process",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB. GPU 0 has a total"
        " capacity of 79.15 GiB of which 0.41 GiB is free. Process 43024 has 55.51 GiB memory in"
        " use. Including non-PyTorch memory, this process has 23.2 GiB memory in use.",
    ),
    ("mps-oom", "RuntimeError: MPS backend out of memory (MPS allocated: 9.48 GiB, max allowed: 9.47 GiB)."),
    ("host-oom-killer", "Loading checkpoint shards:  50%|█████     | 1/2 [00:11<00:11, 11.2s/it]Killed"),
    ("host-oom-killer", "slurmstepd: error: Detected 1 oom_kill event in StepId=12.0. Some of the step tasks have been OOM Killed."),
    ("host-oom-killer", "/var/spool/slurmd/job00191/slurm_script: line 28:  8156 Killed                  python3 main.py"),
    ("host-oom-killer", "RuntimeError: [enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried to allocate 90177536 bytes."),
    ("host-oom-killer", "OSError: The paging file is too small for this operation to complete. (os error 1455)"),
    ("shm-exhausted", "RuntimeError: DataLoader worker (pid 325) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory."),
    ("disk-full", PROGRESS + "\n" + trace("OSError: [Errno 28] No space left on device", *SAVING)),
    ("disk-full", "safetensors_rust.SafetensorError: Error while serializing: I/O error: No space left on device (os error 28)"),
    ("disk-quota", "OSError: [Errno 122] Disk quota exceeded"),
    ("permission-denied", "PermissionError: [Errno 13] Permission denied: '/data/out/checkpoint-5'"),
    ("path-not-found", trace("RuntimeError: Parent directory /data/ckpt does not exist.")),
    ("filesystem-io-error", "OSError: [Errno 116] Stale file handle"),
    ("nccl-timeout-unattributed", PROGRESS + "\n" + WATCHDOG),
    ("port-in-use", "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"),
    ("rendezvous-timeout", "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 3/4 clients joined."),
    ("wrong-device-visibility", "RuntimeError: CUDA error: invalid device ordinal"),
    ("ddp-marked-ready-twice", trace("RuntimeError: Expected to mark a variable ready only once. This error is caused by one of the following reasons:")),
    ("device-map-auto-distributed", trace("ValueError: You can't train a model that has been loaded in 8-bit or 4-bit precision on a different device than the one you're training on.")),
    ("zero3-parameter-not-gathered", trace("RuntimeError: 'weight' must be 2-D")),
    ("gpu-fallen-off-bus", "NVRM: Xid (PCI:0000:02:00): 79, GPU has fallen off the bus."),
    ("gpu-ecc-uncorrectable", trace("RuntimeError: CUDA error: uncorrectable ECC error encountered")),
    ("cuda-illegal-memory-access", trace("RuntimeError: CUDA error: an illegal memory access was encountered")),
    ("no-kernel-image", trace("RuntimeError: CUDA error: no kernel image is available for execution on the device")),
    ("cpu-only-training", trace("AssertionError: Torch not compiled with CUDA enabled")),
    ("cpu-only-training", trace("NotImplementedError: Unsloth cannot find any torch accelerator? You need a GPU.")),
    ("wrong-device-tensor", trace("RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cuda:1!")),
    ("token-id-out-of-range", "../aten/src/ATen/native/cuda/Indexing.cu:1308: indexSelectLargeIndex: block: [56,0,0], thread: [30,0,0] Assertion `srcIndex < srcSelectDimSize` failed.\n" + trace("RuntimeError: CUDA error: device-side assert triggered")),
    ("label-out-of-range", trace("IndexError: Target 5 is out of bounds.")),
    ("nonfinite-probabilities", trace("RuntimeError: probability tensor contains either `inf`, `nan` or element < 0")),
    ("flash-attn-missing", trace("ImportError: FlashAttention2 has been toggled on, but it cannot be used due to the following error: the package flash_attn seems to be not installed. Please refer to the documentation")),
    ("flash-attn-abi", trace("ImportError: /x/flash_attn_2_cuda.cpython-310-x86_64-linux-gnu.so: undefined symbol: _ZN3c104cuda9SetDeviceEi")),
    ("flash-attn-unsupported", trace("RuntimeError: FlashAttention only supports Ampere GPUs or newer.")),
    ("native-extension-abi", trace("OSError: libcudart.so.12: cannot open shared object file: No such file or directory")),
    ("native-extension-abi", trace("RuntimeError: operator torchvision::nms does not exist")),
    ("bitsandbytes-no-cuda", trace("AttributeError: 'NoneType' object has no attribute 'cadam32bit_grad_fp32'")),
    ("dependency-version-conflict", trace("ImportError: Using the `Trainer` with `PyTorch` requires `accelerate>=0.26.0`: Please run `pip install transformers[torch]` or `pip install 'accelerate>=0.26.0'`")),
    ("dependency-version-conflict", trace("ImportError: tokenizers>=0.21,<0.22 is required for a normal functioning of this module, but found tokenizers==0.15.2.")),
    ("api-argument-changed", trace("TypeError: SFTTrainer.__init__() got an unexpected keyword argument 'tokenizer'")),
    ("api-argument-changed", trace("TypeError: TrainingArguments.__init__() got an unexpected keyword argument 'evaluation_strategy'")),
    ("api-argument-changed", trace("TypeError: Accelerator.unwrap_model() got an unexpected keyword argument 'keep_torch_compile'")),
    ("compute-loss-signature", trace("TypeError: CustomTrainer.compute_loss() got an unexpected keyword argument 'num_items_in_batch'")),
    ("adapter-config-from-newer-peft", trace("TypeError: LoraConfig.__init__() got an unexpected keyword argument 'corda_config'")),
    ("api-symbol-removed", trace("ImportError: cannot import name 'DataCollatorForCompletionOnlyLM' from 'trl' (/usr/local/lib/python3.11/dist-packages/trl/__init__.py)")),
    ("transformers-too-old-for-model", trace("KeyError: 'qwen3'")),
    ("transformers-too-old-for-model", trace("ValueError: `rope_scaling` must be a dictionary with two fields, `type` and `factor`, got {'factor': 8.0, 'high_freq_factor': 4.0}")),
    ("remote-code-not-allowed", trace("ValueError: The repository for Salesforce/x contains custom code which must be executed to correctly load the model.")),
    ("precision-unsupported-on-device", trace("ValueError: Your setup doesn't support bf16/gpu. You need torch>=1.10, using Ampere GPU with cuda>=11.0")),
    ("torch-too-old-for-bin", trace("ValueError: Due to a serious vulnerability issue in `torch.load`, even with `weights_only=True`, we now require users to upgrade torch to at least v2.6")),
    ("native-toolchain-missing", trace("AttributeError: 'DeepSpeedCPUAdam' object has no attribute 'ds_opt_adam'")),
    ("native-toolchain-missing", trace("RuntimeError: Failed to find C compiler. Please specify via CC environment variable.")),
    ("windows-spawn-bootstrap", trace("RuntimeError: ") + "        An attempt has been made to start a new process before the\n        current process has finished its bootstrapping phase."),
    ("pad-token-missing", trace("ValueError: Asking to pad but the tokenizer does not have a padding token. Please select a token to use as `pad_token`")),
    ("ragged-batch", trace("ValueError: expected sequence of length 512 at dim 1 (got 498)")),
    ("pure-quantized-training", trace("ValueError: You cannot perform fine-tuning on purely quantized models. Please attach trainable adapters on top of the quantized model")),
    ("quantized-model-moved", trace("ValueError: `.to` is not supported for `4-bit` or `8-bit` bitsandbytes models. Please use the model as it is")),
    ("dtype-mismatch", trace("RuntimeError: expected mat1 and mat2 to have the same dtype, but got: float != c10::BFloat16")),
    ("tensor-shape-mismatch", trace("RuntimeError: mat1 and mat2 shapes cannot be multiplied (1024x2560 and 1x6553600)")),
    ("model-returned-no-loss", trace("ValueError: The model did not return a loss from the inputs, only the following keys: logits. For reference, the inputs it received are input_ids,attention_mask.")),
    ("meta-tensor-no-data", trace("NotImplementedError: Cannot copy out of meta tensor; no data! Please use torch.nn.Module.to_empty()")),
    ("trainer-config-invalid", "usage: train.py [-h] [--lr LR]\ntrain.py: error: unrecognized arguments: --max_seq_lenght 2048"),
    ("trainer-config-invalid", trace("ValueError: --load_best_model_at_end requires the save and eval strategy to match, but found")),
    ("trainer-config-invalid", trace("TypeError: '<=' not supported between instances of 'float' and 'str'")),
    ("script-error", trace("NameError: name 'tokeniser' is not defined")),
    ("uncaught-exception", trace("mylib.errors.StrangeError: the moon is in the wrong phase")),
    ("dataset-split-missing", trace("ValueError: Unknown split \"validation\". Should be one of ['train'].")),
    ("dataset-script-unsupported", trace("RuntimeError: Dataset scripts are no longer supported, but found squad.py")),
    ("json-malformed", trace("json.decoder.JSONDecodeError: Extra data: line 2 column 1 (char 812)")),
    ("json-malformed", trace("UnicodeDecodeError: 'charmap' codec can't decode byte 0x9d in position 71: character maps to <undefined>")),
    ("null-or-nonstring-text", trace('TypeError: can only concatenate str (not "NoneType") to str')),
    ("hub-gated-or-unauthorized", trace("OSError: You are trying to access a gated repo.") + "401 Client Error. (Request ID: Root=1)\nCannot access gated repo for url https://huggingface.co/meta-llama/x/resolve/main/config.json."),
    ("hub-unreachable", trace("OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files.")),
    ("hub-rate-limited", trace("huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://huggingface.co/api/x")),
    ("model-path-wrong", trace("OSError: ./merged does not appear to have a file named config.json.")),
    ("wandb-login-blocking", trace("wandb.errors.UsageError: api_key not configured (no-tty). call wandb.login(key=[your_api_key])")),
    ("tinker-service-error", trace("tinker.RateLimitError: Error code: 429")),
    ("rl-inference-server-unreachable", trace("ConnectionError: The vLLM server can't be reached at http://0.0.0.0:8000 after 240.0 seconds. Make sure the server is running")),
    ("checkpoint-corrupt-torch", trace("RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory")),
    ("checkpoint-missing", trace("ValueError: No valid checkpoint found in output directory (outputs/run1)")),
    ("resume-world-size-changed", trace("deepspeed.runtime.zero.utils.ZeRORuntimeException: The checkpoint being loaded used a DP world size of 8 but the current world size is 16.")),
    ("resume-optimizer-mismatch", trace("ValueError: loaded state dict contains a parameter group that doesn't match the size of optimizer's group")),
    ("resume-weights-only", trace("_pickle.UnpicklingError: Weights only load failed. This file can still be loaded, to do so you have two options")),
    ("slurm-time-limit", PROGRESS + "\nslurmstepd: error: *** JOB 494583 ON node7 CANCELLED AT 2024-04-20T09:09:37 DUE TO TIME LIMIT ***"),
    ("preemption", PROGRESS + "\nslurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2024-01-01T00:00:00 DUE TO PREEMPTION ***"),
    ("user-cancelled", PROGRESS + "\n" + trace("KeyboardInterrupt")),
    ("native-crash", PROGRESS + "\nSegmentation fault (core dumped)"),
]  # fmt: skip

# What happened first, and the echoes of it on other processes.
CONSEQUENCES: list[tuple[str, str]] = [
    ("cuda-oom-activations", trace(OOM, *STEPPING) + WATCHDOG + TORCHRUN_END),
    (
        "cuda-oom-activations",
        "".join(f"[rank1]: {line}\n" for line in trace(OOM, *STEPPING).splitlines())
        + "[rank0]: torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2000\n"
        + TORCHRUN_END,
    ),
    (
        "dtype-mismatch",
        trace("RuntimeError: expected scalar type Half but found Float", *STEPPING) + TORCHRUN_END,
    ),
    (
        "cuda-illegal-memory-access",
        trace("RuntimeError: CUDA error: an illegal memory access was encountered", *STEPPING)
        + "[rank6]:[E ProcessGroupNCCL.cpp:1182] [Rank 6] NCCL watchdog thread terminated with"
        " exception: CUDA error: an illegal memory access was encountered\n"
        "terminate called after throwing an instance of 'c10::DistBackendError'\n" + TORCHRUN_END,
    ),
    (
        "nccl-timeout-unattributed",
        WATCHDOG + "terminate called after throwing an instance of 'std::runtime_error'\n"
        "[WARNING] Unable to shutdown process 264 via Signals.SIGTERM, forcefully exiting via"
        " Signals.SIGKILL\n"
        "[ERROR] failed (exitcode: -6) local_rank: 0 (pid: 263) of binary: /usr/bin/python\n",
    ),
    (
        "json-malformed",
        trace("json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)")
        + "\nThe above exception was the direct cause of the following exception:\n\n"
        + trace("datasets.exceptions.DatasetGenerationError: An error occurred while generating the dataset"),
    ),
    (
        "host-oom-killer",
        "[rank2]: Loading checkpoint shards:  25%|██▌       | 1/4 [00:20<01:00, 20.1s/it]\n"
        "WARNING:torch.distributed.elastic.multiprocessing.api:Sending process 101 closing signal SIGTERM\n"
        "ERROR:torch.distributed.elastic.multiprocessing.api:failed (exitcode: -9) local_rank: 2 (pid: 103) of binary: /usr/bin/python\n",
    ),
]  # fmt: skip

HARMLESS = [
    "huggingface/tokenizers: The current process just got forked, after parallelism has already been used. Disabling parallelism to avoid deadlocks...",
    "`use_cache=True` is incompatible with gradient checkpointing. Setting `use_cache=False`...",
    "torch/utils/checkpoint.py:460: UserWarning: torch.utils.checkpoint: please pass in use_reentrant=True or use_reentrant=False explicitly.",
    "WARNING:datasets.load:Using the latest cached version of the module from modules/x (last modified on Mon May 24) since it couldn't be found locally at x or remotely (OfflineModeIsEnabled).",
    "Could not estimate the number of tokens of the input, floating-point operations will not be computed",
    "Some weights of LlamaForSequenceClassification were not initialized from the model checkpoint at x and are newly initialized: ['score.weight']",
    "You should probably TRAIN this model on a down-stream task to be able to use it for predictions and inference.",
    "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536, reducing to 32768",
    "WARNING: destroy_process_group() was not called before program exit, which can leak resources.",
    "UserWarning: resource_tracker: There appear to be 1 leaked semaphore objects to clean up at shutdown",
    "Xet Storage is enabled for this repo, but the 'hf_xet' package is not installed. Falling back to regular HTTP download.",
    "Token indices sequence length is longer than the specified maximum sequence length for this model (514 > 512). Running this sequence through the model will result in indexing errors",
    "Setting `pad_token_id` to `eos_token_id`:2 for open-end generation.",
    "FutureWarning: `tokenizer` is deprecated and will be removed in version 5.0.0 for `Trainer.__init__`. Use `processing_class` instead.",
    "Detected kernel version 5.4.0, which is below the recommended minimum of 5.5.0; this can cause the process to hang.",
    "UserWarning: The installed version of bitsandbytes was compiled without GPU support.",
    "A module that was compiled using NumPy 1.x cannot be run in NumPy 2.0.0 as it may crash.",
    "You are attempting to use Flash Attention 2.0 without specifying a torch dtype. This might lead to unexpected behaviour",
    "Special tokens have been added in the vocabulary, make sure the associated word embeddings are fine-tuned or trained.",
    "No label_names provided for model class `PeftModelForCausalLM`. Since `PeftModel` hides base models input arguments, if label_names is not given, label_names can't be set automatically within `Trainer`.",
    "The tokenizer has new PAD/BOS/EOS tokens that differ from the model config and generation config. The model config and generation config were aligned accordingly",
    "wandb: Currently logged in as: someone. Use `wandb login --relogin` to force relogin",
    "2024-05-01 10:00:00.000000: E external/local_xla/xla/stream_executor/cuda/cuda_dnn.cc:9261] Unable to register cuDNN factory: Attempting to register factory for plugin cuDNN when one has already been registered",
    "2024-05-01 10:00:00.000000: W tensorflow/compiler/tf2tensorrt/utils/py_utils.cc:38] TF-TRT Warning: Could not find TensorRT",
    "[W socket.cpp:663] [c10d] The hostname of the client socket cannot be retrieved. err=-3",
    "warnings.warn('Was asked to gather along dimension 0, but all input tensors were scalars')",
    "Your GPU power cap: SW Power Cap : Active",
    "[INFO|trainer.py:700] Skipping import of cpp extensions due to incompatible torch version",
    "Unsloth: Will smartly offload gradients to save VRAM!",
    "If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.",
]  # fmt: skip


@cache
def library() -> Library:
    return load()


def causes_of(log: str) -> list[Ranked]:
    """Return the ranked causes of severity medium or more for a pasted log."""
    run = run_from_example({"files": {"train.log": log}})
    ranked = rank(detect_all(run, library(), strict=True), library()).ranked
    return [r for r in ranked if r.cause.severity is not Severity.LOW]


@pytest.mark.parametrize(("cause", "log"), CRASHES, ids=[c for c, _ in CRASHES])
def test_crash_leads_to_its_cause(cause: str, log: str) -> None:
    ranked = causes_of(log)
    shown = [(r.cause.id, round(r.probability, 2)) for r in ranked[:3]]
    assert shown, "nothing was found"
    assert shown[0][0] == cause, shown
    assert shown[0][1] >= 0.5, shown


@pytest.mark.parametrize(("cause", "log"), CONSEQUENCES, ids=[c for c, _ in CONSEQUENCES])
def test_first_error_stands_before_its_echoes(cause: str, log: str) -> None:
    ranked = causes_of(log)
    shown = [(r.cause.id, round(r.probability, 2)) for r in ranked[:3]]
    assert shown[0][0] == cause, shown
    others = [item for item in shown[1:] if item[1] >= 0.5]
    assert not others, shown


@pytest.mark.parametrize("line", HARMLESS)
def test_harmless_line_raises_nothing(line: str) -> None:
    log = (
        f"{line}\n{PROGRESS}\n{line}\n{{'train_runtime': 119.8, 'train_loss': 1.2, 'epoch': 0.8}}\n"
    )
    loud = [(r.cause.id, r.probability) for r in causes_of(log) if r.probability > HEALTHY_LIMIT]
    assert loud == []


@pytest.mark.parametrize(("cause", "log"), CRASHES[:2] + CRASHES[29:40], ids=lambda v: v[:30])
def test_error_that_training_survived_is_no_cause(cause: str, log: str) -> None:
    found = {r.cause.id: r.probability for r in causes_of(f"{log}\n{PROGRESS}\n{PROGRESS}\n")}
    assert found.get(cause, 0.0) <= HEALTHY_LIMIT
