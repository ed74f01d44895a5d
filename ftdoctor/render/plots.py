"""Draw curves as inline SVG that follows the page's light and dark colours."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ftdoctor.aside import begin
from ftdoctor.model import Curve, Diagnosis, Finding, RankedCause, Span, State
from ftdoctor.render import text as words
from ftdoctor.render.evidence import supporting
from ftdoctor.render.svg import inline
from ftdoctor.schedule import INTENDED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PLOTS = 3
TABLE_ROWS = 12
MAX_GAPS = 12  # shaded stretches of NaN per curve; beyond that, one from the first to the last
SPREAD = 50.0  # maximum over median from which a loss is drawn on a log scale (judgement)

# Sentinel colours: matplotlib writes them into the file, `inline` replaces them by variables.
INK, MUTED, SERIES, BAD = "#010101", "#020202", "#030303", "#040404"
WASH, RULE, OK, OTHER = "#050505", "#060606", "#070707", "#080808"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    SERIES: "--series",
    BAD: "--bad",
    WASH: "--bad-wash",
    RULE: "--rule",
    OK: "--ok",
    OTHER: "--rule-strong",
}

TRAINING = ("loss", "grad_norm", "learning_rate")
REINFORCEMENT = ("reward", "kl", "entropy", "completions/mean_length")
TITLES = {
    "loss": "train loss",
    "eval/loss": "evaluation loss",
    "grad_norm": "gradient norm",
    "learning_rate": "learning rate",
    INTENDED: "grey: as scheduled",
    "reward": "mean reward",
    "kl": "KL from the reference model",
    "entropy": "entropy of the policy",
    "completions/mean_length": "mean completion length (tokens)",
    "completions/clipped_ratio": "share of completions cut at the length limit",
    "reward_std": "spread of the rewards within a group",
    "frac_reward_zero_std": "share of groups without spread in reward",
    "rewards/margins": "reward margin, chosen over rejected",
    "rewards/accuracies": "share of pairs ranked right",
    "logps/chosen": "log-probability of the chosen answers",
    "logps/rejected": "log-probability of the rejected answers",
}
MARKED = 24  # points of a curve up to which each gets a dot
LARGEST_STEP = 1e15  # beyond it an axis cannot be computed in floats
LOG_SCALED = ("grad_norm",)


@dataclass(frozen=True, slots=True)
class Size:
    """One of the two forms of a plot: width in inches, panel heights, points drawn, text width."""

    name: str
    width: float
    first: float
    further: float
    points: int
    wrap: int


WIDE = Size("wide", 7.0, 2.05, 1.35, 200, 38)
NARROW = Size("narrow", 4.1, 1.9, 1.3, 90, 24)
_TOP, _BOTTOM, _GAP = 0.25, 0.48, 0.34  # inches: above the first panel, below the last, between


@dataclass(frozen=True, slots=True)
class Mark:
    """Where it began: a step, where it ended if it did, and the sentence beside the line."""

    step: int
    until: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Figures:
    """What one plot shows: curve names of its panels (an inner tuple shares one panel)."""

    key: str
    panels: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot: two SVG texts, its caption, the sentence for a screen reader, thinned data."""

    key: str
    wide: str
    narrow: str
    caption: str
    label: str
    header: tuple[str, ...]
    table: tuple[tuple[str, ...], ...]


def key_of(curve: Curve) -> str:
    """Return the name by which findings refer to a curve: `loss`, `eval/loss`."""
    return curve.name if curve.split == "train" else f"{curve.split}/{curve.name}"


def curves_of(d: Diagnosis) -> dict[str, Curve]:
    """Return the curves that can be drawn: two points at least, one of them finite."""
    return {
        key_of(c): replace(c, values=tuple(words.bounded(v) for v in c.values))
        for c in d.curves
        if len(c.steps) == len(c.values) > 1
        and any(math.isfinite(v) for v in c.values)
        and max(map(abs, c.steps)) < LARGEST_STEP
    }


