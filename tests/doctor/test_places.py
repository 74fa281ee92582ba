from pathlib import Path

import pytest

from pipeline.doctor import places
from pipeline.doctor.settings import Settings
from tests.doctor.cases import with_

SAMPLES = """\
stages:
  scenes:
    cmd: make
    deps: [samples/make.py]
    outs: [samples/out, samples/general]
"""


@pytest.fixture(autouse=True)
def work_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("samples", "mine", "general"):
        (tmp_path / name).mkdir()
    (tmp_path / "samples/dvc.yaml").write_text(SAMPLES)
    return tmp_path


def look(settings: Settings, source: str, general: str) -> list[tuple[str, str]]:
    chosen = with_(with_(settings, "data", source=source), "evaluate", general=general)
    found = places.look(chosen, places.made()).findings
    return [(finding.level, finding.key) for finding in found]


def test_what_the_samples_make_need_not_be_there_yet(settings: Settings) -> None:
    assert places.made()[Path("samples/out")] == [Path("samples/make.py")]
    assert look(settings, "samples/out", "samples/general") == []


def test_folders_that_are_not_there_stop(settings: Settings) -> None:
    expected = [("stops", "data.source"), ("stops", "evaluate.general")]
    assert look(settings, "theirs", "theirs/general") == expected


@pytest.mark.parametrize("source", [".", "data", "models", "../{}"])
def test_a_source_around_the_outputs_stops(
    settings: Settings, work_tree: Path, source: str
) -> None:
    for name in ("data", "models"):
        (work_tree / name).mkdir()
    found = look(settings, source.format(work_tree.name), "samples/general")
    assert found == [("stops", "data.source")]


def test_no_general_set_is_a_note_and_a_broken_one_stops(
    settings: Settings, work_tree: Path
) -> None:
    assert look(settings, "mine", "general") == [("note", "evaluate.general")]
    (work_tree / "general/animals").mkdir()
    assert look(settings, "mine", "general") == [("stops", "evaluate.general")]
    (work_tree / "general/animals/captions.csv").write_text("image,caption\na.jpg,a cat\n")
    assert look(settings, "mine", "general") == []
    (work_tree / "general/target").mkdir()
    assert look(settings, "mine", "general") == [("stops", "evaluate.general")]


def test_a_set_is_opened_as_evaluate_opens_it(settings: Settings, work_tree: Path) -> None:
    (work_tree / "general/pets").mkdir()
    (work_tree / "general/pets/labels.csv").write_text("image,label\na.jpg,cat\nb.jpg,dog\n")
    assert look(settings, "mine", "general") == []
    (work_tree / "general/pets/set.yaml").write_text("class: [cat, dog]")
    assert look(settings, "mine", "general") == [("stops", "evaluate.general")]


def test_the_reference_for_drift(settings: Settings, work_tree: Path) -> None:
    def drift() -> str:
        facts = places.look(settings, places.made()).facts
        return next(fact.text for fact in facts if fact.name == "drift")

    assert drift().startswith("not measured")
    (work_tree / "data").mkdir()
    (work_tree / "data/accepted.json").write_text("[]")
    assert drift().startswith("not measured")
    (work_tree / "data/accepted.json").write_text("[{")
    found = look(settings, "samples/out", "samples/general")
    assert found == [("stops", "data/accepted.json")]
