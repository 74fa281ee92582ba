import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.data.splits import assign, leaks, require_parts, split_of
from pipeline.errors import DataError
from pipeline.params import SplitShares

SHARES = SplitShares(train=0.8, val=0.1, test=0.1)


def frame(count: int) -> pd.DataFrame:
    ids = [f"{i:064x}" for i in range(count)]
    return pd.DataFrame({"image_id": ids, "group": None, "split": None}, dtype=object)


def test_shares_are_kept() -> None:
    shares = assign(frame(20_000), seed=0, shares=SHARES, cut=[]).value_counts(normalize=True)
    assert abs(shares["train"] - 0.8) < 0.01
    assert abs(shares["val"] - 0.1) < 0.01


def test_rows_added_later_move_nothing() -> None:
    before = assign(frame(500), seed=3, shares=SHARES, cut=[])
    after = assign(frame(5_000), seed=3, shares=SHARES, cut=[])
    assert after[:500].tolist() == before.tolist()


def test_another_seed_is_another_split() -> None:
    first, second = (assign(frame(1_000), seed=seed, shares=SHARES, cut=[]) for seed in (0, 1))
    assert (first != second).mean() > 0.2


def test_a_group_stays_together() -> None:
    pairs = frame(1_000).assign(group=[f"product {i // 10}" for i in range(1_000)])
    split = assign(pairs, seed=0, shares=SHARES, cut=[])
    assert split.groupby(pairs["group"]).nunique().max() == 1


def test_the_users_own_split_is_kept() -> None:
    pairs = frame(3).assign(split=["val", None, "test"])
    expected = split_of(pairs.image_id[1], seed=0, shares=SHARES)
    assert assign(pairs, seed=0, shares=SHARES, cut=[]).tolist() == ["val", expected, "test"]


def test_an_image_in_two_splits_leaks_on_the_training_side() -> None:
    pairs = pd.DataFrame(
        {"image_id": ["a", "a", "a", "b", "b", "c"],
         "split": ["train", "test", "val", "train", "val", "train"]}
    )  # fmt: skip
    assert leaks(pairs).tolist() == [True, False, True, True, False, False]


def test_a_part_is_cut_from_the_users_train_where_params_say_so() -> None:
    pairs = frame(2_000).assign(split=["train"] * 1_500 + ["test"] * 500)
    assert assign(pairs, seed=0, shares=SHARES, cut=[]).tolist() == pairs["split"].tolist()
    split = assign(pairs, seed=0, shares=SHARES, cut=["val"])
    assert (split[1_500:] == "test").all()
    assert set(split[:1_500]) == {"train", "val"}
    assert abs((split[:1_500] == "val").mean() - 0.1) < 0.03
    expected = [split_of(i, seed=0, shares=SHARES) == "val" for i in pairs.image_id[:1_500]]
    assert (split[:1_500] == "val").tolist() == expected


GIVEN = st.lists(st.sampled_from([None, "train", "val", "test"]), min_size=2, max_size=60)


@given(split=GIVEN, kept=st.integers(1, 59), cut=st.sets(st.sampled_from(["val", "test"])))
@example(split=["train"] * 40 + ["val"], kept=40, cut={"val"})
def test_rows_added_to_any_split_move_nothing(
    split: list[str | None], kept: int, cut: set[str]
) -> None:
    """A single row of the user's own val among them, where val is cut from train."""
    pairs = frame(len(split)).assign(split=pd.Series(split, dtype=object))
    few = assign(pairs[:kept], seed=0, shares=SHARES, cut=cut)
    every = assign(pairs, seed=0, shares=SHARES, cut=cut)
    assert every[: len(few)].tolist() == few.tolist()


def test_a_split_that_lacks_a_part_needs_a_word() -> None:
    own = pd.Series(["train", "test"])
    with pytest.raises(DataError, match=r"has train, test and no val: .* to \[val\]"):
        require_parts(own, shares=SHARES, cut=[])
    require_parts(own, shares=SHARES, cut=["val"])
    require_parts(own, shares=SplitShares(train=0.9, val=0, test=0.1), cut=[])
    require_parts(pd.Series([None, None]), shares=SHARES, cut=[])
    require_parts(pd.Series(["train", "test", "val"]), shares=SHARES, cut=[])
    with pytest.raises(DataError, match=r"no val and no test: .* to \[val, test\]"):
        require_parts(pd.Series(["train"]), shares=SHARES, cut=[])


def test_a_group_in_two_splits_leaks_and_rows_without_group_do_not() -> None:
    pairs = pd.DataFrame({"group": ["g", "g", None, None], "split": ["val", "train"] * 2})
    assert leaks(pairs, by="group").tolist() == [False, True, False, False]