def proves_by_curve(d: Diagnosis, cause: RankedCause) -> bool:
    """Say whether a curve is among the strongest evidence: a third of the best weight or more."""
    weighed = supporting(d, cause)
    drawable = curves_of(d)
    best = max((w.decibans for w, _ in weighed), default=0.0)
    return any(
        w.decibans * 3 >= best and any(name in drawable for name in f.curves) for w, f in weighed
    )


def plan(d: Diagnosis) -> list[Figures]:
    """Choose at most three plots: first what proves the top cause, then the usual curves."""
    drawable = curves_of(d)
    proof = [n for n in _proving(d) if n in drawable]
    wanted = [_figure_with(name, drawable) for name in proof]
    usual = ("reward", "loss", "eval/loss") if "reward" in drawable else ("loss", "eval/loss")
    wanted += [_figure_with(name, drawable) for name in usual if name in drawable]
    return list({f.key: f for f in wanted}.values())[:MAX_PLOTS]


def _proving(d: Diagnosis) -> list[str]:
    """Return curve names from the evidence of likely causes, or of unexplained symptoms."""
    likely = [c for c in d.causes if c.probability >= words.POSSIBLE]
    findings = [f for c in likely for f in _onset_first(d, c)]
    if not likely:
        findings = [f for f in d.findings if f.symptom in d.unexplained]
    names = ((*_evaluation_first(f.curves), *(fact.name for fact in f.facts)) for f in findings)
    return list(dict.fromkeys(itertools.chain.from_iterable(names)))


def _onset_first(d: Diagnosis, cause: RankedCause) -> list[Finding]:
    """Put the finding that dates the cause first: its curve is the one that carries the mark."""
    findings = [f for _, f in supporting(d, cause)]
    return sorted(findings, key=lambda f: cause.span is None or f.span != cause.span)


def _evaluation_first(names: Iterable[str]) -> list[str]:
    """Put evaluation curves first: their figure shows the train curve as well."""
    return sorted(names, key=lambda name: not name.startswith("eval/"))


def _figure_with(name: str, drawable: dict[str, Curve]) -> Figures:
    if name in TRAINING:
        panels = [(n,) for n in TRAINING if n in drawable]
        asked = [INTENDED] if INTENDED in drawable else []
        return Figures(
            "training", tuple((*asked, *p) if p == ("learning_rate",) else p for p in panels)
        )
    if name in REINFORCEMENT:
        return Figures("reinforcement", tuple((n,) for n in REINFORCEMENT if n in drawable))
    trained = name.partition("/")[2] if name.startswith("eval/") else ""
    return Figures(name, ((trained, name),) if trained in drawable else ((name,),))


def mark_of(d: Diagnosis) -> Mark | None:
    """Return the onset of the top cause, or of the strongest unexplained symptom."""
    top = d.causes[0] if d.causes and d.causes[0].probability >= words.POSSIBLE else None
    findings = (
        [f for _, f in supporting(d, top)]
        if top
        else [f for f in d.findings if f.symptom in d.unexplained and f.state is State.PRESENT]
    )
    dated = [f for f in findings if f.span is not None]
    span: Span | None = (top.span if top else None) or (dated[0].span if dated else None)
    curves = list(curves_of(d).values()) if span else []
    first = min((min(c.steps) for c in curves), default=-1)
    last = max((max(c.steps) for c in curves), default=span.step + 1 if span else 0)
    if span is None or (span.until is None and not first < span.step < last):
        return None  # what holds from first to last needs no line, and shading it all hides it
    titles = [f.title for f in dated if f.span is not None and f.span.step == span.step]
    told = titles[0] if titles else (top.title if top else "it begins here")
    # `step 60 ± 60` would say less than that it is not sure.
    vague = span.within is not None and span.within > span.step / 2
    when = f"about step {span.step:,}" if vague else str(span)
    return Mark(span.step, span.until, words.one_line(f"{when}: {told}", 110))


