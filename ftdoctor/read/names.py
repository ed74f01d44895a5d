"""The one alias table: what trainers call a metric or setting, and what ftdoctor calls it.

Canonical metric names follow the HF Trainer's log where it has one, canonical settings its
TrainingArguments; `lora.*` and `quantization.*` follow PEFT and BitsAndBytesConfig. A name that is
not listed keeps its own form (lower case, `train/` removed), so nothing is lost.
"""

from __future__ import annotations

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
    # optimisation
    "lr": "learning_rate",
    "optimizer.lr": "learning_rate",
    "num_epochs": "num_train_epochs",
    "epochs": "num_train_epochs",
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
    "validation_file": "eval_dataset",
    "eval_file": "eval_dataset",
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
    "data.train.rows": "rows of the training files",
    "data.eval.rows": "rows of the evaluation files",
    "data.layout": "messages | sharegpt | alpaca | prompt-completion | preference | kto | text | pretokenised | multimodal",
    "data.*": "counts over whole files: invalid_rows, blank_rows, duplicate_rows, ...",
    "script.*": "what the syntax trees show: prompt literals, calls, label construction, paths, devices",
}


def metric_name(name: str) -> tuple[str, str]:
    """Return (canonical name, split) of a logged metric; split is train, eval or test."""
    lowered = name.strip()
    split = "train"
    for prefix, found in (
        ("eval_", "eval"), ("eval/", "eval"), ("val_", "eval"), ("val/", "eval"),
        ("validation_", "eval"), ("validation/", "eval"), ("valid_", "eval"), ("test/", "eval"),
        ("full_valid_", "eval"), ("test_", "test"), ("train/", "train"),
    ):  # fmt: skip
        if lowered.lower().startswith(prefix):
            split = found
            lowered = lowered[len(prefix) :]
            break
    return METRICS.get(lowered, METRICS.get(lowered.lower(), lowered)), split


def setting_name(name: str) -> str:
    """Return the canonical name of a setting as found in a configuration, script or command line."""
    stripped = name.strip().lstrip("-").replace("-", "_")
    return SETTINGS.get(stripped, stripped)
