import pytest

from pipeline.reporting.this_run import END, START, copy_for_run, with_run

PAGE = f"<p>before</p>{START}<p>elsewhere</p>{END}<p>after</p>"


def test_facts_take_their_place_as_text():
    page = with_run(PAGE, {"commit": "abc", "<b>": '<script>"&'})
    assert page.startswith("<p>before</p><h3>This run</h3>")
    assert page.endswith("<p>after</p>")
    assert "<dt>commit</dt><dd><code>abc</code></dd>" in page
    assert "<dt>&lt;b&gt;</dt><dd><code>&lt;script&gt;&#34;&amp;</code></dd>" in page
    assert "elsewhere" not in page


def test_a_link_is_one_of_http_alone():
    page = with_run(PAGE, {"link": 'https://host/#/a"b', "other": "javascript:alert(1)"})
    assert '<a href="https://host/#/a&#34;b">https://host/#/a&#34;b</a>' in page
    assert "<code>javascript:alert(1)</code>" in page


@pytest.mark.parametrize("page", ["<p>no place</p>", START, f"{END}{START}", PAGE + PAGE])
def test_a_page_has_one_place(page):
    with pytest.raises(ValueError, match="not one place"):
        with_run(page, {})


def test_the_copy_leaves_the_report_and_its_figures_as_they_are(tmp_path):
    report = tmp_path / "reports"
    (report / "figures").mkdir(parents=True)
    (report / "figures" / "curve.svg").write_text("<svg/>")
    (report / "index.html").write_text(PAGE)
    (report / "data_docs.html").write_text("docs")
    made = copy_for_run(report, tmp_path / "run" / "reports", {"commit": "abc"})
    assert sorted(p.name for p in made.iterdir()) == ["data_docs.html", "index.html"]
    assert (made / "index.html").read_text() == with_run(PAGE, {"commit": "abc"})
    assert (report / "index.html").read_text() == PAGE
