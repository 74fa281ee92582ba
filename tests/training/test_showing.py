"""What a log shows of a training: a line a minute, with the time that is left in all."""

from collections.abc import Callable

import pytest

from pipeline.training.showing import Steps


def ticking(seconds: float) -> Callable[[], float]:
    """A clock on which every look takes so long."""
    now = [-seconds]

    def clock() -> float:
        now[0] += seconds
        return now[0]

    return clock


def test_a_log_gets_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Steps(range(6), "epoch 2/3", done=4, of=10, after=10, clock=ticking(25))
    for _ in shown:
        shown.took(0.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "epoch 2/3: step 7 of 10, loss 0.500, 05:25 left in all",
        "epoch 2/3: step 10 of 10, loss 0.500, 04:10 left in all",
    ]


def test_a_short_epoch_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Steps(range(6), "epoch 1/1", done=0, of=6, after=0, clock=ticking(9))
    assert [shown.took(1.0) for _ in shown] == [None] * 6
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown = Steps(range(3), "epoch 1/2", done=0, of=3, after=3, clock=ticking(100))
    for _ in shown:
        shown.took(0.25)
        shown._bar.refresh()
    said = capsys.readouterr()
    assert said.out == ""
    assert "epoch 1/2" in said.err
    assert "loss 0.250, 05:00 left in all" in said.err
