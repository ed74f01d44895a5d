"""matplotlib's SVG as part of a page: flat, small, in variables, the same picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from ftdoctor.render.svg import UNIT, inline

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
COLORS = {"#010101": "--ink", "#020202": "--muted"}


def drawn(body: str) -> str:
    """Return what `inline` makes of one panel of 100 by 50 points."""
    svg = f'{HEAD} viewBox="0 0 100 50"><g id="axes_1">{body}</g></svg>'
    made = inline(svg, "wide", COLORS, "--muted")
    ElementTree.fromstring(made)
    return made.partition(">")[2].removesuffix("</svg>")


def test_the_head_says_size_and_usual_text_once() -> None:
    made = inline(f'{HEAD} viewBox="0 0 100 50"></svg>', "wide", COLORS, "--muted")
    assert made == (
        '<svg class="plot wide" viewBox="0 0 400 200" font-size="38" fill="var(--muted)"></svg>'
    )


def test_what_cannot_be_seen_is_left_out() -> None:
    assert drawn('<path d="M 0 0 L 9 0 L 9 9 z" style="fill: none"/>') == ""


def test_straight_lines_drawn_alike_are_one_element() -> None:
    grid = 'style="fill: none; stroke: #020202; stroke-width: 0.5"'
    body = f'<path d="M 1 2 L 9 2" {grid}/><path d="M 1 4 L 1 9" {grid}/>'
    path = '<path d="M4 8h32M4 16v20" stroke="var(--muted)" stroke-width="2"/>'
    assert drawn(body) == path


def test_a_curve_is_written_by_relative_steps_in_parts_of_a_point() -> None:
    line = '<path d="M 1 1 L 2 3.5 L 3 3.5 L 4 1" style="fill: none; stroke: #010101"/>'
    assert UNIT == 4
    assert drawn(line) == (
        '<path d="M4 4l4 10 4 0 4-10" fill="none" stroke="var(--ink)" stroke-width="4"/>'
    )


def test_a_point_between_gaps_is_a_dot() -> None:
    line = (
        '<path d="M 1 1 L 2 2 M 4 4 M 6 6 L 7 7" '
        'style="fill: none; stroke: #010101; stroke-linecap: round"/>'
    )
    assert 'd="M4 4l4 4M16 16h0M24 24l4 4"' in drawn(line)


def test_a_shape_keeps_its_fill() -> None:
    assert drawn('<path d="M 1 1 L 3 1 L 3 3 L 1 3 z" style="fill: #010101"/>') == (
        '<path d="M4 4l8 0 0 8-8 0z" fill="var(--ink)"/>'
    )


CIRCLE = "M 0 1.5 C 0.4 1.5 0.8 1.3 1 1 C 1.3 0.8 1.5 0.4 1.5 0 z"


def marked(style: str) -> str:
    uses = "".join(f'<use xlink:href="#m1" x="{x}" y="2" style="{style}"/>' for x in (1, 5))
    return drawn(f'<defs><path id="m1" d="{CIRCLE}"/></defs>{uses}')


def test_dots_are_lines_of_no_length_with_round_ends() -> None:
    assert marked("fill: #010101; stroke: #010101") == (
        '<path d="M4 8h0M20 8h0" stroke="var(--ink)" stroke-width="16" stroke-linecap="round"/>'
    )


def test_an_open_marker_is_a_ring() -> None:
    made = marked("fill-opacity: 0; stroke: #010101; stroke-width: 2")
    ring = 'r="6" fill="none" stroke="var(--ink)" stroke-width="8"/>'
    assert made == f'<circle cx="4" cy="8" {ring}<circle cx="20" cy="8" {ring}'


def test_markers_of_lines_are_moved_to_their_places() -> None:
    tick = '<defs><path id="t" d="M 0 0 L 0 3"/></defs>'
    use = '<use xlink:href="#t" x="2" y="5" style="stroke: #010101"/>'
    assert 'd="M8 20v12"' in drawn(tick + use)


def test_text_says_what_it_does_not_inherit() -> None:
    usual = '<text style="font-size: 9.5px; fill: #020202" x="1" y="2">a &lt; b</text>'
    assert drawn(usual) == '<text x="4" y="8">a &lt; b</text>'
    other = (
        '<text style="font-size: 10px; text-anchor: end; fill: #010101" '
        'transform="translate(3 4)">é</text>'
    )
    assert drawn(other) == (
        '<text x="12" y="16" text-anchor="end" font-size="40" fill="var(--ink)">é</text>'
    )


def test_characters_that_no_file_of_xml_may_hold_do_no_harm() -> None:
    assert "\ufffd" in drawn('<text style="font-size: 9.5px; fill: #020202">\uffff</text>')
