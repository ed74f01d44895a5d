"""Detectors on exports and serving: files left behind, GGUF metadata, Modelfiles, wrong bases."""

from __future__ import annotations

import re
from typing import Literal

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.tokens import family_of
from ftdoctor.families import find_family
from ftdoctor.model import Fact, Observation, Run
from ftdoctor.read.prompts import formats_of

GGUF = "GGUF file"
_TOKENIZER_FILES = ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# Formats as they look in a template, Jinja or Go: the mark that opens a turn, and what ends it.
FORMATS: tuple[tuple[str, str, str], ...] = (
    ("ChatML", r"<\|im_start\|>", "<|im_end|>"),
    ("Llama 3", r"<\|start_header_id\|>", "<|eot_id|>"),
    ("Llama 4", r"<\|header_start\|>", "<|eot|>"),
    ("Gemma", r"<start_of_turn>", "<end_of_turn>"),
    ("Gemma 4", r"<\|turn>", "<turn|>"),
    ("Phi-3", r"<\|user\|>[\s\S]*<\|end\|>", "<|end|>"),
    ("Zephyr", r"<\|user\|>", "</s>"),
    ("DeepSeek", r"<｜User｜>", "<｜end▁of▁sentence｜>"),
    ("Llama 2 and Mistral", r"\[INST\]", "</s>"),
    ("Alpaca", r"### ?Instruction", ""),
    ("Vicuna", r"USER: ", "</s>"),
)
# Formats (`read/prompts.py`) whose markers are tokens of one family's vocabulary alone.
OF_ONE_VOCABULARY = frozenset({"llama-3", "llama-4", "gemma", "deepseek", "command-r"})


def format_of(template: str) -> tuple[str, str] | None:
    """Return (name, text that ends a turn) of the format a template writes, None if unknown."""
    for name, mark, end in FORMATS:
        if re.search(mark, template):
            return name, end
    return None


def _written_format(template: str) -> tuple[str, str] | None:
    """Return the format of what a Jinja template writes, else of its source.

    The marks of a turn may be put together from the role: `<|{{ message.role }}|>`.
    """
    from ftdoctor.read.template import Rendered, render

    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    shown = render(template, turns)
    return (format_of(shown.text) if isinstance(shown, Rendered) else None) or format_of(template)


# --- files beside weights ---------------------------------------------------------------------


@detector("export.files_missing")
def files_missing(
    run: Run, *, beside: Literal["weights", "gguf"], any_of: list[str], anywhere: bool = False
) -> Observation:
    """Find that files which loaders ask for are missing beside full weights or a GGUF file.

    `anywhere`: in all of the run, and the weights are no checkpoint of training.
    """
    name = "export.missing_files" if beside == "weights" else "export.gguf_missing_files"
    facts = run.facts.get(name, ())
    if not facts:
        return unobservable("No exported weights to look beside", "exported weights")
    names = {a.path.rpartition("/")[2] for a in run.artifacts}
    if anywhere and (held := sorted(names & {*any_of, *_TOKENIZER_FILES})):
        return absent(f"{held[0]} is among the files of the run", *facts)
    for fact in facts:
        if anywhere and "checkpoint-" in fact.where.path:
            continue
        gone = [file for file in fact.value if file in any_of]
        if gone and (not anywhere or len(gone) == len(any_of)):
            return present(
                f"{', '.join(gone)} missing beside the weights{_in(fact.where.path)}", fact
            )
    return absent(f"beside the weights: {', '.join(any_of)}", *facts)


@detector("export.processor_missing")
def processor_missing(run: Run) -> Observation:
    """Find exported weights of a vision model without the files of its image processor."""
    facts = run.facts.get("export.processor_files", ())
    if not facts:
        return unobservable("No exported weights of a vision model", "exported weights")
    for fact in facts:
        if not fact.value:
            text = f"`{fact.where.path}` has a vision_config, but no processor file lies beside it"
            return present(text, fact)
    return absent("The processor's files lie beside the weights", *facts)


