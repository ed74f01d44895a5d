"""Read tokenizer files: special tokens, ids, chat templates, and which file says what.

Facts of one file carry that file's word only; `resolve` puts the files of a folder together as
transformers does and adds what follows from them (ids, conflicts, the files present).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.jsontext import loads
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import Source

if TYPE_CHECKING:
    from ftdoctor.read.assemble import RunParts

# transformers writes int(1e30) for "not set" (VERY_LARGE_INTEGER, tokenization_utils_base.py).
UNSET_LENGTH = 10**29
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
_PLAIN = {
    "tokenizer_class": "class",
    "model_max_length": "model_max_length",
    "add_bos_token": "add_bos_token",
    "add_eos_token": "add_eos_token",
    "padding_side": "padding_side",
    "truncation_side": "truncation_side",
    "add_prefix_space": "add_prefix_space",
    "legacy": "legacy",
    "name_or_path": "name_or_path",
    "transformers_version": "transformers_version",
}
_PROCESSOR = (
    "image_processor_type", "processor_class", "size", "min_pixels", "max_pixels", "patch_size",
    "merge_size", "do_resize", "do_convert_rgb", "image_seq_length",
)  # fmt: skip
TEMPLATE = "tokenizer.chat_template"
GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")


def read_tokenizer_config(source: Source) -> Reading:
    """Read tokenizer_config.json of transformers 4 or 5."""
    content, text, problem = _object(source)
    if problem:
        return Reading(ArtifactState.DAMAGED, problem)
    place = _Lines(source.path, text)
    facts = [
        Fact(f"tokenizer.{name}", content[key], place.of(key))
        for key, name in _PLAIN.items()
        if content.get(key) is not None and not _unset(key, content[key])
    ]
    facts += _role_facts(content, place)
    added = content.get("added_tokens_decoder")
    if isinstance(added, dict):
        facts.append(
            Fact("tokenizer.added_tokens", _decoder(added), place.of("added_tokens_decoder"))
        )
    facts += _config_templates(content, place)
    return Reading(taken=f"{len(facts)} facts", facts=tuple(facts))


def read_special_tokens(source: Source) -> Reading:
    """Read special_tokens_map.json, or added_tokens.json (text to id)."""
    content, text, problem = _object(source)
    if problem:
        return Reading(ArtifactState.DAMAGED, problem)
    place = _Lines(source.path, text)
    if content and all(isinstance(v, int) for v in content.values()):
        ids = {str(i): {"content": t, "special": None} for t, i in content.items()}
        fact = Fact("tokenizer.added_tokens", ids, Where(source.path))
        return Reading(taken=f"{len(ids)} added tokens", facts=(fact,))
    facts = _role_facts(content, place)
    return Reading(taken=f"{len(facts)} special tokens", facts=tuple(facts))


def read_tokenizer(source: Source) -> Reading:
    """Read tokenizer.json: added tokens, vocabulary size, what its post-processor adds."""
    content, _, problem = _object(source)
    if problem:
        return Reading(ArtifactState.DAMAGED, problem)
    stated = content.get("model")
    model: dict[str, Any] = stated if isinstance(stated, dict) else {}
    vocabulary = model.get("vocab") or {}
    added = [t for t in content.get("added_tokens") or [] if isinstance(t, dict)]
    ids = {
        str(t.get("id")): {"content": str(t.get("content")), "special": bool(t.get("special"))}
        for t in added
    }
    largest = max([len(vocabulary) - 1, *(int(i) for i in ids if i.isdigit())])
    where = Where(source.path)
    facts = [
        Fact("tokenizer.vocab_size", largest + 1, where),
        Fact("tokenizer.added_tokens", ids, Where(source.path, pointer="/added_tokens")),
        Fact("tokenizer.model", str(model.get("type")), Where(source.path, pointer="/model/type")),
    ]
    facts += [
        Fact(f"tokenizer.saved_{name}", content[name], Where(source.path, pointer=f"/{name}"))
        for name in ("truncation", "padding")
        if content.get(name) is not None
    ]
    merges = model.get("merges") or []
    if merges:
        form = "pairs" if isinstance(merges[0], list) else "strings"
        facts.append(Fact("tokenizer.merges", form, Where(source.path, pointer="/model/merges")))
    before, after = _added_around(content.get("post_processor"))
    pointer = Where(source.path, pointer="/post_processor")
    facts.append(Fact("tokenizer.adds_before", before, pointer))
    facts.append(Fact("tokenizer.adds_after", after, pointer))
    return Reading(taken=f"{largest + 1:,} tokens", facts=tuple(facts))


def read_template_file(source: Source) -> Reading:
    """Read a template of its own: chat_template.jinja, or a named one beside it."""
    text = source.text(1 << 20)
    name = source.name.rpartition(".")[0]
    if not ("chat_template" in name or "additional_chat_templates" in source.path):
        return Reading(ArtifactState.SKIPPED, "a Jinja file that is not named as a chat template")
    where = Where(source.path, line=1)
    main = name == "chat_template" and "additional_chat_templates" not in source.path
    facts = (
        (Fact(TEMPLATE, text, where),)
        if main
        else (Fact("tokenizer.named_templates", {name: text}, where),)
    )
    return Reading(taken=f"template of {len(text):,} characters", facts=facts)


def read_template_json(source: Source) -> Reading:
    """Read the processor's chat_template.json, which transformers wrote before 4.53."""
    content, text, problem = _object(source)
    if problem:
        return Reading(ArtifactState.DAMAGED, problem)
    return Reading(facts=tuple(_config_templates(content, _Lines(source.path, text))))


