"""The user's own data under the project's .gitignore: `dvc add data/mine`, as README says."""

import shutil
from pathlib import Path

import pytest

from tests.tracking.toy_tree import Toy

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("place", ["data/mine", "data/general/birds"])
def test_added_data_come_with_a_clone(tmp_path: Path, place: str) -> None:
    """Without naming them: what DVC overlooks is in no push, no pull and no copy for a queue."""
    toy = Toy(tmp_path / "toy")
    (toy.path / place).mkdir(parents=True)
    (toy.path / place / "captions.csv").write_text("image,caption\n")
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, toy.path)
    toy.git("init", "-q", "-b", "main")
    toy.git("config", "user.email", "a@b")
    toy.git("config", "user.name", "a")
    toy.dvc("init", "-q", "--force")
    shutil.copy(ROOT / ".dvcignore", toy.path)
    toy.dvc("add", "-q", place)
    toy.commit()
    assert toy.git("ls-files", "data") == f"{place}.dvc"
    toy.git("clone", "-q", ".", str(tmp_path / "clone"))
    clone = Toy(tmp_path / "clone")
    clone.dvc("cache", "dir", "--local", str(toy.path / ".dvc/cache"))
    clone.dvc("checkout")
    assert (clone.path / place / "captions.csv").is_file()
