from pipeline.reporting.searches import COLUMNS, searches
from tests.reporting.synthetic import draw_pictures, places
from tests.reporting.synthetic import searches as table


def test_searches_are_parted_by_direction_and_by_what_came_first(tmp_path):
    draw_pictures(tmp_path, 3)
    found = searches(table("a", "b"), places(tmp_path, 3), name="target")
    assert list(found) == ["From a caption to pictures", "From a picture to captions"]
    [right], [wrong] = found["From a caption to pictures"].values()
    assert (right.text, right.picture, right.best, right.found) == ("a", None, 1, True)
    assert [answer.right for answer in right.answers] == [True, False, False]
    assert len({answer.picture for answer in right.answers}) == 3
    assert right.own_picture == right.answers[0].picture
    assert (wrong.best, wrong.found, len(wrong.answers)) == (7, False, 2)


def test_a_picture_is_answered_by_captions(tmp_path):
    draw_pictures(tmp_path, 3)
    found = searches(table("a"), places(tmp_path, 3), name="target")
    [search] = found["From a picture to captions"]["right"]
    assert search.text is None
    assert search.picture.startswith("data:image/jpeg;base64,")
    assert search.own_text == "a"
    assert [(a.text, a.picture, a.cosine) for a in search.answers] == [("a", None, 0.25)] * 3


def test_another_set_and_an_empty_table_have_none(tmp_path):
    assert searches(table("a"), {}, name="art") == {}
    assert searches(table(), {}, name="target") == {}
    assert list(table().columns) == list(COLUMNS)


def test_a_picture_that_has_gone_is_none():
    found = searches(table("a"), {}, name="target")
    assert found["From a caption to pictures"]["right"][0].answers[0].picture is None