def draw(d: Diagnosis, figures: Figures) -> Plot:
    """Draw one plot in both sizes; the same diagnosis gives the same bytes."""
    return drawing(d, figures)()


def drawing(d: Diagnosis, figures: Figures) -> Callable[[], Plot]:
    """Begin to draw one plot, in a second process if there is one, and return what waits for it."""
    curves = curves_of(d)
    mark = mark_of(d)
    needed = {n: curves[n] for panel in figures.panels for n in panel}
    shown = [curve for name, curve in needed.items() if name != INTENDED]
    wide, narrow = (begin(_svg, figures, needed, mark, size) for size in (WIDE, NARROW))
    return lambda: Plot(
        key=figures.key,
        wide=wide(),
        narrow=narrow(),
        caption=_caption(shown, mark),
        label=_label(figures, curves, mark),
        header=("step", *(key_of(c) for c in shown)),
        table=_table(shown),
    )


# --- words ------------------------------------------------------------------------------------


def _label(figures: Figures, curves: dict[str, Curve], mark: Mark | None) -> str:
    told = [
        _story(curves[name], mark) for panel in figures.panels for name in panel if name != INTENDED
    ]
    onset = [f"Marked: {mark.text}."] if mark else []
    return words.clip(" ".join([*told, *onset]), 700)


def _story(curve: Curve, mark: Mark | None) -> str:
    """Say in a sentence how a curve goes, before and after the onset."""
    name = _title(key_of(curve))
    head = f"{name[:1].upper()}{name[1:]}"
    finite = _finite(curve)
    (first, start), (last, end) = finite[0], finite[-1]
    told = f"{head} goes from {words.number(start)} at step {first:,} to {words.number(end)}"
    told += f" at step {last:,}"
    before = [v for s, v in finite if mark is not None and s < mark.step]
    if mark is not None and before and first < mark.step <= last:
        told += f", having been {words.number(before[-1])} just before step {mark.step:,}"
    lost = [s for s, v in zip(curve.steps, curve.values, strict=True) if not math.isfinite(v)]
    if lost:
        told += f"; it is not a finite number from step {lost[0]:,}"
    return f"{told}."


def _title(name: str) -> str:
    known = TITLES.get(name)
    if known is None and name.startswith("eval/"):
        return f"evaluation {words.one_line(name[5:], 40)}"
    return known or words.one_line(name, 50)


def _caption(curves: Sequence[Curve], mark: Mark | None) -> str:
    """Name the files, count the points, and say what thinning and shading mean."""
    parts = []
    for path in dict.fromkeys(c.path for c in curves):
        total = max(c.total for c in curves if c.path == path)
        parts.append(f"`{words.one_line(path, 80)}`, {words.plural(total, 'logged point')}")
    told = f"From {words.listed(parts[:3])}."
    if any(c.total > WIDE.points for c in curves):
        told += " Drawn: lowest and highest of each interval."
    if mark is not None and mark.until == mark.step:
        told += f" Marked: step {mark.step:,}."
    elif mark is not None:
        until = f"to {mark.until:,}" if mark.until is not None else "on"
        told += f" Shaded: from step {mark.step:,} {until}."
    elif any(not math.isfinite(v) for c in curves for v in c.values):
        told += " Shaded: not a finite number."
    return told


def _table(curves: Sequence[Curve]) -> tuple[tuple[str, ...], ...]:
    steps = sorted({s for c in curves for s in c.steps})
    chosen = [steps[round(i * (len(steps) - 1) / (TABLE_ROWS - 1))] for i in range(TABLE_ROWS)]
    found = [dict(zip(c.steps, c.values, strict=True)) for c in curves]
    return tuple(
        (f"{step:,}", *(words.number(f[step]) if step in f else "" for f in found))
        for step in dict.fromkeys(chosen)
    )


# --- drawing ----------------------------------------------------------------------------------


