"""Every way in which DVC runs a pipeline, and which runs MLflow holds after it.

The history of one work tree, told in order, by the real DVC on the toy pipeline
prepare → train → record. A stage costs seconds (MLflow's import), so an execution is a fixture, is
made once, and several tests look at it. Each begins where the one before it left the tree.

    case                            what MLflow holds
    fresh                           a run of the pipeline, and below it one of each stage
    all cached                      nothing new
    partly cached                   a complete run of the pipeline; below it what was executed
    dirty tree                      the patch
    exp run, --temp, --queue        a run of the pipeline for each experiment, named after it
    a stage fails                   its run and the pipeline's: FAILED
    two pipelines at once           two runs of pipelines, each with its own stages
    a part (dvc repro prepare)      a run of the pipeline that is not complete
    old stage runs, newly combined  a run of the pipeline, "restored", that links to all
    old stage runs, as once before  nothing new; runs/pipeline.json names the run that there is
    a clone with DVC's remote       the same, in the clone
    Ctrl-C, DVC terminated, killed  the stage's run and the pipeline's: KILLED; no process is left
    everything killed               both RUNNING, until the next execution closes them

`tree` logs into a SQLite file of its own, then all over again into a server.
"""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toy_executions import Begun, Execution, again, begin, execute, look
from toy_tree import Run, Toy, by_role, make_toy

pytest_plugins = ["toy_fixtures"]

on_a_server_slow = pytest.mark.parametrize(
    "tree", ["sqlite", pytest.param("server", marks=pytest.mark.slow)], indirect=True
)
"""For a case in which the store has no part: a server is asked too, but not every time."""


@pytest.fixture(scope="module", params=["sqlite", "server"])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    uri = request.getfixturevalue("server").uri if request.param == "server" else ""
    toy = make_toy(tmp_path_factory.mktemp("tree") / "toy", uri)
    # DVC reads the configuration of each commit: it would push nothing for those before this one.
    toy.dvc("remote", "add", "-d", "far", str(toy.path.parent / "far"))
    toy.commit()
    return toy


# fresh


@pytest.fixture(scope="module")
def fresh(tree: Toy) -> Execution:
    return execute(tree, "repro", known=[])


def test_a_first_repro_is_one_run_with_a_child_for_each_stage(fresh: Execution) -> None:
    assert len(fresh.added) == 3
    assert fresh.status == {"pipeline": "FINISHED", "prepare": "FINISHED", "train": "FINISHED"}
    parents = {run.data.tags["mlflow.parentRunId"] for run in fresh.stages.values()}
    assert parents == {fresh.pipeline.info.run_id}
    assert fresh.pipeline.info.run_name.startswith(f"repro {fresh.commit[:7]} ")
    assert fresh.how == {"prepare": "executed", "train": "executed"}
    assert fresh.made_by == ids(fresh.stages)


def ids(runs: dict[str, Run]) -> dict[str, str]:
    return {name: run.info.run_id for name, run in runs.items()}


def test_a_stage_has_its_params_and_metrics(tree: Toy, fresh: Execution) -> None:
    train = fresh.stages["train"]
    assert train.data.params == {
        "seed": "7",
        "train.lr": "0.25",
        "train.epochs": "3",
        "train.sleep": "0.0",
    }
    assert train.data.metrics["train/rows"] == 4
    assert train.data.metrics["train/target/finetuned/top1"] == 0.75
    assert train.data.metrics["train/seconds"] > 0
    assert not {"train/best", "train/reason"} & set(train.data.metrics)
    history = tree.client().get_metric_history(train.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(0, 1), (1, 1 / 2), (2, 1 / 3)]
    assert tree.download(train.info.run_id, "model.txt").read_text().startswith("row 1\n")


def test_the_pipeline_run_has_all_params_metrics_and_sources(tree: Toy, fresh: Execution) -> None:
    data = fresh.pipeline.data
    assert data.params["prepare.words"] == '["a", "b"]'
    assert data.params["train.lr"] == "0.25"
    assert (data.metrics["prepare/rows"], data.metrics["train/rows"]) == (3, 4)
    assert data.tags["pipeline.complete"] == "true"
    assert data.tags["mlflow.source.git.commit"] == fresh.commit
    assert data.tags["mlflow.source.git.dirty"] == "false"
    assert len(data.tags["dvc.lock.sha256"]) == len(data.tags["env.sha256"]) == 64
    sources = tree.download(fresh.pipeline.info.run_id, "source")
    names = {path.name for path in sources.iterdir()}
    assert names == {"params.yaml", "dvc.yaml", "dvc.lock", "environment.json"}
    assert (sources / "params.yaml").read_text().startswith("seed: 7\n")


