"""The one alias table: what trainers call a metric or setting, and what ftdoctor calls it.

Canonical metric names follow the HF Trainer's log where it has one, canonical settings its
TrainingArguments; `lora.*` and `quantization.*` follow PEFT and BitsAndBytesConfig. A name that is
not listed keeps its own form (lower case, `train/` removed), so nothing is lost.
"""

from __future__ import annotations

import re
from functools import lru_cache

METRICS: dict[str, str] = {
    # loss
    "train_loss_step": "loss",
    "train_mean_nll": "loss",
    "train/loss": "loss",
    "lm loss": "loss",
    "lm loss value": "loss",
    "reduced_train_loss": "loss",
    "nll": "loss",
    "predict_loss": "predict_loss",
    "actor/pg_loss": "loss",
    "val_loss": "loss",
    "valid_loss": "loss",
    "full_valid_loss": "loss",
    # gradients
    "gradient_norm": "grad_norm",
    "train/grad_norm": "grad_norm",
    "grad norm": "grad_norm",
    "actor/grad_norm": "grad_norm",
    "gradnorm": "grad_norm",
    # learning rate
    "lr": "learning_rate",
    "learning rate": "learning_rate",
    "optim/lr": "learning_rate",
    "train/learning_rate": "learning_rate",
    "actor/lr": "learning_rate",
    "train/lr": "learning_rate",
    # accuracy and tokens
    "train_accuracy": "accuracy",
    "train_mean_token_accuracy": "mean_token_accuracy",
    "valid_mean_token_accuracy": "mean_token_accuracy",
    "full_valid_mean_token_accuracy": "mean_token_accuracy",
    "num_input_tokens_seen": "num_tokens",
    "total_tokens": "num_tokens",
    # RL
    "env/all/reward/total": "reward",
    "reward/total": "reward",
    "critic/score/mean": "reward",
    "critic/rewards/mean": "reward",
    "reward_mean": "reward",
    "optim/entropy": "entropy",
    "actor/entropy": "entropy",
    "actor/entropy_loss": "entropy",
    "rollout/ep_rew_mean": "reward",
    "objective/kl": "kl",
    "optim/kl_sample_train_v1": "kl_sample_train",
    "actor/kl_loss": "kl",
    "completion_length": "completions/mean_length",
    "response_length/mean": "completions/mean_length",
    "response_length/clip_ratio": "completions/clipped_ratio",
    "ac_tokens_per_turn": "completions/mean_length",
    "env/all/by_group/frac_mixed": "frac_mixed",
    "by_group/frac_mixed": "frac_mixed",
    "env/all/by_group/frac_all_good": "frac_all_good",
    "env/all/by_group/frac_all_bad": "frac_all_bad",
    # mixed precision and speed
    "loss scale": "loss_scale",
    "loss_scale": "loss_scale",
    "number of skipped iterations": "skipped_steps",
    "number of nan iterations": "nan_steps",
    "elapsed time per iteration (ms)": "step_time_ms",
    "tokens_per_second_per_gpu": "tokens_per_second",
    "tokens/sec": "tokens_per_second",
    "it/sec": "steps_per_second",
    "system.memory": "host_memory_percent",
    "system/memory": "host_memory_percent",
    "system.memory_percent": "host_memory_percent",
    "ram_percent": "host_memory_percent",
    "host_memory_gb": "host_memory_gb",
    "cpu_memory_gb": "host_memory_gb",
    # as printed by hand-written trainers, litgpt, mlx-lm
    "loss train": "loss",
    "loss/train": "loss",
    "acc": "accuracy",
    "gnorm": "grad_norm",
    "grad norm (l2)": "grad_norm",
    "ppl": "perplexity",
    "lm loss ppl": "perplexity",
    "trained tokens": "num_tokens",
    "env/all/ac_tokens_per_turn": "completions/mean_length",
}

