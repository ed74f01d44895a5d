"""Rendering equals that of transformers, and no template runs away."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ftdoctor.read.derive import probe
from ftdoctor.read.template import Rendered, TemplateProblem, render, syntax_problem

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
CONVERSATIONS = (
    [{"role": "user", "content": "Hi\n there"}, {"role": "assistant", "content": "Yo!"}],
    [
        {"role": "system", "content": "Be kind"},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"},
        {"role": "user", "content": "3+3?"},
        {"role": "assistant", "content": "6"},
    ],
)
CHATML = (
    "{% for m in messages %}\n  {% if m.role == 'tool' %}{% continue %}{% endif %}\n"
    "<|im_start|>{{ m.role }}\n{% generation %}{{ m['content'] | trim }}{% endgeneration %}"
    "<|im_end|>\n{% endfor %}\n{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def public_templates(shared: Path) -> dict[str, str]:
    found = {}
    for path in sorted((shared / "corpus").rglob("chat_template.jinja")):
        found[path.parent.name] = path.read_text()
    for path in sorted((shared / "corpus").rglob("tokenizer_config.json")):
        try:
            template = json.loads(path.read_text()).get("chat_template")
        except ValueError:
            continue
        if isinstance(template, str):
            found[path.parent.name] = template
    return {name: t for name, t in found.items() if "strftime_now" not in t}


def check_against_transformers(template: str, name: str = "") -> None:
    utilities = pytest.importorskip("transformers.utils.chat_template_utils")
    for messages in CONVERSATIONS:
        for opened in (False, True):
            own = render(template, messages, add_generation_prompt=opened, tokens=TOKENS)
            try:
                given = {"chat_template": template, "add_generation_prompt": opened, **TOKENS}
                expected = utilities.render_jinja_template([messages], **given)[0][0]
            except Exception:
                assert isinstance(own, TemplateProblem), name
                continue
            assert own == Rendered(expected), name


def test_rendering_equals_that_of_transformers() -> None:
    check_against_transformers(CHATML)


def test_public_templates_render_as_in_transformers(shared: Path) -> None:
    for name, template in public_templates(shared).items():
        check_against_transformers(template, name)


GROW = "{% set ns = namespace(x='a') %}{% for i in range(100) %}{% set ns.x = EXPR %}{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000000) %}{% endfor %}",
        GROW.replace("EXPR", "ns.x + ns.x"),
        GROW.replace("EXPR", "ns.x ~ ns.x"),
        GROW.replace("EXPR", "ns.x | replace('a', 'aa')"),
        GROW.replace("EXPR", "[ns.x, ns.x] | join"),
        GROW.replace("EXPR", "''.join([ns.x, ns.x])"),
        GROW.replace("EXPR", "ns.x.replace('a', 'aa')"),
        "{{ 'a' * 10**9 }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 10**10**10 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'a' | indent(100000000) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_a_template_that_runs_away_is_stopped_quickly(template: str) -> None:
    begun = time.monotonic()
    assert isinstance(render(template, CONVERSATIONS[0]), TemplateProblem)
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    "template",
    [
        "{{ [].__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ lipsum(n=9) }}",
    ],
)
def test_the_sandbox_holds(template: str) -> None:
    # Jinja's sandbox answers an unsafe attribute with an undefined value, which prints as nothing.
    assert render(template, CONVERSATIONS[0]) == Rendered("") or isinstance(
        render(template, CONVERSATIONS[0]), TemplateProblem
    )


def test_what_a_template_says_about_rows_is_told_from_its_own_faults() -> None:
    refusal = render("{{ raise_exception('Roles must alternate') }}", CONVERSATIONS[0])
    assert refusal == TemplateProblem("raised", "Roles must alternate")
    broken = syntax_problem("a\n{% for m in messages %}\n{% endfro %}")
    assert broken is not None
    assert (broken.kind, broken.line) == ("syntax", 3)


def test_the_probe_tells_what_a_template_does() -> None:
    found = probe(CHATML, TOKENS)
    assert found["system"] == "kept"
    assert found["tools"] == "dropped"
    assert found["closes"].startswith("<|im_end|>")
    assert found["ignores_generation_prompt"] is False
    assert found["always_opens_turn"] is False
    assert found["formats"] == ["chatml"]
    dropping = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    assert probe(dropping, TOKENS)["system"] == "dropped"
