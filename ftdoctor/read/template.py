"""Render chat templates of strangers: Jinja in a sandbox, with limits on work and on output.

The environment is that of transformers (utils/chat_template_utils.py): trim_blocks, lstrip_blocks,
loop controls, `{% generation %}`, tojson without HTML escapes, raise_exception, strftime_now.
A template cannot run for long or fill the memory: every loop item and every character that it
produces is charged to a budget.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment, Template

MAX_ITEMS = 200_000  # loop items of one rendering; a conversation of 2,000 turns takes about 6,000
MAX_CHARS = 16_000_000  # characters that one rendering may produce, steps in between included
MAX_BITS = 4096  # of a factor
MAX_WIDTH = 1000  # columns of an indent
# The day that `strftime_now` tells: fixed, so that a rendering never depends on the clock.
TODAY = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text that a template makes of a conversation."""

    text: str


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """Why there is no text: `kind` is syntax, raised (by raise_exception), limit or error."""

    kind: str
    text: str
    line: int | None = None


class _RaisedError(Exception):
    """What `raise_exception` of a template says about the messages."""


class _BudgetSpentError(Exception):
    """A template asked for more work than any real conversation needs."""


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Any = None,
    add_generation_prompt: bool = False,
    tokens: Mapping[str, str] | None = None,
) -> Rendered | TemplateProblem:
    """Render a conversation; `tokens` gives bos_token, eos_token and the like. Never raises."""
    compiled = _compiled(template)
    if isinstance(compiled, TemplateProblem):
        return compiled
    budget = _budget_of(compiled.environment)
    budget.refill()
    try:
        text = compiled.render(
            messages=_plain(messages),
            tools=_plain(tools),
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **(tokens or {}),
        )
    except _RaisedError as error:
        return TemplateProblem("raised", str(error)[:300])
    except (_BudgetSpentError, RecursionError, MemoryError, OverflowError) as error:
        return TemplateProblem("limit", f"{error or type(error).__name__}"[:300])
    except Exception as error:
        return TemplateProblem("error", f"{type(error).__name__}: {error}"[:300])
    return Rendered(text)


def syntax_problem(template: str) -> TemplateProblem | None:
    """Return what keeps a template from compiling, or None."""
    compiled = _compiled(template)
    return compiled if isinstance(compiled, TemplateProblem) else None


def _plain(value: Any) -> Any:
    """Return a copy of plain data, so that no template shares objects with its caller."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


@lru_cache(maxsize=32)
def _compiled(template: str) -> Template | TemplateProblem:
    import jinja2

    environment = _environment()
    _budget_of(environment).refill()
    try:
        tree = environment.parse(template)
        _charge_loops(tree)
        code = environment.compile(tree)
        return jinja2.Template.from_code(environment, code, environment.make_globals(None))
    except jinja2.TemplateSyntaxError as error:
        return TemplateProblem("syntax", str(error.message)[:300], error.lineno)
    except (_BudgetSpentError, RecursionError, MemoryError, OverflowError) as error:
        return TemplateProblem("limit", f"{error or type(error).__name__}"[:300])
    except Exception as error:
        return TemplateProblem("syntax", f"{type(error).__name__}: {error}"[:300])


# --- the budget -------------------------------------------------------------------------------


class _Budget:
    """What one rendering may still use."""

    def __init__(self) -> None:
        self.refill()

    def refill(self) -> None:
        self.items = MAX_ITEMS
        self.chars = MAX_CHARS

    def charge(self, chars: int) -> None:
        self.chars -= chars
        if self.chars < 0:
            raise _BudgetSpentError(f"the template produces more than {MAX_CHARS:,} characters")

    def bounded(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the items of a loop, each charged."""
        for item in items:
            self.items -= 1
            if self.items < 0:
                raise _BudgetSpentError(f"the template loops over more than {MAX_ITEMS:,} items")
            yield item


def _budget_of(environment: Environment) -> _Budget:
    budget: _Budget = environment.budget  # type: ignore[attr-defined]
    return budget


def _charge_loops(tree: Any) -> None:
    """Let every `for` and every `~` of a syntax tree go through the budget."""
    from jinja2 import nodes

    for loop in tree.find_all(nodes.For):
        loop.iter = nodes.Filter(loop.iter, "_bounded", [], [], None, None, lineno=loop.lineno)
    for join in list(tree.find_all(nodes.Concat)):
        parts = [
            nodes.Filter(part, "_charged", [], [], None, None, lineno=join.lineno)
            for part in join.nodes
        ]
        join.nodes = parts


# --- the environment --------------------------------------------------------------------------


# No public template uses them, and each makes much of little.
_FILTERS_TAKEN_OUT = (
    "batch", "center", "format", "pprint", "random", "slice", "urlize", "wordwrap", "xmlattr",
)  # fmt: skip