SETTINGS: dict[str, str] = {
    # model and method
    "model_name": "model_name_or_path",
    "base_model": "model_name_or_path",
    "model": "model_name_or_path",
    "model_id": "model_name_or_path",
    "pretrained_model_name_or_path": "model_name_or_path",
    "base_model_name_or_path": "lora.base_model",
    "stage": "method",
    "training_method": "method",
    "rl": "method",
    "model.name": "model_name_or_path",
    "model.path": "model_name_or_path",
    "model.id": "model_name_or_path",
    "model.base": "model_name_or_path",
    "model.name_or_path": "model_name_or_path",
    "model.pretrained": "model_name_or_path",
    "model_path": "model_name_or_path",
    "_name_or_path": "model_name_or_path",
    "checkpointer.checkpoint_dir": "model_name_or_path",  # torchtune: the folder of the base model
    "training.method": "method",
    "finetuning_type": "adapter",
    "fine_tune_type": "adapter",
    # optimisation
    "lr": "learning_rate",
    "optimizer.lr": "learning_rate",
    "num_epochs": "num_train_epochs",
    "epochs": "num_train_epochs",
    "train_epochs": "num_train_epochs",
    "iters": "max_steps",
    "max_iters": "max_steps",
    "warmup_iters": "warmup_steps",
    "grad_clip": "max_grad_norm",
    "max_steps_per_epoch": "max_steps_per_epoch",
    "num_steps": "max_steps",
    "train_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "grad_accumulation_steps": "gradient_accumulation_steps",
    "gradient_accumulation": "gradient_accumulation_steps",
    "accumulate_grad_batches": "gradient_accumulation_steps",
    "grad_accum": "gradient_accumulation_steps",
    "warmup": "warmup_steps",
    "num_warmup_steps": "warmup_steps",
    "n_epochs": "num_train_epochs",
    "micro_batch_size": "per_device_train_batch_size",
    "batch_size": "per_device_train_batch_size",
    "dataset_builder.common_config.batch_size": "per_device_train_batch_size",
    "lr_scheduler": "lr_scheduler_type",
    "lr_schedule": "lr_scheduler_type",
    "scheduler": "lr_scheduler_type",
    "optimizer": "optim",
    "max_grad_norm": "max_grad_norm",
    "gradient_clipping": "max_grad_norm",
    "clip_grad_norm": "max_grad_norm",
    # sequence and labels
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "cutoff_len": "max_length",
    "sequence_len": "max_length",
    "model_max_length": "max_length",
    "tokenizer.max_seq_len": "max_length",
    "dataset_builder.common_config.max_length": "max_length",
    "train_on_prompt": "train_on_inputs",
    "dataset.train_on_input": "train_on_inputs",
    "sample_packing": "packing",
    # evaluation and saving
    "evaluation_strategy": "eval_strategy",
    "save_every": "save_steps",
    "eval_every": "eval_steps",
    "log_path": "output_dir",
    # data
    "dataset_path": "dataset",
    "train_file": "dataset",
    "train_path": "dataset",
    "training_file": "dataset",
    "data_path": "dataset",
    "dataset_name": "dataset",
    "train_data": "dataset",
    "train_data_path": "dataset",
    "train_dataset": "dataset",
    "training_data": "dataset",
    "data.train": "dataset",
    "data.path": "dataset",
    "data.file": "dataset",
    "dataset.path": "dataset",
    "dataset.name": "dataset",
    "data.name": "dataset",
    "data.train_path": "dataset",
    "data.strategy": "data_strategy",
    "dataset.strategy": "data_strategy",
    "tokenization.strategy": "data_strategy",
    "tokenizer.strategy": "data_strategy",
    "preprocessing.strategy": "data_strategy",
    "data.format": "data_strategy",
    "dataset.format": "data_strategy",
    "dataset.type": "data_strategy",
    "datasets.0.type": "data_strategy",
    "prompt_strategy": "data_strategy",
    "data.eval": "eval_dataset",
    "data.val": "eval_dataset",
    "validation_file": "eval_dataset",
    "eval_file": "eval_dataset",
    "eval_data": "eval_dataset",
    "eval_path": "eval_dataset",
    "eval_data_path": "eval_dataset",
    "eval_dataset_path": "eval_dataset",
    "eval_dataset_name": "eval_dataset",
    "validation_data": "eval_dataset",
    "validation_path": "eval_dataset",
    "validation_dataset": "eval_dataset",
    "valid_data": "eval_dataset",
    "valid_file": "eval_dataset",
    "valid_path": "eval_dataset",
    "val_data": "eval_dataset",
    "val_file": "eval_dataset",
    "val_path": "eval_dataset",
    "val_data_path": "eval_dataset",
    "val_dataset": "eval_dataset",
    "dev_data": "eval_dataset",
    "dev_file": "eval_dataset",
    "dev_path": "eval_dataset",
    "data.validation": "eval_dataset",
    "data.eval_path": "eval_dataset",
    "data.val_path": "eval_dataset",
    "val_size": "eval_share",
    "val_set_size": "eval_share",
    # adapter
    "r": "lora.r",
    "lora_r": "lora.r",
    "lora_rank": "lora.r",
    "lora.rank": "lora.r",
    "model.lora_rank": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora.lora_alpha": "lora.alpha",
    "model.lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora.scale": "lora.scale",
    "lora.keys": "lora.target_modules",
    "lora_parameters.keys": "lora.target_modules",
    "lora_parameters.rank": "lora.r",
    "lora.lora_r": "lora.r",
    "lora.lora_dropout": "lora.dropout",
    "lora_target": "lora.target_modules",
    "target_modules": "lora.target_modules",
    "lora_target_modules": "lora.target_modules",
    "lora_modules_to_save": "lora.modules_to_save",
    "modules_to_save": "lora.modules_to_save",
    "use_rslora": "lora.use_rslora",
    "use_dora": "lora.use_dora",
    "load_in_4bit": "quantization.load_in_4bit",
    "load_in_8bit": "quantization.load_in_8bit",
    "bnb_4bit_compute_dtype": "quantization.compute_dtype",
    # services
    "load_checkpoint_path": "resume_from_checkpoint",
    "renderer": "renderer_name",
    "dataset_builder.common_config.renderer_name": "renderer_name",
    "dataset_builder.common_config.model_name_for_tokenizer": "tokenizer_name",
}

