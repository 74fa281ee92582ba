"""Connected components, by hand and against the definition."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.duplicates.groups import group_of


def pairs(*rows: tuple[object, object]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["a", "b"])


def test_a_chain_is_one_group_named_by_its_least() -> None:
    found = group_of(list("abcdef"), pairs(("c", "d"), ("b", "c"), ("e", "f")))
    assert found == {"b": "b", "c": "b", "d": "b", "e": "e", "f": "e"}


def test_ids_may_be_numbers() -> None:
    assert group_of([2, 10, 30], pairs((10, 30), (2, 10))) == {2: 2, 10: 2, 30: 2}


def test_no_pairs_no_groups() -> None:
    assert group_of(["a", "b"], pairs()) == {}


def test_an_unknown_id_is_named() -> None:
    with pytest.raises(ValueError, match="'z'"):
        group_of(["a"], pairs(("a", "z")))


def test_a_long_chain_is_quick_and_whole() -> None:
    count = 100_000
    found = group_of(range(count), pairs(*((i, i + 1) for i in reversed(range(count - 1)))))
    assert set(found.values()) == {0}


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=25))
def test_it_is_the_least_id_that_can_be_reached(edges: list[tuple[int, int]]) -> None:
    def reached(start: int) -> set[int]:
        seen = {start}
        while True:
            more = {y for a, b in edges for x, y in ((a, b), (b, a)) if x in seen} - seen
            if not more:
                return seen
            seen |= more

    expected = {i: min(reached(i)) for edge in edges for i in edge}
    assert group_of(range(13), pairs(*edges)) == expected
