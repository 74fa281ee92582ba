import hashlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.validation.docs import data_docs, figure, line
from pipeline.validation.profile import ProfileBuilder
from tests.validation.quality import CHECKS, DRIFT, FOUND, SOURCE
from tests.validation.tables import images, pairs, profile, scenes

ROOT = Path(__file__).parents[2]
HOSTILE = '<script>alert(1)</script>"\' onerror="x" {{ 7 * 7 }}</style>'
NO_DRIFT = {"reference": None, "figures": {}, "status": "none", "warned": []}


class Page(HTMLParser):
    """The elements, attributes and texts of a page, as a browser would find them."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def rendered(**given):
    arguments = {"source": SOURCE, "found": FOUND, "profile": profile(*scenes(30)), "drift": DRIFT}
    checks = given.pop("checks", CHECKS)
    return data_docs(checks, **{**arguments, **given})


def digest():
    return hashlib.sha256(rendered().encode()).hexdigest()


def test_the_page_says_what_was_found():
    text = Page(rendered()).text
    assert (
        "9,812 of 10,000 pairs passed every check of their row; 188 were rejected. "
        "Warning: share of captions with more tokens than the model reads. "
        "Since the last accepted data it drifted in image side." in text
    )
    assert (
        "share of captions with more tokens than the model reads ▲ warned "
        "expect_column_values_to_be_between(column='truncated', max_value=0.2) "
        "observed 0.251 warns above 0.2 row 17 a very long story about a red star" in text
    )
    assert "number of pairs left ✓ met" in text
    assert "a caption says something ✓ met" in text
    assert "the picture is there and can be decoded 188 rejected" in text
    assert "row 4 images/4.jpg row 9 images/9.jpg" in text
    assert "9,812 + 188 = 10,000" in text
    assert "image missing 150 image truncated 38" in text
    assert "caption from text guessed by its name image from path" in text
    assert "note split column ignored: fold1 is no split" in text
    assert "the 8,000 pairs that were accepted last (profile c0ffee00 ). 0 is" in text
    assert "image side share of pictures of another size 0.35 ▲ warned" in text
    assert "labels share of pairs with another label can’t tell –" in text
    assert "brightness share of pictures of another brightness 0.012 ✓ steady" in text


def test_the_profile_is_drawn_as_counted():
    table = pairs(
        ("a", "x y", "cat"), ("b", "x y z", "cat"), ("c", "x y z", "dog"), words=[2, 3, 5]
    )
    found = profile(table, images("abc", width=[64, 64, 30]))
    text = Page(rendered(profile=found)).text
    assert "Words a caption median: 3 words" in text
    assert "words captions 2 1 3 1 4 0 5 1" in text
    assert "Most frequent words of 4 different ones, 8 in all x 3 y 3 z 2" not in text
    assert "Most frequent words of 3 different ones, 8 in all x 3 y 3 z 2" in text
    assert "Labels 2 different ones; 0 pairs have none cat 2 dog 1" in text
    assert "Tokens a caption" not in text
    page = rendered(profile=found)
    assert '<rect x="1" y="0" width="8" height="1000"><title>2: 1</title></rect>' in page
    assert '<rect width="667" height="1"/>' in page  # two of three


def test_the_same_inputs_give_the_same_bytes_in_every_process():
    code = "from tests.validation.test_docs import digest; print(digest())"
    digests = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert digests == [digest()] * 2


def test_the_page_asks_nothing_of_the_network_and_runs_nothing():
    source = rendered()
    found = Page(source)
    assert "http" not in re.sub(r"http-equiv", "", source)
    assert not re.search(r"@import|url\(", source)
    assert not {"script", "link", "iframe", "object", "base", "form", "img"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name == "src"]
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("content", policy) in found.attributes
    assert source.startswith("<!doctype html>")


def test_every_link_has_its_place():
    found = Page(rendered())
    ids = [value for name, value in found.attributes if name == "id"]
    links = [value for name, value in found.attributes if name == "href"]
    assert len(ids) == len(set(ids))
    assert {f"#{id_}" for id_ in ids} == set(links)


def hostile(text):
    """Everything that comes from the data or from params is `text`."""
    check = {"name": text, "expectation": text, "about": text, "reason": text, "observed": text}
    change = {**check, "examples": [{"source_row": 1, "value": text}]}
    found = profile(pairs(("a", text, text)), images("a", form=text))
    found["vocabulary"]["words"] = {text: 1}
    return rendered(
        checks=[{**each, **change} for each in CHECKS],
        source={
            "format": text,
            "files": 1,
            "columns": {text: text},
            "guessed": [text],
            "notes": [text],
        },
        found={**FOUND, "rejected": {text: 188}},
        profile={**found, "splits": {text: 1}},
    )


def test_captions_values_labels_and_columns_are_text_only():
    page = Page(hostile(HOSTILE))
    plain = Page(hostile("plain"))
    assert page.tags == plain.tags
    assert [name for name, _ in page.attributes] == [name for name, _ in plain.attributes]
    assert page.text.count("alert(1)") >= 12
    assert HOSTILE in page.text
    assert "49" not in re.sub(r"\d{3,}", "", page.text)


def test_a_long_value_is_cut_and_shown_on_one_line():
    page = hostile("long \n" * 10_000)
    assert len(page) < len(hostile("plain")) + 30 * 200
    assert line("a\n b\u202ec\0d") == "a b�c�d"
    assert line("x" * 161) == "x" * 159 + "…"
    assert line("x" * 160) == "x" * 160


def stopped(of_table, **drift):
    checks = [{**CHECKS[0], "status": of_table}, *CHECKS[2:]]
    return Page(rendered(checks=checks, drift={**DRIFT, **drift})).text


def test_what_stops_the_pipeline_is_said_first():
    text = stopped("stopped", status="steady", warned=[])
    said = "The pipeline stops for number of pairs left. 9,812 of 10,000 pairs passed"
    assert said in text
    assert "number of pairs left ■ stopped" in text
    both = stopped("met", status="stopped", warned=["labels", "rows"])
    assert "The pipeline stops: the data drifted in labels and rows. 9,812" in both
    assert "rows change of the number of pairs 0.227 ■ stopped" in both
    assert "meets all that was expected of it." in both


def test_without_a_reference_it_says_how_to_get_one():
    text = Page(rendered(drift=NO_DRIFT)).text
    assert "no other data was accepted before. cliptune accept makes these the reference" in text
    assert "Since the last" not in text


def test_a_source_without_a_single_accepted_row_has_its_page():
    found = {"read": 2, "accepted": 0, "rejected": {"image_missing": 2}}
    text = Page(rendered(found=found, profile=ProfileBuilder().result(), checks=[])).text
    assert "0 of 2 pairs passed every check of their row; 2 were rejected." in text
    assert "Nothing was expected of single rows." in text


def test_an_expectation_may_be_given_as_type_and_kwargs():
    given = {"type": "expect_column_to_exist", "kwargs": {"column": "<b>"}}
    text = Page(rendered(checks=[{**CHECKS[0], "expectation": given}])).text
    assert "expect_column_to_exist(column='<b>')" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (12345, "12,345"), (0.25134, "0.251"), (1234.6, "1,235"), (0, "0"), ("x", "x")],
)
def test_figures_for_people(value, shown):
    assert figure(value) == shown