# Names of facts that detectors and signatures may ask for; a test holds signatures to this list.
FACTS: dict[str, str] = {
    "run.now": "Unix time by which expiry is judged, if the caller gave one",
    "run.price": "money per device hour, if the caller gave it",
    "observed.*": "outcome that the user knows of: true, or false if it was seen not to happen",
    "compare.*": "what differs from a good run: good, bad, text; compare.seen: what was compared",
    "baseline.*": "scores of the base model, as given",
    "run.others": "folders of other runs in the same place that were put aside",
    "args.class": "class pickled in training_args.bin, as `trl.trainer.sft_config.SFTConfig`",
    "config.dialect": "tool whose configuration a file is: axolotl, hf, generic, ...",
    "config.use": "path of a settings file that uses the trained model, beside one that trains it",
    "config.number_as_text": "name of a YAML setting such as 1e-4 that PyYAML takes for text",
    "security.pickle_globals": "list of dangerous globals that a pickle names",
    "log.aside": "text: a log that was not used for the curves, and why",
    "log.interleaved": "true if several processes wrote the same steps into one log",
    "log.rows_counted": "a log tells no steps: those of its rows are their numbers",
    "data.printed_example": "training example that a log shows: input, labels, tokens, learnt, last",
    "run.excerpt": "true if all there is is a few lines that someone chose (`read/excerpt.py`)",
    "run.pasted": "true if all there is was pasted into a ticket: what it lacks may be elsewhere",
    "run.trainer": "hf | trl | axolotl | llama-factory | unsloth | torchtune | tinker | mlx | deepspeed | megatron | nemo | verl | openrlhf | lightning | ray | openai",
    "run.kind": "sft | preference | reward | rl | pretrain | classification: decided from the metric names and settings",
    "progress.global_step": "last optimizer step known",
    "progress.max_steps": "planned optimizer steps",
    "progress.epoch": "last epoch known",
    "progress.finished": "true if a completion marker was seen",
    "progress.started": "true if a first training row or header was seen",
    "progress.num_examples": "`Num examples` of the log's header",
    "progress.sessions": "number of process starts seen",
    "summary.*": "end-of-run aggregates: train_loss, train_runtime, train_samples_per_second, ...",
    "state.*": "trainer_state fields: best_metric, best_model_checkpoint, best_global_step, logging_steps, eval_steps, save_steps, num_train_epochs, train_batch_size",
    "log.exit_code": "exit code of the process if recorded",
    "log.exit_recorded": "false if a W&B log has no exit record: killed, or still running",
    "log.first_failed_rank": "rank that torchrun names as the root cause",
    "run.status": "status that a tracker or service keeps: finished | failed | killed | running | ...",
    "run.program": "script that W&B recorded",
    "environment.bf16": "true if the GPU supports bfloat16, as Unsloth prints it",
    "environment.os": "operating system",
    "environment.host": "name of the machine, as W&B keeps it",
    "log.trainable_parameters": "trainable parameters printed",
    "log.total_parameters": "all parameters printed",
    "environment.device": "cuda | mps | cpu | tpu | npu",
    "environment.gpu": "name of the GPU",
    "environment.gpu_count": "number of GPUs",
    "environment.world_size": "processes",
    "environment.package.*": "version of a Python package in the run's environment",
    "environment.python": "Python version",
    "tokenizer.eos_token": "text",
    "tokenizer.eos_id": "id",
    "tokenizer.bos_token": "text",
    "tokenizer.bos_id": "id",
    "tokenizer.pad_token": "text",
    "tokenizer.pad_id": "id",
    "tokenizer.unk_token": "text",
    "tokenizer.class": "tokenizer_class",
    "tokenizer.vocab_size": "ids, with added tokens",
    "tokenizer.model_max_length": "tokens, absent if unset",
    "tokenizer.add_bos_token": "bool",
    "tokenizer.add_eos_token": "bool",
    "tokenizer.padding_side": "left | right",
    "tokenizer.special_tokens": "list of texts",
    "tokenizer.files": "list of tokenizer files present",
    "tokenizer.chat_template": "source text of the template that training used",
    "tokenizer.chat_template_home": "chat_template.jinja | tokenizer_config.json | chat_template.json",
    "tokenizer.chat_template_conflict": "true if two homes differ",
    "tokenizer.added_tokens": "id as text to {content, special}, per file",
    "tokenizer.generation_tag": "true if the template marks assistant turns",
    "tokenizer.folders": "folders with a tokenizer, the primary one first",
    "template.*": "what a probe of the template shows: problem, system, tools, thinking, closes",
    "processor.*": "preprocessor_config.json fields as found",
    "model.type": "model_type of config.json",
    "model.architecture": "architectures[0]",
    "model.family": "family of the model, by name or config (key of the families table)",
    "model.vocab_size": "embedding rows of config.json",
    "model.dtype": "torch_dtype / dtype of config.json",
    "model.eos_token_id": "config.json",
    "model.max_position_embeddings": "config.json",
    "model.num_labels": "config.json, classification",
    "model.tie_word_embeddings": "config.json",
    "model.transformers_version": "config.json",
    "model.hidden_layers": "config.json",
    "generation.eos_token_id": "list of ids in generation_config.json",
    "generation.*": "other fields of generation_config.json",
    "adapter.*": "adapter_config.json fields as found",
    "gguf.*": "architecture, eos_token_id, eos_token, bos_token_id, chat_template, pre, vocab_size, tensor_count, file_type, version, context_length",
    "weights.*": "counts over safetensors and GGUF: missing_shards, truncated_bytes, lora_b_zero, nan_tensors, ...",
    "checkpoint.*": "per checkpoint facts: last_step, best, expires_at, sampler_path, ...",
    "weights.tensor_count": "tensors of one weight file",
    "weights.bytes": "bytes of its tensors",
    "weights.dtypes": "tensors by number format",
    "weights.damage": "one sentence: how a weight file is cut or malformed",
    "weights.damage_form": (
        "empty | truncated | truncated-header | bad-header | bad-header-length | bad-entry | "
        "offsets | trailing | zeros | html | torch-zip | pickle | gguf | bad-magic | "
        "bad-version | bad-type | bad-pickle | duplicate-tensor | unreadable"
    ),
    "weights.truncated_bytes": "bytes by which a file ends early",
    "weights.lost_tensors": "names of tensors that are cut or gone",
    "weights.lfs_pointer": "a Git LFS pointer stands in place of the file",
    "weights.empty_file": "size in bytes of a sound weight file without tensors",
    "weights.wrapped_layers": "tensors of a full model that are inside an adapter's layers still",
    "weights.zero_size_tensors": "number of tensors with a side of length 0",
    "weights.checked_tensors": "tensors whose values were tested",
    "weights.checked_whole": "true if every value was tested, else only the beginning of each",
    "weights.nan_tensors": "names (at most 20; count in weights.nan_tensors_count)",
    "weights.inf_tensors": "names (at most 20; count in weights.inf_tensors_count)",
    "weights.zero_tensors": "names of all-zero matrices: no bias, norm or LoRA B",
    "weights.lora_b_count": "LoRA B matrices tested",
    "weights.lora_b_zero": "of these, all zero",
    "weights.lora_rank": "commonest rank; weights.lora_ranks lists all",
    "weights.lora_width": "hidden size that the adapter's matrices are made for",
    "weights.lora_modules": (
        "last names of adapted modules; weights.lora_module_count, weights.lora_layers"
    ),
    "weights.lora_bad_shapes": "modules whose A and B differ in rank",
    "weights.lora_unpaired": "modules with only one of A and B",
    "weights.adapter_other_tensors": (
        "tensors of an adapter that are no LoRA matrix (modules_to_save)"
    ),
    "weights.index_shards": (
        "shard files that an index names; weights.index_tensors, weights.index_total_size"
    ),
    "weights.missing_shards": "shards that are not there though others are",
    "weights.shards_complete": "number of shards, all there",
    "weights.not_copied": "number of shards, none there: only the index was copied",
    "weights.extra_shards": "shards that the index beside them does not name",
    "weights.names_not_in_shard": "tensors that the index places in a shard that lacks them",
    "weights.modified": "Unix time of the newest output weights",
    "adapter.rank_in_file": (
        "rank of the matrices where adapter_config.json (adapter.rank_in_config) has another"
    ),
    "adapter.targets_not_in_file": "target_modules without matrices in the file",
    "adapter.key_prefix": "prefix of a wrapper on every key",
    "adapter.fits_base": "folder of weights that the adapter's shapes fit",
    "adapter.base_shape_mismatch": "modules whose shapes do not fit the weights beside it",
    "adapter.names_unknown_to_base": "adapted modules, none of which is in the weights beside it",
    "adapter.update_size": (
        "norm of the update divided by that of the weights, median over sampled modules"
    ),
    "merge.ratio": (
        "<W−W0, D>/<D, D>: how often the update is in the merged weights (with merge.folder, "
        "merge.rank)"
    ),
    "merge.residual": "|W−W0−D|/|D|",
    "merge.noise": "rounding of the stored weights, in units of the update",
    "merge.identical": "true if merged and base weights are equal bit for bit",
    "gguf.damage": "as weights.damage (with gguf.damage_form), for GGUF",
    "gguf.type": "general.type: model | adapter | mmproj | imatrix",
    "gguf.bits_per_weight": "stored bits per weight (with gguf.parameters, gguf.types)",
    "gguf.embedding_rows": "rows of token_embd.weight",
    "gguf.missing_blocks": "numbers of blocks without tensors",
    "gguf.end_texts": "texts that llama.cpp ends on, with their token type",
    "gguf.split_no": "part number from 0 (with gguf.split_count)",
    "gguf.eos_out_of_range": "special id outside the vocabulary (also bos, eot, eom, pad, unk)",
    "modelfile.*": "from, template, system, adapter, renderer, stop (list), parameter.*",
    "export.missing_files": (
        "files that loaders ask for, missing beside full weights (export.weights)"
    ),
    "export.processor_files": "image processor files beside full weights of a vision model",
    "export.gguf_missing_files": "the same beside GGUF files",
    "export.adapter_beside_weights": "true where adapter_config.json lies beside full weights",
    "checkpoint.record": (
        "one line of checkpoints.jsonl (checkpoint.listed: of the service's listing)"
    ),
    "checkpoint.tinker_records": "lines of checkpoints.jsonl",
    "checkpoint.lasting": "records without expiry",
    "checkpoint.expires_at": "Unix time at which the last record ends, at the latest",
    "checkpoint.ttl_assumed": "true if no file gives the time to live",
    "checkpoint.folder": (
        "one checkpoint-N folder: step, weights, optimizer, scheduler, rng, trainer_state"
    ),
    "checkpoint.steps": "steps of the checkpoint-N folders",
    "checkpoint.interrupted_save": "folder that holds half a checkpoint",
    "checkpoint.identical": (
        "two folders of different steps with the same weights (checkpoint.compared: looked)"
    ),
    "data.train.rows": "rows of the training files",
    "data.utf8_file": "true for a text file that is UTF-8 with letters beyond ASCII",
    "data.eval.rows": "rows of the evaluation files",
    "data.layout": "messages | sharegpt | alpaca | prompt-completion | preference | kto | text | pretokenised | multimodal",
    "data.*": "counts over whole files: invalid_rows, blank_rows, duplicate_rows, ...",
    "shell.*": "shell scripts: crlf, command (training launches), env.NAME",
    "requirements.*": "declared (packages named by a file), installed (by commands), complete",
    "script.train.freezes_everything": "true if it freezes all weights and gives none back",
    "script.train.classifies": "true if a classifier is trained: by its model class or its head",
    "script.train.encodes_apart": "true if the loss compares texts that are encoded by themselves",
    "script.train.written_row": "text with slots that rows become, in a script without end token",
    "serve.max_lora_rank": "highest rank of adapters that a vLLM command takes",
    "script.*.picks_checkpoint": "[pattern, first | last]: one of several checkpoints by name",
    "script.train.loop": "hand-written or lightning: the training loop is in this file",
    "script.train.loop_fault": "a fault of the loop by its id (`detect/loop.py`)",
    "script.train.target_limit": "tokens at which targets encoded by themselves are cut",
    "script.train.target_is_input": "column that is both input and target",
    "script.train.word_labels": "aligned | unaligned: labels of words, laid on pieces of words",
    "script.train.kept_best": (
        "[metric, min or max]: by which a script keeps its best checkpoint, or stops"
    ),
    "script.train.read_as": "[file, encoding]: a text that is read in a one-byte encoding",
    "script.train.labels_seen": "true if a causal model is trained, whose labels were looked at",
    "script.train.adds_special_tokens": "whether a call of the tokenizer adds special tokens",
    "script.train.truncation_side": "left | right: the end of long rows that is cut off",
    "script.train.reward_counts": "reward function that pays for every repetition of a word",
    "script.train.opens_answer": "conversation with its answer that a row renders with an open one",
    "script.train.weights_dtype": "type that the script casts the whole model to",
    "script.train.answer_end": "stop text that the script puts behind a text of the row",
    "script.train.option": "setting whose value, on this line, is a default of the command line",
    "script.train.turn_ends": "last: a loop over turns teaches no answer's end but the last one's",
    "script.train.turn_keys": "of (column of the turns), keys read of a turn, quiet (by `.get`)",
    "script.train.row_keys": "the same of a row that a function reads (of is empty)",
    "script.*": "what the syntax trees show: prompt literals, calls, label construction, paths, devices",
}