def test_a_stage_links_to_the_run_that_made_its_input(fresh: Execution) -> None:
    assert upstream(fresh.stages["train"]) == {"prepare": fresh.stages["prepare"].info.run_id}
    assert upstream(fresh.stages["prepare"]) == {}


def upstream(run: Run) -> dict[str, str]:
    tags = run.data.tags.items()
    return {key.split(".")[2]: value for key, value in tags if key.startswith("dvc.upstream.")}


def test_a_run_is_found_by_the_hash_of_its_data(tree: Toy, fresh: Execution) -> None:
    lock = (tree.path / "dvc.lock").read_text()
    experiment = fresh.pipeline.info.experiment_id
    for stage, path in {"prepare": "data/raw", "train": "out/prepared.txt"}.items():
        # data/raw is no stage's output: DVC hashed it after the stage, `record` added it.
        (run,) = tree.client().search_runs(
            [experiment],
            f"dataset.name = '{path}' and tags.`dvc.stage` = '{stage}'",
            order_by=["start_time"],
        )[:1]
        (found,) = run.inputs.dataset_inputs
        assert run.info.run_id == fresh.stages[stage].info.run_id
        assert f"md5: {found.dataset.digest}\n" in lock
        assert len(found.dataset.digest) == (36 if stage == "prepare" else 32)
        same = tree.client().search_runs([experiment], f"dataset.digest = '{found.dataset.digest}'")
        assert run.info.run_id in {each.info.run_id for each in same}


def test_a_receipt_names_the_run_and_its_place(tree: Toy, fresh: Execution) -> None:
    receipt = fresh.receipts["train"]
    assert receipt["run_id"] == fresh.stages["train"].info.run_id
    assert receipt["parent_run_id"] == fresh.pipeline.info.run_id
    assert receipt["tracking_uri"] == tree.store
    assert (receipt["spooled"], receipt["journal"]) == (False, None)
    assert receipt["params"]["train.lr"] == 0.25
    assert receipt["metrics"]["train/rows"] == 4
    assert receipt["commit"] == fresh.commit
    assert receipt["started"] < receipt["ended"]
    assert fresh.receipts["pipeline"]["run_id"] == fresh.pipeline.info.run_id
    assert fresh.receipts["pipeline"]["stages"] == ids(fresh.stages)


def test_the_metrics_file_holds_nothing_that_varies_by_run(tree: Toy, fresh: Execution) -> None:
    text = (tree.path / "metrics/prepare.json").read_text()
    assert text == '{\n  "best": "b",\n  "reason": null,\n  "rows": 3\n}\n'


def test_logging_is_quiet(fresh: Execution) -> None:
    ours = ("Running stage", "> ", "Generating lock", "Updating lock", "MLflow: ", "\tgit add")
    rest = [line for line in fresh.output.splitlines() if line and not line.startswith(ours)]
    hints = ("To track the changes", "To enable auto staging", "\tdvc config", "Use `dvc push`")
    assert [line for line in rest if not line.startswith(hints)] == []


# all cached


@pytest.fixture(scope="module")
def cached(tree: Toy, fresh: Execution) -> Execution:
    return execute(tree, "repro")


def test_nothing_to_do_logs_nothing(fresh: Execution, cached: Execution) -> None:
    assert cached.receipts == fresh.receipts
    assert cached.added == []


# partly cached, in a dirty tree


@pytest.fixture(scope="module")
def dirty(tree: Toy, cached: Execution) -> Execution:
    """Another learning rate, a new file, and a secret, none of it committed."""
    tree.set("lr: 0.25", "lr: 0.125")
    (tree.path / "note.txt").write_bytes(b"caf\xe9\r\nno newline")
    (tree.path / ".env").write_text("TOKEN=abc")
    return execute(tree, "repro")