def _environment() -> Environment:
    budget = _Budget()
    environment: Environment = _sandbox()(budget)
    environment.globals.update(
        raise_exception=_raise_exception,
        strftime_now=TODAY.strftime,
        range=_range,
    )
    for name in _FILTERS_TAKEN_OUT:
        environment.filters.pop(name, None)
    for name in ("lipsum", "cycler", "joiner"):
        environment.globals.pop(name, None)
    for name in ("indent", "join", "replace"):
        environment.filters[name] = _charged(environment.filters[name], name, budget)
    environment.filters["tojson"] = _tojson
    environment.filters["_bounded"] = budget.bounded
    environment.filters["_charged"] = lambda value: _charge(value, budget)
    return environment


@cache
def _sandbox() -> type[Any]:
    """Return the environment class, made on first use so that importing this module is cheap."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["+", "*", "**", "%"])

        def __init__(self, budget: _Budget) -> None:
            self.budget = budget
            super().__init__(
                trim_blocks=True,
                lstrip_blocks=True,
                extensions=[loopcontrols, _generation_tag()],
                finalize=lambda value: _charge(value, budget),
            )

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _check_operator(operator, left, right, self.budget)
            return super().call_binop(context, operator, left, right)

        def call(self, /, context: Any, called: Any, *args: Any, **kwargs: Any) -> Any:
            _check_method(called, args, self.budget)
            return super().call(context, called, *args, **kwargs)

    return Sandbox


def _generation_tag() -> type[Any]:
    """Return the extension for `{% generation %}`, which marks the tokens to be learned."""
    from jinja2.ext import Extension

    class GenerationTag(Extension):
        tags = {"generation"}  # noqa: RUF012 (declared so by jinja2)

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return GenerationTag


def _raise_exception(message: str) -> None:
    raise _RaisedError(message)


def _range(*bounds: int) -> range:
    found = range(*bounds)
    if len(found) > MAX_ITEMS:
        raise _BudgetSpentError(f"the template loops over more than {MAX_ITEMS:,} items")
    return found


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    indent = min(indent, MAX_WIDTH) if isinstance(indent, int) else None
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _charge(value: Any, budget: _Budget) -> Any:
    if isinstance(value, str):
        budget.charge(len(value))
    return value


def _charged(function: Callable[..., Any], name: str, budget: _Budget) -> Callable[..., Any]:
    """Return a filter that estimates its result before it makes it."""
    import functools

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = [a for a in args if not hasattr(a, "autoescape")]
        if name == "indent":
            widths = [a for a in (*given[1:2], kwargs.get("width")) if isinstance(a, int)]
            if any(width > MAX_WIDTH for width in widths):
                raise _BudgetSpentError(f"an indent is wider than {MAX_WIDTH}")
            budget.charge(len(str(given[0])))
        elif name == "replace":
            budget.charge(_replaced(*(str(a) for a in given[:3])))
        elif given and isinstance(given[0], list | tuple | Iterator):
            items = list(budget.bounded(given[0]))
            budget.charge(sum(len(i) for i in items if isinstance(i, str)) + 8 * len(items))
            at = next(i for i, a in enumerate(args) if a is given[0])
            args = (*args[:at], items, *args[at + 1 :])
        return function(*args, **kwargs)

    return checked


def _replaced(text: str = "", old: str = "", new: str = "", *_: Any) -> int:
    """Return the most characters that a replacement can make."""
    times = text.count(old) if old else len(text) + 1
    return len(text) + times * len(new)


_SIZED = (str, list)


def _check_operator(operator: str, left: Any, right: Any, budget: _Budget) -> None:
    if operator == "+":
        size = len(left) if isinstance(left, _SIZED) else 0
        budget.charge(size + len(right) if isinstance(right, _SIZED) else size)
    elif operator == "%" and isinstance(left, str):
        raise _BudgetSpentError("the template formats strings with %")
    elif operator == "**" and max(abs(left), abs(right)) > 64:
        raise _BudgetSpentError("the template raises to a large power")
    elif operator == "*":
        for text, times in ((left, right), (right, left)):
            if isinstance(text, str | list) and isinstance(times, int):
                budget.charge(len(text) * max(times, 0))
            elif isinstance(text, int) and text.bit_length() > MAX_BITS:
                raise _BudgetSpentError("the template multiplies very large numbers")


_WIDENING = frozenset(["ljust", "rjust", "center", "zfill", "expandtabs", "format", "format_map"])


def _check_method(called: Any, args: Sequence[Any], budget: _Budget) -> None:
    """Charge for methods of strings that can make long ones of short ones."""
    owner = getattr(called, "__self__", None)
    name = getattr(called, "__name__", "")
    if not isinstance(owner, str):
        return
    if name in _WIDENING:
        raise _BudgetSpentError(f"the template calls str.{name}")
    if name == "replace" and len(args) >= 2:
        budget.charge(_replaced(owner, str(args[0]), str(args[1])))
    elif name == "join" and args and isinstance(args[0], list | tuple):
        items = args[0]
        budget.charge(sum(len(str(i)) for i in items) + len(owner) * len(items))
    else:
        budget.charge(len(owner))
