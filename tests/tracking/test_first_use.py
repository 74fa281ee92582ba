"""Parallel first users of a fresh SQLite database: without the lock, one of them crashes."""

from pathlib import Path

from toy_tree import make_toy


def test_two_stages_at_once_make_one_experiment(tmp_path: Path) -> None:
    toy = make_toy(tmp_path / "toy")
    command = ("python", "stages/toy_stage.py")
    jobs = [("prepare", "data/raw", "out/prepared.txt"), ("train", "data/raw", "out/model.txt")]
    processes = [toy.start(*command, *job) for job in jobs]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs == ["", ""]
    runs = toy.runs()
    assert len({run.info.experiment_id for run in runs}) == 1
    assert sorted(run.data.tags.get("dvc.stage", "") for run in runs) == [
        "",
        "",
        "prepare",
        "train",
    ]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert (toy.receipt("prepare")["spooled"], toy.receipt("train")["spooled"]) == (False, False)
