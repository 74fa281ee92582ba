from pathlib import Path

import mlflow
import pytest

from pipeline import seeds
from pipeline.errors import TrackingError
from pipeline.seeds import Run


def run(seed: str, gain: float, *, lr: str = "0.1", commit: str = "abcdef012") -> Run:
    metrics = {
        "evaluate/target/base/top1": 0.4,
        "evaluate/target/final/top1": 0.4 + gain,
        "evaluate/target/gain/top1/value": gain,
    }
    return Run(f"run {seed}", commit, {"seed": seed, "finetune.lr": lr}, metrics)


def test_runs_that_differ_in_their_seed_alone_make_a_group() -> None:
    runs = [run("0", 0.1), run("1", 0.3), run("1", 0.9), run("0", 0.2, lr="0.2")]
    runs += [run("2", 0.2, commit="another")]
    (group,) = seeds.alike(runs)
    assert [
        (one.params["seed"], one.metrics["evaluate/target/gain/top1/value"]) for one in group
    ] == [
        ("0", 0.1),
        ("1", 0.3),
    ]


def test_mean_and_standard_deviation_by_hand() -> None:
    text = seeds.told([run("10", 0.1), run("9", 0.3)])
    assert text.startswith("2 seeds (9, 10) of commit abcdef0: mean ± standard deviation\n")
    # 50 and 70 %: mean 60, deviation 10·√2.
    assert text.splitlines()[-1].split("  ")[0] == "target: Zero-shot accuracy"
    assert "40.0 ± 0.0" in text
    assert "60.0 ± 14.1" in text
    assert "+20.0 ± 14.1" in text


def test_the_store_is_asked_for_complete_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'runs.db'}")
    monkeypatch.setenv("CLIPTUNE_ON_UNREACHABLE", "fail")
    with pytest.raises(TrackingError, match="no complete run yet"):
        seeds.completed(tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs.db'}")
    experiment = client.get_experiment_by_name("cliptune").experiment_id
    for complete in ("true", "false"):
        tags = {"pipeline.role": "pipeline", "pipeline.complete": complete}
        made = client.create_run(experiment, tags=tags, run_name=f"complete {complete}")
        client.log_param(made.info.run_id, "seed", "3")
    (found,) = seeds.completed(tmp_path)
    assert (found.name, found.params) == ("complete true", {"seed": "3"})
