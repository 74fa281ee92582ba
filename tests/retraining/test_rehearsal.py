"""Eight weeks of a model that is retrained, rehearsed: a git origin, S3, an MLflow server.

    week  what comes                        what happens
    0     the first data                    the first model serves
    1     nothing                           nothing is trained, in 20 s
    2     more good data                    retrained, promoted
    3     captions shuffled                 trained, held, and why
    4     a third of the pictures cut off   validate stops; its report is kept
    5     1 % more; the machine is lost     started again, training goes on where it was
    6     1 % more, and the server is away  too little to train, where params say so; else nothing
                                            is computed, or: trained, kept, judged next time
    7     nothing, but the champion is bad  rolled back; not promoted again

Told in order, on the sample's pictures, which come as one Parquet file a week; each week is a
runner of its own with what a CI's cache brings. The figures that it prints at the end are those of
docs/results.md: `pytest -m slow -s tests/retraining/test_rehearsal.py`.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.checkouts import edit, files_of
from tests.retraining.world import (
    DATA,
    ROOT,
    Ran,
    World,
    environ_without_user,
    of_pictures,
    pictures,
)
from tests.services import line_to, mlflow_server, s3_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FIRST, ALL, NEW = 2000, 4400, 44
"""Pictures of week 0, of week 2 and later, and new ones of week 5: 1 %."""

TRAINED = ["validate", "clean", "embed", "finetune", "evaluate", "record"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = tmp_path_factory.mktemp("world")
    with (
        s3_server(path / "s3") as s3,
        line_to(s3.port) as line,
        mlflow_server(path / "mlflow") as server,
    ):
        environ = environ_without_user(Path(sys.executable).parent) | s3.environ
        environ |= {"MLFLOW_TRACKING_URI": server.uri, "CLIPTUNE_ON_UNREACHABLE": "fail"}
        made = World(path, s3, line, server, environ)
        yield made
        print(*table(made), sep="\n")


@pytest.fixture(scope="module")
def rows(world: World) -> pd.DataFrame:
    """The sample's pictures; by the way the origin gets code, base model, remote and week 0."""
    seed = world.path / "seed"
    files_of(ROOT, seed)
    edit(
        seed / "params.yaml",
        {"data.source": DATA, "data.format": "parquet_images", "validate.table.rejected.stop": 0.2},
    )

    def run(*command: str) -> None:
        subprocess.run(command, cwd=seed, env=world.environ_of(seed), check=True)

    run("git", "init", "--quiet", "--initial-branch", "main")
    run("git", "add", "--all")
    run("git", "commit", "--quiet", "--message", "Cliptune")
    world.s3.use(seed, endpoint=world.line.endpoint)
    run("dvc", "remote", "add", "--quiet", "inbox", f"s3://{world.s3.bucket}/incoming")
    run("dvc", "remote", "modify", "--quiet", "inbox", "endpointurl", world.line.endpoint)
    run("dvc", "repro", "--quiet", "samples/dvc.yaml")
    found = pictures(seed / "samples/scenes/out")
    world.put("week-0.parquet", some(found, 0, FIRST))
    run("dvc", "import-url", "--quiet", "remote://inbox/", DATA)
    run("git", "add", "--all")
    run("git", "commit", "--quiet", "--message", "Our data, and where they come from")
    run("dvc", "push", "--quiet")
    subprocess.run(["git", "clone", "--quiet", "--bare", seed, world.origin], check=True)
    return found


def some(rows: pd.DataFrame, start: int, end: int) -> pd.DataFrame:
    return of_pictures(rows, list(dict.fromkeys(rows["name"]))[start:end])


def deliver(world: World, rows: pd.DataFrame, *, spoil: str = "") -> None:
    """All pictures of weeks 0 and 2, sound or not."""
    world.put("week-0.parquet", some(rows, 0, FIRST), spoil=spoil)
    world.put("week-2.parquet", some(rows, FIRST, ALL), spoil=spoil)


def titles(world: World) -> list[str]:
    return world.git("log", "--format=%s", "main").splitlines()


def figures(ran: Ran) -> dict[str, float]:
    return ran.summary["promotion"]["found"]["outcomes"]["target"]["top1"]