# Lightning's LearningRateMonitor: `lr-AdamW`, `lr-SGD/pg1`, `lr-Adam-1`; others: `lr/pg0`. Of
# several groups the first speaks, for a column can be taken once; no momentum, no weight decay.
_RATE_OF_OPTIMIZER = re.compile(
    r"(?i)lr[-/](?!.*(?:momentum|decay)$)(?:(?!pg|group)[a-z]\w*(?:/(?:pg_?1|group_?0))?(?:-1)?"
    r"|(?:param_)?(?:pg|group)_?0)"
)


@lru_cache(maxsize=1 << 14)
def metric_name(name: str) -> tuple[str, str]:
    """Return (canonical name, split) of a logged metric; split is train, eval or test."""
    lowered = name.strip()
    # Only as a whole: the Trainer's trackers also log train/train_loss, the mean over the run.
    if lowered.lower() == "train_loss":
        return "loss", "train"
    split = "train"
    for prefix, found in (
        ("eval_", "eval"), ("eval/", "eval"), ("val_", "eval"), ("val/", "eval"),
        ("validation_", "eval"), ("validation/", "eval"), ("valid_", "eval"), ("test/", "eval"),
        ("full_valid_", "eval"), ("val-core/", "eval"), ("val-aux/", "eval"),
        ("test_", "test"), ("train/", "train"), ("eval ", "eval"),
        ("val ", "eval"), ("valid ", "eval"), ("validation ", "eval"), ("train ", "train"),
        ("training ", "train"), ("test ", "test"), ("dev_", "eval"), ("dev/", "eval"),
        ("dev ", "eval"), ("held-out ", "eval"), ("held_out_", "eval"), ("held-out_", "eval"),
        ("heldout ", "eval"), ("heldout_", "eval"), ("holdout ", "eval"), ("holdout_", "eval"),
    ):  # fmt: skip
        if lowered.lower().startswith(prefix):
            split = found
            lowered = lowered[len(prefix) :]
            break
    if _RATE_OF_OPTIMIZER.fullmatch(lowered):
        return "learning_rate", split
    return METRICS.get(lowered, METRICS.get(lowered.lower(), lowered.lower())), split


