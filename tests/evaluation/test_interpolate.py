import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.clip import model as clip_model
from pipeline.clip.model import Clip
from pipeline.errors import ModelError
from pipeline.evaluation.interpolate import Point, alike, between, choose, forgetting, mixed
from tests.small import TEXT, VISION

CONFIG: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {**VISION, "layers": 1},
    "text_cfg": {**TEXT, "layers": 1},
}


def small(folder: Path, *, seed: int, **config: Any) -> Clip:
    file = folder / "between-vit.json"
    file.write_text(json.dumps({**CONFIG, **config}))
    return clip_model.create("between-vit", file, seed=seed)


def test_ends_are_the_models_given_and_the_middle_is_a_model_of_its_own(tmp_path: Path) -> None:
    base, finetuned = small(tmp_path, seed=0), small(tmp_path, seed=1)
    assert between(base, finetuned, 0.0) is base
    assert between(base, finetuned, 1.0) is finetuned
    before = {name: value.clone() for name, value in finetuned.model.state_dict().items()}
    middle = between(base, finetuned, 0.5).model.state_dict()
    ends = [clip.model.state_dict() for clip in (base, finetuned)]
    for name, value in middle.items():
        assert torch.allclose(value, (ends[0][name] + ends[1][name]) / 2, atol=1e-6), name
        assert torch.equal(ends[1][name], before[name])


def test_towers_that_a_training_left_alone_are_known(tmp_path: Path) -> None:
    base = small(tmp_path, seed=0)
    assert alike(base, small(tmp_path, seed=0)) == (True, True)
    for name, expected in (
        ("visual.proj", (False, True)),
        ("token_embedding.weight", (True, False)),
        ("logit_scale", (True, True)),
    ):
        finetuned = small(tmp_path, seed=0)
        finetuned.model.get_parameter(name).data.view(-1)[0] += 1
        assert alike(base, finetuned) == expected, name


def test_models_of_two_shapes_are_refused_by_name(tmp_path: Path) -> None:
    base = small(tmp_path, seed=0)
    wider = small(tmp_path, seed=0, embed_dim=16)
    with pytest.raises(ModelError, match="differ in 2 weights, the first text_projection"):
        between(base, wider, 0.5)


def test_weights_go_on_a_straight_line_and_counters_do_not() -> None:
    start = {"w": torch.tensor([0.0, 2.0]), "n": torch.tensor(3)}
    end = {"w": torch.tensor([1.0, 6.0]), "n": torch.tensor(7)}
    found = mixed(start, end, 0.25)
    assert found["w"].tolist() == [0.25, 3.0]
    assert found["n"].item() == 7


POINTS = [
    Point(0.0, 0.40, {"a": 0.80, "b": 0.50}),
    Point(0.5, 0.80, {"a": 0.79, "b": 0.51}),
    Point(0.7, 0.85, {"a": 0.78, "b": 0.48}),
    Point(1.0, 0.90, {"a": 0.70, "b": 0.52}),
]


@pytest.mark.parametrize(
    ("bound", "alpha", "forgotten"),
    [(None, 1.0, 0.10), (0.10, 1.0, 0.10), (0.05, 0.7, 0.02), (0.01, 0.5, 0.01), (0.0, 0.0, 0.0)],
)
def test_the_best_at_the_target_within_the_bound_is_kept(
    bound: float | None, alpha: float, forgotten: float
) -> None:
    choice = choose(POINTS, max_forgetting=bound)
    assert choice.point.alpha == alpha
    assert choice.forgotten == pytest.approx(forgotten)
    assert choice.unbound.alpha == 1.0


def test_of_equal_points_the_one_nearest_to_the_base_is_kept() -> None:
    points = [Point(0.0, 0.4, {}), Point(0.3, 0.9, {}), Point(0.8, 0.9, {})]
    assert choose(points, max_forgetting=0.0).point.alpha == 0.3


def test_the_worst_of_the_general_sets_counts_and_none_is_none() -> None:
    assert forgetting(POINTS[0], POINTS[2]) == pytest.approx(0.02)
    assert forgetting(Point(0.0, 0.1, {}), Point(1.0, 0.2, {})) == 0.0