def test_week_0_the_first_model_serves(world: World, rows: pd.DataFrame) -> None:
    ran = world.week("0 first model")
    assert (ran.code, ran.summary["verdict"], ran.stages[-6:]) == (0, "promote", TRAINED)
    assert world.aliases() == ["1", "1", None]
    assert figures(ran)["low"] > 0
    assert titles(world)[0] == "Retrained: promote"
    assert (world.history(), world.lost()) == (["promote"], [])
    assert "Version 1 of cliptune serves from now on, as the first" in ran.page
    # The base model was not made again: it came from the remote.
    assert "samples/dvc.yaml:base_model' didn't change" in ran.output


def test_week_1_nothing_new_costs_seconds(world: World, rows: pd.DataFrame) -> None:
    before = world.git("rev-parse", "main"), len(world.s3.keys())
    ran = world.week("1 nothing new")
    assert (ran.code, ran.summary["verdict"], ran.stages) == (0, "nothing new", [])
    assert ran.seconds < 20
    assert (world.git("rev-parse", "main"), len(world.s3.keys())) == before
    assert (world.aliases(), world.versions()) == (["1", "1", None], 1)
    assert ran.down < 1_000_000  # neither data nor models were fetched


def test_week_2_good_data_are_trained_on_and_promoted(world: World, rows: pd.DataFrame) -> None:
    world.put("week-2.parquet", some(rows, FIRST, ALL))
    ran = world.week("2 good data")
    assert (ran.code, ran.summary["verdict"], ran.stages) == (0, "promote", TRAINED)
    assert world.aliases() == ["2", "2", "1"]
    assert figures(ran)["low"] > 0
    assert titles(world)[:2] == ["Retrained: promote", f"Data of {ran.summary['date']}"]
    assert ran.summary["news"]["added"] > 2000
    assert world.lost() == []
    assert "| drift from the champion's data |" in ran.page
    # Those of week 0 are not embedded again.
    assert re.search(r"images: 1,9\d\d from the cache, 2,\d{3} computed", ran.output)
    assert "week-2.parquet" not in world.show("data/mine.dvc")  # a hash, and no list
    assert "nfiles: 2" in world.show("data/mine.dvc")


def test_week_3_shuffled_captions_are_held(world: World, rows: pd.DataFrame) -> None:
    deliver(world, rows, spoil="shuffled")
    ran = world.week("3 captions shuffled")
    assert (ran.code, ran.summary["verdict"], ran.stages) == (0, "hold", TRAINED)
    assert world.aliases() == ["2", "3", "1"]
    assert figures(ran)["high"] < 0
    assert "Version 2 of cliptune serves, as before" in ran.page
    assert "gain on the test pictures: Zero-shot accuracy: −" in ran.summary["why"]
    assert (world.history(), world.lost()) == (["promote", "promote", "hold"], [])
    again = world.week("3 again")
    assert (again.summary["verdict"], again.stages) == ("nothing new", [])
    assert "version 3, the model of the last run, was held on" in again.summary["why"]


def test_week_4_broken_pictures_stop_in_validate(world: World, rows: pd.DataFrame) -> None:
    before = world.git("rev-parse", "main")
    deliver(world, rows, spoil="truncated")
    ran = world.week("4 pictures cut off")
    assert (ran.code, ran.summary["verdict"], ran.stages) == (1, "failed", ["validate"])
    assert "failed in the stage validate" in ran.summary["why"]
    assert "above validate.table.rejected.stop: 0.2 (image_truncated" in ran.summary["why"]
    assert (world.aliases(), world.git("rev-parse", "main")) == (["2", "3", "1"], before)
    assert "Version 2 of cliptune serves, as before" in ran.page
    assert world.runner is not None
    left = world.runner / ran.summary["left"]
    assert (left / "quality/data_docs.html").is_file()
    assert len(pd.read_parquet(left / "rejected.parquet")) > 2000


def test_week_5_a_lost_machine_costs_no_step_twice(world: World, rows: pd.DataFrame) -> None:
    deliver(world, rows)
    world.put("week-5.parquet", some(rows, ALL, ALL + NEW))
    world.killed_in(
        "finetune", ".cliptune/checkpoints/*/step-0*.safetensors", CLIPTUNE_CHECKPOINT_S="1"
    )
    assert world.aliases() == ["2", "3", "1"]
    ran = world.week("5 one percent more, after a kill")
    assert (ran.code, ran.stages) == (0, TRAINED)
    assert "goes on at step" in ran.output
    assert ran.summary["verdict"] in ("promote", "hold")
    assert (len(world.history()), world.lost()) == (4, [])
    assert ran.summary["promotion"]["champion"] == "2"
    # The machine that was lost had embedded the new ones, and its caches came along.
    assert re.search(r"(?m)images: (4,2\d\d) from the cache$", ran.output)


