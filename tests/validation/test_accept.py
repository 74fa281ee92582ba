import json

import pytest

from pipeline.artifacts import read_json, write_json
from pipeline.errors import DataError
from pipeline.validation.accept import accept
from pipeline.validation.drift import compare
from tests.validation.tables import profile, scenes


@pytest.fixture
def files(tmp_path):
    accepted = tmp_path / "accepted.json"
    accepted.write_text("[]\n")
    return tmp_path / "profile.json", accepted


def test_the_last_two_profiles_are_kept_and_the_newest_is_the_last(files):
    present, accepted = files
    profiles = [profile(*scenes(count)) for count in (10, 20, 30)]
    for each in profiles:
        write_json(present, each)
        said = accept(present, accepted)
        assert f"of {each['rows']} pairs: commit {accepted}" in said
    assert read_json(accepted) == profiles[1:]


def test_accepting_twice_changes_nothing(files):
    present, accepted = files
    write_json(present, profile(*scenes(10)))
    accept(present, accepted)
    before = accepted.read_bytes()
    assert accept(present, accepted).endswith("is accepted already")
    assert accepted.read_bytes() == before


def test_accepting_the_present_data_does_not_change_its_drift(files):
    """So `cliptune accept` after a run makes DVC rerun nothing after validate."""
    present, accepted = files
    for count in (10, 20, 30, 20, 10):
        write_json(present, profile(*scenes(count)))
        before = compare(read_json(present), accepted)
        accept(present, accepted)
        assert compare(read_json(present), accepted) == before


def test_a_file_that_is_not_there_yet_is_begun(files, tmp_path):
    present, _ = files
    write_json(present, profile(*scenes(10)))
    accept(present, tmp_path / "new.json")
    assert len(read_json(tmp_path / "new.json")) == 1


def test_without_a_profile_it_says_what_to_run(files):
    with pytest.raises(
        DataError, match=r"profile\.json is missing: run `dvc repro validate` first"
    ):
        accept(*files)


def test_a_malformed_file_is_not_written_over(files):
    present, accepted = files
    write_json(present, profile(*scenes(10)))
    accepted.write_text(json.dumps({"mine": 1}))
    with pytest.raises(DataError, match="is not a list of profiles"):
        accept(present, accepted)
    assert read_json(accepted) == {"mine": 1}
