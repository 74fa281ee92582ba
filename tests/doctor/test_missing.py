from pathlib import Path

import pytest

from pipeline.doctor.missing import cause, search


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a/images/cats/1.jpg", "a/images/dogs/1.jpg", "captions.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "path", "image_root", "suffix"),
    [
        ("dogs/1.jpg", "a/images/dogs/1.jpg", "a/images", None),
        ("images/cats/1.jpg", "a/images/cats/1.jpg", "a", None),
        ("1.jpg", "a/images/cats/1.jpg", "a/images/cats", None),
        ("dogs/1", "a/images/dogs/1.jpg", None, ".jpg"),
        ("/home/me/set/dogs/1.jpg", "a/images/dogs/1.jpg", None, None),
        ("dogs\\1.jpg", "a/images/dogs/1.jpg", "a/images", None),
    ],
)
def test_the_file_that_was_meant(
    root: Path, name: str, path: str, image_root: str | None, suffix: str | None
) -> None:
    assert search(root, name) == (path, image_root, suffix)


def test_what_to_set(root: Path) -> None:
    problem, remedy = cause(root, "dogs/1.jpg", image_root=".")
    assert problem == "the first, dogs/1.jpg, lies at a/images/dogs/1.jpg"
    assert remedy == "data.image_root: a/images"
    _, wrong = cause(root, "pictures/dogs/1.jpg", image_root="pictures")
    assert wrong == "data.image_root: a/images"
    _, ending = cause(root, "dogs/1", image_root=".")
    assert ending == "write the names with their ending, .jpg"
    nowhere, _ = cause(root, "dogs/2.jpg", image_root=".")
    assert nowhere == f"the first, dogs/2.jpg, is nowhere below {root}"
