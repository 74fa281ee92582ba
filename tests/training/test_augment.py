"""What a training picture becomes: a function of (seed, epoch, image) alone, and mild."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.data.places import places_below
from pipeline.evaluation.retrieval import recalls
from pipeline.params import Params
from pipeline.sections import AugmentParams
from pipeline.training import augment, batches, finetune, pictures
from pipeline.training.augment import Draws, augmented, drawn
from pipeline.training.pictures import Pictures

MILD = AugmentParams(scale=0.9, brightness=0.1, contrast=0.1, flip=0.0)
NOTHING = AugmentParams(scale=1.0, brightness=0.0, contrast=0.0, flip=0.0)
MIRROR = NOTHING.model_copy(update={"flip": 1.0})
IDS = [f"{number:064x}" for number in range(24)]
CPU = torch.device("cpu")


def crops(count: int = 24, *, height: int = 20, width: int = 28) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, height, width, 3), generator=generator).to(torch.uint8)


def one(**changes: Any) -> Draws:
    """Of one image: nothing, but for the changes."""
    nothing = {"left": 0, "top": 0, "width": 1, "height": 1, "brightness": 1, "contrast": 1}
    values = {name: np.array([float(value)]) for name, value in {**nothing, **changes}.items()}
    return Draws(**values, flipped=np.array([False]))


def test_no_augmentation_leaves_every_byte() -> None:
    given = crops()
    assert augmented(given, IDS, None, seed=0, epoch=1) is given
    assert torch.equal(augmented(given, IDS, NOTHING, seed=0, epoch=1), given)


@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_an_image_depends_on_seed_epoch_and_id_alone(flip: float) -> None:
    """Any batch, order and cut of it, to the byte."""
    params = MILD.model_copy(update={"flip": flip})
    given = crops()
    whole = augmented(given, IDS, params, seed=3, epoch=5)
    order = np.random.default_rng(0).permutation(24)
    for part in np.array_split(order, [1, 4, 15]):
        ids = [IDS[i] for i in part]
        again = augmented(given[torch.from_numpy(part)], ids, params, seed=3, epoch=5)
        assert torch.equal(again, whole[torch.from_numpy(part)])
    for other in ({"seed": 4, "epoch": 5}, {"seed": 3, "epoch": 6}):
        changed = (augmented(given, IDS, params, **other) != whole).flatten(1).any(dim=1)
        assert changed.all()


def test_neither_blocks_nor_torchs_generator_nor_threads_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = augmented(crops(), IDS, MILD, seed=0, epoch=1)
    torch.manual_seed(99)
    monkeypatch.setattr(augment, "BLOCK", 5 * crops(1).numel())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        again = augmented(crops(), IDS, MILD, seed=0, epoch=1)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(again, whole)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_bytes() -> None:
    params = MILD.model_copy(update={"flip": 0.5})
    here = augmented(crops(), IDS, params, seed=0, epoch=1)
    there = augmented(crops().cuda(), IDS, params, seed=0, epoch=1)
    assert torch.equal(there.cpu(), here)


def test_draws_keep_to_their_bounds_and_use_them() -> None:
    ids = [f"{number:064x}" for number in range(4000)]
    params = AugmentParams(scale=0.81, brightness=0.2, contrast=0.1, flip=0.25)
    draws = drawn(ids, params, seed=0, epoch=1)
    assert (draws.width * draws.height).min() >= 0.81
    for side, first in ((draws.width, draws.left), (draws.height, draws.top)):
        assert side.min() == pytest.approx(0.9, abs=1e-3)
        assert side.max() == pytest.approx(1.0, abs=1e-3)
        assert first.min() >= 0
        assert (first + side).max() <= 1
    assert draws.brightness.min() == pytest.approx(0.8, abs=1e-3)
    assert draws.brightness.max() == pytest.approx(1.2, abs=1e-3)
    assert draws.contrast.min() == pytest.approx(0.9, abs=1e-3)
    assert draws.flipped.mean() == pytest.approx(0.25, abs=0.03)
    table = np.corrcoef(np.stack([value.astype(float) for value in draws]))
    off = table[~np.eye(7, dtype=bool)]
    # width goes with the room left of it; all else is independent
    assert np.sort(np.abs(off))[:-4].max() < 0.06


def test_by_default_nothing_is_mirrored_and_little_is_cut(defaults: Params) -> None:
    params = defaults.finetune.augment
    assert params is not None
    assert params.flip == 0
    assert params.scale >= 0.9
    assert max(params.brightness, params.contrast) <= 0.1


def test_a_flip_is_the_mirror_image() -> None:
    assert torch.equal(augmented(crops(), IDS, MIRROR, seed=0, epoch=1), crops().flip(2))


def test_brightness_and_contrast_by_hand() -> None:
    """Two greys, 60 and 100, mean 80: contrast 1.5 makes 50 and 110, brightness 2 then 100, 220."""
    grey = torch.full((1, 8, 8, 3), 60, dtype=torch.uint8)
    grey[:, :, 4:] = 100
    both = augment.varied(grey, one(contrast=1.5, brightness=2))
    assert both[0, 0, 0].tolist() == [100] * 3
    assert both[0, 0, 7].tolist() == [220] * 3
    bright = augment.varied(grey, one(brightness=3))
    assert bright.max() == 255
    assert bright.min() == 180


def test_a_box_is_enlarged_as_pillow_does() -> None:
    """Smooth and hard parts, within a grey level of Pillow's bicubic away from the box's edges.

    At an edge, Pillow sees nothing beyond the box; here the picture goes on.
    """
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    picture = small.resize((64, 48), Image.Resampling.BICUBIC)
    left, top, width, height = 2.5, 1.25, 60.0, 45.5
    ours = augment.varied(
        torch.from_numpy(np.array(picture))[None],
        one(left=left / 64, top=top / 48, width=width / 64, height=height / 48),
    )[0].numpy()
    box = (left, top, left + width, top + height)
    theirs = np.array(picture.resize((64, 48), Image.Resampling.BICUBIC, box=box))
    apart = np.abs(ours.astype(int) - theirs.astype(int))[3:-3, 3:-3]
    assert apart.max() <= 2
    assert apart.mean() < 0.3
    assert np.abs(ours.astype(int) - np.array(picture).astype(int)).mean() > 1


def pairs_of(source: Path) -> pd.DataFrame:
    from pipeline.artifacts import sha256_of

    rows = pd.read_csv(source / "captions.csv")
    ids = [sha256_of(source / image) for image in rows.image]
    return rows.assign(image_id=ids, source_row=range(1, len(rows) + 1))


def seen(
    monkeypatch: pytest.MonkeyPatch, clip: Clip, source: Path, defaults: Params, **changes: Any
) -> list[Tensor]:
    """Each uint8 batch that a training normalises, in order."""
    found: list[Tensor] = []
    real = Clip.pixels

    def spied(self: Clip, given: Tensor) -> Tensor:
        found.append(given.clone())
        return real(self, given)

    monkeypatch.setattr(Clip, "pixels", spied)
    pairs = pairs_of(source)
    settings = {"epochs": 1, "batch_size": 16, "lr": 1e-9, "freeze_batch_norm": True, **changes}
    finetune.fit(
        clip, pairs, pairs, crops=Crops(clip, places_below(pairs, source)),
        params=defaults.finetune.model_copy(update=settings), seed=0, recalls=recalls,
        log=lambda values, step: None, device=CPU,
    )  # fmt: skip
    monkeypatch.setattr(Clip, "pixels", real)
    return found


def test_validation_sees_the_pictures_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tiny: Clip, pictures: Path, defaults: Params
) -> None:
    before, train, after = seen(monkeypatch, tiny, pictures, defaults)
    assert torch.equal(before, after)
    pairs = pairs_of(pictures)
    plain = Crops(tiny, places_below(pairs, pictures)).batch(sorted(pairs.image_id))
    assert torch.equal(before, plain)
    order = next(batches.epoch(batches.rows_by_image(pairs), batch_size=16, seed=0, number=1))
    unvaried = Crops(tiny, places_below(pairs, pictures)).batch(list(pairs.image_id[order]))
    assert 0 < (train.float() - unvaried.float()).abs().mean() < 30
    assert (train != unvaried).flatten(1).any(dim=1).all()


def test_both_passes_of_the_gradient_cache_see_the_same(
    monkeypatch: pytest.MonkeyPatch, tiny: Clip, pictures: Path, defaults: Params
) -> None:
    whole = seen(monkeypatch, tiny, pictures, defaults)[1]
    cut = seen(monkeypatch, tiny, pictures, defaults, micro_batch=6)[1:-1]
    assert [len(part) for part in cut] == [6, 6, 4, 6, 6, 4]
    assert torch.equal(torch.cat(cut[:3]), whole)
    assert torch.equal(torch.cat(cut[3:]), whole)


class Slow:
    """Crops that let the loop wait, on a clock of their own."""

    def __init__(self, clock: "Clock", *, wait: float) -> None:
        self._clock, self._wait = clock, wait
        self.waited_s, self.decoded = 0.0, 0
        self.expected: list[list[str]] = []

    def expect(self, image_ids: Any) -> None:
        self.expected.append(list(image_ids))

    def batch(self, image_ids: list[str]) -> Tensor:
        self._clock.now += self._wait
        self.waited_s += self._wait
        self.decoded += len(image_ids)
        return torch.zeros(len(image_ids), 4, 4, 3, dtype=torch.uint8)

    def flush(self) -> None:
        pass


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def an_epoch(shown: Pictures, clock: Clock, rows: list[Any], **which: int) -> Iterator[Any]:
    for batch in shown.epoch(iter(rows), number=1, **which):
        shown.batch(batch, CPU)
        clock.now += 1.0
        yield batch


ROWS = [np.array([0, 1, 2, 3]), np.array([4, 5, 6, 7]), np.array([8, 9, 10, 11])]


@pytest.mark.parametrize(("wait", "share"), [(0.1, 1 / 11), (1.0, 0.5)])
def test_an_epoch_tells_what_share_of_it_was_waiting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wait: float, share: float
) -> None:
    clock = Clock()
    monkeypatch.setattr(pictures, "time", clock)
    slow = Slow(clock, wait=wait)
    shown = Pictures(slow, np.array(IDS, dtype=object), None, seed=0)  # type: ignore[arg-type]
    told = [list(an_epoch(shown, clock, ROWS)) for _ in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(told[0], ROWS, strict=True))
    assert shown.wait_s == pytest.approx(3 * wait)
    assert shown.step_s == pytest.approx(3.0)
    assert shown.wait_share == pytest.approx(share)
    said = capsys.readouterr()
    line = "data is the bottleneck: 50% of epoch 1 went by in waiting for pictures, 12 of which"
    assert (line in said.out + said.err) == (share > 0.1)


def test_the_next_batch_is_asked_for_before_this_one_is_computed() -> None:
    clock = Clock()
    slow = Slow(clock, wait=0)
    shown = Pictures(slow, np.array(IDS, dtype=object), None, seed=0)  # type: ignore[arg-type]
    list(an_epoch(shown, clock, ROWS, part=1, of=2))
    named = [[IDS.index(id_) for id_ in ids] for ids in slow.expected]
    assert named == [[2, 3, 6, 7], [6, 7, 10, 11], [10, 11], []]
