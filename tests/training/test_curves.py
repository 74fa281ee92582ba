"""Curves in a file: each value is handed on once, whatever was stopped in between."""

from pathlib import Path
from typing import Any

from pipeline.training.curves import Curves, Follower, points


class Seen:
    """What reached the run: (step, values)."""

    def __init__(self, file: Path) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []
        self._follower = Follower(file, lambda values, step: self.points.append((step, values)))

    def new(self) -> list[tuple[int, dict[str, float]]]:
        before = len(self.points)
        self._follower.follow()
        return self.points[before:]


def step(curves: Curves, *numbers: int, **values: Any) -> None:
    for number in numbers:
        curves.log({"loss": number / 3, **values}, number)


def test_points_arrive_while_they_are_written_and_never_half(tmp_path: Path) -> None:
    file = tmp_path / "key" / "curves.jsonl"
    seen = Seen(file)
    assert seen.new() == []
    curves = Curves(file)
    curves.log({"epoch": 0.0, "val_loss": 2.0}, 0)
    step(curves, 1)
    assert seen.new() == [(0, {"epoch": 0.0, "val_loss": 2.0}), (1, {"loss": 1 / 3})]
    with file.open("a") as other:
        other.write('{"step": 2, "val')
        other.flush()
        assert seen.new() == []
        other.write('ues": {"loss": 0.5}}\n')
    assert seen.new() == [(2, {"loss": 0.5})]
    assert seen.new() == []
    curves.close()


def test_one_that_goes_on_replaces_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    """Stopped at step 5, it goes on at step 4, which has its epochs up to then once more."""
    file = tmp_path / "curves.jsonl"
    early, first, second = Seen(file), Curves(file), Curves(file)
    first.log({"val_loss": 9.0}, 0)
    step(first, 1, 2)
    first.log({"val_loss": 8.0}, 2)
    step(first, 3, 4, 5)
    assert len(early.new()) == 7
    first.close()
    second.log({"val_loss": 9.0}, 0)
    second.log({"val_loss": 8.0}, 2)
    assert early.new() == []
    step(second, 4, 5, 6)
    second.close()
    assert early.new() == [(6, {"loss": 2.0})]
    late = Seen(file)
    losses = [number for number, values in late.new() if "loss" in values]
    assert losses == [1, 2, 3, 4, 5, 6]
    assert [number for number, values in late.points if "val_loss" in values] == [0, 2]
    assert len(points(file)) == 8


def test_one_that_begins_anew_leaves_nothing_of_another(tmp_path: Path) -> None:
    file = tmp_path / "curves.jsonl"
    for steps in ((1, 2, 3), (1,)):
        curves = Curves(file)
        step(curves, *steps)
        curves.close()
    assert [point["step"] for point in points(file)] == [1]
