"""Take secrets, addresses, user names and home folders out of text, counting what was removed.

The rules are our own. detect-secrets 1.5, the maintained library for this, was tried: it needs a
millisecond for a line of a log (these rules need some ten microseconds, and logs have 100,000
lines), takes every word of a line for a high-entropy text, has no rule for the keys of Hugging
Face, Anthropic, Tinker, NVIDIA and today's OpenAI, and its keyword rule would remove training text
("the secret of life"). The shapes of its provider rules are among ours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

KEEP_ADDRESSES = frozenset({"127.0.0.1", "0.0.0.0", "255.255.255.255"})
# Before these, four numbers with dots are a version (pip's lines on CUDA packages).
VERSION_WORDS = ("nvidia", "version", "->", "cuda", "cudnn", "driver", "==")
KEEP_HOSTS = frozenset({"localhost", "none", "null", "true", "false", "127.0.0.1", "0.0.0.0"})


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing to remove: texts one of which must occur, the pattern, and what takes its place.

    `marks` are lower-case and searched first, because a substring search costs a fraction of a
    pattern; the empty tuple means that the pattern is always tried.
    """

    kind: str
    marks: tuple[str, ...]
    pattern: re.Pattern[str]
    replace: Callable[[re.Match[str]], str]


def _all(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text


def _keep_group(text: str) -> Callable[[re.Match[str]], str]:
    """Replace everything but group 1."""
    return lambda match: match.group(1) + text


def _address(match: re.Match[str]) -> str:
    text = match.group()
    octets = text.split(".")
    real = all(int(octet) < 256 for octet in octets)
    before = match.string[max(0, match.start() - 80) : match.start()].lower()
    if any(word in before for word in VERSION_WORDS):
        return text
    return "[ip]" if real and text not in KEEP_ADDRESSES else text


def _host(match: re.Match[str]) -> str:
    host = match.group(2)
    if host.lower() in KEEP_HOSTS or host.isdigit():
        return match.group()
    return match.group(1) + "[host]"


# Token shapes: the services' own documentation of their prefixes (github.blog 2021-04-05 on
# ghp_/gho_/ghu_/ghs_/ghr_, AWS IAM unique identifiers for AKIA/ASIA, and so on).
RULES: tuple[Rule, ...] = (
    Rule(
        "private key",
        ("private key",),
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
                   re.DOTALL),
        # The line count stays, so that line numbers go on being right.
        lambda match: "[private key]" + "\n" * match.group().count("\n"),
    ),
    Rule(
        "password in URL",
        ("://",),
        re.compile(r"(\b[a-zA-Z][\w+.-]*://)[^\s/:@'\"]+:[^\s/@'\"]+@"),
        _keep_group("[password]@"),
    ),
    Rule(
        "key",
        ("hf_", "sk-", "akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_",
         "glpat-", "xox", "tml-", "nvapi-", "aiza", "r8_", "pypi-", "dop_v1_", "npm_", "_live_",
         "_test_", "sg.", "ey", "ya29.", "dckr_pat_", "gsk_", "figd_", "accountkey="),
        re.compile(
            r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
            r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
            r"|\bxox[abeoprs]-[\w-]{10,}|\btml-[A-Za-z0-9]{20,}|\bnvapi-[\w-]{20,}"
            r"|\bAIza[\w-]{35}|\br8_[A-Za-z0-9]{30,}|\bpypi-[\w-]{40,}|\bdop_v1_[0-9a-f]{40,}"
            r"|\bnpm_[A-Za-z0-9]{30,}|\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|\bgsk_[A-Za-z0-9]{30,}"
            r"|\bSG\.[\w-]{16,}\.[\w-]{16,}|\bya29\.[\w-]{20,}|\bdckr_pat_[\w-]{20,}"
            r"|\bfigd_[\w-]{30,}|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}|AccountKey=[\w+/]{60,}={0,2}"
        ),
        _all("[key]"),
    ),
    Rule(
        "key",
        ("bearer ", "authorization"),
        re.compile(r"(?i)(\b(?:bearer|basic|authorization['\"]?\s*[:=])\s+['\"]?)[\w.~+/=-]{16,}"),
        _keep_group("[key]"),
    ),
    Rule(
        "key",
        ("wandb", "api_key", "api-key", "apikey", "login"),
        # A W&B key is 40 hex digits, as is a git commit: only near a word that says key.
        re.compile(r"(?i)((?:wandb|api[_-]?key|login)[^\n]{0,60}?)(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])"),
        _keep_group("[key]"),
    ),
    Rule(
        "password",
        ("password", "passwd", "secret", "api_key", "apikey", "access_token", "auth_token"),
        re.compile(
            r"(?i)(\b[\w.-]*(?:password|passwd|client_secret|secret_key|secret_access_key|api_?key"
            r"|access_token|auth_token)['\"]?\s*[=:]\s*['\"]?)(?![$<{\[]|os\.|none\b|null\b|get)"
            r"[^\s'\",;)]{8,}"
        ),
        _keep_group("[password]"),
    ),
    Rule(
        "e-mail",
        ("@",),
        re.compile(r"(?<![\w.+-])(?!git@)[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b"),
        _all("[email]"),
    ),
    Rule(
        "address",
        (),
        # Not after == - v _ or a word: versions such as cudnn==8.9.2.26 have the same shape.
        re.compile(r"(?<![\w.-])(?<!==)(?<!>=)(?<!<=)(?<!~=)\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)"),
        _address,
    ),
    Rule(
        "address",
        ("fe80:", "fc", "fd", "2"),
        re.compile(
            r"(?i)(?<![\w:.])(?:fe80|f[cd][0-9a-f]{2}|2[0-9a-f]{3}):[0-9a-f:]*:[0-9a-f]{1,4}(?![\w:])"
        ),
        lambda match: "[ip]" if match.group().count(":") >= 3 or "::" in match.group()
        else match.group(),
    ),
    Rule(
        "home folder",
        ("/home/", "/users/"),
        re.compile(r"(?<![\w.~])/(?:home|Users)/[^/\s\"'\\:,;)\]}>*]+"),
        _all("~"),
    ),
    Rule(
        "home folder",
        ("\\users\\",),
        re.compile(r"(?i)\b[a-z]:\\{1,2}users\\{1,2}[^\\\s\"':,;]+"),
        _all("~"),
    ),
    Rule(
        "host",
        ("host", "master_addr", "srun: error:"),
        re.compile(
            # torchrun's summary, JSON, environments and srun: not any sentence with "host:" in it.
            r"(?im)(\bhost\s{2,}: |[\"']host(?:name)?[\"']: ?[\"']|\bhostname ?[:=] ?"
            r"|\bmaster_addr ?[:=] ?[\"']?|srun: error: (?=[\w.-]+: tasks? ))([A-Za-z0-9][\w.-]*)"
        ),
        _host,
    ),
    Rule(
        "host",
        ("tfevents.", "-"),
        # Event files, and the folders that transformers' default_logdir names: Nov03_12-32-12_HOST.
        re.compile(
            r"(\btfevents\.\d{9,11}\.|\b[A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d_)"
            r"([A-Za-z0-9][\w-]*(?:\.[A-Za-z][\w-]*)*)"
        ),
        _host,
    ),
    Rule(
        "user",
        ("logged in as", "user=", "logname=", "username"),
        re.compile(
            r"(?i)(\blogged in as:? |\b(?:USER|LOGNAME|USERNAME)=[\"']?"
            r"|[\"']user_?name[\"']: ?[\"'])([A-Za-z][\w.-]*)"
        ),
        _keep_group("[user]"),
    ),
    Rule(
        "user",
        ("$", "#"),
        re.compile(r"()\b[a-z_][\w.-]*@[A-Za-z0-9][\w.-]*(?=:[~/][^\s$#]*[$#])"),
        _all("[user]@[host]"),
    ),
)  # fmt: skip

