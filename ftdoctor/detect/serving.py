"""Detectors on servers of adapters: what was mounted, and what a client asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.log import log_of
from ftdoctor.detect.wording import shown
from ftdoctor.model import Fact, Observation, Run

# vLLM: vllm/entrypoints/openai/cli_args.py, serving_models.py; SGLang: server_args.py.
_MOUNTED = (
    r"--lora[-_](?:modules|paths)",
    r"Loaded new LoRA adapter: name",
)
_FLAG = re.compile(
    r"--lora[-_](?:modules|paths)[ =]+((?:['\"]?[\w./-]+=\S+\s*|['\"]?\{[^}]*\}['\"]?\s*)+)"
)
_NAMES = (
    re.compile(r"(?:^|\s)['\"]?([\w./-]+)="),
    re.compile(r"\"name\":\s*\"([^\"]+)\""),
)
_LOADED = re.compile(r"Loaded new LoRA adapter: name '([^']+)'")
_WITHOUT, _WITH = r"\blora_request[:=] ?None\b", r"\blora_request[:=] ?LoRARequest\("
_BODY = r"\"model\"\s*:\s*\"[^\"]+\""
_ASKED = re.compile(r"\"model\"\s*:\s*\"([^\"]+)\"")
_SERVER, _CLIENT = "log of the server", "the client's request"


@detector("serving.adapter_not_asked")
def adapter_not_asked(run: Run) -> Observation:
    """Find requests that name the base model while the server holds a trained adapter.

    A server of several models applies an adapter only to requests that name it.
    """
    log = log_of(run)
    mounted = log.find(_MOUNTED)
    names = {name for text in mounted for name in _names(text.text)}
    if not names:
        return unobservable("No server that mounts an adapter by name was seen", _SERVER)
    used = log.find((_WITH,))
    if used:
        return absent("The server applied an adapter to a request", used[0].fact)
    asked = [*_asked(run)]
    proper = [fact for fact in asked if fact.value in names]
    if proper:
        return absent(f"A request asks for {proper[0].value}", proper[0])
    plain = [text.fact for text in log.find((_WITHOUT,))]
    named = f"the server holds the adapter {shown(sorted(names)[0])}"
    if asked:
        said = f"{named}, but the request asks for {shown(asked[0].value)} ({asked[0].where})"
        return present(said, asked[0], *plain[:1], mounted[0].fact)
    if plain:
        said = f"{named}, but a request ran without it ({plain[0].where})"
        return present(said, plain[0], mounted[0].fact)
    return unobservable("No request to the server was seen", _CLIENT)


def _names(text: str) -> Iterator[str]:
    for given in _FLAG.findall(text):
        for pattern in _NAMES:
            yield from pattern.findall(given)
    yield from _LOADED.findall(text)


def _asked(run: Run) -> Iterator[Fact]:
    """Yield the models that clients ask for: scripts first, then bodies of requests."""
    for role in ("test", "other", "data"):
        yield from run.facts.get(f"script.{role}.asked_model", ())
    for text in log_of(run).find((_BODY,)):
        found = _ASKED.search(text.text)
        if found:
            yield Fact("request.model", found[1], text.fact.where)


@detector("serving.rank_above_limit")
def rank_above_limit(run: Run) -> Observation:
    """Find an adapter whose rank is above what the command that starts the server takes."""
    limit, rank = run.fact("serve.max_lora_rank"), run.fact("adapter.r")
    if limit is None or rank is None or not isinstance(rank.value, int):
        return unobservable(
            "No command that serves adapters was found beside one", "the server's start script"
        )
    text = f"the adapter has rank {rank.value}, the server takes up to {limit.value}"
    if len(run.facts.get("adapter.r", ())) > 1:
        ranks = [f.value for f in run.facts["adapter.r"] if isinstance(f.value, int)]
        if min(ranks) <= limit.value < max(ranks):
            return unobservable(
                f"{text}; which adapter it is given is not told", "its start script"
            )
    return present(text, limit, rank) if rank.value > limit.value else absent(text, limit, rank)
