from pipeline.reporting.examples import changes, worst_confusions
from tests.reporting.synthetic import predictions


def test_gained_and_lost_follow_the_labels_one_of_each_class_first():
    found = changes(
        predictions(
            ("cat", "dog", "cat"),  # gained, the surest is the last: scores rise with the row
            ("cat", "dog", "cat"),
            ("dog", "cat", "dog"),
            ("dog", "dog", "cat"),  # lost
            ("dog", "dog", "dog"),
            ("dog", "cat", "cat"),
            (None, "cat", "dog"),
        )
    )
    assert found.gained["image"].to_list() == ["2.png", "1.png", "0.png"]
    assert found.lost["image"].to_list() == ["3.png"]


def test_without_labels_they_follow_the_rank_of_the_caption():
    frame = predictions(*[(None, None, None)] * 4)
    frame["base_rank_i2t"] = [1, 9, 1, 40]
    frame["final_rank_i2t"] = [3, 1, 1, 1]
    found = changes(frame)
    assert found.gained["image"].to_list() == ["3.png", "1.png"]
    assert found.lost["image"].to_list() == ["0.png"]


def test_the_worst_confusions_come_first_with_what_the_base_did():
    frame = predictions(
        ("cat", "dog", "dog"),
        ("cat", "cat", "dog"),
        ("cat", "cat", "cat"),
        ("dog", "cat", "cat"),
        ("owl", "dog", "owl"),
    )
    first, second = worst_confusions(frame, limit=5, images=1)
    assert (first.actual, first.predicted, first.count, first.of, first.base) == (
        "cat",
        "dog",
        2,
        3,
        1,
    )
    assert first.images == (f"{1:064x}",)
    assert (second.actual, second.predicted, second.count, second.of, second.base) == (
        "dog",
        "cat",
        1,
        1,
        1,
    )
    assert worst_confusions(frame, limit=1, images=1) == [first]
