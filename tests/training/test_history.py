"""A history shows itself in a notebook."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from scratchnet.training import GANHistory, History

HISTORIES = {
    "losses": (History([3.0, 2.0, 1.0], [3.5, 2.5, 2.0], [1, 1, 1]), 2),
    "no validation": (History([3.0, 2.0], [], [1, 1]), 1),
    "one epoch": (History([3.0], [4.0], [1]), 2),
    "not finite": (History([float("nan"), 2.0, float("inf")], [], [1, 1, 1]), 1),
    "empty": (History(), 0),
    "game": (GANHistory([1, 2], [-1.0, -1.3], [0.9, 0.6], [0.1, 0.4]), 3),
    "no game": (GANHistory(), 0),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_the_picture_has_each_curve_inside_its_frame(name):
    history, curves = HISTORIES[name]
    root = ElementTree.fromstring(history._repr_svg_())
    space = "{http://www.w3.org/2000/svg}"
    lines = root.findall(f"{space}polyline")
    assert len(lines) == len(root.findall(f"{space}text")) == curves
    for line in lines:
        for x, y in re.findall(r"([\d.]+),([\d.]+)", line.get("points")):
            assert 0 <= float(x) <= 420
            assert 0 <= float(y) <= 180


def test_a_falling_loss_goes_down_and_its_ends_are_written():
    svg = HISTORIES["losses"][0]._repr_svg_()
    points = re.findall(r'points="(.*?)"', svg)[0].split()
    heights = [float(point.split(",")[1]) for point in points]
    assert heights == sorted(heights)
    assert "loss: 3 → 1" in svg
