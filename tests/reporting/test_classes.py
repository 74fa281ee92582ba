import re
import xml.etree.ElementTree as ET

import pytest

from pipeline.reporting import details
from pipeline.reporting.classes import class_chart, class_table, reliability_chart, reliability_rows
from pipeline.reporting.pages import TEMPLATES
from pipeline.reporting.svg import Chart, standalone
from tests.reporting.synthetic import DETAILS, RESULTS

TARGET = {**RESULTS["target"], "details": DETAILS}
WITH = {**RESULTS, "target": TARGET}


def charts():
    return {
        "classes": class_chart(details.class_rows(TARGET), name="x"),
        "reliability": reliability_chart(details.calibration(TARGET), name="x"),
    }


def test_a_row_a_bin_and_a_row_a_class():
    bins = reliability_rows(WITH)
    assert bins.iloc[1].to_list() == ["target", "fine-tuned", 0.5, 0.55, 40]
    assert len(bins) == 3
    assert class_table(WITH)["class"].to_list() == ["dog", "cat"]


def test_without_details_there_are_columns_and_no_rows():
    assert reliability_rows(RESULTS).empty
    assert class_table(RESULTS).columns.to_list() == ["class", "images", "base", "final", "gain"]


@pytest.mark.parametrize("name", ["classes", "reliability"])
def test_a_chart_is_the_same_every_time_and_in_the_page_s_colours(name):
    chart = charts()[name]
    assert chart == charts()[name]
    assert re.findall(r"#[0-9a-f]{6}", chart) == []
    assert {"var(--accent)", "var(--base)"} <= set(re.findall(r"var\(--\w+\)", chart))


def test_a_class_name_is_text():
    rows = [details.ClassRow('<b>"$x$', 1, 0.0, 1.0, None, 0)]
    texts = [e.text for e in ET.fromstring(class_chart(rows, name="x")).iter() if e.tag == "text"]
    assert '<b>"$x$' in texts


def test_a_chart_alone_has_the_page_s_light_colours_and_a_ground():
    file = standalone(Chart(svg=charts()["reliability"], title="a < b", text=""))
    root = ET.fromstring(file)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in file
    title, ground = root[0], root[1]
    assert title.text == "a < b"
    assert (ground.get("fill"), ground.get("width")) == ("#ffffff", root.get("width"))
    css = (TEMPLATES / "report.css").read_text()
    light = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", css[: css.index("@media")]))
    assert set(re.findall(r"#[0-9a-f]{6}", file)) <= set(light.values())
    assert light["--accent"] in file