def read_processor(source: Source) -> Reading:
    """Read preprocessor_config.json or processor_config.json: the image size limits."""
    content, text, problem = _object(source)
    if problem:
        return Reading(ArtifactState.DAMAGED, problem)
    place = _Lines(source.path, text)
    facts = [
        Fact(f"processor.{name}", content[name], place.of(name))
        for name in _PROCESSOR
        if content.get(name) is not None
    ]
    return Reading(taken=f"{len(facts)} facts", facts=tuple(facts))


# --- parts of a file --------------------------------------------------------------------------


class _Lines:
    """Lines of keys in a JSON text, so that a report can point at them."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text

    def of(self, key: str) -> Where:
        """Return where the key stands first at the top level of an indented file."""
        found = re.search(rf'(?m)^\s{{0,4}}"{re.escape(key)}"\s*:', self.text)
        if found is None:
            return Where(self.path, pointer=f"/{key}")
        return Where.in_text(self.path, self.text, found.end())


def _object(source: Source) -> tuple[dict[str, Any], str, str]:
    """Return a JSON object, its text, and what is wrong ("" if nothing)."""
    try:
        text = source.text()
    except ValueError as error:
        return {}, "", str(error)
    try:
        content = loads(text)
    except ValueError as error:
        return {}, text, f"is not valid JSON: {' '.join(str(error).split())[:120]}"
    if not isinstance(content, dict):
        return {}, text, f"holds a {type(content).__name__}, not an object"
    return content, text, ""


def _unset(key: str, value: Any) -> bool:
    return key == "model_max_length" and isinstance(value, int | float) and value > UNSET_LENGTH


def token_text(value: Any) -> str | None:
    """Return the text of a special token: a string, or an AddedToken object."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _role_facts(content: Mapping[str, Any], place: _Lines) -> list[Fact]:
    facts = []
    for role in ROLES:
        text = token_text(content.get(role))
        if text is not None:
            facts.append(Fact(f"tokenizer.{role}", text, place.of(role)))
    extra = content.get("additional_special_tokens", content.get("extra_special_tokens"))
    items = extra.values() if isinstance(extra, dict) else extra if isinstance(extra, list) else ()
    texts = [text for item in items if (text := token_text(item))]
    key = "additional_special_tokens"
    if texts:
        facts.append(Fact("tokenizer.extra_special_tokens", texts, place.of(key)))
    return facts


def _decoder(added: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        str(number): {"content": str(t.get("content")), "special": bool(t.get("special"))}
        for number, t in added.items()
        if isinstance(t, dict)
    }


def _config_templates(content: Mapping[str, Any], place: _Lines) -> list[Fact]:
    """Return the template of a JSON file: a string, or a list of named ones."""
    template = content.get("chat_template")
    where = place.of("chat_template")
    if isinstance(template, str):
        return [Fact(TEMPLATE, template, where)]
    if isinstance(template, list):
        template = {str(t.get("name")): t.get("template") for t in template if isinstance(t, dict)}
    if not isinstance(template, dict):
        return []
    facts = [Fact("tokenizer.named_templates", template, where)]
    if isinstance(template.get("default"), str):
        facts.append(Fact(TEMPLATE, template["default"], where))
    return facts


def _added_around(processor: Any) -> tuple[list[str], list[str]]:
    """Return the special tokens that a post-processor puts before and after one sequence."""
    if not isinstance(processor, dict):
        return [], []
    before: list[str] = []
    after: list[str] = []
    for part in [processor, *(processor.get("processors") or [])]:
        if isinstance(part, dict) and part.get("type") == "TemplateProcessing":
            side = before
            for piece in part.get("single") or []:
                if "Sequence" in piece:
                    side = after
                elif "SpecialToken" in piece:
                    side.append(str(piece["SpecialToken"].get("id")))
        elif isinstance(part, dict) and part.get("type") in ("BertProcessing", "RobertaProcessing"):
            before.append(str((part.get("cls") or [""])[0]))
            after.append(str((part.get("sep") or [""])[0]))
    return before, after


# --- the files of a folder together -----------------------------------------------------------