def prepare() -> None:
    """Draw something, so that what is imported and looked up for a first plot is there."""
    curve = Curve("loss", "train", (0, 1), (1.0, 0.0), "", 2)
    _svg(Figures("training", (("loss",),)), {"loss": curve}, None, NARROW)


def _svg(figures: Figures, curves: dict[str, Curve], mark: Mark | None, size: Size) -> str:
    import io

    matplotlib = _own_matplotlib()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: dict[str, Any] = {
        "svg.fonttype": "none",
        "text.parse_math": False,  # a metric may be called $x$
        "axes.unicode_minus": False,
        "font.family": "DejaVu Sans",
        "path.simplify": True,
        "path.simplify_threshold": 0.3,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        figure = Figure(figsize=(size.width, _height(figures, size)))
        FigureCanvasSVG(figure)
        _fill(figure, figures, curves, mark, size)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None}, transparent=True)
    return inline(written.getvalue(), size.name, _VARIABLES, _VARIABLES[MUTED])


def _height(figures: Figures, size: Size) -> float:
    further = len(figures.panels) - 1
    return (
        _TOP + _BOTTOM + size.first * (1.35 if not further else 1) + further * (size.further + _GAP)
    )


def _fill(
    figure: Figure, figures: Figures, curves: dict[str, Curve], mark: Mark | None, size: Size
) -> None:
    """Stack the panels over one step axis."""
    height = _height(figures, size)
    left, right = 0.46 / size.width, 0.06 / size.width
    every = [s for panel in figures.panels for name in panel for s in curves[name].steps]
    limits = _padded(min(every), max(*every, mark.step if mark else 0))
    top = height - _TOP
    for index, names in enumerate(figures.panels):
        tall = size.further if index else height - _TOP - _BOTTOM - (len(figures.panels) - 1) * (
            size.further + _GAP
        )  # fmt: skip
        axes = figure.add_axes((left, (top - tall) / height, 1 - left - right, tall / height))
        axes.set_xlim(*limits)
        _panel(axes, [curves[n] for n in names], mark, size, told=index == 0)
        _step_axis(axes, last=index == len(figures.panels) - 1)
        top -= tall + _GAP


def _padded(low: float, high: float) -> tuple[float, float]:
    room = max(high - low, 1) * 0.01
    return low - room, high + room


def _panel(
    axes: Axes, curves: Sequence[Curve], mark: Mark | None, size: Size, *, told: bool
) -> None:
    """Draw the curves of one panel, then write beside them where the least is hidden."""
    log = _log_scaled(curves)
    _value_axis(axes, curves, log=log)
    told_names = [_title(key_of(c)) for c in curves]
    if curves[0].name == INTENDED:
        told_names.reverse()
    title = (" (" if curves[0].name == INTENDED else " and ").join(told_names)
    title += ")" if curves[0].name == INTENDED else ""
    title += " (log scale)" if log else ""
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, pad=5)
    if mark is not None:
        _draw_mark(axes, mark)
    _draw_gaps(axes, curves)
    drawn = [_draw_curve(axes, c, size, SERIES if c is curves[-1] else OTHER) for c in curves]
    paper = Paper(axes, _trace(axes, drawn))
    if told and mark is not None:
        _write_mark(paper, mark, size)
    if len(curves) == 1:
        _write_constant(paper, curves[0])
    if len(curves) > 1 and curves[0].name != INTENDED:
        _write_best(paper, curves[-1])
        for curve, color in zip(curves, (MUTED, SERIES), strict=True):
            _write_name(paper, curve, color)


