import pandas as pd

from pipeline.data.signatures import SIZE
from pipeline.duplicates.across import near_leaks
from pipeline.duplicates.images import TWINS, near_pairs


def near(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["a", "b"]).assign(similarity=0.95)


def test_of_near_duplicates_across_the_split_the_training_side_goes() -> None:
    split = pd.Series({"a": "train", "b": "test", "c": "val", "d": "train", "e": "train"})
    found = near_leaks(split, near(("a", "b"), ("b", "c"), ("d", "e"), ("a", "unknown")))
    assert found[["image", "other"]].to_numpy().tolist() == [["a", "b"], ["c", "b"]]


def test_what_has_gone_makes_no_other_go() -> None:
    """train ~ val ~ test, train not near test: val goes for test, so train may stay."""
    split = pd.Series({"t": "train", "v": "val", "x": "test"})
    assert near_leaks(split, near(("t", "v"), ("v", "x"))).image.tolist() == ["v"]
    assert near_leaks(split, near(("t", "v"))).image.tolist() == ["t"]


def test_of_many_pictures_that_look_alike_every_leak_is_found() -> None:
    """Of a hundred blank pictures most pairs are not listed; each stands beside a test picture."""
    ids = [f"{i:03}" for i in range(100)]
    blank = near_pairs(ids, [bytes(SIZE)] * 100, min_similarity=0.9)
    assert len(blank) < 100 * TWINS
    split = pd.Series("train", index=ids)
    split["050"] = "test"
    found = near_leaks(split, blank)
    assert found.image.tolist() == [id_ for id_ in ids if id_ != "050"]
    assert set(found.other) == {"050"}


def test_what_is_near_to_one_of_many_is_near_to_each() -> None:
    same = pd.DataFrame({"a": ["a", "a"], "b": ["b", "c"], "similarity": 1.0})
    split = pd.Series({"a": "train", "b": "train", "c": "val", "x": "test", "y": "train"})
    found = near_leaks(split, pd.concat([same, near(("b", "x"), ("x", "y"))]))
    expected = [["a", "x"], ["b", "x"], ["c", "x"], ["y", "x"]]
    assert found[["image", "other"]].to_numpy().tolist() == expected
    assert (found.similarity == 0.95).all()


def test_pictures_that_look_alike_leak_where_the_first_of_them_was_set_aside_before() -> None:
    same = pd.DataFrame({"a": ["a", "a"], "b": ["b", "c"], "similarity": 1.0})
    found = near_leaks(pd.Series({"b": "train", "c": "val"}), same)
    assert found.to_numpy().tolist() == [["b", "c", 1.0]]


def test_without_near_duplicates_nothing_leaks() -> None:
    none = pd.DataFrame({"a": [], "b": [], "similarity": []})
    assert near_leaks(pd.Series({"a": "train", "b": "test"}), none).empty