@detector("export.stop_list_lost")
def stop_list_lost(run: Run) -> Observation:
    """Find an export without generation_config.json of a family that stops on several tokens."""
    facts = [
        f for f in run.facts.get("export.missing_files", ()) if "generation_config.json" in f.value
    ]
    if not run.facts.get("export.missing_files"):
        return unobservable("No exported weights to look beside", "exported weights")
    if not facts:
        return absent("generation_config.json lies beside the weights")
    name = run.setting("model_name_or_path") or run.setting("lora.base_model")
    kind, size = run.fact("model.type"), run.fact("model.vocab_size")
    found = find_family(
        str(name.value) if name else "",
        str(kind.value) if kind else "",
        size.value if size and isinstance(size.value, int) else None,
    )
    if found is None:
        return unobservable("The model's family is not known", "config.json")
    if len(found.stop_ids) > 1:
        ids = ", ".join(map(str, found.stop_ids))
        text = f"No generation_config.json beside the weights; {found.id} stops on {ids}"
        return present(text, facts[0])
    return absent(f"{found.id} stops on one token, which the tokenizer names", facts[0])


# --- GGUF -------------------------------------------------------------------------------------


def _gguf_model(run: Run) -> Fact | None:
    """Return a fact of a GGUF file that holds a model's tensors: not a vocabulary, not a LoRA."""
    count = next(
        (f for f in run.facts.get("gguf.tensor_count", ()) if isinstance(f.value, int) and f.value),
        None,
    )
    kind = run.fact("gguf.type")
    if count is None or (kind is not None and kind.value in ("adapter", "mmproj", "imatrix")):
        return None
    later_part = run.fact("gguf.split_no")
    if later_part is not None and later_part.value:
        return None
    encoder = run.fact("gguf.architecture")
    if encoder is not None and re.search(r"bert|clip|t5encoder|embed|whisper", str(encoder.value)):
        return None
    return count


@detector("export.gguf_template_missing")
def gguf_template_missing(run: Run) -> Observation:
    """Find a GGUF model without chat template."""
    model = _gguf_model(run)
    if model is None:
        return unobservable("No GGUF file with a model in it", GGUF)
    template = run.fact("gguf.chat_template")
    if template is not None:
        return absent("The GGUF holds a chat template", template)
    return present(f"`{model.where.path}` holds no chat template", model)


@detector("export.gguf_stop_token")
def gguf_stop_token(run: Run, *, rescued: bool) -> Observation:
    """Find that a GGUF's EOS token is not what its chat template ends turns with.

    `rescued` selects files in which llama.cpp stops all the same, because the turn's end is a
    control token that it knows by its text; other runtimes go by the id alone.
    """
    model, template = _gguf_model(run), run.fact("gguf.chat_template")
    eos = run.fact("gguf.eos_token")
    if model is None or template is None or eos is None:
        return unobservable("No GGUF with a template and an EOS token", GGUF)
    unknown = run.fact("gguf.unk_token")
    if unknown is not None and eos.value == unknown.value:
        said = f"The GGUF's EOS is {eos.value}, the token for unknown text"
        return (absent if rescued else present)(said, eos, unknown)
    format_found = format_of(str(template.value))
    if format_found is None or not format_found[1]:
        return unobservable("The template is of no known format", GGUF)
    end = format_found[1]
    uses_eos = "eos_token" in str(template.value)
    extra = {
        str(f.value) for n in ("gguf.eot_token", "gguf.eom_token") for f in run.facts.get(n, ())
    }
    if eos.value == end or uses_eos or end in extra or end not in str(template.value):
        return absent(f"The GGUF stops on {eos.value}, as its template ends turns", eos)
    ends = run.fact("gguf.end_texts")
    known = ends.value if ends is not None and isinstance(ends.value, dict) else {}
    saved = known.get(end) == "control"
    text = f"The GGUF's EOS is {eos.value}, but its template ends turns with {end}"
    if saved is not rescued:
        return absent(f"{text}{' (llama.cpp knows it by its text)' if saved else ''}", eos)
    return present(text, eos, template)


@detector("export.gguf_id_out_of_range")
def gguf_id_out_of_range(run: Run) -> Observation:
    """Find a special token's id that the GGUF's vocabulary does not have."""
    size = run.fact("gguf.vocab_size")
    if size is None:
        return unobservable("No GGUF with a vocabulary", GGUF)
    for short in ("eos", "bos", "eot", "pad", "unk", "eom"):
        fact = run.fact(f"gguf.{short}_out_of_range")
        if fact is not None:
            text = f"{short}_token_id {fact.value} is outside the {size.value:,} tokens of the GGUF"
            return present(text, fact, size)
    return absent(f"Every special id is within the {size.value:,} tokens", size)