def _log_scaled(curves: Sequence[Curve]) -> bool:
    """Use a log scale for a gradient norm, and where a spike would flatten everything else."""
    values = sorted(v for c in curves for v in c.values if math.isfinite(v))
    if values[0] <= 0:
        values = [v for v in values if v > 0]
        named = all(c.name in LOG_SCALED for c in curves)
        return named and bool(values) and values[-1] > 5 * values[0]
    if all(c.name in LOG_SCALED for c in curves):
        return values[-1] > 5 * values[0]
    return not {"learning_rate", INTENDED} & {c.name for c in curves} and (
        values[-1] > SPREAD * values[len(values) // 2]
    )


def _own_matplotlib() -> Any:
    """Import matplotlib without the settings that it takes from the current folder.

    That may be a stranger's run, and a `matplotlibrc` can have LaTeX started.
    """
    foreign = os.path.lexists("matplotlibrc")
    with contextlib.chdir(os.sep) if foreign else contextlib.nullcontext():
        import matplotlib
        import matplotlib.artist
    # Every class of artists documents its properties when it is made: a third of the import.
    matplotlib.artist.kwdoc = lambda artist: ""  # noqa: ARG005

    return matplotlib


def _value_axis(axes: Axes, curves: Sequence[Curve], *, log: bool) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    values = [v for c in curves for v in c.values if math.isfinite(v) and (v > 0 or not log)]
    low, high = min(values), max(values)
    if log:
        axes.set_yscale("log")
        low, high = low / 1.3, high * 1.3
        ticks = _log_ticks(low, high)
    else:
        if low > 0 and low < 0.5 * high:
            low = 0.0
        room = (high - low) or abs(high) or 1.0
        low, high = low - 0.04 * room, high + 0.08 * room
        ticks = _linear_ticks(low, high)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.tick_params(axis="y", length=0, pad=3, labelsize=9.5, labelcolor=MUTED)
    axes.grid(axis="y", color=RULE, linewidth=0.7, clip_on=False)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(OTHER)
    axes.spines["bottom"].set_linewidth(0.8)


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1,), (1, 3), (1, 2, 5)):
        ticks = [m * 10.0**e for e in decades for m in mantissas if low <= m * 10.0**e <= high]
        if len(ticks) >= 2:
            return ticks[:: -(-len(ticks) // 4)]
    return [math.sqrt(low * high)]


def _linear_ticks(low: float, high: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(t) for t in found if low <= t <= high]


def _tick(value: float) -> str:
    if value == 0 or abs(value) < 1e-15:
        return "0"
    if 1e-3 <= abs(value) < 1e4:  # five digits do not fit beside the axis
        return f"{value:,.10g}" if abs(value) >= 1000 else f"{value:.4g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _step_axis(axes: Axes, *, last: bool) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    low, high = axes.get_xlim()
    ticks = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=True).tick_values(low, high)
    room = (high - low) * 0.03  # a label nearer to the edge would be cut off
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high - room]))
    if not last:
        axes.tick_params(axis="x", length=0, labelbottom=False)
        return
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{int(value):,}"))
    axes.tick_params(axis="x", length=3, color=OTHER, labelsize=9.5, labelcolor=MUTED, pad=3)
    axes.set_xlabel("step", fontsize=9.5, color=MUTED, labelpad=2)


def _draw_curve(axes: Axes, curve: Curve, size: Size, color: str) -> list[tuple[float, float]]:
    """Draw a line that is broken at NaN and where a resumed run goes back; return its points."""
    points = thinned(list(zip(curve.steps, curve.values, strict=True)), size.points)
    xs: list[float] = []
    ys: list[float] = []
    for step, value in points:
        if xs and step < xs[-1]:
            xs.append(step)
            ys.append(math.nan)
        xs.append(step)
        ys.append(value if math.isfinite(value) else math.nan)
    few = sum(math.isfinite(y) for y in ys) <= MARKED
    wide = curve.name == INTENDED
    low, high = axes.get_ylim()  # a value of 0 has no place on a log scale; it is drawn lowest
    ys = [min(max(y, low), high) for y in ys]
    axes.plot(xs, ys, color=color, linewidth=4 if wide else 1.4, solid_capstyle="round",
              marker="o" if few and not wide else "", markersize=2.6, clip_on=False)  # fmt: skip
    return [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]


