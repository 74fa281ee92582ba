import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.captions import rules
from pipeline.params import Params


def cleaned(caption: str, defaults: Params) -> str:
    for rule in rules.in_order(defaults.clean).values():
        caption = rule(caption)
    return caption


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a <b>red</b> star &amp; moon", "a red star & moon"),
        ("&lt;b&gt;bold&lt;/b&gt; move", "bold move"),
        ("&amp;amp; twice", "& twice"),
        ("<p>one</p><p>two</p>", "one two"),
        ("<script>alert(1)</script>a cat", "a cat"),
        ("<img src=x onerror=alert(1)> a cat", "a cat"),
        ("5 < 6 and 7 > 3", "5 < 6 and 7 > 3"),
        ("R&D at AT&T", "R&D at AT&T"),
        ("cafÃ© crÃ¨me", "café crème"),
        ("a cat at https://cats.example/1?a=b today", "a cat at today"),
        ("a cat, www.cats.example", "a cat"),
        ("a cat by me.too+x@cats.example", "a cat by"),
        ("a cat #catsofinstagram #cute", "a cat"),
        ("model #12 in C#", "model in C#"),
        ("a cat (Stock photo, click to enlarge)", "a cat"),
        ("a cat, stock photo, click to enlarge.", "a cat."),
        ("a\u200bcat\x00 in\tthe\nhat ", "a cat in the hat"),
        ("a cat , sitting .", "a cat, sitting."),
        ("- a cat -", "a cat"),
        ("نمونه‌ها", "نمونه‌ها"),
        ("かわいい 猫", "かわいい 猫"),
        ("ein süßes Kätzchen", "ein süßes Kätzchen"),
        ("👩‍👧 with a cat", "👩‍👧 with a cat"),
    ],
)
def test_a_caption_comes_out_as_it_should(before: str, after: str, defaults: Params) -> None:
    assert cleaned(before, defaults) == after


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
def test_cleaning_twice_is_cleaning_once(caption: str) -> None:
    once = rules.collapse_space(rules.strip_html(rules.fix_unicode(caption)))
    assert rules.collapse_space(once) == once
    assert rules.strip_html(once) == once


@given(st.text(alphabet="<>/&;!abp -=\"'#x1", max_size=60))
def test_markup_of_any_shape_ends(caption: str) -> None:
    plain = rules.strip_html(caption)
    assert rules.strip_html(plain) == plain


def test_a_rule_that_is_off_is_left_out(defaults: Params) -> None:
    params = defaults.clean.model_copy(update={"strip_urls": False, "strip_boilerplate": []})
    assert list(rules.in_order(params)) == ["fix_unicode", "strip_html", "collapse_space"]