def test_a_skipped_stage_is_named_with_its_run(fresh: Execution, dirty: Execution) -> None:
    assert dirty.status == {"pipeline": "FINISHED", "train": "FINISHED"}
    assert dirty.how == {"prepare": "reused", "train": "executed"}
    assert dirty.made_by == ids({"prepare": fresh.stages["prepare"]} | dirty.stages)
    assert upstream(dirty.stages["train"]) == {"prepare": fresh.stages["prepare"].info.run_id}
    reused, experiment = dirty.made_by["prepare"], dirty.pipeline.info.experiment_id
    link = f"| prepare | reused | [{reused[:8]}](#/experiments/{experiment}/runs/{reused}) |"
    assert dirty.pipeline.data.tags["mlflow.note.content"].count(link) == 1


def test_a_partly_cached_pipeline_is_complete(fresh: Execution, dirty: Execution) -> None:
    data, before = dirty.pipeline.data, fresh.pipeline.data
    assert set(data.metrics) == set(before.metrics)
    assert data.metrics["prepare/rows"] == 3
    assert data.metrics["train/target/finetuned/top1"] == 0.875
    assert data.params == before.params | {"train.lr": "0.125"}
    assert data.tags["pipeline.complete"] == "true"
    for name in ("pipeline.key", "pipeline.session", "dvc.lock.sha256"):
        assert len({data.tags[name], before.tags[name]}) == 2


def test_the_patch_rebuilds_a_dirty_tree(tree: Toy, dirty: Execution, tmp_path: Path) -> None:
    tags = dirty.pipeline.data.tags
    assert tags["mlflow.source.git.dirty"] == "true"
    assert tags["source.left_out"] == "not in the patch: .env"
    assert "+dirty" in dirty.pipeline.info.run_name
    patch = tree.download(dirty.pipeline.info.run_id, "source/uncommitted.patch")
    touched = {
        line.split()[-1] for line in patch.read_bytes().splitlines() if b"diff --git" in line
    }
    assert touched == {b"b/params.yaml", b"b/note.txt"}
    copy = tmp_path / "copy"
    tree.git("clone", "-q", str(tree.path), str(copy))
    there = Toy(copy)
    there.git("checkout", "-q", dirty.commit)
    there.git("apply", "--whitespace=nowarn", str(patch))
    assert "lr: 0.125" in (copy / "params.yaml").read_text()
    assert (copy / "note.txt").read_bytes() == b"caf\xe9\r\nno newline"
    assert patch.read_bytes().count(b"TOKEN") == 0


# an experiment in a temporary work tree, which DVC deletes


@pytest.fixture(scope="module")
def experiment(tree: Toy, dirty: Execution) -> Execution:
    (tree.path / ".env").unlink()
    tree.commit()
    return execute(tree, "exp", "run", "--temp", "-n", "slow-lr", "-S", "train.lr=0.5")


def test_an_experiment_is_one_run_with_its_name(
    tree: Toy, fresh: Execution, experiment: Execution
) -> None:
    check_experiment(tree, experiment, "slow-lr", "0.5")
    assert experiment.made_by["prepare"] == fresh.stages["prepare"].info.run_id


def check_experiment(tree: Toy, experiment: Execution, name: str, lr: str) -> None:
    """A complete run with the name of the experiment, which has executed `train` alone."""
    assert experiment.pipeline.info.run_name == name
    assert experiment.status == {"pipeline": "FINISHED", "train": "FINISHED"}
    assert experiment.how == {"prepare": "reused", "train": "executed"}
    data, train = experiment.pipeline.data, experiment.stages["train"]
    assert data.tags["dvc.exp.name"] == train.data.tags["dvc.exp.name"] == name
    assert data.tags["dvc.exp.baseline"] == experiment.commit
    assert data.tags["pipeline.complete"] == "true"
    assert data.params["train.lr"] == lr
    assert data.metrics["train/target/finetuned/top1"] == 1 - float(lr)
    assert train.data.tags["mlflow.parentRunId"] == experiment.pipeline.info.run_id
    assert f"lr={lr}" in tree.download(train.info.run_id, "model.txt").read_text()
    patch = tree.download(experiment.pipeline.info.run_id, "source/uncommitted.patch")
    assert patch.read_text().count(f"lr: {lr}") == 1


# a stage that fails


@pytest.fixture(scope="module")
def failed(tree: Toy, experiment: Execution) -> Execution:
    tree.reset()
    tree.set("epochs: 3", "epochs: 0")
    return execute(tree, "repro", code=255)


def test_a_failed_stage_fails_the_pipeline(failed: Execution) -> None:
    assert failed.status == {"pipeline": "FAILED", "train": "FAILED"}
    assert failed.how == {"train": "failed"}
    error = "train.epochs is 0: there is nothing to train"
    assert f"\nerror: {error}\n" in failed.output
    assert failed.stages["train"].data.tags["error"] == error
    assert "pipeline.complete" not in failed.pipeline.data.tags
    assert set(failed.receipts) == {"prepare", "pipeline"}


