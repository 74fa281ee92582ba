"""A challenger and a champion: real models, real pictures, a real registry."""

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from pipeline import cli, paths
from pipeline.artifacts import read_json, write_json
from pipeline.clip.model import Clip
from pipeline.data.pairs import PAIR, PAIRS_FILE, write_table
from pipeline.errors import ModelError, TrackingError
from pipeline.history import measuring
from pipeline.history import promote as promoting
from pipeline.history.promotion import Promotion, as_markdown
from pipeline.history.registry import (
    CHALLENGER,
    CHAMPION,
    LONGEST,
    PREVIOUS,
    ROLLED_BACK,
    Registry,
)
from pipeline.history.rollback import rollback
from pipeline.lineage_dvc import read_graph
from pipeline.params import PromoteCommand, load
from pipeline.registry import bundle
from pipeline.tracking_store import Connection
from tests.drawing import COLOURS, draw

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

ROOT = Path(__file__).parents[2]
ANY, NONE = -100.0, 100.0
"""Least gains that every model shows, and none."""


@dataclass
class Tree:
    """A work tree with test pictures and a base model, and its registry."""

    client: MlflowClient
    experiment: str
    make: Callable[[int], Clip]

    @property
    def registry(self) -> Registry:
        return Registry(Connection(self.client, self.experiment, "", spooled=False), "cliptune")

    def aliases(self) -> list[str | None]:
        found = (self.registry.by_alias(alias) for alias in (CHAMPION, CHALLENGER, PREVIOUS))
        return [None if version is None else str(version.version) for version in found]

    def run(self, seed: int, *, key: str = "") -> str:
        """A complete run of the pipeline whose model is of `seed`; its id."""
        if not key:
            bundle.save(paths.FINAL, self.make(seed), record={})
        evaluate = self.client.create_run(self.experiment).info.run_id
        self.client.log_artifacts(evaluate, str(paths.FINAL), f"model/artifacts/{paths.FINAL.name}")
        tags = {
            "dvc.stage.evaluate.run_id": evaluate,
            "pipeline.key": key or f"key {seed}",
            "dvc.lock.sha256": read_graph().result_digest(),
            "mlflow.source.git.commit": "c" * 40,
        }
        run = str(self.client.create_run(self.experiment, tags=tags).info.run_id)
        write_json(paths.receipt_file("pipeline"), {"run_id": run, "spooled": False})
        return run

    def promote(self, least_gain: float, *, dry: bool = False) -> Promotion:
        content = YAML(typ="safe").load(paths.PARAMS)
        content["promote"]["least_gain"] = least_gain
        YAML().dump(content, paths.PARAMS)
        told, file = promoting.promote(Path.cwd(), load(PromoteCommand), dry=dry)
        assert file.read_text().startswith(f"# {told.verdict}: cliptune")
        assert read_json(file.with_suffix(".json"))["verdict"] == told.verdict
        return told


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Clip) -> Tree:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    content = YAML(typ="safe").load(ROOT / "params.yaml")
    content["data"]["source"] = "mine"
    content["model"] = {"name": tiny.architecture, "pretrained": "base"}
    content["evaluate"] |= {"general": "general", "bootstrap": 100}
    content["promote"] |= {"max_slice_loss": None}
    YAML().dump(content, paths.PARAMS)
    Path("general").mkdir()
    rows = []
    for number in range(12):
        name, colour = list(COLOURS.items())[number % 4]
        draw(Path(f"mine/{number}.jpg"), colour, seed=number, size=(40, 40))
        image = f"{number:064x}"
        file, image = f"{number}.jpg", f"{number:064x}"
        ids = {
            "pair": number + 1,
            "source_row": number + 1,
            "image_id": image,
            "image_group": image,
        }
        said = {"caption": f"a {name} square {number}", "label": name, "split": "test"}
        place = {"image": file, "file": file, "packed": False, "width": 40, "height": 40}
        rows.append({**dict.fromkeys(PAIR.names), **ids, **said, **place})
    paths.CLEAN.mkdir(parents=True)
    write_table(pd.DataFrame(rows), PAIR, paths.CLEAN / PAIRS_FILE)
    validated = {"warned": [], "drift": {"status": "none"}}
    write_json(paths.metrics_file("validate"), validated)
    bundle.save(paths.HUB / "base", tiny, record={})

    def make(seed: int) -> Clip:
        """The base, changed a little: each seed in its own way."""
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            for weight in tiny.model.parameters():
                weight.add_(0.01 * torch.randn(weight.shape, generator=generator))
        return tiny

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        client = MlflowClient(uri, uri)
        experiment = client.create_experiment("cliptune", (tmp_path / "mlruns").as_uri())
    return Tree(client, experiment, make)