def test_week_6_a_server_that_is_away_heals(world: World, rows: pd.DataFrame) -> None:
    world.put("week-6.parquet", some(rows, ALL + NEW, ALL + 2 * NEW))
    world.set({"retrain.least_new": 100})
    before, main = world.aliases(), world.git("rev-parse", "main")
    ran = world.week("6 too little new")
    assert (ran.code, ran.summary["verdict"]) == (0, "too little new")
    assert ran.stages == ["check", "validate", "clean"]
    assert 0 < ran.summary["news"]["added"] <= NEW
    assert "retrain.least_new asks for 100: nothing was trained" in ran.page
    assert (world.aliases(), world.git("rev-parse", "main")) == (before, main)
    world.set({"retrain.least_new": 0})
    main = world.git("rev-parse", "main")
    away = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{world.line.port + 1}"}
    ran = world.week("6 server away, policy fail", **away)
    assert (ran.code, ran.summary["verdict"], ran.stages) == (1, "failed", [])
    assert "nothing was computed" in ran.summary["why"]
    assert "Who serves is not known" in ran.page
    ran = world.week("6 server away, policy spool", **away, CLIPTUNE_ON_UNREACHABLE="spool")
    assert (ran.code, ran.summary["verdict"], ran.stages) == (1, "not judged", TRAINED)
    assert (world.aliases(), world.git("rev-parse", "main")) == (before, main)
    ran = world.week("6 the server is back", fresh=False)
    assert (ran.code, ran.stages) == (0, [])
    assert ran.summary["verdict"] in ("promote", "hold")
    assert (len(world.history()), world.lost()) == (5, [])
    assert world.git("rev-parse", "main") != main
    assert "sent to http://127.0.0.1" in ran.page


def test_one_percent_costs_a_part_of_everything(world: World, rows: pd.DataFrame) -> None:
    """Beside the same stages with nothing in any cache, in the same minutes.

    Pictures of 64 pixels cost less than the start of a stage, so of the times just embed's tells
    here: benchmarks/images.py and embed.py measure the others on pictures of a usual size.
    """
    world.all_anew = world.everything()
    assert world.weeks["6 server away, policy spool"].took["embed"] < world.all_anew["embed"]


def test_week_7_a_rollback_lasts(world: World, rows: pd.DataFrame) -> None:
    champion, challenger, previous = world.aliases()
    assert world.runner is not None
    done = subprocess.run(
        ["cliptune", "rollback"], cwd=world.runner, env=world.environ_of(world.runner),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"version {previous} is the champion again, and version {champion} is not" in done.stdout
    assert world.aliases()[0] == previous
    ran = world.week("7 after a rollback")
    assert (ran.code, ran.stages) == (0, [])
    assert ran.summary["serves"] == previous
    assert f"Version {previous} of cliptune serves, as before" in ran.page
    assert world.aliases()[:2] == [previous, challenger]


def test_no_week_shows_a_credential(world: World, rows: pd.DataFrame) -> None:
    secret = world.s3.environ["AWS_SECRET_ACCESS_KEY"]
    assert world.weeks
    for ran in world.weeks.values():
        assert secret not in ran.output + ran.page + json.dumps(ran.summary)
    everything = subprocess.run(
        ["git", "grep", "-F", secret, "main", "--", ".dvc", "*.dvc", "*dvc.lock", "metrics"],
        cwd=world.origin, capture_output=True, check=False,
    )  # fmt: skip
    assert everything.returncode == 1  # found nowhere


def table(world: World) -> list[str]:
    """Time and data moved of each week, and of its stages, as Markdown."""
    lines = [
        "",
        f"{os.cpu_count()} cores",
        "| week | verdict | seconds | to the bucket, MB | from it, MB |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {ran.summary['verdict']} | {ran.seconds:.0f} | {ran.up / 1e6:.1f} | "
        f"{ran.down / 1e6:.1f} |"
        for name, ran in world.weeks.items()
    ]
    lines += ["", f"| week | {' | '.join(TRAINED)} |", "| --- |" + " --- |" * len(TRAINED)]
    lines += [
        f"| {name} | {' | '.join(f'{ran.took.get(stage, 0):.1f}' for stage in TRAINED)} |"
        for name, ran in world.weeks.items()
        if ran.took
    ]
    everything = (f"{world.all_anew.get(stage, 0):.1f}" for stage in TRAINED)
    lines.append(f"| all anew, no caches | {' | '.join(everything)} |")
    return lines