# Of a text that holds none of these no rule can match: one pass of RE2 spares most texts the rules.
_POSSIBLE = (
    r"(?i)private key|://|hf_\w|sk-[\w-]|a(?:k|s)ia[0-9a-z]{4}|gh[pousr]_|github_pat_|glpat-|xox\w-"
    r"|tml-|nvapi-|aiza|r8_|pypi-|dop_v1_|npm_|_(?:live|test)_|gsk_|sg\.[\w-]{4}|ya29\.|dckr_pat_|figd_"
    r"|eyj[\w-]|accountkey=|bearer |authorization|[0-9a-f]{40}"
    r"|(?:password|passwd|client_secret|secret_key|secret_access_key|api_?key|(?:access|auth)_token)"
    r"['\"]?[\s\pZ\pC]*[=:]|@|\p{Nd}\.\p{Nd}{1,3}\.\p{Nd}{1,3}\.\p{Nd}"
    r"|(?:fe80|f[cd][0-9a-f]{2}|2[0-9a-f]{3}):[0-9a-f:]*:|/home/|/users/|\\users\\|host|master_addr"
    r"|tfevents\.|\d_\d\d-\d\d-\d\d_|srun: error:|logged in as|user=|logname=|user_?name"
)
REMEMBERED = 40  # characters of a text that is remembered as harmless: keys and roles of data rows
REMEMBERED_TEXTS = 10_000

KEYS = frozenset({"private key", "password in URL", "key", "password"})

# A setting of such a name holds a secret, whatever it looks like; not `eos_token` and its kin.
SECRET_NAME = re.compile(
    r"(?i)(?:^|[._-])(?:password|passwd|\w*secret\w*|\w*api_?key|(?:hub|hf|access|auth|bearer)_token"
    r"|wandb_key|private_key|credentials?)$"
)
NAMED = (
    ("user", re.compile(r"\benv\.(?:USER|LOGNAME|USERNAME)$")),
    ("host", re.compile(r"(?i)(?:^|[._])(?:host|hostname|master_addr)$")),
)
# Names learned from home folders and host entries are taken out wherever they stand, unless they
# are words: everybody's /home/ubuntu is no name, and a model family must stay readable.
LEARNED = re.compile(r"[A-Za-z][\w.-]*[A-Za-z0-9]")
NO_NAME = frozenset({
    "administrator", "anaconda", "axolotl", "datasets", "deepspeed", "default", "huggingface",
    "jovyan", "jupyter", "mistral", "pytorch", "tensorflow", "transformers", "unsloth",
    "paperspace", "projects", "public", "redacted", "research", "researcher", "runner", "sagemaker",
    "shared",
    "student", "studio-lab-user", "training", "ubuntu", "vscode", "workspace", "ec2-user",
})  # fmt: skip