# Who wins inside one folder: transformers 5 lets chat_template.jinja win over the JSON key, and
# tokenizer_config.json over special_tokens_map.json (tokenization_utils_base.py).
_PRECEDENCE = (
    "chat_template.jinja",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "added_tokens.json",
    "chat_template.json",
)
_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "chat_template.json", "tokenizer.model", "spiece.model", "vocab.json",
    "merges.txt", "vocab.txt", "preprocessor_config.json", "processor_config.json",
    "generation_config.json", "config.json",
)  # fmt: skip
_BASE_FOLDER = re.compile(r"(?:^|/)(?:base|base[-_]model|original|pretrained|reference)(?:/|$)")


def resolve(parts: RunParts) -> None:
    """Put the primary folder's tokenizer facts first, and add what follows from its files.

    The primary tokenizer is the one nearest to the root that is not in a folder of the base model.
    Adds ids of special tokens, `tokenizer.special_tokens`, `.files`, `.folder`, `.folders`,
    `.chat_template_home`, `.chat_template_conflict` and `.generation_tag`.
    """
    folders = _folders(parts)
    if not folders:
        return
    primary = folders[0]
    for name in [n for n in parts.facts if n.startswith(("tokenizer.", "processor."))]:
        parts.facts[name].sort(key=lambda fact: _order(fact.where.path, folders))
    where = Where(primary or ".")
    parts.add("tokenizer.folder", primary, where)
    parts.add("tokenizer.folders", folders, where)
    parts.add("tokenizer.files", _present(parts, primary), where)
    _add_ids(parts, primary)
    _add_template_facts(parts, primary)


def folder_of(path: str) -> str:
    """Return the folder of a path, that of a named template's parent."""
    folder = path.rpartition("/")[0]
    return folder.removesuffix("additional_chat_templates").rstrip("/")


def _folders(parts: RunParts) -> list[str]:
    facts = [f for n, fs in parts.facts.items() if n.startswith("tokenizer.") for f in fs]
    counts: dict[str, int] = {}
    for fact in facts:
        folder = folder_of(fact.where.path)
        counts[folder] = counts.get(folder, 0) + 1

    def rank(folder: str) -> tuple[bool, bool, int, int, str]:
        # A folder with a template file alone is no tokenizer of its own.
        alone = counts[folder] < 2
        based = bool(_BASE_FOLDER.search(folder))
        return alone, based, folder.count("/") + bool(folder), -counts[folder], folder

    return sorted(counts, key=rank)


def _order(path: str, folders: list[str]) -> tuple[int, int, str]:
    folder = folder_of(path)
    name = path.rpartition("/")[2]
    place = folders.index(folder) if folder in folders else len(folders)
    return place, _PRECEDENCE.index(name) if name in _PRECEDENCE else len(_PRECEDENCE), path


def _present(parts: RunParts, folder: str) -> list[str]:
    prefix = f"{folder}/" if folder else ""
    paths = {source.path for source in parts.sources} | {a.path for a in parts.artifacts}
    return [name for name in _FILES if prefix + name in paths]


def in_folder(facts: Iterable[Fact], folder: str) -> Iterator[Fact]:
    """Yield the facts that come from files of that folder."""
    return (fact for fact in facts if folder_of(fact.where.path) == folder)


def _add_ids(parts: RunParts, folder: str) -> None:
    """Add the ids of bos, eos, pad, and the list of special tokens."""
    tables = list(in_folder(parts.facts.get("tokenizer.added_tokens", ()), folder))
    ids: dict[str, int] = {}
    special: dict[str, None] = {}
    for table in reversed(tables):
        for number, token in table.value.items():
            if number.lstrip("-").isdigit():
                ids[token["content"]] = int(number)
            if token["special"]:
                special[token["content"]] = None
    for role in ROLES:
        fact = next(in_folder(parts.facts.get(f"tokenizer.{role}", ()), folder), None)
        if fact is None:
            continue
        special[fact.value] = None
        if fact.value in ids:
            parts.add(f"tokenizer.{role.removesuffix('_token')}_id", ids[fact.value], fact.where)
    for fact in in_folder(parts.facts.get("tokenizer.extra_special_tokens", ()), folder):
        special.update(dict.fromkeys(fact.value))
    if special:
        where = tables[0].where if tables else Where(folder or ".")
        parts.add("tokenizer.special_tokens", sorted(special), where)
    if tables and not parts.facts.get("tokenizer.vocab_size") and ids:
        parts.add("tokenizer.largest_added_id", max(ids.values()), tables[0].where)


def _add_template_facts(parts: RunParts, folder: str) -> None:
    templates = list(in_folder(parts.facts.get(TEMPLATE, ()), folder))
    if not templates:
        return
    first = templates[0]
    parts.add("tokenizer.chat_template_home", first.where.path.rpartition("/")[2], first.where)
    other = next((t for t in templates[1:] if _squeezed(t.value) != _squeezed(first.value)), None)
    parts.add("tokenizer.chat_template_conflict", other is not None, (other or first).where)
    parts.add("tokenizer.generation_tag", bool(GENERATION_TAG.search(first.value)), first.where)


def _squeezed(template: str) -> str:
    """Return a template without white space outside of tags: such edits change nothing."""
    return re.sub(r"\s+", "", template)
