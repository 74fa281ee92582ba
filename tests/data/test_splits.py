import pandas as pd

from pipeline.data.splits import assign, leaks, split_of
from pipeline.params import SplitShares

SHARES = SplitShares(train=0.8, val=0.1, test=0.1)


def frame(count: int) -> pd.DataFrame:
    ids = [f"{i:064x}" for i in range(count)]
    return pd.DataFrame({"image_id": ids, "group": None, "split": None}, dtype=object)


def test_shares_are_kept() -> None:
    shares = assign(frame(20_000), seed=0, shares=SHARES).value_counts(normalize=True)
    assert abs(shares["train"] - 0.8) < 0.01
    assert abs(shares["val"] - 0.1) < 0.01


def test_rows_added_later_move_nothing() -> None:
    before = assign(frame(500), seed=3, shares=SHARES)
    after = assign(frame(5_000), seed=3, shares=SHARES)
    assert after[:500].tolist() == before.tolist()


def test_another_seed_is_another_split() -> None:
    first, second = (assign(frame(1_000), seed=seed, shares=SHARES) for seed in (0, 1))
    assert (first != second).mean() > 0.2


def test_a_group_stays_together() -> None:
    pairs = frame(1_000).assign(group=[f"product {i // 10}" for i in range(1_000)])
    split = assign(pairs, seed=0, shares=SHARES)
    assert split.groupby(pairs["group"]).nunique().max() == 1


def test_the_users_own_split_is_kept() -> None:
    pairs = frame(3).assign(split=["val", None, "test"])
    expected = split_of(pairs.image_id[1], seed=0, shares=SHARES)
    assert assign(pairs, seed=0, shares=SHARES).tolist() == ["val", expected, "test"]


def test_an_image_in_two_splits_leaks_on_the_training_side() -> None:
    pairs = pd.DataFrame(
        {"image_id": ["a", "a", "a", "b", "b", "c"],
         "split": ["train", "test", "val", "train", "val", "train"]}
    )  # fmt: skip
    assert leaks(pairs).tolist() == [True, False, True, True, False, False]


def test_a_part_that_the_users_split_lacks_is_cut_from_its_train() -> None:
    pairs = frame(2_000).assign(split=["train"] * 1_500 + ["test"] * 500)
    split = assign(pairs, seed=0, shares=SHARES)
    assert (split[1_500:] == "test").all()
    assert set(split[:1_500]) == {"train", "val"}
    assert abs((split[:1_500] == "val").mean() - 0.1) < 0.03
    expected = [split_of(i, seed=0, shares=SHARES) == "val" for i in pairs.image_id[:1_500]]
    assert (split[:1_500] == "val").tolist() == expected


def test_a_group_in_two_splits_leaks_and_rows_without_group_do_not() -> None:
    pairs = pd.DataFrame({"group": ["g", "g", None, None], "split": ["val", "train"] * 2})
    assert leaks(pairs, by="group").tolist() == [False, True, False, False]