def thinned(points: list[tuple[int, float]], limit: int) -> list[tuple[int, float]]:
    """Keep lowest, highest and first non-finite point of each interval, and the ends."""
    if len(points) <= limit:
        return points
    width = len(points) / (limit // 2)
    kept = {0, len(points) - 1}
    for number in range(limit // 2):
        part = range(int(number * width), min(int((number + 1) * width), len(points)))
        finite = [i for i in part if math.isfinite(points[i][1])]
        if finite:
            kept |= {
                min(finite, key=lambda i: points[i][1]),
                max(finite, key=lambda i: points[i][1]),
            }
        kept |= set([i for i in part if not math.isfinite(points[i][1])][:1])
    return [points[i] for i in sorted(kept)]


def _draw_gaps(axes: Axes, curves: Sequence[Curve]) -> None:
    """Shade where a curve is not a finite number, and write which: NaN is never drawn as zero."""
    low, high = axes.get_xlim()
    gaps = [g for c in curves for g in _gaps(c)]
    if len(gaps) > MAX_GAPS:
        gaps = [(gaps[0][0], max(g[1] for g in gaps), gaps[0][2])]
    for start, end, _ in gaps:
        room = (high - low) * 0.004
        _wash(axes, start - room, end + room)
    for start, end, word in sorted(gaps, key=lambda g: g[0] - g[1])[:1]:
        middle = min(max((start + end) / 2, low + 0.04 * (high - low)), high - 0.04 * (high - low))
        axes.text(middle, 0.5, word, transform=axes.get_xaxis_transform(), ha="center",
                  va="center", fontsize=10, color=BAD)  # fmt: skip


def _gaps(curve: Curve) -> list[tuple[float, float, str]]:
    found: list[tuple[float, float, str]] = []
    open_since: tuple[float, str] | None = None
    last = float(curve.steps[0])
    for step, value in zip(curve.steps, curve.values, strict=True):
        if not math.isfinite(value) and open_since is None:
            open_since = (float(step), "NaN" if math.isnan(value) else "Inf")
        elif math.isfinite(value) and open_since is not None:
            found.append((open_since[0], last, open_since[1]))
            open_since = None
        last = float(step)
    return [*found, (open_since[0], last, open_since[1])] if open_since else found


def _draw_mark(axes: Axes, mark: Mark) -> None:
    _wash(axes, mark.step, mark.until)
    axes.axvline(mark.step, color=BAD, linewidth=1, linestyle=(0, (3, 2)), clip_on=False)


def _wash(axes: Axes, start: float, end: float | None) -> None:
    """Shade from one step to another, None being the last, within the axes."""
    low, high = axes.get_xlim()
    left, right = max(start, low), high if end is None else min(end, high)
    axes.axvspan(left, right, color=WASH, linewidth=0, zorder=0, clip_on=False)


# --- words among the lines ----------------------------------------------------------------------

Point = tuple[float, float]
Place = tuple[float, float, str, str]  # x, y in parts of the axes; horizontal, vertical alignment


@dataclass(frozen=True, slots=True)
class Paper:
    """Axes with the points that their lines pass through, and the boxes that texts have taken."""

    axes: Axes
    trace: list[Point]
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def part(self, step: float, value: float) -> Point:
        """Return a point of the data in parts of the axes."""
        return _part(self.axes, step, value)

    def write(self, lines: Sequence[str], color: str, places: Iterable[Place]) -> None:
        """Write at the place where the text hides least; the first of equals."""
        chosen = min(places, key=lambda place: self._hidden(lines, place))
        x, y, across, up = chosen
        self.taken.append(self._box(lines, chosen))
        self.axes.text(x, y, "\n".join(lines), transform=self.axes.transAxes, fontsize=10,
                       color=color, ha=across, va=up, linespacing=1.15)  # fmt: skip

    def _box(self, lines: Sequence[str], place: Place) -> tuple[float, float, float, float]:
        box = self.axes.get_window_extent()
        points = 72 / float(self.axes.get_figure(root=True).dpi)  # type: ignore[union-attr]
        width = max(map(len, lines)) * 5.4 / (box.width * points)
        height = len(lines) * 12.5 / (box.height * points)
        x, y, across, up = place
        left = x - width if across == "right" else x
        bottom = y - height if up == "top" else y
        return left, bottom, left + width, bottom + height

    def _hidden(self, lines: Sequence[str], place: Place) -> float:
        left, bottom, right, top = self._box(lines, place)
        outside = max(right - 1, 0) + max(-left, 0) + max(top - 1.02, 0) + max(-bottom, 0)
        over = sum(
            left < box[2] and box[0] < right and bottom < box[3] and box[1] < top
            for box in self.taken
        )
        under = sum(left <= x <= right and bottom <= y <= top for x, y in self.trace)
        return outside * 10_000 + over * 1000 + under


def _part(axes: Axes, step: float, value: float) -> Point:
    x, y = axes.transAxes.inverted().transform(axes.transData.transform((step, value)))
    return float(x), float(y)


def _trace(axes: Axes, drawn: Iterable[Sequence[Point]]) -> list[Point]:
    """Return points along the lines, close enough together that no text falls between two."""
    found: list[Point] = []
    for line in drawn:
        parts = [_part(axes, *point) for point in line]
        for (x, y), (to_x, to_y) in itertools.pairwise(parts):
            pieces = min(int(max(abs(to_x - x), abs(to_y - y)) * 50) + 1, 100)
            found += [
                (x + (to_x - x) * i / pieces, y + (to_y - y) * i / pieces) for i in range(pieces)
            ]
        found += parts[-1:]
    return found


def _write_mark(paper: Paper, mark: Mark, size: Size) -> None:
    lines = textwrap.wrap(mark.text, size.wrap)[:4]
    onset = paper.part(mark.step, 1)[0]
    paper.write(lines, BAD, [
        (onset + (0.012 if across == "left" else -0.012), y, across, up)
        for across in ("left", "right")
        for y, up in ((0.97, "top"), (0.03, "bottom"))
    ])  # fmt: skip


def _write_best(paper: Paper, curve: Curve) -> None:
    """Ring the lowest evaluation loss; other metrics do not say which way is better."""
    if curve.name != "loss":
        return
    value, step = min((v, s) for s, v in _finite(curve))
    height = max(value, paper.axes.get_ylim()[0])
    paper.axes.plot([step], [height], marker="o", markersize=8, color=OK, fillstyle="none",
                    markeredgewidth=1.6, linestyle="", clip_on=False)  # fmt: skip
    x, y = paper.part(step, height)
    paper.write([f"best: {words.number(value)} at step {step:,}"], OK, _around(x, y))


def _write_constant(paper: Paper, curve: Curve) -> None:
    """Say of a curve that never moves what it is, where a scale alone says little."""
    if len(set(curve.values)) == 1:
        _, y = paper.part(curve.steps[0], curve.values[0])
        told = f"{words.number(curve.values[0])} on every row"
        paper.write(
            [told],
            MUTED,
            [(0.015, y + 0.06, "left", "bottom"), (0.985, y + 0.06, "right", "bottom")],
        )


def _write_name(paper: Paper, curve: Curve, color: str) -> None:
    name = "evaluation" if curve.split == "eval" else curve.split
    finite = _finite(curve)
    ends = [paper.part(*finite[index]) for index in (-1, len(finite) // 2, 0)]
    paper.write([name], color, [place for end in ends for place in _around(*end)])


def _around(x: float, y: float) -> list[Place]:
    return [
        (x + (0.015 if across == "left" else -0.015), y + (gap if up == "bottom" else -gap),
         across, up)
        for gap in (0.06, 0.16)
        for up in ("bottom", "top")
        for across in ("right", "left")
    ]  # fmt: skip


def _finite(curve: Curve) -> list[tuple[int, float]]:
    return [(s, v) for s, v in zip(curve.steps, curve.values, strict=True) if math.isfinite(v)]
