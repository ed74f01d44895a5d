"""Rewrite matplotlib's SVG as part of our page: flat, in whole numbers, colours as variables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

from markupsafe import escape

UNIT = 4  # parts of a point: in these, whole numbers are finer than a line is wide
USUAL_SIZE = 9.5  # points, of the numbers on the axes: said once for a whole plot
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_COMMAND = re.compile(r"([MLCz])\s*((?:-?[\d.]+(?:e-?\d+)?\s*)*)")

Point = tuple[int, int]
Line = list[Point]  # a closed one ends with the point it began with


@dataclass(slots=True)
class _Element:
    """One element to write: what is drawn in one way, be it lines, a ring or a text."""

    tag: str
    attributes: str
    lines: list[Line] = field(default_factory=list)
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Marker:
    """What is set at points: lines around (0, 0), or a circle, whose radius is in points."""

    lines: list[Line]
    radius: float


def inline(svg: str, name: str, colors: Mapping[str, str], usual: str) -> str:
    """Return an SVG element of the class `name` that a page can hold.

    `colors` are the variables to put for the colours in `svg`, `usual` that of most of its text.
    Groups, clip paths, identifiers and styles are gone: what is drawn must lie within its axes.
    """
    root = ElementTree.fromstring(_NO_XML.sub("\ufffd", svg))
    width, height = (_parts(float(side)) for side in root.attrib["viewBox"].split()[2:])
    paths = root.iter(f"{_SVG}path")
    markers = {f"#{path.get('id')}": _marker(path) for path in paths if path.get("id")}
    found = [e for axes in _axes(root) for e in _elements(axes, markers, colors, usual)]
    head = f'<svg class="plot {name}" viewBox="0 0 {width} {height}"'
    head += f' font-size="{_size(USUAL_SIZE)}" fill="var({usual})">'
    return head + "".join(map(_written, found)) + "</svg>"


def _axes(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    return (group for group in root.iter(f"{_SVG}g") if group.get("id", "").startswith("axes_"))


def _elements(
    axes: ElementTree.Element, markers: Mapping[str, _Marker], colors: Mapping[str, str], usual: str
) -> list[_Element]:
    """Return what one panel draws, in order; straight lines drawn alike are one element."""
    found: list[_Element] = []
    straight: dict[str, _Element] = {}
    for node in axes.iter():
        tag = node.tag.removeprefix(_SVG)
        style = _style(node, colors)
        if tag == "text":
            found.append(_text(node, style, usual))
        elif tag in ("path", "use") and not node.get("id"):  # a path with one is a marker
            drawn = _drawn(node, style, markers)
            if drawn.attributes in straight:
                straight[drawn.attributes].lines += drawn.lines
            elif drawn.attributes:
                found.append(drawn)
                if drawn.lines and all(len(line) <= 2 for line in drawn.lines):
                    straight[drawn.attributes] = drawn
    return found


def _style(node: ElementTree.Element, colors: Mapping[str, str]) -> dict[str, str]:
    pairs = (part.partition(":") for part in node.get("style", "").split(";") if part.strip())
    style = {name.strip(): value.strip() for name, _, value in pairs}
    return {k: f"var({colors[v]})" if v in colors else v for k, v in style.items()}


def _parts(points: float) -> int:
    return round(points * UNIT)


def _size(points: float) -> str:
    return f"{points * UNIT:g}"


# --- lines ------------------------------------------------------------------------------------


def _drawn(
    node: ElementTree.Element, style: Mapping[str, str], markers: Mapping[str, _Marker]
) -> _Element:
    """Return a path, or a marker at its place; without attributes if it cannot be seen."""
    if node.tag.endswith("use"):
        marker = markers[node.get(_LINK, "")]
        x, y = _parts(float(node.get("x", "0"))), _parts(float(node.get("y", "0")))
        if marker.radius:
            return _circle(x, y, marker.radius, style)
        moved = [[(x + right, y + down) for right, down in line] for line in marker.lines]
        return _Element("path", _stroke(style), moved)
    lines = _lines(node.get("d", ""))
    if "stroke" not in style or not lines:
        seen = style["fill"] != "none" and bool(lines)
        return _Element("path", f' fill="{style["fill"]}"' if seen else "", lines)
    bent = any(len(line) > 2 for line in lines)
    return _Element("path", (' fill="none"' if bent else "") + _stroke(style), lines)


def _stroke(style: Mapping[str, str]) -> str:
    width = _size(float(style.get("stroke-width", 1)))
    said = f' stroke="{style["stroke"]}" stroke-width="{width}"'
    if "stroke-dasharray" in style:
        dashes = (_size(float(part)) for part in style["stroke-dasharray"].split(","))
        said += f' stroke-dasharray="{" ".join(dashes)}"'
    return said + (' stroke-linecap="round"' if style.get("stroke-linecap") == "round" else "")


def _circle(x: int, y: int, radius: float, style: Mapping[str, str]) -> _Element:
    """Return a ring, or a dot: a line of no length with a round end, which is less to write."""
    if style.get("fill-opacity") == "0":
        place = f' cx="{x}" cy="{y}" r="{_parts(radius)}" fill="none"'
        return _Element("circle", place + _stroke(style))
    width = 2 * radius + float(style.get("stroke-width", 1))
    dot = {"stroke": style["stroke"], "stroke-width": str(width), "stroke-linecap": "round"}
    return _Element("path", _stroke(dot), [[(x, y)]])


def _marker(path: ElementTree.Element) -> _Marker:
    outline = path.get("d", "")
    if "C" not in outline:
        return _Marker(_lines(outline), 0.0)
    return _Marker([], max(float(number) for number in re.findall(r"[\d.]+", outline)))


def _lines(outline: str) -> list[Line]:
    """Return the lines of a path of straight pieces, without steps of no length."""
    lines: list[Line] = []
    for command, numbers in _COMMAND.findall(outline):
        values = [_parts(float(n)) for n in numbers.split()]
        points = list(zip(values[::2], values[1::2], strict=True))
        if command == "M":
            lines.append(points)
        elif command == "z":
            lines[-1].append(lines[-1][0])
        else:
            lines[-1] += points
    return [[point for point, _ in itertools.groupby(line)] for line in lines]


def _written(element: _Element) -> str:
    if element.text:
        return f"<text{element.attributes}>{element.text}</text>"
    path = "".join(map(_path, element.lines))
    outline = f' d="{path}"' if path else ""
    return f"<{element.tag}{outline}{element.attributes}/>"


def _path(line: Sequence[Point]) -> str:
    """Write a line by relative steps."""
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(line)]
    begin = f"M{line[0][0]} {line[0][1]}"
    if not steps:
        return f"{begin}h0"  # a point between gaps, seen by its round ends
    if len(steps) == 1 and 0 in steps[0]:
        across, down = steps[0]
        return f"{begin}v{down}" if down else f"{begin}h{across}"
    closed = len(steps) > 1 and line[0] == line[-1]
    written = "".join(_signed(n) for step in steps[: -1 if closed else None] for n in step)
    return f"{begin}l{written.lstrip()}{'z' if closed else ''}"


def _signed(number: int) -> str:
    return f"{number}" if number < 0 else f" {number}"  # a sign separates as well as a space


# --- text -------------------------------------------------------------------------------------


def _text(node: ElementTree.Element, style: Mapping[str, str], usual: str) -> _Element:
    moved = re.match(r"translate\((\S+) (\S+)\)", node.get("transform", ""))
    x, y = moved.groups() if moved else (node.get("x", "0"), node.get("y", "0"))
    said = f' x="{_parts(float(x))}" y="{_parts(float(y))}"'
    if style.get("text-anchor", "start") != "start":
        said += f' text-anchor="{style["text-anchor"]}"'
    size = float(style["font-size"].removesuffix("px"))
    said += f' font-size="{_size(size)}"' if size != USUAL_SIZE else ""
    said += f' fill="{style["fill"]}"' if style["fill"] != f"var({usual})" else ""
    return _Element("text", said, text=str(escape(node.text or "")))