@detector("export.gguf_vocabulary")
def gguf_vocabulary(run: Run) -> Observation:
    """Find a GGUF whose vocabulary and embedding table differ in length.

    Converters fill the token list up to the embedding's rows, and llama.cpp takes no other shape.
    """
    size, rows = run.fact("gguf.vocab_size"), run.fact("gguf.embedding_rows")
    if size is None or rows is None:
        return unobservable("No GGUF with vocabulary and embedding table", GGUF)
    text = f"The GGUF has {size.value:,} tokens and {rows.value:,} embedding rows"
    return (present if size.value != rows.value else absent)(text, size, rows)


@detector("export.gguf_differs")
def gguf_differs(run: Run, *, of: Literal["chat_template", "eos_token"]) -> Observation:
    """Find that the GGUF's template or EOS differs from that of the tokenizer training used.

    Templates are compared by what they render. A difference in white space, or with system
    messages and tools that no training row has, is none.
    """
    ours, theirs = run.fact(f"tokenizer.{of}"), run.fact(f"gguf.{of}")
    if _gguf_model(run) is None or ours is None or theirs is None:
        return unobservable("Not both the tokenizer files and a GGUF are here", GGUF)
    if of == "eos_token":
        same = str(ours.value) == str(theirs.value)
        text = f"The tokenizer's EOS is {ours.value}, the GGUF's {theirs.value}"
        return (absent if same else present)(text, theirs, ours)
    served = run.fact("template.served")
    if served is None:
        return unobservable("The templates were not rendered", GGUF)
    for told in served.value:
        if "refused: " in f"{told['training']} {told['serving']}":
            return unobservable("One of the two templates cannot be rendered", "a whole template")
        if told["kind"] in ("row", "plain", "prompt") and not told["of_space"]:
            where = "" if told["token"] < 0 else f" from token {told['token']} on"
            text = (
                f"On {told['conversation']}{where} training has {told['training']!r}, the GGUF "
                f"renders {told['serving']!r}"
            )
            return present(text, theirs, ours)
    if not served.value:
        return absent("The GGUF's template renders the same tokens as training's", theirs, ours)
    kinds = ", ".join(dict.fromkeys(told["conversation"] for told in served.value))
    return absent(f"The templates differ in little: {kinds}", theirs, ours)


@detector("export.gguf_eos_alone")
def gguf_eos_alone(run: Run) -> Observation:
    """Find a GGUF whose EOS id is none that tokenizer and generation_config.json agree on."""
    eos, stated = run.fact("gguf.eos_token_id"), run.fact("generation.eos_token_id")
    own = run.fact("tokenizer.eos_id")
    if _gguf_model(run) is None or eos is None or stated is None or own is None:
        return unobservable("Not GGUF, tokenizer and generation_config.json are all here", GGUF)
    ids = stated.value if isinstance(stated.value, list) else [stated.value]
    if own.value not in ids:
        return unobservable("Tokenizer and generation_config.json differ themselves", GGUF)
    text = f"The GGUF's EOS id is {eos.value}; the tokenizer's is {own.value}"
    if eos.value == own.value or eos.value in ids:
        return absent(f"{text}, and generation stops at {ids}", eos, stated)
    return present(f"{text}, as in generation_config.json", eos, own, stated)


# general.file_type of 2 bits and less; Q2_K has 2.6 bits per weight and more
LOW_BITS = re.compile(r"^(?:IQ1|IQ2|Q2_K|TQ)")


@detector("export.gguf_low_bits")
def gguf_low_bits(run: Run, *, bits_below: float, parameters_below: float) -> Observation:
    """Find a GGUF below so many bits per weight, of a model below so many parameters."""
    bits, size = run.fact("gguf.bits_per_weight"), run.fact("gguf.parameters")
    kind = run.fact("gguf.file_type")
    if bits is None or size is None:
        return unobservable("No GGUF with a model in it", GGUF)
    text = f"{bits.value:.2f} bits per weight ({kind.value if kind else 'unknown type'})"
    low = bits.value < bits_below or bool(kind and LOW_BITS.match(str(kind.value)))
    if low and size.value < parameters_below:
        return present(f"{text} for {size.value / 1e9:.1f} billion weights", bits, size)
    return absent(text, bits)


