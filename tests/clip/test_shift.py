"""How far embeddings moved: worlds apart, a little, not at all."""

import json

import numpy as np
import pytest

from pipeline.artifacts import sha256_text, write_json
from pipeline.clip import shift, store
from pipeline.clip.cache import as_ids
from pipeline.errors import DataError
from pipeline.params import EmbeddingDriftParams

LIMITS = EmbeddingDriftParams(warn=0.65, stop=0.9)


def vectors(seed, count=600, moved=0.0, width=128):
    random = np.random.default_rng(seed)
    found = random.normal(size=(count, width)).astype(np.float32)
    found[:, 0] += moved
    return found


def profile_of(folder, found, made="a"):
    folder.mkdir(parents=True, exist_ok=True)
    ids = [sha256_text(f"{found[i, 0]} {i}") for i in range(len(found))]
    of = dict(zip(ids, found, strict=True))
    store.write(
        folder,
        "images",
        as_ids(ids),
        lambda some: np.stack([of[i.decode()] for i in some.tolist()]),
        dtype="fp32",
    )
    return shift.profile(store.read(folder, "images"), made)


@pytest.fixture
def compared(tmp_path):
    def comparing(present, *accepted):
        file = tmp_path / "accepted.json"
        write_json(file, [one.model_dump() for one in accepted])
        return shift.compare(present, file)

    return comparing


def test_two_samples_of_one_world_are_not_told_apart(tmp_path, compared):
    inside = 0
    for seed in range(20):
        one = profile_of(tmp_path / f"a{seed}", vectors(seed))
        other = profile_of(tmp_path / f"b{seed}", vectors(100 + seed))
        found = compared(one, other)
        assert abs(found.auc - 0.5) < 0.08
        assert shift.judge(found, LIMITS) is None
        inside += found.low <= 0.5 <= found.high
    assert inside >= 16


def test_the_auc_is_that_of_the_best_line_where_one_axis_moved():
    # Two normal distributions whose means lie d apart have AUC Φ(d/√2): 0.921 for d = 2.
    found = shift.separation(vectors(0, 4000, 2.0, width=8), vectors(1, 4000, width=8))
    assert found == pytest.approx(0.921, abs=0.01)


def test_a_moved_world_warns_and_then_stops(tmp_path, compared):
    before = profile_of(tmp_path / "a", vectors(0, width=32))
    warned = compared(profile_of(tmp_path / "b", vectors(1, moved=1.2, width=32)), before)
    assert "above embed.drift.warn: 0.65" in shift.judge(warned, LIMITS)
    stopped = compared(profile_of(tmp_path / "c", vectors(1, moved=5, width=32)), before)
    with pytest.raises(DataError, match=r"embed\.drift\.stop: 0\.9"):
        shift.judge(stopped, LIMITS)
    assert shift.judge(stopped, EmbeddingDriftParams(warn=None, stop=None)) is None


def test_what_can_not_be_compared_says_why(tmp_path, compared):
    one = profile_of(tmp_path / "a", vectors(0))
    assert compared(one).why == "no other data were accepted before"
    assert compared(one, one).why == "no other data were accepted before"
    other = profile_of(tmp_path / "b", vectors(1), made="other weights")
    assert "in another way" in compared(one, other).why
    few = profile_of(tmp_path / "c", vectors(2, count=20))
    assert "fewer than 50" in compared(few, one).why


def test_accepting_keeps_the_last_two(tmp_path):
    file = tmp_path / "accepted.json"
    for seed in (0, 1, 2, 2):
        present = profile_of(tmp_path / str(seed), vectors(seed, count=60))
        write_json(tmp_path / "profile.json", present.model_dump())
        shift.accept(tmp_path / "profile.json", file)
    assert len(json.loads(file.read_text())) == 2
    assert shift.read_accepted(file)[-1] == present
    assert shift.compare(present, file).auc is not None


def test_a_file_that_is_no_list_of_profiles_is_named(tmp_path):
    (tmp_path / "accepted.json").write_text('[{"made": 1}]')
    with pytest.raises(DataError, match="not a list of profiles"):
        shift.read_accepted(tmp_path / "accepted.json")