CANONICAL = frozenset(SETTINGS.values())
# Sections that configurations put settings into; the section says nothing that the name does not.
SECTIONS = frozenset({
    "train", "training", "trainer", "training_args", "training_arguments", "train_args", "sft",
    "sft_config", "args", "trainer_args", "trainer_config", "hyperparameters", "hyperparams",
    "hparams", "hyper_parameters", "optim", "optimization", "optimizer", "model", "model_args",
    "model_config", "data", "data_args", "dataset", "datasets", "script_args", "run",
    "experiment", "config", "lora", "lora_config", "lora_args", "lora_parameters", "peft",
    "peft_config", "adapter", "adapter_config", "quantization", "quantization_config", "bnb",
    "bnb_config", "bitsandbytes", "tokenizer", "finetuning_args", "generating_args", "dpo",
    "dpo_config", "grpo", "grpo_config",
})  # fmt: skip
# Names that mean nothing without their section.
AMBIGUOUS = frozenset({
    "name", "type", "path", "id", "dtype", "version", "method", "r", "seed_path", "file", "files",
    "split",
})  # fmt: skip


def setting_name(name: str) -> str:
    """Return the canonical name of a setting as found in a configuration, script or command line.

    `training.learning_rate` and `lora_config.r` are found by their last part if the whole is not
    listed and the rest is a section without a meaning of its own.
    """
    stripped = name.strip().lstrip("-").replace("-", "_")
    if stripped in SETTINGS or stripped in CANONICAL:
        return SETTINGS.get(stripped, stripped)
    *sections, last = stripped.split(".")
    if not sections or not all(section.lower() in SECTIONS for section in sections):
        return stripped
    inner = f"{sections[-1]}.{last}"
    if inner in SETTINGS:
        return SETTINGS[inner]
    if sections[-1].startswith(("lora", "peft", "adapter")):
        return SETTINGS.get(last, f"lora.{last}")
    if sections[-1].startswith(("quantization", "bnb", "bitsandbytes")):
        return SETTINGS.get(last, f"quantization.{last}")
    if last in AMBIGUOUS:
        return inner
    return SETTINGS.get(last, last)
