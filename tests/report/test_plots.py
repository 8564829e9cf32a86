"""Plots are well-formed, in proportion, and their labels do not cover one another."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as Xml

import pytest

from edgevit.report.placing import RISE, TALL, Box, Name, placed
from edgevit.report.plots import WIDE, WIDTHS, Bar, Point, alone, at_widths, bars, heat, plane, stacks, ticks
from edgevit.report.svg import CHARACTER


def texts(svg: str) -> list[Xml.Element]:
    return list(Xml.fromstring(svg).iter("text"))


def box(item: Xml.Element) -> Box:
    """Where a text is, or a line or a circle."""
    number = {name: float(value) for name, value in item.attrib.items() if name not in ("class", "text-anchor")}
    if item.tag == "line":
        ends = sorted((number["x1"], number["x2"])), sorted((number["y1"], number["y2"]))
        return Box(ends[0][0] - 0.5, ends[1][0] - 0.5, ends[0][1] + 0.5, ends[1][1] + 0.5)
    if item.tag == "circle":
        x, y, r = number["cx"], number["cy"], number["r"]
        return Box(x - r, y - r, x + r, y + r)
    wide = len(item.text or "") * CHARACTER * 0.95
    left = {"start": 0.0, "middle": wide / 2, "end": wide}[item.attrib["text-anchor"]]
    return Box(number["x"] - left, number["y"] - RISE + 1, number["x"] - left + wide, number["y"] - RISE + TALL - 1)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (-0.3, 0.9, [-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1.0]),
        (0, 0.0007, [0, 0.0002, 0.0004, 0.0006, 0.0008]),
        (74.9, 75.1, [74.9, 74.95, 75.0, 75.05, 75.1]),
    ],
)
def test_ticks_are_round_and_span(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(wanted)


def test_ticks_of_a_point() -> None:
    assert ticks(3, 3)[0] < 3 < ticks(3, 3)[-1]


def test_plane_puts_faster_left_and_better_up() -> None:
    points = [Point(name=name, x=x, y=y, low=y - 1, high=y + 1) for name, x, y in (("slow", 60, 0.0), ("fast", 20, -2.0))]
    circles = [
        (float(item.attrib["cx"]), float(item.attrib["cy"]))
        for item in Xml.fromstring(plane(points, "ms", "points", 0)).iter("circle")
    ]
    assert circles[1][0] < circles[0][0]
    assert circles[1][1] > circles[0][1]
    assert all(0 < x < WIDE for x, _ in circles)


def test_labels_of_equal_points_are_apart() -> None:
    points = [Point(name=f"variant {i}", x=30, y=75.0, low=74, high=76) for i in range(8)]
    found = [box(item) for item in texts(plane(points, "ms", "%")) if (item.text or "").startswith("variant")]
    assert len(found) == 8
    assert not [other for i, own in enumerate(found) for other in found[:i] if own.shared(other)]


def test_bars_are_in_proportion_and_outliers_do_not_flatten_them() -> None:
    items = [
        Bar(name="a", value=40, marks=(50, 4000), text="40"),
        Bar(name="b", value=20, marks=(22, 25), text="20", chosen=True),
    ]
    svg = bars(items, "ms", "t")
    widths = [float(item.attrib["width"]) for item in Xml.fromstring(svg).iter("rect")]
    assert widths[0] == pytest.approx(2 * widths[1], rel=1e-2)
    assert widths[1] > 100
    assert svg.count('class="mark"') == 3


def test_stacks_hold_every_part_in_order() -> None:
    svg = stacks({"one": {"b": 2.0, "a": 1.0}, "two": {"a": 3.0}}, ("a", "b", "c"), "ms", "t")
    assert re.findall(r"<title>(\w): ([\d.]+) ms</title>", svg) == [("b", "2.00"), ("a", "1.00"), ("a", "3.00")]
    assert [item.text for item in texts(svg)][:2] == ["a", "b"]


def test_heat_is_darkest_where_worst() -> None:
    svg = heat({("block 0", "qkv"): 50.0, ("block 0", "fc2"): 10.0, ("block 1", "qkv"): 30.0}, "dB", "t", worst=10, best=50)
    assert re.findall(r'class="cell" fill="#d55e00" fill-opacity="([\d.]+)"', svg) == ["0.00", "0.75", "0.38"]


def test_names_are_escaped_and_cut() -> None:
    svg = plane([Point(name="<a> & " + "x" * 200, x=1, y=1, low=0, high=2)], "<x>", '"y"')
    assert len(max((item.text or "" for item in Xml.fromstring(svg).iter("text")), key=len)) <= 60


VARIANTS = [
    Point(name=f"{name} on {engine}", x=x * factor, y=y, low=y - 1.5, high=y + 1.4, chosen=name == "int8")
    for engine, factor in (("openvino", 1.0), ("onnxruntime", 1.2))
    for name, x, y in (("fp32", 67.1, 0.0), ("fp16", 68.6, 0.0), ("int8", 31.3, -0.1), ("int8+prune20", 25.9, 0.2))
]


@pytest.mark.parametrize("count", [2, 8, 16])
@pytest.mark.parametrize("width", WIDTHS.values())
def test_no_text_of_a_plane_is_crossed(count: int, width: int) -> None:
    """Neither by a line of the grid, the line at zero, a whisker or a point, nor by another text."""
    points = [replace(VARIANTS[i % 8], name=f"{VARIANTS[i % 8].name} {i}", x=VARIANTS[i % 8].x + i) for i in range(count)]
    drawn = list(Xml.fromstring(plane(points, "ms", "points", 0, width=width)))
    written = [box(item) for item in drawn if item.tag == "text"]
    others = [box(item) for item in drawn if item.tag == "circle" or (item.tag == "line" and item.attrib["class"] != "leader")]
    for i, text in enumerate(written):
        assert text.left >= 0
        assert text.right <= width
        assert not [other for other in (*others, *written[:i]) if text.shared(other)], drawn


@pytest.mark.parametrize("width", WIDTHS.values())
def test_no_text_of_bars_is_crossed(width: int) -> None:
    items = [
        Bar(name=point.name, value=point.x, marks=(point.x + 1, point.x + 5), text="31.3 / 36.9 / 40.6") for point in VARIANTS
    ]
    rows = {point.name: {"qkv": point.x / 3, "attention": point.x / 3, "fc1": point.x / 3} for point in VARIANTS}
    for svg in (bars(items, "ms", "t", width=width), stacks(rows, ("qkv", "attention", "fc1"), "ms", "t", width=width)):
        drawn = list(Xml.fromstring(svg))
        lines = [box(item) for item in drawn if item.tag == "line"]
        written = [box(item) for item in drawn if item.tag == "text"]
        for i, text in enumerate(written):
            assert not [other for other in (*lines, *written[:i]) if text.shared(other)]
            assert text.right <= width + 1


def test_narrow_plots_have_numbers_and_say_whose() -> None:
    shown = [item.text or "" for item in texts(plane(VARIANTS, "ms", "points", 0, width=WIDTHS["narrow"]))]
    for i, point in enumerate(VARIANTS):
        assert str(i + 1) in shown
        assert f"{i + 1}  {point.name}" in shown


def test_a_plot_is_there_for_every_width() -> None:
    found = at_widths(lambda width: bars([Bar(name="a", value=1.0, text="1")], "ms", "t", width=width))
    assert {name: float(Xml.fromstring(svg).attrib["viewBox"].split()[2]) for name, svg in found.items()} == WIDTHS


def test_where_nothing_is_free_the_least_is_covered() -> None:
    wall = Box(0, 0, 100, 90)
    (place,) = placed([Name(x=50, y=50, text="name")], [wall], Box(0, 0, 100, 100))
    assert place.box.shared(wall) < 15 * 4 * CHARACTER


def test_markup_in_names_is_text() -> None:
    evil = "</text><script>alert(1)</script>"
    for svg in (
        plane([Point(name=evil, x=1, y=1, low=0, high=2)] * 2, evil, evil),
        bars([Bar(name=evil, value=1, text=evil)], evil, '"' + evil),
        stacks({evil: {evil: 1.0}}, (evil,), evil, evil),
        heat({(evil, evil): 1.0}, evil, evil, worst=0, best=2),
    ):
        assert {item.tag for item in Xml.fromstring(svg).iter()} <= {"svg", "text", "line", "circle", "rect", "title"}


def test_a_front_joins_its_points_and_whiskers_of_x_stay_on_the_scale() -> None:
    given = [("slow", 60, 0.0, None), ("mid", 30, -1.0, (25, 34)), ("fast", 10, -2.0, (5, 900)), ("bad", 40, -3.0, (39, 41))]
    points = [
        Point(name=name, x=x, y=y, low=y - 1, high=y + 1, near=ends and ends[0], far=ends and ends[1])
        for name, x, y, ends in given
    ]
    drawn = Xml.fromstring(plane(points, "ms", "points", 0, front=[2, 1, 0]))
    places = {item.attrib["cx"] + "," + item.attrib["cy"]: item for item in drawn.iter("circle")}
    (line,) = drawn.iter("polyline")
    joined = line.attrib["points"].split()
    assert set(joined) < set(places)
    assert [float(corner.partition(",")[0]) for corner in joined] == sorted(float(corner.partition(",")[0]) for corner in joined)
    flat = [item for item in drawn.iter("line") if item.attrib["y1"] == item.attrib["y2"] and "whisker" in item.attrib["class"]]
    assert max(float(item.attrib["x2"]) for item in flat) <= WIDE


def test_a_plot_of_its_own_needs_no_page() -> None:
    found = Xml.fromstring(alone(plane([Point(name="a", x=1, y=1, low=0, high=2)], "ms", "points")))
    assert found.tag == "{http://www.w3.org/2000/svg}svg"
    assert ".whisker" in (next(found.iter("{http://www.w3.org/2000/svg}style")).text or "")
