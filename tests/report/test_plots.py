"""Plots are well-formed, in proportion, and their labels do not cover one another."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree as Xml

import pytest

from edgevit.report.plots import WIDTH, Bar, Point, alone, bars, heat, plane, stacks, ticks


def texts(svg: str) -> list[Xml.Element]:
    return [item for item in Xml.fromstring(svg).iter("text") if "transform" not in item.attrib]


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
    assert all(0 < x < WIDTH for x, _ in circles)


def test_labels_of_equal_points_are_apart() -> None:
    points = [Point(name=f"variant {i}", x=30, y=75.0, low=74, high=76) for i in range(8)]
    places = [float(item.attrib["y"]) for item in texts(plane(points, "ms", "%")) if (item.text or "").startswith("variant")]
    places.sort()
    assert len(places) == 8
    assert min(b - a for a, b in pairwise(places)) >= 13


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
    assert re.findall(r'fill-opacity="([\d.]+)"', svg) == ["0.00", "0.75", "0.38"]


def test_names_are_escaped_and_cut() -> None:
    svg = plane([Point(name="<a> & " + "x" * 200, x=1, y=1, low=0, high=2)], "<x>", '"y"')
    assert len(max((item.text or "" for item in Xml.fromstring(svg).iter("text")), key=len)) <= 60


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
    assert max(float(item.attrib["x2"]) for item in flat) <= WIDTH


def test_a_plot_of_its_own_needs_no_page() -> None:
    found = Xml.fromstring(alone(plane([Point(name="a", x=1, y=1, low=0, high=2)], "ms", "points")))
    assert found.tag == "{http://www.w3.org/2000/svg}svg"
    assert ".whisker" in (next(found.iter("{http://www.w3.org/2000/svg}style")).text or "")
