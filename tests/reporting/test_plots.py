import re
import xml.etree.ElementTree as ET

import pytest

from pipeline.reporting import plots
from tests.reporting.synthetic import RESULTS, history, predictions, scores

MIXED = predictions(
    ("cat", "dog", "cat"),
    ("cat", "cat", "dog"),
    ("cat", "dog", "cow"),
    ("dog", "dog", "dog"),
    ("dog", "dog", "cat"),
    ("owl", "owl", "owl"),
    (None, None, None),
)


def test_recall_rows_hold_every_set_direction_model_and_k():
    rows = plots.recall_rows(RESULTS)
    assert len(rows) == 2 * 2 * 2 * 3
    assert rows.iloc[3].to_list() == ["target", "image → text", 1, "fine-tuned", 0.91]
    assert rows.iloc[-1].to_list() == ["base_slice", "text → image", 10, "fine-tuned", 0.76]


def test_confusion_rows_hold_each_labelled_image_once_a_model():
    rows = plots.confusion_rows(MIXED)
    assert rows.columns.to_list() == ["actual", "predicted", "model"]
    assert rows.iloc[0].to_list() == ["cat", "dog", "base"]
    assert rows.iloc[6].to_list() == ["cat", "cat", "fine-tuned"]
    assert len(rows) == 12


def test_confusion_rows_of_images_without_labels_are_none():
    assert plots.confusion_rows(predictions((None, None, None))).empty


def test_confusion_counts_show_all_classes_by_name():
    counts = plots.confusion_counts(MIXED, limit=20)
    assert counts.index.to_list() == counts.columns.to_list() == ["cat", "cow", "dog", "owl"]
    assert counts.to_numpy().tolist() == [[1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]


def test_with_many_classes_those_with_most_errors_are_shown_and_the_rest_added_up():
    counts = plots.confusion_counts(MIXED, limit=2)
    assert counts.index.to_list() == ["cat", "dog"]
    assert counts.columns.to_list() == ["cat", "dog", "(other)"]
    assert counts.to_numpy().tolist() == [[1, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.before_after_chart(RESULTS["target"], name="x"),
        lambda: plots.before_after_chart(scores(0.2, 0.1, -0.2, 0.1, labels=False), name="x"),
        lambda: plots.recall_chart(RESULTS["target"], "image_to_text", name="x"),
        lambda: plots.confusion_chart(plots.confusion_counts(MIXED, limit=20), name="x"),
        lambda: plots.loss_chart(history(), best_epoch=1, name="x"),
        lambda: plots.validation_recall_chart(history()[:1], best_epoch=0, name="x"),
        lambda: plots.learning_rate_chart(history(), best_epoch=1, name="x"),
    ],
)
def test_a_chart_is_the_same_every_time_and_in_the_page_s_colours(draw):
    chart = draw()
    assert chart == draw()
    assert "http" not in chart
    assert "<style" not in chart
    assert re.findall(r"#[0-9a-f]{6}", chart) == []
    assert "var(--accent)" in chart
    ids = [e.attrib["id"] for e in ET.fromstring(chart).iter() if "id" in e.attrib]
    assert all(name.startswith("x-") for name in ids)
    references = re.findall(r"(?:url\(|href=\")#([^)\"]+)", chart)
    assert set(references) <= set(ids)


def test_class_names_are_text_whatever_they_hold():
    # Markup, TeX, a control character that XML can't hold, and glyphs the plot's font lacks.
    name = '<b>"$x$\x01猫'
    counts = plots.confusion_counts(predictions((name, name, name)), limit=20)
    chart = plots.confusion_chart(counts, name="x")
    texts = [e.text for e in ET.fromstring(chart).iter() if e.tag == "text"]
    assert texts.count('<b>"$x$�猫') == 2
    assert "<b>" not in chart
