"""Parts of a test split, small enough to count."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.headline import ACCURACY, FIND_CAPTION
from pipeline.evaluation.slices import cuts, hits, holm, mcnemar, ranges, table

NONE = pd.DataFrame(index=pd.Index([], name="source_row", dtype="int64"))
ASKED = {"least": 2, "resamples": 200, "confidence": 0.95, "seed": 0}


def pairs_of(count: int = 8, **columns: Any) -> pd.DataFrame:
    """Pictures a, b, … with a caption each, alike in all but what `columns` say."""
    known: dict[str, Any] = {
        "source_row": range(1, count + 1),
        "image_id": list("abcdefgh"[:count]),
        "image": [f"images/{i}.jpg" for i in range(count)],
        "file": [f"images/{i}.jpg" for i in range(count)],
        "offset": None,
        "packed": False,
        "caption": [f"caption {i}" for i in range(count)],
        "label": None,
        "group": None,
        "image_group": list("abcdefgh"[:count]),
        "width": 64,
        "height": 64,
    }
    return pd.DataFrame({**known, **columns})


def parts(pairs: pd.DataFrame, columns: pd.DataFrame = NONE) -> dict[str, list[Any]]:
    return {by: found.tolist() for by, found in cuts(pairs, columns).items()}


def test_what_all_pictures_share_cuts_nothing() -> None:
    assert parts(pairs_of()) == {}


def test_numbers_are_cut_into_ranges_of_about_as_many() -> None:
    found = ranges(pd.Series([1, 2, 3, 4, 5, 6, 7, 30, None]), unit="words")
    expected = ["1–2 words"] * 2 + ["3–4 words"] * 2 + ["5–6 words"] * 2 + ["7–30 words"] * 2
    assert found.tolist()[:-1] == expected
    assert pd.isna(found.iloc[-1])
    assert ranges(pd.Series([5, 5, 5, 9])).tolist() == ["5", "5", "5", "9"]


@pytest.mark.parametrize(
    ("numbers", "first", "last"),
    [
        ([1_700_000_000 + i for i in range(8)], "1700000000–1700000001", "1700000006–1700000007"),
        ([0.25 + i / 10**7 for i in range(8)], "0.25–0.2500001", "0.2500006–0.2500007"),
        ([0.5, 1, 2, 3, 4, 5, 6, math.inf], "0.5–1", "6–inf"),
    ],
)
def test_ranges_that_lie_near_each_other_keep_names_of_their_own(
    numbers: list[float], first: str, last: str
) -> None:
    found = ranges(pd.Series(numbers)).tolist()
    assert (found[0], found[-1], len(set(found))) == (first, last, 4)


def test_each_cut_says_what_its_parts_are() -> None:
    found = parts(
        pairs_of(
            4,
            caption=["one", "two words", "three words here", "One"],
            height=[64, 64, 32, 32],
            file=["x/1.jpg", "x/2.jpg", "y.tar", "y.tar"],
            offset=[None, None, 0, 512],
            image_group=["a", "b", "c", "b"],
            label=["cat", None, "dog", "dog"],
        )
    )
    assert found["caption length"] == ["1 word", "2 words", "3 words", "1 word"]
    assert found["shorter side"] == ["64 pixels", "64 pixels", "32 pixels", "32 pixels"]
    assert found["near-duplicates"] == ["without", "with near-duplicates"] * 2
    shared = "shared with another picture"
    assert found["caption"] == [shared, "its own", "its own", shared]
    assert found["label"][::2] == ["cat", "dog"]
    assert pd.isna(found["label"][1])
    assert "source" not in found, "it makes the parts of `shorter side`"


def test_a_users_column_goes_by_the_row_of_the_source() -> None:
    columns = pd.DataFrame(
        {"camera": ["A", "B", " ", "B"], "score": ["1", "2", "3", "x"]},
        index=pd.Index([4, 3, 2, 1], name="source_row"),
    )
    found = parts(pairs_of(4), columns)
    assert found["camera"][0] == found["camera"][2] == "B"
    assert pd.isna(found["camera"][1])
    assert found["score"] == ["x", "3", "2", "1"]


def test_many_numbers_of_a_users_column_become_ranges_whatever_cells_are_empty() -> None:
    pairs = pd.concat([pairs_of(8).assign(image_id=[f"{n}{i}" for i in range(8)]) for n in "123"])
    pairs = pairs.assign(source_row=range(24), image_group=pairs["image_id"])
    years = [str(2000 + i) for i in range(16)]
    columns = pd.DataFrame({"year": [*years, *["", " ", None, math.nan] * 2]}, dtype=object)
    found = parts(pairs, columns)["year"]
    assert found[:5] == ["2000–2003"] * 4 + ["2004–2007"]
    assert all(pd.isna(part) for part in found[16:])


def test_a_users_column_is_shown_whatever_else_makes_its_parts_or_has_its_name() -> None:
    pairs = pairs_of(4, label=["cat", "cat", "dog", "dog"])
    rows = pd.Index([1, 2, 3, 4], name="source_row")
    columns = pd.DataFrame(
        {"kind": ["c", "c", "d", "d"], "label": ["x", "y", "x", "y"], "all": [[1]] * 4}, index=rows
    )
    assert parts(pairs, columns) == {
        "label": ["cat", "cat", "dog", "dog"],
        "kind": ["c", "c", "d", "d"],
        "column label": ["x", "y", "x", "y"],
        "all": ["[1]"] * 4,
    }


def test_the_source_is_the_file_that_pictures_came_in_or_their_folder() -> None:
    found = parts(
        pairs_of(
            4,
            image=["x/1.jpg", "y.tar!2.jpg", "z/0.parquet!3", "z/0.parquet!4"],
            file=["x/1.jpg", "y.tar", "0000.pack", "0000.pack"],
            offset=[None, 512, 0, 99],
            packed=[False, False, True, True],
        )
    )
    assert found["source"] == ["x", "y.tar", "z/0.parquet", "z/0.parquet"]


def predictions(labels: str, base: str, final: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": list("abcdefgh"[: len(labels)]),
            "label": [None if x == "-" else x for x in labels],
            "base_label": list(base),
            "final_label": list(final),
            "base_rank_i2t": [1, 2, 1, 2][: len(labels)],
            "final_rank_i2t": [1, 1, 3, 4][: len(labels)],
        }
    )


def test_rightness_is_that_of_the_headline_metric() -> None:
    asked = predictions("xxy-", "xyyy", "xxxx")
    assert hits(asked, ACCURACY).to_dict("list") == {"base": [1, 0, 1], "final": [1, 1, 0]}
    assert hits(asked, FIND_CAPTION)["final"].tolist() == [1, 1, 0, 0]


def test_a_row_a_part_the_worst_first() -> None:
    asked = predictions("xxyy", "xyyy", "xxxy").drop(columns=["base_rank_i2t", "final_rank_i2t"])
    cut = {
        "label": pd.Series(["x", "x", "y", "y"], index=list("abcd")),
        "of one": pd.Series([None, None, "only", None], index=list("abcd")),
    }
    rows = table(cut, asked, metric=ACCURACY, **ASKED)
    assert [(row["by"], row["value"], row["images"]) for row in rows] == [
        ("label", "y", 2), ("label", "x", 2), ("of one", "only", 1),
    ]  # fmt: skip
    assert [(row["base"], row["final"], row["gain"]) for row in rows] == [
        (1, 0.5, -0.5), (0.5, 1, 0.5), (1, 0, -1),
    ]  # fmt: skip
    assert [rows[2][key] for key in ("low", "high", "shown")] == [None, None, None]
    assert rows[0]["low"] <= -0.5 <= rows[0]["high"]
    shuffled = table(cut, asked.sample(frac=1, random_state=0), metric=ACCURACY, **ASKED)
    assert [row["gain"] for row in shuffled] == [row["gain"] for row in rows]


def test_mcnemar_by_hand() -> None:
    base, final = np.array([0, 0, 0, 0, 1.0, 1]), np.array([1, 1, 1, 1, 0.0, 1])
    # Four gained, one lost: at most one of five heads, either way: 2 · (1 + 5) / 2⁵.
    assert mcnemar(base, final) == pytest.approx(12 / 32)
    assert mcnemar(base, base) == 1
    assert mcnemar(np.zeros(3000), np.ones(3000)) == pytest.approx(0, abs=1e-300)


def test_holm_asks_more_of_each_the_more_there_are() -> None:
    assert holm([0.02, None, 0.04], level=0.05) == [True, False, True]
    assert holm([0.03, 0.04], level=0.05) == [False, False]


def test_no_part_is_called_a_gain_among_models_that_are_equal() -> None:
    """A hundred parts and twenty draws; of intervals alone about five parts a draw would be."""
    random = np.random.default_rng(0)
    parts_of = np.repeat(np.arange(100), 40)
    families, alone = 0, 0
    for _ in range(20):
        base, final = (random.random(4000) < 0.6 for _ in range(2))
        p_values: list[float | None] = [
            mcnemar(base[parts_of == part].astype(float), final[parts_of == part].astype(float))
            for part in range(100)
        ]
        families += any(holm(p_values, level=0.05))
        alone += sum(p is not None and p < 0.05 for p in p_values)
    assert families <= 3
    assert alone > 20