@detector("export.gguf_pre_tokenizer")
def gguf_pre_tokenizer(run: Run) -> Observation:
    """Find a GGUF with a byte-pair vocabulary whose pre-tokenizer is missing or `default`."""
    model, kind = _gguf_model(run), run.fact("gguf.tokenizer_model")
    if model is None or kind is None:
        return unobservable("No GGUF with a vocabulary", GGUF)
    pre = run.fact("gguf.pre")
    if kind.value != "gpt2" or (pre is not None and pre.value != "default"):
        return absent(
            f"Vocabulary {kind.value}, pre-tokenizer {pre.value if pre else 'none'}", kind
        )
    value = "missing" if pre is None else "`default`"
    return present(f"The byte-pair vocabulary's tokenizer.ggml.pre is {value}", pre or kind)


@detector("export.gguf_context")
def gguf_context(run: Run) -> Observation:
    """Find a GGUF whose context length differs from config.json's."""
    ours, theirs = run.fact("model.max_position_embeddings"), run.fact("gguf.context_length")
    if ours is None or theirs is None or _gguf_model(run) is None:
        return unobservable("Not both config.json and a GGUF are here", "config.json, GGUF file")
    text = f"context_length is {theirs.value} in the GGUF, {ours.value} in config.json"
    return (absent if ours.value == theirs.value else present)(text, theirs, ours)


@detector("export.context_beyond_model")
def context_beyond_model(run: Run, *, times: float) -> Observation:
    """Find a Modelfile whose num_ctx is more than `times` the context of the GGUF beside it."""
    asked, made = run.fact("modelfile.parameter.num_ctx"), run.fact("gguf.context_length")
    if asked is None or made is None or not str(asked.value).isdigit():
        return unobservable("Not both a Modelfile with num_ctx and a GGUF are here", GGUF)
    scaling = run.fact("gguf.rope_scaling")
    if scaling is not None and scaling.value not in (None, "", "none"):
        return unobservable(f"The GGUF's positions are scaled ({scaling.value})")
    text = f"num_ctx is {int(asked.value):,}; the GGUF's context length is {int(made.value):,}"
    longer = int(asked.value) > times * int(made.value)
    return (present if longer else absent)(text, asked, made)


@detector("export.lora_gguf_incomplete")
def lora_gguf_incomplete(run: Run) -> Observation:
    """Find a LoRA in GGUF form without the keys by which llama.cpp knows and scales it."""
    kind = run.fact("gguf.type")
    names = run.tensors["name"] if not run.tensors.is_empty() else None
    pairs = names is not None and bool(names.str.contains(r"^blk\.\d+\..*\.lora_[ab]$").any())
    if not pairs and (kind is None or kind.value != "adapter"):
        return unobservable("No LoRA in GGUF form", "LoRA GGUF file")
    gone = [
        key
        for key, name in (
            ("general.type", "gguf.type"),
            ("adapter.type", "gguf.adapter_type"),
            ("adapter.lora.alpha", "gguf.lora_alpha"),
        )
        if run.fact(name) is None
    ]
    facts = [kind] if kind else []
    if gone:
        return present(f"The LoRA GGUF lacks {', '.join(gone)}", *facts)
    return absent("The LoRA GGUF says its type and alpha", *facts)


# --- Ollama -----------------------------------------------------------------------------------


@detector("export.modelfile_template_differs")
def modelfile_template_differs(run: Run) -> Observation:
    """Find a Modelfile whose TEMPLATE writes another format than training used."""
    ours = run.fact("tokenizer.chat_template") or run.fact("gguf.chat_template")
    theirs = run.fact("modelfile.template")
    if theirs is None:
        return unobservable("No Modelfile with a TEMPLATE", "Modelfile")
    if ours is None:
        return _template_of_other_family(run, theirs)
    left, right = _written_format(str(ours.value)), format_of(str(theirs.value))
    if left is None or right is None:
        return unobservable("A template is of no known format", "tokenizer files")
    text = f"Training used {left[0]}, the Modelfile's TEMPLATE writes {right[0]}"
    return (absent if left == right else present)(text, theirs, ours)


