"""From pairs to groups: what hangs together, directly or through others."""

from collections.abc import Sequence
from typing import TypeVar

import pandas as pd

Id = TypeVar("Id", str, int)


def group_of(ids: Sequence[Id], pairs: pd.DataFrame) -> dict[Id, Id]:
    """The least id that each id hangs together with, by the rows a, b of `pairs`.

    Of ids that stand in a pair alone, in the order of `ids`. ValueError where a pair names an id
    that `ids` lacks. Union-find with path halving (Tarjan and van Leeuwen, 1984).
    """
    above: dict[Id, Id] = {}
    for a, b in zip(pairs["a"].tolist(), pairs["b"].tolist(), strict=True):
        one, two = _root(above, a), _root(above, b)
        # The least id stays on top: it is the group's name.
        above[max(one, two)] = min(one, two)
    group = {id_: _root(above, id_) for id_ in ids if id_ in above}
    if len(group) != len(above):
        missing = min(set(above) - set(group))
        raise ValueError(f"a pair names {missing!r}, which is not among the {len(ids)} ids")
    return group


def _root(above: dict[Id, Id], id_: Id) -> Id:
    above.setdefault(id_, id_)
    while above[id_] != id_:
        above[id_] = above[above[id_]]
        id_ = above[id_]
    return id_
