"""Paths in params.yaml that lead nowhere, and those that DVC will bring."""

from pathlib import Path

import pytest

from pipeline import paths
from pipeline.errors import DataError
from pipeline.params import Params
from pipeline.precheck import check


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defaults: Params) -> Params:
    """Params whose source is data/mine/shop, in an empty tree."""
    monkeypatch.chdir(tmp_path)
    Path("data/general").mkdir(parents=True)
    return defaults.model_copy(
        update={
            "data": defaults.data.model_copy(update={"source": "data/mine/shop"}),
            "evaluate": defaults.evaluate.model_copy(update={"general": "data/general"}),
        }
    )


def test_a_path_that_is_nowhere_is_named_with_its_key(mine: Params) -> None:
    with pytest.raises(DataError, match=r"^data\.source is 'data/mine/shop', which does not exist"):
        check(mine, paths.CHECKED)
    assert not paths.CHECKED.exists()


@pytest.mark.parametrize("kept", ["data/mine.dvc", "data/mine/shop.dvc"])
def test_what_dvc_keeps_need_not_be_here_yet(mine: Params, kept: str) -> None:
    Path(kept).parent.mkdir(parents=True, exist_ok=True)
    Path(kept).write_text("outs: []\n")
    check(mine, paths.CHECKED)
    assert paths.CHECKED.is_file()