# two pipelines at once


@pytest.fixture(scope="module")
def pair(tree: Toy, tmp_path_factory: pytest.TempPathFactory) -> list[Execution]:
    """Two clones that begin together, as the first users of the store that they share."""
    folder = tmp_path_factory.mktemp("pair")
    one = make_toy(folder / "one", tree.tracking or f"sqlite:///{folder}/mlflow.db", "pair")
    toys = [one, clone(one, folder / "two", one.store)]
    begun = [toy.start("dvc", "repro") for toy in toys]
    outputs = [dvc.communicate()[0] for dvc in begun]
    assert [dvc.returncode for dvc in begun] == [0, 0], outputs
    return [look(toy, [], output) for toy, output in zip(toys, outputs, strict=True)]


def clone(toy: Toy, path: Path, tracking: str = "") -> Toy:
    """A clone by git: it has nothing that DVC keeps."""
    toy.git("clone", "-q", str(toy.path), str(path))
    return Toy(path, tracking, toy.experiment)


def test_two_pipelines_at_once_keep_apart(pair: list[Execution]) -> None:
    assert [len(each.added) for each in pair] == [6, 6]
    assert len(by_role(pair[0].added, "pipeline")) == 2
    own = [replace(each, added=of_session(each)) for each in pair]
    for each in own:
        assert each.status == {"pipeline": "FINISHED", "prepare": "FINISHED", "train": "FINISHED"}
        assert each.how == {"prepare": "executed", "train": "executed"}
        assert each.made_by == ids(each.stages) == each.receipts["pipeline"]["stages"]
        assert each.pipeline.info.run_id == each.receipts["pipeline"]["run_id"]
        parents = {run.data.tags["mlflow.parentRunId"] for run in each.stages.values()}
        assert parents == {each.pipeline.info.run_id}
        assert [receipt["spooled"] for receipt in each.receipts.values()] == [False] * 3
    assert len({run.info.run_id for each in own for run in each.added}) == 6


def of_session(execution: Execution) -> list[Run]:
    """The runs of the process whose stages left their receipts in the tree."""
    session = execution.receipts["train"]["session"]
    return [run for run in execution.added if run.data.tags["pipeline.session"] == session]


# a part of the pipeline


@pytest.fixture(scope="module")
def part(tree: Toy, failed: Execution) -> Execution:
    """Another param of `prepare`, which changes nothing in what it writes."""
    tree.reset()
    tree.set("lines: 3", "lines: 4")
    return execute(tree, "repro", "prepare")


@on_a_server_slow
def test_a_part_of_the_pipeline_is_not_complete(part: Execution, failed: Execution) -> None:
    assert part.status == {"pipeline": "FINISHED", "prepare": "FINISHED"}
    assert part.how == {"prepare": "executed"}
    tags = part.pipeline.data.tags
    assert {"pipeline.complete", "pipeline.key", "mlflow.note.content"} & set(tags) == set()
    assert part.receipts["pipeline"] == failed.receipts["pipeline"]


# old stage runs in a new combination


@pytest.fixture(scope="module")
def whole(tree: Toy, part: Execution) -> Execution:
    return execute(tree, "repro")


@on_a_server_slow
def test_the_next_execution_completes_what_a_part_began(
    whole: Execution, part: Execution, dirty: Execution
) -> None:
    check_restored(whole, {"prepare": part.stages["prepare"], "train": dirty.stages["train"]})
    assert whole.pipeline.data.metrics["train/target/finetuned/top1"] == 0.875


@pytest.fixture(scope="module")
def recombined(tree: Toy, whole: Execution) -> Execution:
    """The first learning rate beside the last `prepare`: `train` comes from the run cache."""
    tree.set("lr: 0.125", "lr: 0.25")
    return execute(tree, "repro")


@on_a_server_slow
def test_a_new_combination_of_old_runs_is_restored(
    recombined: Execution, part: Execution, fresh: Execution
) -> None:
    check_restored(recombined, {"prepare": part.stages["prepare"], "train": fresh.stages["train"]})
    assert "Stage 'train' is cached - skipping run" in recombined.output
    assert recombined.pipeline.data.params == {
        "seed": "7",
        "prepare.lines": "4",
        "prepare.words": '["a", "b"]',
        "train.lr": "0.25",
        "train.epochs": "3",
        "train.sleep": "0.0",
    }
    assert recombined.pipeline.data.metrics["train/target/finetuned/top1"] == 0.75


