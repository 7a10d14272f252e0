"""Line charts as SVG."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from scratchnet.report.curves import Curve, chart, number, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (3, 98, [0, 20, 40, 60, 80, 100]),
        (-1.4, -0.3, [-1.5, -1, -0.5, 0]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_whole_ticks():
    assert ticks(1, 2, whole=True) == [1, 2]
    assert ticks(1, 4, whole=True) == [1, 2, 3, 4]


def test_numbers_have_true_minus_signs():
    assert number(-1500) == "−1,500"


def test_a_chart_has_each_curve_and_line_inside_its_frame():
    curves = [
        Curve("training_loss", [1, 2, 3], [9.0, float("nan"), 2.0]),
        Curve("validation_loss", [1, 2, 3], [8.0, 5.0, 3.0]),
    ]
    svg = re.search("<svg.*</svg>", chart(curves, {"pca_loss": 4.0}, "epoch", "v"))[0]
    root = ElementTree.fromstring(svg)
    lines = root.findall("polyline")
    assert [len(line.get("points").split()) for line in lines] == [2, 3]
    numbers = [
        float(n) for line in lines for n in re.findall(r"[\d.]+", line.get("points"))
    ]
    assert min(numbers) >= 0
    assert max(numbers) <= 640
    assert len(root.findall("path[@class='reference']")) == 1
    tops = [float(p.split(",")[1]) for p in lines[1].get("points").split()]
    assert tops == sorted(tops)  # a falling loss goes down


def test_nothing_to_draw():
    assert chart([Curve("v", [], [])], {}, "step", "v") == ""
    assert chart([Curve("v", [1], [float("inf")])], {}, "step", "v") == ""
