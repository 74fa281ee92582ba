"""The data of now against those of the champion, by the profiles that its runs keep."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import paths
from pipeline.clip import shift
from pipeline.errors import DataError
from pipeline.history.drifted import moved
from pipeline.params import Params
from tests.validation.tables import halves, profile, scenes


@pytest.fixture
def now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the profiles of the present data."""
    monkeypatch.chdir(tmp_path)

    def write(rows: dict[str, Any], pictures: dict[str, Any]) -> None:
        for folder, content in ((paths.QUALITY, rows), (paths.EMBEDDINGS, pictures)):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "profile.json").write_text(json.dumps(content))

    return write


def of_pictures(*, at: float, made: str = "alike") -> dict[str, Any]:
    vectors = np.random.default_rng(int(10 * at)).normal(at, 1.0, (200, 8)).astype("<f2")
    sample = shift.base64.b64encode(vectors.tobytes()).decode()
    return {"made": made, "images": 200, "width": 8, "sample": sample}


def by_name(fetch: Any, defaults: Params) -> dict[str, Any]:
    return {one.name: one for one in moved(fetch, defaults.limits.drift, defaults.embed.drift)}


def test_halves_of_one_source_have_not_moved_and_fewer_rows_have(
    now: Any, defaults: Params
) -> None:
    one, other = (profile(*half) for half in halves(*scenes(1200), images=400, seed=0))
    now(one, of_pictures(at=0.0))
    kept = {"validate": other, "embed": of_pictures(at=0.1)}
    found = by_name(lambda stage, _: kept[stage], defaults)
    assert [name for name, figure in found.items() if figure.above] == []
    assert len(found) == 7
    assert found["embeddings"].value == pytest.approx(0.5, abs=0.1)
    more = profile(*halves(*scenes(1200), images=600, seed=0)[0])
    kept["validate"] = more | {"rows": 3 * one["rows"]}
    found = by_name(lambda stage, _: kept[stage], defaults)
    assert found["rows"].value == pytest.approx(2 / 3)
    assert found["rows"].above
    kept["validate"] = one | {"rows": one["rows"] // 3}
    grown = by_name(lambda stage, _: kept[stage], defaults)["rows"]
    assert (grown.above, round(grown.value)) == (False, 2)


def test_other_pictures_have_moved(now: Any, defaults: Params) -> None:
    (one, _) = (profile(*half) for half in halves(*scenes(400), images=200, seed=0))
    now(one, of_pictures(at=0.0))
    kept = {"validate": one, "embed": of_pictures(at=2.0)}
    found = by_name(lambda stage, _: kept[stage], defaults)["embeddings"]
    assert found.above
    assert found.value > 0.9
    kept["embed"] = of_pictures(at=2.0, made="otherwise")
    other = by_name(lambda stage, _: kept[stage], defaults)["embeddings"]
    assert (other.value, other.above) == (None, False)
    assert "embedded in another way" in other.why


def test_a_run_that_keeps_no_profile_is_said_to_keep_none(now: Any, defaults: Params) -> None:
    (one, _) = (profile(*half) for half in halves(*scenes(200), images=100, seed=0))
    now(one, of_pictures(at=0.0))

    def fetch(stage: str, _: str) -> dict[str, Any]:
        raise DataError(f"the champion's run of {stage} keeps no profile.json")

    found = by_name(fetch, defaults)
    assert {figure.value for figure in found.values()} == {None}
    assert found["labels"].why == "the champion's run of validate keeps no profile.json"
    assert by_name(lambda *_: {"of": "another version"}, defaults)["rows"].value is None