def test_the_first_model_is_measured_against_its_base(tree: Tree) -> None:
    run = tree.run(1)
    held = tree.promote(NONE)
    assert (held.verdict, held.champion, tree.aliases()) == ("hold", None, [None, "1", None])
    failed, *_ = [gate for gate in held.gates if not gate.passed]
    assert failed.name.startswith("gain on the test pictures")
    told = tree.promote(ANY)
    assert (told.verdict, told.challenger, tree.aliases()) == ("promote", "1", ["1", "1", None])
    version = tree.registry.version("1")
    assert version.tags["pipeline.run_id"] == run
    assert version.tags["promotion.verdict"] == "promote"
    assert version.tags["mlflow.source.git.commit"] == "c" * 40
    assert len(tree.client.search_model_versions("name='cliptune'")) == 1


def test_a_challenger_that_is_the_base_itself_says_so(tree: Tree) -> None:
    run = tree.run(1)
    choice = {"max_forgetting": 0.02, "alpha_without_bound": 0.5}
    choice |= {"validation": 0.4, "validation_without_bound": 0.6}
    bundle.save(paths.FINAL, tree.make(1), record={"alpha": 0.0, "choice": choice})
    evaluate = tree.client.get_run(run).data.tags["dvc.stage.evaluate.run_id"]
    tree.client.log_artifacts(evaluate, str(paths.FINAL), f"model/artifacts/{paths.FINAL.name}")
    held = tree.promote(NONE)
    said = (
        "models/final is the base itself: where no general set loses more than 2 points, no other "
        "point was better on validation (α = 0.5 would give 60.0 % on the validation pictures "
        "instead of 40.0 %)"
    )
    assert (held.verdict, held.notes) == ("hold", [said])
    assert f"- {said}\n" in Path(".cliptune/promotion.md").read_text()
    choice["alpha_without_bound"] = 0.0
    bundle.save(paths.FINAL, tree.make(2), record={"alpha": 0.5, "choice": choice})
    tree.client.log_artifacts(evaluate, str(paths.FINAL), f"model/artifacts/{paths.FINAL.name}")
    assert tree.promote(NONE, dry=True).notes == []