def _template_of_other_family(run: Run, theirs: Fact) -> Observation:
    """Judge a TEMPLATE by the model's family where the training template is not at hand.

    Markers of one family's vocabulary are no tokens of another; formats that people give to any
    model (ChatML, plain words) tell nothing.
    """
    own = family_of(run)
    written = [f for f in formats_of(str(theirs.value)) if f in OF_ONE_VOCABULARY]
    if own is None or not own.formats or not written:
        return unobservable("The training template is not known", "tokenizer files or GGUF file")
    text = f"The Modelfile's TEMPLATE writes {written[0]} format, the model is of {own.id}"
    facts = [theirs, *([family] if (family := run.fact("model.family")) else [])]
    return (absent if written[0] in own.formats else present)(text, *facts)


@detector("export.modelfile_incomplete")
def modelfile_incomplete(run: Run, *, lacks: Literal["template", "stop"]) -> Observation:
    """Find a Modelfile without TEMPLATE where the GGUF has none, or without its format's stop."""
    base = run.fact("modelfile.from")
    if base is None:
        return unobservable("No Modelfile", "Modelfile")
    template = run.fact("modelfile.template")
    renderer = run.fact("modelfile.renderer")
    if lacks == "template":
        if template is not None or renderer is not None:
            return absent("The Modelfile has a TEMPLATE or RENDERER", template or base)
        model = _gguf_model(run)
        if model is None:
            return unobservable("The GGUF that FROM names is not here", GGUF)
        if run.fact("gguf.chat_template") is not None:
            return absent("Ollama takes the template from the GGUF", base)
        return present("The Modelfile has no TEMPLATE, and the GGUF has none either", base, model)
    if template is None:
        return unobservable("The Modelfile has no TEMPLATE", "Modelfile with TEMPLATE")
    found = format_of(str(template.value))
    eos, stops = run.fact("gguf.eos_token"), run.fact("modelfile.stop")
    if found is None or not found[1] or eos is None:
        return unobservable("The format's end or the GGUF's EOS is not known", GGUF)
    listed = [str(s) for s in stops.value] if stops is not None else []
    if found[1] in listed or found[1] == eos.value:
        return absent(f"{found[1]} stops generation", stops or base)
    return present(
        f"No `PARAMETER stop {found[1]}`, and the GGUF's EOS is {eos.value}", template, eos
    )


# --- bases ------------------------------------------------------------------------------------


def base_key(name: str) -> str:
    """Return a model's name without owner and without what quantised copies add to it."""
    tail = name.strip().rstrip("/").replace("\\", "/").rpartition("/")[2].lower()
    tail = re.sub(
        r"[-_.](?:unsloth|bnb|4bit|8bit|gguf|gptq|awq|hf|fp16|bf16|int4|int8)(?=[-_.]|$)", "", tail
    )
    return re.sub(r"^meta-", "", tail)


def _hub_name(value: object) -> bool:
    return (
        isinstance(value, str) and bool(re.fullmatch(r"[\w.-]+/[\w.-]+", value)) and value[0] != "."
    )


@detector("export.base_differs")
def base_differs(run: Run) -> Observation:
    """Find a test or merge script that loads another Hub model than the adapter was trained on."""
    trained = next(
        (f for n in ("lora.base_model", "adapter.base_model_name_or_path")
         if (f := run.known(n)) is not None and _hub_name(f.value)),
        None,
    )  # fmt: skip
    if trained is None:
        return unobservable("The adapter's base is not named by a Hub id", "adapter_config.json")
    used = [
        f
        for role in ("test", "inference", "convert")
        for n in ("model_path", "base_model")
        for f in run.facts.get(f"script.{role}.{n}", ())
        if _hub_name(f.value)
    ]
    if not used:
        return unobservable("No script names a base model", "test or inference script")
    if any(base_key(str(f.value)) == base_key(str(trained.value)) for f in used):
        return absent(f"The script loads {trained.value}", used[0], trained)
    same_kind = find_family(str(trained.value)) is not None
    if not same_kind and find_family(str(used[0].value)) is None:
        return unobservable("Neither name is that of a known model", "adapter_config.json")
    text = f"The adapter was trained on {trained.value}, the script loads {used[0].value}"
    return present(text, used[0], trained)


def _in(folder: str) -> str:
    return "" if folder in ("", ".") else f" in `{folder}`"
