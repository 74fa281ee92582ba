"""Two models on one set, and the gates that a challenger must pass, with figures made by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.clip.model import Clip
from pipeline.data.places import Place
from pipeline.errors import DataError
from pipeline.evaluation.bootstrap import Metric, paired_gain
from pipeline.evaluation.duel import Duel, Outcome, duel, without
from pipeline.evaluation.sets import TARGET, EvalSet
from pipeline.evaluation.slices import mcnemar
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
    metric = dict.fromkeys(outcomes, "top1")
    return Duel(metric, outcomes, list(rows), won=40, lost=20, luck=0.01)


def row(by: str, value: str, gain: float, shown: str | None) -> dict[str, Any]:
    span = {"low": gain - 0.03, "high": gain + 0.03}
    return {"by": by, "value": value, "gain": gain, **span, "shown": shown}


def judged(
    defaults: Params,
    duel: Duel,
    *,
    validated: Any = VALIDATED,
    moved: Sequence[str] = (),
    **changed: Any,
) -> list[str]:
    """The names of the gates that are not passed."""
    params = PromoteParams.model_validate({**defaults.promote.model_dump(), **changed})
    gates = judge(
        duel, params, validated=validated, moved=moved, megabytes=300.0, milliseconds=12.0
    )
    failed = [gate.name.partition(":")[0] for gate in gates if not gate.passed]
    assert verdict(gates) == ("hold" if failed else "promote")
    return failed


def test_a_few_pictures_prove_nothing(defaults: Params) -> None:
    """Of one picture that the challenger alone gets right, the interval is 100 to 100."""
    base, final = (Metric(np.array([hit]), np.ones(1)) for hit in (0.0, 1.0))
    gain = paired_gain(base, final, resamples=1000, confidence=0.95, seed=0)
    assert gain == {"value": 1.0, "low": 1.0, "high": 1.0}
    alone = Outcome(champion=0, challenger=1, gain=1, low=1, high=1)
    few = replace(found(alone), won=1, lost=0, luck=mcnemar(base.hits, final.hits))
    assert judged(defaults, few) == ["more than luck"]
    assert judged(defaults, replace(few, won=6, luck=2 * 0.5**6)) == []
    assert judged(defaults, few, least_gain=-1.0) == []


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


def test_what_is_lost_is_told_with_its_interval(defaults: Params) -> None:
    """Judged by the figure itself: who reads why a model is held sees how sure it is."""
    lost = found(BETTER, FORGOT, rows=[row("label", "dog", -0.11, "loss")])
    gates = judge(
        lost, defaults.promote, validated=VALIDATED, moved=None, megabytes=1.0, milliseconds=1.0
    )
    told = {gate.name.partition(":")[0]: gate.found for gate in gates}
    assert told["forgetting on photos"] == "−5.0 [−8.0, −2.0] points"
    assert told["parts of the test pictures"] == "label = dog: −11.0 [−14.0, −8.0] points"


def test_warnings_drift_size_and_latency_hold_where_asked(defaults: Params) -> None:
    drifted = {"warned": ["truncated", "drift.labels"], "drift": {"status": "warned"}}
    grown = {"warned": ["drift.rows"], "drift": {"status": "warned"}}
    assert judged(defaults, found(BETTER), validated=grown) == []
    better = found(BETTER)
    assert judged(defaults, better, validated=drifted) == ["drift from the accepted data"]
    assert judged(defaults, better, validated=drifted, despite_drift=True) == []
    from_champion = judged(defaults, better, moved=["labels 0.40 (above 0.2)"])
    assert from_champion == ["drift from the champion's data"]
    assert judged(defaults, better, moved=["labels 0.40"], despite_drift=True) == []
    asked = judged(defaults, better, validated=drifted, despite_warnings=False)
    assert asked == ["checks of the data", "drift from the accepted data"]
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
    assert (found.won, found.lost, found.luck) == (0, 0, 1.0)
    assert {row["shown"] for row in found.slices} == {None}
    assert sum(row["images"] for row in found.slices if row["by"] == "label") == 16


def test_pictures_that_the_champion_was_trained_on_are_left_out(a_set: EvalSet) -> None:
    ids = list(a_set.pairs["image_id"])
    rest, left_out = without(a_set, {*ids[:3], "of another set"})
    assert (len(rest.pairs), left_out, rest.classes) == (13, 3, a_set.classes)
    assert list(rest.pairs["image_id"]) == ids[3:]
    assert without(a_set, {"of another set"}) == (a_set, 0)
    with pytest.raises(DataError, match="the champion was trained on every test picture"):
        without(a_set, ids)
    groups = [ids[0], ids[0], *ids[2:5], ids[0], *([None] * (len(ids) - 6))]
    near = replace(a_set, pairs=a_set.pairs.assign(image_group=groups))
    rest, left_out = without(near, {ids[1]})
    assert (list(rest.pairs["image_id"]), left_out) == ([*ids[2:5], *ids[6:]], 3)