def test_nothing_new_measures_nothing(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.run(1)
    tree.promote(ANY)
    monkeypatch.setattr(measuring, "measure", None)
    told = tree.promote(ANY)
    assert (told.verdict, told.gates) == ("nothing new", [])
    assert tree.aliases() == ["1", "1", None]


def test_what_was_held_is_judged_again_where_the_gates_are_others(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tree.run(1)
    assert [tree.promote(NONE).verdict for _ in range(2)] == ["hold", "nothing new"]
    assert tree.promote(NONE - 1).verdict == "hold"
    (tmp_path / "gates.py").write_text("# a gate more")
    monkeypatch.setattr(promoting.gates, "__file__", str(tmp_path / "gates.py"))
    assert tree.promote(NONE - 1).verdict == "hold"


def test_a_challenger_is_held_or_takes_the_place_and_is_rolled_back(tree: Tree) -> None:
    tree.run(1)
    tree.promote(ANY)
    tree.run(2)
    held = tree.promote(NONE)
    assert (held.verdict, held.champion, tree.aliases()) == ("hold", "1", ["1", "2", None])
    assert "gain on the test pictures" in tree.registry.version("2").tags["promotion.why"]
    assert tree.promote(ANY).verdict == "promote"
    assert tree.aliases() == ["2", "2", "1"]
    assert rollback(Path.cwd(), "cliptune") == ("2", "1")
    assert tree.aliases() == ["1", "2", None]
    again = tree.promote(ANY)
    assert (again.verdict, again.gates) == ("nothing new", [])
    assert again.why.startswith("version 2, the model of the last run, was rolled back: ")
    # The same model of another run, such as one restored from DVC's cache, is no other model.
    tree.run(2, key="of another run")
    again = tree.promote(ANY)
    assert (again.verdict, [g.name for g in again.gates if not g.passed]) == (
        "hold",
        ["not rolled back"],
    )
    assert tree.aliases() == ["1", "2", None]
    with pytest.raises(TrackingError, match="version 1 of 'cliptune' is the first champion"):
        rollback(Path.cwd(), "cliptune")


def test_the_reason_of_a_rollback_stays_with_the_version(tree: Tree) -> None:
    for seed in (1, 2):
        tree.run(seed)
        tree.promote(ANY)
    why = "mixes up shoes\n | `@team` \x1b[31m[boots](http://me:hunter2@x) " + "x" * 5000
    cli.main(["rollback", "--why", why])
    kept = tree.registry.version("2").tags["champion.rolled_back_why"]
    assert kept.startswith("mixes up shoes | `@team` [31m[boots](http://x) xxx")
    assert len(kept) == LONGEST
    told = tree.promote(ANY)
    assert told.why.endswith(f" ({kept})")
    page = as_markdown(told)
    assert " (mixes up shoes \\| &#96;@\u200bteam&#96; [31m[boots]&#40;http://x) xxx" in page
    tree.run(2, key="of another run")
    told = tree.promote(ANY)
    assert told.gates[-1].found.endswith(f" ({kept})")
    assert kept not in as_markdown(told)


def test_a_rollback_that_died_goes_back_no_further(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2, 3):
        tree.run(seed)
        tree.promote(ANY)
    assert tree.aliases() == ["3", "3", "2"]
    for dies in (Registry.tag, Registry.alias):

        def then_dies(self: Registry, *told: str, do: object = dies) -> None:
            do(self, *told)  # type: ignore[operator]
            raise MlflowException("the server has gone")

        with monkeypatch.context() as dying:
            dying.setattr(Registry, dies.__name__, then_dies)
            with pytest.raises(TrackingError, match="run the same again"):
                rollback(Path.cwd(), "cliptune")
        assert tree.aliases()[0] == "3"
    assert rollback(Path.cwd(), "cliptune") == ("3", "2")
    assert tree.aliases() == ["2", "3", "1"]


def test_a_rollback_needs_a_version_that_is_there_and_good(tree: Tree) -> None:
    for seed in (1, 2, 3):
        tree.run(seed)
        tree.promote(ANY)
    tree.registry.tag("2", {ROLLED_BACK: "once"})
    assert rollback(Path.cwd(), "cliptune") == ("3", "1")
    tree.registry.alias(CHAMPION, "3")
    tree.client.delete_model_version("cliptune", "2")
    with pytest.raises(TrackingError, match="version 2 of 'cliptune', the champion before version"):
        rollback(Path.cwd(), "cliptune")
    assert tree.aliases()[0] == "3"


def test_a_champion_made_by_hand_is_measured_or_told(tree: Tree) -> None:
    tree.run(1)
    tree.promote(ANY)
    made = tree.client.get_model_version("cliptune", "1")
    source = f"runs:/{made.run_id}/model"
    by_hand = tree.client.create_model_version("cliptune", source, run_id=made.run_id)
    tree.registry.alias(CHAMPION, str(by_hand.version))
    tree.run(2)
    told = tree.promote(NONE)
    assert (told.verdict, told.champion) == ("hold", str(by_hand.version))
    assert told.notes == [measuring.BY_HAND]
    other = tree.client.create_model_version("cliptune", "/tmp/x")
    tree.registry.alias(CHAMPION, str(other.version))
    with pytest.raises(ModelError, match=f"the champion, version {other.version}, can't be fetch"):
        tree.promote(ANY)


def test_a_dry_run_leaves_the_registry_as_it_was(tree: Tree) -> None:
    tree.run(1)
    told = tree.promote(ANY, dry=True)
    assert (told.verdict, told.challenger) == ("promote", None)
    assert tree.client.search_model_versions("name='cliptune'") == []
    tree.promote(ANY)
    tree.run(2)
    assert tree.promote(ANY, dry=True).champion == "1"
    assert tree.aliases() == ["1", "1", None]


def test_a_champion_that_changed_meanwhile_stops_the_promotion(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.run(1)
    tree.promote(ANY)
    tree.run(2)
    measure = measuring.measure

    def slowly(*arguments: object) -> object:
        tree.registry.register("of another machine", run=tree.run(3), tags={})
        tree.registry.crown("2")
        tree.run(2)
        return measure(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(measuring, "measure", slowly)
    monkeypatch.setattr(promoting, "_require_same", lambda *_: None)
    with pytest.raises(TrackingError, match="version 2 of 'cliptune' became champion"):
        tree.promote(ANY)
    assert tree.aliases() == ["2", "1", "1"]


def test_what_cannot_be_promoted_is_one_message(tree: Tree) -> None:
    with pytest.raises(TrackingError, match="there is no complete run here"):
        tree.promote(ANY)
    tree.run(1)
    kept = Path("kept")
    shutil.copytree(paths.FINAL, kept)
    bundle.save(paths.FINAL, tree.make(9), record={})
    with pytest.raises(ModelError, match="models/final is not the model of the last run"):
        tree.promote(ANY)
    shutil.rmtree(paths.FINAL)
    shutil.copytree(kept, paths.FINAL)
    write_json(paths.receipt_file("pipeline"), {"run_id": "0" * 32, "spooled": True})
    with pytest.raises(TrackingError, match="`cliptune sync` sends it"):
        tree.promote(ANY)


def test_data_that_are_newer_than_the_model_are_told(tree: Tree) -> None:
    """The challenger might have been trained on what is a test picture now."""
    tree.run(1)
    Path("dvc.yaml").write_text("stages:\n  clean: {cmd: x, outs: [data/clean]}\n")
    Path("dvc.lock").write_text(
        "stages:\n  clean: {cmd: x, outs: [{path: data/clean, md5: 0.dir}]}\n"
    )
    with pytest.raises(ModelError, match=r"a part was run since.*`dvc repro` completes it"):
        tree.promote(ANY)


def test_the_command_says_the_verdict(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.run(1)
    cli.main(["promote", "--dry-run"])
    out = capsys.readouterr().out
    assert out.startswith("# hold: cliptune, a dry run: the registry is as it was\n")
    assert "| target | Zero-shot accuracy |" in out
    with pytest.raises(SystemExit):
        cli.main(["rollback"])
    assert "'cliptune' has no champion in sqlite:" in capsys.readouterr().err