def check_restored(execution: Execution, made_by: dict[str, Run]) -> None:
    """A complete run without children, which links to the runs that there were."""
    assert execution.status == {"pipeline": "FINISHED"}
    assert execution.how == {"prepare": "reused", "train": "reused"}
    assert execution.made_by == execution.receipts["pipeline"]["stages"] == ids(made_by)
    assert execution.pipeline.info.run_name.startswith(f"restored {execution.commit[:7]}+dirty ")
    assert execution.pipeline.data.tags["pipeline.complete"] == "true"
    note = execution.pipeline.data.tags["mlflow.note.content"]
    assert [note.count(f"runs/{run})") for run in ids(made_by).values()] == [1, 1]


# old stage runs in a combination that there was


@pytest.fixture(scope="module")
def known(tree: Toy, recombined: Execution) -> Execution:
    """All params as at first."""
    tree.set("lines: 4", "lines: 3")
    return execute(tree, "repro")


@on_a_server_slow
def test_a_known_combination_is_nothing_new(known: Execution, fresh: Execution) -> None:
    assert "Stage 'record' is cached - skipping run" in known.output
    assert known.receipts == fresh.receipts
    assert known.receipts["pipeline"]["run_id"] == fresh.pipeline.info.run_id
    assert known.added == []


# a clone that gets from DVC's remote what was made elsewhere


