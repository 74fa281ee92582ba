"""Two models on one set, and the gates that a challenger must pass, with figures made by hand."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from pipeline.clip.model import Clip
from pipeline.data.places import Place
from pipeline.evaluation.duel import Duel, Outcome, duel
from pipeline.evaluation.sets import TARGET, EvalSet
from pipeline.params import Params, PromoteParams
from pipeline.registry.gates import judge, verdict
from tests.drawing import COLOURS

VALIDATED = {"warned": [], "drift": {"status": "steady"}}
BETTER = Outcome(champion=0.5, challenger=0.6, gain=0.1, low=0.02, high=0.18)
NOISE = Outcome(champion=0.5, challenger=0.52, gain=0.02, low=-0.03, high=0.07)
FORGOT = Outcome(champion=0.8, challenger=0.75, gain=-0.05, low=-0.08, high=-0.02)


def found(target: Outcome, general: Outcome | None = None, rows: Any = ()) -> Duel:
    outcomes = {TARGET: {"top1": target}}
    if general is not None:
        outcomes["photos"] = {"top1": general}
    return Duel(dict.fromkeys(outcomes, "top1"), outcomes, list(rows))


def row(by: str, value: str, gain: float, shown: str | None) -> dict[str, Any]:
    return {"by": by, "value": value, "gain": gain, "shown": shown}


def judged(
    defaults: Params, duel: Duel, *, validated: Any = VALIDATED, **changed: Any
) -> list[str]:
    """The names of the gates that are not passed."""
    params = PromoteParams.model_validate({**defaults.promote.model_dump(), **changed})
    gates = judge(duel, params, validated=validated, megabytes=300.0, milliseconds=12.0)
    failed = [gate.name.partition(":")[0] for gate in gates if not gate.passed]
    assert verdict(gates) == ("hold" if failed else "promote")
    return failed


def test_a_proven_gain_is_promoted_and_noise_is_not(defaults: Params) -> None:
    assert judged(defaults, found(BETTER)) == []
    assert judged(defaults, found(NOISE)) == ["gain on the test pictures"]
    assert judged(defaults, found(NOISE), least_gain=-4.0) == []
    assert judged(defaults, found(BETTER), least_gain=2.0) == ["gain on the test pictures"]


def test_what_is_forgotten_has_a_limit(defaults: Params) -> None:
    assert judged(defaults, found(BETTER, FORGOT)) == ["forgetting on photos"]
    assert judged(defaults, found(BETTER, FORGOT), max_forgetting=5.0) == []
    assert judged(defaults, found(BETTER, FORGOT), max_forgetting=None) == []


def test_a_part_that_loses_holds_only_where_the_loss_is_shown(defaults: Params) -> None:
    chance = row("label", "cat", -0.4, None)
    shown = row("label", "dog", -0.11, "loss")
    assert judged(defaults, found(BETTER, rows=[chance])) == []
    assert judged(defaults, found(BETTER, rows=[chance, shown])) == ["parts of the test pictures"]
    assert judged(defaults, found(BETTER, rows=[shown]), max_slice_loss=11.0) == []
    assert judged(defaults, found(BETTER, rows=[shown]), max_slice_loss=None) == []


def test_warnings_drift_size_and_latency_hold_where_asked(defaults: Params) -> None:
    drifted = {"warned": ["truncated"], "drift": {"status": "warned"}}
    better = found(BETTER)
    assert judged(defaults, better, validated=drifted) == ["drift of the data"]
    assert judged(defaults, better, validated=drifted, despite_drift=True) == []
    asked = judged(defaults, better, validated=drifted, despite_warnings=False)
    assert asked == ["checks of the data", "drift of the data"]
    assert judged(defaults, better, max_megabytes=299.0) == ["size"]
    assert judged(defaults, better, max_milliseconds=11.5, max_megabytes=301.0) == ["latency"]


@pytest.fixture
def a_set(pictures: Path) -> EvalSet:
    """Sixteen pictures of four colours, the colour being the class."""
    rows = pd.read_csv(pictures / "captions.csv", dtype=str)
    rows = rows.assign(image_id=rows["image"], image_group=rows["image"], source_row=range(1, 17))
    rows = rows.assign(
        width=48, height=40, group=None, file=rows["image"], offset=None, packed=False
    )
    places = {image: Place(pictures / image) for image in rows["image"]}
    return EvalSet(rows, sorted(COLOURS)[:4], places)


def test_a_model_beside_itself_gains_nothing(defaults: Params, tiny: Clip, a_set: EvalSet) -> None:
    found = duel(
        tiny,
        tiny,
        {TARGET: a_set},
        defaults.evaluate,
        columns=pd.DataFrame(index=pd.Index(range(1, 17), name="source_row")),
        seed=0,
        device=torch.device("cpu"),
    )
    outcome = found.main(TARGET)
    assert found.metric == {TARGET: "top1"}
    assert (outcome.gain, outcome.low, outcome.high) == (0, 0, 0)
    assert outcome.champion == outcome.challenger
    assert {row["shown"] for row in found.slices} == {None}
    assert sum(row["images"] for row in found.slices if row["by"] == "label") == 16
