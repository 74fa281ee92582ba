"""The points: how many, in which colours, and what the legend calls them."""

import re
import xml.etree.ElementTree as ET

import pytest

from pipeline.reporting.scatter import projection_chart
from tests.reporting.synthetic import points

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg):
    """Points by colour, and the texts."""
    tree = ET.fromstring(str(svg))
    texts = [element.text for element in tree.iter() if element.tag.endswith("text")]
    colours = [
        re.search(r"var\(--[a-z0-9-]+\)", element.attrib["style"]).group()
        for element in tree.iter()
        if element.tag.endswith("use") and "fill: var" in element.attrib.get("style", "")
    ]
    return {colour: colours.count(colour) for colour in set(colours)}, texts


def test_the_most_frequent_labels_have_colours_and_the_rest_is_grey():
    colours, texts = drawn(projection_chart(points(), "label", name="x"))
    # Each colour once more than its points: in the legend.
    assert colours == {
        **{f"var(--kind-{i})": 9 - i + 1 + 1 for i in range(1, 7)},
        "var(--base)": 3 + 2 + 1 + 1,
    }
    assert texts == ["(other)", *(f"kind {i}" for i in range(6))]


def test_every_part_of_the_split_has_a_colour():
    colours, texts = drawn(projection_chart(points(), "split", name="x"))
    assert sum(colours.values()) == len(points()) + 3
    assert "var(--base)" not in colours
    assert sorted(texts) == ["test", "train", "val"]


@pytest.mark.parametrize("label", ["<b>&", "$5", "a" * 200])
def test_names_are_text_whatever_they_hold(label):
    _, texts = drawn(projection_chart(points().assign(label=label), "label", name="x"))
    assert texts == [label if len(label) < 18 else "a" * 17 + "…"]