@pytest.fixture(scope="module")
def pushed(tree: Toy, known: Execution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for clones of the tree; the remote has what all of its commits name."""
    tree.commit()
    tree.dvc("push", "--run-cache", "--all-commits")
    return tmp_path_factory.mktemp("pushed")


@on_a_server_slow
def test_a_clone_restores_what_was_made_elsewhere(
    tree: Toy, pushed: Path, fresh: Execution, dirty: Execution
) -> None:
    there = clone(tree, pushed / "restoring", tree.store)
    there.dvc("pull", "--run-cache", "--all-commits")
    last = execute(there, "repro")
    there.set("lr: 0.25", "lr: 0.125")
    earlier = execute(there, "repro")
    assert last.receipts == fresh.receipts
    assert earlier.receipts == dirty.receipts
    assert "Stage 'train' is cached - skipping run" in earlier.output
    assert last.added + earlier.added == []


@on_a_server_slow
def test_a_clone_that_has_pulled_nothing_restores_it_too(
    tree: Toy, pushed: Path, dirty: Execution
) -> None:
    there = clone(tree, pushed / "pulling", tree.store)
    there.set("lr: 0.25", "lr: 0.125")
    pulled = execute(there, "repro", "--pull", "--allow-missing")
    assert "Stage 'train' is cached - skipping run" in pulled.output
    assert pulled.receipts["pipeline"] == dirty.receipts["pipeline"]
    assert pulled.added == []


@pytest.fixture(scope="module")
def elsewhere(tree: Toy, pushed: Path) -> Execution:
    """A clone with a store of its own, in which something new is trained."""
    there = clone(tree, pushed / "elsewhere")
    there.set("lr: 0.25", "lr: 0.75")
    return execute(there, "repro", "--pull", "--allow-missing", known=[])


@on_a_server_slow
def test_a_clone_links_to_runs_of_another_store(
    tree: Toy, elsewhere: Execution, fresh: Execution
) -> None:
    reused = fresh.stages["prepare"].info.run_id
    assert elsewhere.status == {"pipeline": "FINISHED", "train": "FINISHED"}
    assert elsewhere.how == {"prepare": "reused", "train": "executed"}
    assert elsewhere.made_by == {"prepare": reused} | ids(elsewhere.stages)
    assert upstream(elsewhere.stages["train"]) == {"prepare": reused}
    data = elsewhere.pipeline.data
    assert (
        f"| prepare | reused | {reused[:8]} in {tree.store} |" in data.tags["mlflow.note.content"]
    )
    assert (data.metrics["prepare/rows"], data.params["prepare.lines"]) == (3, "3")
    assert data.metrics["train/target/finetuned/top1"] == 0.25


# experiments in the work tree itself, and two at once in the queue


@pytest.fixture(scope="module")
def in_place(tree: Toy, known: Execution) -> Execution:
    tree.commit()
    return execute(tree, "exp", "run", "-n", "in-place", "-S", "train.lr=0.375")


@on_a_server_slow
def test_an_experiment_in_the_work_tree_is_one_run_too(tree: Toy, in_place: Execution) -> None:
    check_experiment(tree, in_place, "in-place", "0.375")
    assert in_place.receipts["pipeline"]["run_id"] == in_place.pipeline.info.run_id


QUEUED = {"queued-1": "0.0625", "queued-2": "0.03125"}


@pytest.fixture(scope="module")
def queue(tree: Toy, in_place: Execution) -> dict[str, Execution]:
    """Two experiments by two workers."""
    tree.reset()
    before = tree.runs()
    for name, lr in QUEUED.items():
        chosen = ("-S", f"train.lr={lr}", "-S", "train.sleep=2")
        tree.dvc("exp", "run", "--queue", "-n", name, *chosen)
    # The workers hold this process's pipe: it ends when they have gone.
    output = tree.dvc("queue", "start", "-j", "2")
    all_runs = look(tree, before, output)
    named = {
        name: [r for r in all_runs.added if r.data.tags["dvc.exp.name"] == name] for name in QUEUED
    }
    return {name: replace(all_runs, added=runs) for name, runs in named.items()}


@on_a_server_slow
def test_each_experiment_of_the_queue_is_one_run(tree: Toy, queue: dict[str, Execution]) -> None:
    for name, lr in QUEUED.items():
        check_experiment(tree, queue[name], name, lr)
    sessions = {run.data.tags["pipeline.session"] for each in queue.values() for run in each.added}
    assert len(sessions) == 2
    times = [each.pipeline.info for each in queue.values()]
    assert max(run.start_time for run in times) < min(run.end_time for run in times)


# what stops an execution

STOPS: dict[str, tuple[Callable[[Begun], None], int]] = {
    "Ctrl-C": (lambda begun: begun.signal_all(signal.SIGINT), 255),
    "DVC terminated": (lambda begun: begun.dvc.terminate(), -signal.SIGTERM),
    "DVC killed": (lambda begun: begun.dvc.kill(), -signal.SIGKILL),
}
"""What is done while `train` runs, and how DVC ends."""


@pytest.fixture(scope="module")
def slow(tree: Toy, known: Execution) -> None:
    tree.reset()
    tree.set("sleep: 0.0", "sleep: 60.0")


@on_a_server_slow
@pytest.mark.parametrize("stop", STOPS)
def test_a_stopped_execution_is_killed_and_leaves_no_process(
    tree: Toy, slow: None, stop: str
) -> None:
    done, code = STOPS[stop]
    begun = begin(tree)
    done(begun)
    stopped = begun.end()
    assert begun.dvc.returncode == code
    assert stopped.status == {"pipeline": "KILLED", "train": "KILLED"}
    assert stopped.how == {"train": "killed"}
    assert stopped.made_by == ids(stopped.stages)
    assert {"pipeline.complete", "pipeline.reaped"} & set(stopped.pipeline.data.tags) == set()
    assert "error" not in stopped.stages["train"].data.tags
    assert set(stopped.receipts) == {"prepare", "pipeline"}


@pytest.fixture(scope="module")
def cut(tree: Toy, slow: None) -> Execution:
    """All processes are killed at once: nothing can say farewell."""
    begun = begin(tree)
    begun.signal_all(signal.SIGKILL)
    return begun.end()


@pytest.fixture(scope="module")
def after(tree: Toy, cut: Execution) -> Execution:
    tree.set("sleep: 60.0", "sleep: 0.5")
    return execute(tree, "repro")


@on_a_server_slow
def test_runs_of_what_was_killed_stay_until_the_next_execution(
    tree: Toy, cut: Execution, after: Execution
) -> None:
    assert cut.status == {"pipeline": "RUNNING", "train": "RUNNING"}
    closed = again(tree, cut)
    assert closed.status == {"pipeline": "KILLED", "train": "KILLED"}
    assert {run.data.tags["pipeline.reaped"] for run in closed.added} == {"true"}
    assert after.status == {"pipeline": "FINISHED", "train": "FINISHED"}
    assert after.how == {"prepare": "reused", "train": "executed"}
    reaped = {run.info.run_id for run in tree.runs() if "pipeline.reaped" in run.data.tags}
    assert reaped == {run.info.run_id for run in cut.added}
