import hashlib
from pathlib import Path

import pytest

from pipeline.artifacts import new_folder, read_json, sha256_of, write_json


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "out") as part:
            (part / "half.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for content in ("first", "second"):
        with new_folder(target) as part:
            (part / f"{content}.txt").write_text(content)
    assert [f.name for f in target.iterdir()] == ["second.txt"]


def test_a_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with new_folder(target) as part:
        (part / "good.txt").write_text("good")
    with pytest.raises(RuntimeError), new_folder(target):
        raise RuntimeError
    assert (target / "good.txt").read_text() == "good"


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": "é",\n  "b": 1\n}\n'
    assert read_json(tmp_path / "a.json") == {"a": "é", "b": 1}
    with pytest.raises(ValueError, match=r"NaN|nan|Out of range"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_the_hash_of_a_folder_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_text("1")
    first = sha256_of(tmp_path / "x")
    assert sha256_of(tmp_path / "x" / "a") == hashlib.sha256(b"1").hexdigest()
    (tmp_path / "x" / "a").rename(tmp_path / "x" / "b")
    assert sha256_of(tmp_path / "x") != first
