"""What several processes agree on, and what they refuse before they train."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import TrainingError
from pipeline.params import Params, load
from pipeline.training import spread, together
from pipeline.training.auto import Settled
from pipeline.training.distributed import World
from pipeline.training.validate import _of_all
from tests.drawing import ROOT
from tests.training import ranks

CPU = torch.device("cpu")
SAID = {"val_loss": 1 / 3, "worst": math.inf, "names": ["ä", "b"], "none": None}


def settled() -> Settled:
    return Settled.model_validate(load(Params, ROOT / "params.yaml").finetune.model_dump())


def refused(record: object, params: Settled, world: World) -> str:
    try:
        spread.agree(record, params, world, CPU)
    except TrainingError as error:
        return str(error)
    return ""


def work(world: World) -> ranks.Found:
    params, rank = settled(), world.rank
    embedded: list[int] = []

    def embed(items: list[str]) -> np.ndarray:
        embedded.append(len(items))
        return np.array([[float(item), -1.0] for item in items], dtype=np.float32)

    return {
        "told": together.told(SAID if rank == 0 else "nothing", world, CPU),
        "most": together.most([rank, -rank, 5], world, CPU),
        "alike": refused({"seed": 0}, params, world),
        "other": refused({"seed": rank}, params, world),
        "many": refused({}, params.model_copy(update={"batch_size": 1}), world),
        "rows": _of_all(embed, ["3", "1", "4", "1", "5"], world, CPU).tolist(),
        "few": _of_all(embed, ["9"], world, CPU).tolist(),
        "embedded": embedded,
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[ranks.Found]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    return ranks.run(work, size=2, folder=folder)


def test_all_hear_what_process_0_says_to_the_bit(both: list[ranks.Found]) -> None:
    assert [found["told"] for found in both] == [SAID, SAID]
    assert [found["most"] for found in both] == [[1, 0, 5], [1, 0, 5]]


def test_all_refuse_what_one_would_do_otherwise(both: list[ranks.Found]) -> None:
    for found in both:
        assert found["alike"] == ""
        assert "see different data, params, base or code" in found["other"]
        assert "2 processes are more than finetune.batch_size 1" in found["many"]


def test_what_is_validated_is_shared_out_and_comes_back_in_order(both: list[ranks.Found]) -> None:
    for found in both:
        assert found["rows"] == [[3, -1], [1, -1], [4, -1], [1, -1], [5, -1]]
        assert found["few"] == [[9, -1]]
    assert [found["embedded"] for found in both] == [[3, 1], [2, 1]]
