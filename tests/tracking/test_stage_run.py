"""stage_run in this process, on SQLite: no DVC, so each stage is an execution of its own."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from toy_tree import Numbers, Toy, by_role

from pipeline import recording, tracking
from pipeline.artifacts import read_json
from pipeline.errors import DataError, TrackingError
from pipeline.params import CleanStage, FinetuneStage, Params

pytest_plugins = ["toy_fixtures"]


def test_a_stage_started_by_hand_is_recorded_too(here: Toy) -> None:
    with tracking.stage_run("prepare", Numbers(seed=3)) as run:
        run.metrics({"rows": 5})
    pipeline, stage = here.runs()
    assert stage.info.run_id == run.run_id == here.receipt("prepare")["run_id"]
    assert stage.data.tags["mlflow.parentRunId"] == pipeline.info.run_id
    assert pipeline.info.run_name.startswith("prepare alone ")
    assert stage.info.run_name.startswith("prepare ")
    assert (pipeline.info.status, stage.info.status) == ("FINISHED", "FINISHED")
    assert stage.data.params == {"seed": "3"}
    assert stage.data.metrics["prepare/rows"] == 5


def test_params_stand_under_the_keys_of_params_yaml(here: Toy, defaults: Params) -> None:
    values = defaults.model_dump(by_alias=True)
    keys = ("seed", "cpu_threads", "model", "finetune")
    chosen = {key: values[key] for key in keys} | {"data.source": values["data"]["source"]}
    params = FinetuneStage.model_validate(chosen)
    with tracking.stage_run("finetune", params) as run:
        run.metrics({})
    logged = here.client().get_run(run.run_id).data.params
    assert logged["finetune.lr"] == "0.0005"
    assert logged["finetune.betas"] == "[0.9, 0.98]"
    assert logged["finetune.deterministic"] == "true"
    assert logged["data.source"] == "samples/scenes/out"
    assert "cpu_threads" in logged


def test_a_long_param_is_cut_to_what_mlflow_takes(here: Toy, defaults: Params) -> None:
    clean = defaults.clean.model_copy(update={"strip_boilerplate": ["x" * 7000]})
    with tracking.stage_run("clean", CleanStage(seed=0, clean=clean)) as run:
        run.metrics({})
    logged = here.client().get_run(run.run_id).data.params["clean.strip_boilerplate"]
    assert (len(logged), logged[:4], logged[-1]) == (6000, '["xx', "…")


def test_metric_names_are_made_legal(here: Toy) -> None:
    found = {"general": {"food-101 (50%)": {"top1": 0.5}, "..": {"": 1}}, "ok": True}
    with tracking.stage_run("evaluate", Numbers(seed=0)) as run:
        run.metrics(found)
    names = set(here.client().get_run(run.run_id).data.metrics) - {"evaluate/seconds"}
    assert names == {"evaluate/general/food-101 _50__/top1", "evaluate/general/_./_", "evaluate/ok"}
    assert read_json(Path("metrics/evaluate.json")) == found


def test_a_metric_that_is_no_number_fails_the_stage(here: Toy) -> None:
    with (
        pytest.raises(ValueError, match="nan"),
        tracking.stage_run("train", Numbers(seed=0)) as run,
    ):
        run.metrics({"loss": float("nan")})
    assert here.client().get_run(run.run_id).info.status == "FAILED"
    assert not Path("metrics/train.json").exists()
    assert not Path("runs/train.json").exists()


def test_many_steps_arrive_in_order(here: Toy) -> None:
    with tracking.stage_run("train", Numbers(seed=0)) as run:
        began = time.perf_counter()
        for step in range(2500):
            run.log({"loss": 1 / (step + 1)}, step=step)
        assert time.perf_counter() - began < 1
    history = here.client().get_metric_history(run.run_id, "train/loss")
    assert [point.step for point in history] == list(range(2500))


def test_a_missing_artifact_is_the_callers_mistake(here: Toy) -> None:
    with (
        pytest.raises(FileNotFoundError, match=r"nowhere\.txt is missing"),
        tracking.stage_run("train", Numbers(seed=0)) as run,
    ):
        run.artifact(Path("nowhere.txt"))


def test_a_folder_is_logged_with_all_it_holds(here: Toy, tmp_path: Path) -> None:
    (tmp_path / "docs/inner").mkdir(parents=True)
    (tmp_path / "docs/inner/a.html").write_text("a")
    with tracking.stage_run("train", Numbers(seed=0)) as run:
        run.artifact(tmp_path / "docs")
        run.artifact(tmp_path / "docs/inner/a.html", "pages")
        run.artifact(tmp_path / "docs", "report")
    assert here.download(run.run_id, "docs/inner/a.html").read_text() == "a"
    assert here.download(run.run_id, "pages/a.html").read_text() == "a"
    assert here.download(run.run_id, "report/inner/a.html").read_text() == "a"


def test_a_stage_tells_what_it_is_part_of_and_made_from(
    here: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "gentle")
    for stage in ("prepare", "train"):
        with tracking.stage_run(stage, Numbers(seed=0)) as run:
            run.metrics({"rows": 1})
    train = here.client().get_run(run.run_id)
    assert train.info.run_name == "train gentle"
    tags, experiment = train.data.tags, train.info.experiment_id
    parent, prepare = tags["mlflow.parentRunId"], tags["dvc.upstream.prepare.run_id"]
    assert prepare == here.receipt("prepare")["run_id"]
    assert tags["mlflow.note.content"].split("\n\n") == [
        f"Part of [{parent[:8]}](#/experiments/{experiment}/runs/{parent})",
        f"Reads what came of prepare [{prepare[:8]}](#/experiments/{experiment}/runs/{prepare})",
        "Writes `out/model.txt`, `metrics/train.json`; DVC keeps them",
    ]


def test_a_table_is_one_that_mlflow_loads(here: Toy) -> None:
    frame = pd.DataFrame({"image": ["a.png", "b.png"], "label": ["cat", None], "rank": [1, 2]})
    with tracking.stage_run("evaluate", Numbers(seed=0)) as run:
        run.table(frame, "predictions.json")
        run.table(frame[:1], "few.json")
    client = here.client()
    experiment = client.get_run(run.run_id).info.experiment_id
    loaded = client.load_table(experiment, "predictions.json", run_ids=[run.run_id])
    assert loaded["image"].to_list() == ["a.png", "b.png"]
    assert loaded["label"].isna().to_list() == [False, True]
    assert len(client.load_table(experiment, "few.json", run_ids=[run.run_id])) == 1


def test_a_stage_can_tell_which_run_it_is(here: Toy) -> None:
    with tracking.stage_run("evaluate", Numbers(seed=0)) as run:
        facts = dict(run.facts)
    receipt = here.receipt("evaluate")
    assert facts["MLflow run"] == receipt["run_id"]
    assert facts["tracking store"] == receipt["tracking_uri"]
    assert facts["started"] == receipt["started"]
    assert facts["commit"].startswith(receipt["commit"] or "none")
    assert "link" not in facts  # of a file nobody can follow one


def test_an_error_is_a_tag_and_passes_unchanged(here: Toy) -> None:
    Path("runs").mkdir(exist_ok=True)
    Path("runs/train.json").write_text("{}")  # of an earlier run by hand
    error = DataError("row 3 is empty:\nremove it")
    with pytest.raises(DataError) as caught, tracking.stage_run("train", Numbers(seed=0)) as run:
        raise error
    assert caught.value is error
    found = here.client().get_run(run.run_id)
    assert (found.info.status, found.data.tags["error"]) == ("FAILED", str(error))
    parent = here.client().get_run(found.data.tags["mlflow.parentRunId"])
    assert (parent.info.status, parent.data.tags["dvc.stage.train"]) == ("FAILED", "failed")
    assert "pipeline.complete" not in parent.data.tags
    assert not Path("runs/train.json").exists()


def test_what_a_stage_found_before_it_stopped_is_kept_with_its_run(here: Toy) -> None:
    left = Path(".cliptune/last_failed/validate")
    (left / "quality").mkdir(parents=True)
    (left / "quality/data_docs.html").write_text("why")
    error = DataError("too many rows are rejected", left=left)
    with pytest.raises(DataError), tracking.stage_run("validate", Numbers(seed=0)) as run:
        raise error
    kept = here.download(run.run_id, "last_failed/quality/data_docs.html")
    assert kept.read_text() == "why"
    assert here.client().get_run(run.run_id).info.status == "FAILED"


def test_a_stop_of_which_nothing_is_left_is_told_all_the_same(here: Toy) -> None:
    error = DataError("row 3 is empty", left=Path("nowhere"))
    with pytest.raises(DataError), tracking.stage_run("validate", Numbers(seed=0)) as run:
        raise error
    found = here.client().get_run(run.run_id)
    assert (found.info.status, found.data.tags["error"]) == ("FAILED", "row 3 is empty")


def test_a_defect_is_tagged_with_its_class(here: Toy) -> None:
    with pytest.raises(ZeroDivisionError), tracking.stage_run("train", Numbers(seed=0)) as run:
        1 / 0  # noqa: B018
    tags = here.client().get_run(run.run_id).data.tags
    assert tags["error"] == "ZeroDivisionError: division by zero"


def test_sigterm_kills_the_run_and_is_not_taken_afterwards(here: Toy) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, tracking.stage_run("train", Numbers(seed=0)) as run:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 128 + signal.SIGTERM
    found = here.client().get_run(run.run_id)
    assert (found.info.status, "error" in found.data.tags) == ("KILLED", False)
    assert not Path("runs/train.json").exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal: a shell lets what it starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_kills_the_run(here: Toy) -> None:
    with pytest.raises(KeyboardInterrupt), tracking.stage_run("train", Numbers(seed=0)) as run:
        signal.raise_signal(signal.SIGINT)
    assert here.client().get_run(run.run_id).info.status == "KILLED"


def test_no_thread_outlives_its_stage(here: Toy) -> None:
    def sending() -> int:
        return sum(thread.name == "mlflow" for thread in threading.enumerate())

    with tracking.stage_run("train", Numbers(seed=0)):
        assert sending() == 1
    assert sending() == 0


def test_runs_that_a_power_cut_left_are_closed(here: Toy) -> None:
    client = here.client()
    experiment = client.create_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
    sessions = [f"{socket.gethostname()}:999999999:1", "another-host:999999999:1", "nonsense"]
    left = [client.create_run(experiment, tags={"pipeline.session": s}) for s in sessions]
    with tracking.stage_run("train", Numbers(seed=0)):
        pass
    states = [client.get_run(run.info.run_id).info.status for run in left]
    assert states == ["KILLED", "RUNNING", "RUNNING"]


def test_the_first_view_of_the_experiment_is_prepared(here: Toy) -> None:
    with tracking.stage_run("train", Numbers(seed=0)):
        pass
    experiment = here.client().get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    assert experiment.artifact_location == (here.path / "mlruns").as_uri()
    views = [key for key in experiment.tags if key.startswith("mlflow.sharedViewState.")]
    assert len(views) == 2
    assert "viewStateShareKey=cliptune-pipelines" in experiment.tags["mlflow.note.content"]


def test_a_deleted_experiment_stops_with_the_remedy(here: Toy) -> None:
    client = here.client()
    client.delete_experiment(client.create_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"]))
    with (
        pytest.raises(TrackingError, match="mlflow experiments restore"),
        tracking.stage_run("train", Numbers(seed=0)),
    ):
        pass


def test_the_same_stage_runs_are_recorded_once(here: Toy) -> None:
    for stage in ("prepare", "train"):
        with tracking.stage_run(stage, Numbers(seed=0)) as run:
            run.metrics({"rows": 1})
    recording.record_pipeline()
    first = here.receipt("pipeline")
    recording.record_pipeline()
    assert here.receipt("pipeline") == first
    assert len(here.runs()) == 3


def test_old_stage_runs_in_a_new_combination_are_restored(
    here: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in ("prepare", "train", "train"):
        with tracking.stage_run(stage, Numbers(seed=0)) as run:
            run.metrics({"rows": 1})
    # DVC used as a library: the process above this one is the execution.
    monkeypatch.setenv("DVC_STAGE", "record")
    recording.record_pipeline()
    _, restored = by_role(here.runs(), "pipeline")
    assert restored.info.run_name.startswith("restored ")
    tags = restored.data.tags
    assert (tags["dvc.stage.prepare"], tags["dvc.stage.train"]) == ("reused", "reused")
    assert tags["dvc.stage.train.run_id"] == run.run_id
    assert restored.info.status == "FINISHED"
    assert "seed: 7" in here.download(restored.info.run_id, "source/params.yaml").read_text()


def test_a_missing_receipt_is_named(here: Toy) -> None:
    with tracking.stage_run("prepare", Numbers(seed=0)):
        pass
    Path("runs/train.json").unlink(missing_ok=True)
    with pytest.raises(TrackingError, match=r"^runs/train\.json is missing: `dvc repro` makes it$"):
        recording.record_pipeline()


def test_a_tree_edited_in_mid_execution_keeps_both_patches(here: Toy) -> None:
    for text in ("one", "two"):
        (here.path / "note.txt").write_text(text)
        with tracking.stage_run("train", Numbers(seed=0)) as run:
            pass
    (here.path / "note.txt").unlink()
    (pipeline,) = by_role(here.runs(), "pipeline")
    for kept, text in ((pipeline.info.run_id, "+one"), (run.run_id, "+two")):
        assert text in here.download(kept, "source/uncommitted.patch").read_text()