def encodable(text: str) -> str:
    """Return the text with what UTF-8 cannot hold, as in a name of other bytes, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@cache
def _possible() -> Any:
    import re2

    return re2.compile(_POSSIBLE.encode())


@lru_cache(maxsize=1 << 12)
def _told_by_name(name: str) -> tuple[str, ...]:
    """Return the kinds of what a value may be by its name alone."""
    secret = ("password",) if SECRET_NAME.search(name) else ()
    return (*secret, *(kind for kind, pattern in NAMED if pattern.search(name)))


def _gather(value: Any, texts: list[str], depth: int = 20) -> bool:
    """Add all texts inside to a list; say whether none is told by its name to be a secret."""
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, dict) and depth > 0:
        for key, inner in value.items():
            name = str(key)
            texts.append(name)
            if _told_by_name(name) or not _gather(inner, texts, depth - 1):
                return False
    elif isinstance(value, list) and depth > 0:
        for inner in value:
            if not _gather(inner, texts, depth - 1):
                return False
    elif isinstance(value, tuple):
        return False  # `clean_value` makes a list of it
    return True


class Redactor:
    """Cleans text and keeps count, by kind, of what it removed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.learned: dict[str, str] = {}
        self._harmless: set[str] = set()

    def clean(self, text: str) -> str:
        """Return the text without secrets, addresses and names of people's accounts."""
        if text in self._harmless:
            return text
        if _possible().search(text.encode("utf-8", "surrogatepass")) is None:
            if len(text) <= REMEMBERED and len(self._harmless) < REMEMBERED_TEXTS:
                self._harmless.add(text)
            return text
        lowered = text.lower()
        for rule in RULES:
            if rule.marks and not any(mark in lowered for mark in rule.marks):
                continue
            text = rule.pattern.sub(partial(self._put, rule), text)
        return text

    def clean_keys(self, text: str) -> str:
        """Return the text without keys and passwords: for a path that must still lead somewhere."""
        for rule in RULES:
            if rule.kind in KEYS:
                text = rule.pattern.sub(partial(self._put, rule), text)
        return text

    def _put(self, rule: Rule, match: re.Match[str]) -> str:
        replaced = rule.replace(match)
        if replaced != match.group():
            self.counts[rule.kind] += 1
            self._learn(rule, match)
        return replaced

    def _learn(self, rule: Rule, match: re.Match[str]) -> None:
        if rule.kind == "home folder":
            name, instead = re.split(r"[/\\]", match.group())[-1], "[user]"
        elif rule.kind == "host":
            name, instead = match.group(2), "[host]"
        else:
            return
        long_enough = len(name) >= (6 if instead == "[user]" else 4)
        distinct = instead == "[user]" or re.search(r"[\d.-]", name)
        if long_enough and distinct and LEARNED.fullmatch(name) and name.lower() not in NO_NAME:
            self.learned.setdefault(name, instead)

    def clean_learned(self, text: str) -> str:
        """Return the text without the user and host names that earlier texts gave away."""
        if not any(name in text for name in self.learned):
            return text
        names = "|".join(map(re.escape, sorted(self.learned, key=lambda n: (-len(n), n))))
        return re.sub(rf"(?<![\w.-])(?:{names})(?![\w-])", self._put_learned, text)

    def _put_learned(self, match: re.Match[str]) -> str:
        instead = self.learned[match.group()]
        self.counts[instead.strip("[]")] += 1
        return instead

    def is_harmless(self, value: Any) -> bool:
        """Say whether `clean_value` would change nothing, by one look at all texts together.

        False may be a mistake, as a text may seem to go on in the next.
        """
        texts: list[str] = []
        if not _gather(value, texts):
            return False
        whole = "\0".join(texts).encode("utf-8", "surrogatepass")
        return _possible().search(whole) is None

    def clean_value(self, value: Any, name: str = "", depth: int = 20) -> Any:
        """Clean every text inside nested lists and mappings; `name` is the value's own."""
        if isinstance(value, str):
            for kind in _told_by_name(name):
                if len(value) >= 6 if kind == "password" else value.lower() not in KEEP_HOSTS:
                    self.counts[kind] += 1
                    return f"[{kind}]"
            return self.clean(value)
        if depth <= 0:
            return value
        if isinstance(value, dict):
            return {
                self.clean(key) if isinstance(key, str) else key: self.clean_value(
                    inner, str(key), depth - 1
                )
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.clean_value(inner, name, depth - 1) for inner in value]
        return value
