"""The stage's one call, on a real model and real pictures."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.artifacts import sha256_of
from pipeline.clip.model import Clip
from pipeline.data.pairs import PAIR, PAIRS_FILE, write_table
from pipeline.errors import TrainingError
from pipeline.evaluation.retrieval import recalls
from pipeline.params import FinetuneParams, ModelParams, Params
from pipeline.registry import bundle
from pipeline.training import auto
from pipeline.training.finetune import Scores
from pipeline.training.job import Finetuned, finetune


@pytest.fixture
def selected(pictures: Path, tiny: Clip, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree with a base model, and 16 pairs: 12 to train on, 4 to choose the epoch by."""
    monkeypatch.chdir(pictures)
    monkeypatch.setenv("CLIPTUNE_PROCESSES", "1")
    bundle.save(Path("models/base"), tiny, record={})
    rows = pd.read_csv("captions.csv")
    frame = rows.assign(
        image_id=[sha256_of(Path(image)) for image in rows.image], file=rows.image,
        pair=range(1, 17), source_row=range(1, 17), packed=False, width=48, height=40,
        split=["train"] * 12 + ["val"] * 4,
    )  # fmt: skip
    folder = pictures / "selected"
    folder.mkdir()
    write_table(frame.reindex(columns=PAIR.names), PAIR, folder / PAIRS_FILE)
    return folder


def run(selected: Path, params: FinetuneParams) -> tuple[Finetuned, list[Scores]]:
    logged: list[Scores] = []
    tuned = finetune(
        selected, selected.parent, params, packed=Path("packed"),
        base=ModelParams(name="scenes-resnet", pretrained="../models/base"), seed=0, cpu_threads=2,
        recalls=recalls, log=lambda scores, step: logged.append(scores),
        history_file=Path("history.csv"), cache=Path("vectors"), crops=Path("crops"),
        checkpoints=Path("checkpoints"), failed=Path("failed"),
        each="nobody",
    )  # fmt: skip
    return tuned, logged


def asked(defaults: Params, **values: Any) -> FinetuneParams:
    return FinetuneParams.model_validate(
        {**defaults.finetune.model_dump(), "distil": 0.0, **values}
    )


def test_what_was_chosen_is_told_and_kept(
    selected: Path, defaults: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    """12 pictures: batches of half of them, 2 an epoch; a fifth of the 4 steps is not one."""
    wanted = asked(defaults, **{**dict.fromkeys(auto.CHOICES, "auto"), "epochs": 2})
    tuned, logged = run(selected, wanted)
    chosen = {"batch_size": 6, "lr": 2.2e-4, "weight_decay": 0.1, "warmup": 0.0}
    assert tuned.found["chosen"] == tuned.record["params"]["chosen"] == chosen
    assert tuned.found["epochs"] == 2
    assert tuned.record["params"]["finetune"]["lr"] == "auto"
    json.dumps(tuned.record)
    rates = [scores["lr"] for scores in logged if "grad_norm" in scores]
    assert len(rates) == 4
    assert rates[0] == 2.2e-4
    told = capsys.readouterr().out
    assert (
        "chosen for 12 pictures, method full: batch_size 6, lr 0.00022, weight_decay 0.1, warmup 0"
    ) in told
    assert "warning: finetune.batch_size is 6" in told


def test_what_can_not_work_is_refused_before_anything_is_scored(
    selected: Path, defaults: Params
) -> None:
    with pytest.raises(TrainingError, match=r"finetune\.batch_size is 13: .* set it to 6"):
        run(selected, asked(defaults, batch_size=13))
    assert not Path("history.csv").exists()
    tuned, _ = run(selected, asked(defaults, batch_size=12, epochs=2))
    assert tuned.found["chosen"] == {}


@pytest.mark.parametrize("method", ["full", "head", "lit"])
def test_crops_are_kept_only_of_pictures_that_train(
    selected: Path, defaults: Params, method: str
) -> None:
    """A tower that is looked up leaves vectors instead, of the 16 pictures or captions."""
    lock = {"image": "all", "text": None}
    tuned, _ = run(selected, asked(defaults, method=method, lock=lock, batch_size=6, epochs=2))
    assert tuned.found["epochs"] == 2
    assert any(Path("crops").rglob("*.*")) == (method == "full")
    assert Path("vectors/images").exists() == (method != "full")
    assert Path("vectors/texts").exists() == (method == "head")
