"""Our figures are CLIP_benchmark's: the peer itself runs on the sample's base model and slice."""

from pathlib import Path

import pytest

from benchmarks import clip_benchmark as peer
from tests.drawing import ROOT

BASE = ROOT / "samples" / "base_model"


@pytest.mark.slow
def test_both_tables_are_equal(tmp_path: Path) -> None:
    if not peer.PYTHON:
        pytest.skip("CLIP_BENCHMARK_PYTHON is not set: see benchmarks/clip_benchmark.py")
    if not (BASE / "out").is_dir():
        pytest.skip("the sample's base model is not there: `make repro` makes it")
    peer.laid_out(BASE / "general" / "base_slice", tmp_path, images=500)
    theirs = peer.theirs(BASE / "out", tmp_path)
    ours = peer.ours(BASE / "out", tmp_path, peer.SAMPLE)
    assert ours.metrics == pytest.approx(theirs.metrics, abs=1e-6)
    assert 0.05 < ours.metrics["top1"] < 1


def test_each_layout_holds_the_same_pictures(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    (source / "images" / "2.jpg").write_bytes(b"two")
    lines = ["image,caption,label", "images/1.jpg,one,b", "images/2.jpg,two,a", "images/2.jpg,2,a"]
    (source / "captions.csv").write_text("\n".join([*lines, "images/3.jpg,One.,b"]))
    assert peer.laid_out(source, tmp_path / "made", images=9) == ["a"]
    made = sorted(p.relative_to(tmp_path / "made") for p in (tmp_path / "made").rglob("*.jpg"))
    assert [p.as_posix() for p in made] == [
        "flickr8k/2.jpg", "sets/both/images/2.jpg", "sketch/00000/2.jpg",
    ]  # fmt: skip
    listed = (tmp_path / "made" / "flickr8k" / "captions.txt").read_text()
    assert listed == "image,caption\n2.jpg,two\n2.jpg,2\n"
