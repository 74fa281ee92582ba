import itertools

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import Tensor

from pipeline.clip.losses import info_nce, positives

CODES = torch.arange(6)


def batch(seed: int = 0, rows: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    image, text = (F.normalize(torch.randn(rows, 8, dtype=torch.float64), dim=1) for _ in "it")
    return image.requires_grad_(), text.requires_grad_(), torch.tensor(14.0, dtype=torch.float64)


def test_with_unique_pairs_it_is_open_clips_loss_in_value_and_gradient() -> None:
    image, text, scale = batch()
    mine = info_nce(image, text, scale, positives(CODES, CODES))
    mine_grad = torch.autograd.grad(mine, [image, text])
    theirs = ClipLoss()(image, text, scale)
    their_grad = torch.autograd.grad(theirs, [image, text])
    assert abs(mine.item() - theirs.item()) < 1e-12
    for a, b in zip(mine_grad, their_grad, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_a_batch_of_four_by_hand() -> None:
    """Rows 0 and 1 share a caption; logits are 0 but for ln 2 on the diagonal.

    A row of logits has exponentials 2, 1, 1, 1: the diagonal's probability is 2/5, another's 1/5.
    Rows 0 and 1 spread over two positives: −½(ln 2/5 + ln 1/5); rows 2 and 3: −ln 2/5.
    """
    image = torch.eye(4, dtype=torch.float64)
    scale = torch.log(torch.tensor(2.0, dtype=torch.float64))
    mask = positives(torch.arange(4), torch.tensor([7, 7, 8, 9]))
    two, one = torch.log(torch.tensor([0.4, 0.2], dtype=torch.float64))
    expected = (2 * -(two + one) / 2 + 2 * -two) / 4
    assert abs(info_nce(image, image, scale, mask).item() - expected.item()) < 1e-12


def test_a_twin_is_not_pushed_away() -> None:
    """With its twin a negative, a row's gradient moves it from the twin; as a positive, to it."""
    image, text, scale = batch(rows=2)
    with torch.no_grad():
        text[1] = text[0]
    apart = torch.autograd.grad(info_nce(image, text, scale, torch.eye(2) > 0), image)[0]
    together = torch.autograd.grad(info_nce(image, text, scale, torch.ones(2, 2) > 0), image)[0]
    assert apart.abs().max() < 1e-9 + together.abs().max() or torch.allclose(apart, together)
    loss_apart = info_nce(image, text, scale, torch.eye(2) > 0)
    assert loss_apart.item() > torch.log(torch.tensor(2.0)).item() - 1e-9


@pytest.mark.parametrize("order", list(itertools.permutations(range(6)))[::143])
def test_permuting_pairs_changes_nothing(order: tuple[int, ...]) -> None:
    image, text, scale = batch()
    images, captions = torch.tensor([0, 0, 1, 2, 3, 4]), torch.tensor([0, 1, 1, 2, 3, 3])
    rows = torch.tensor(order)
    before = info_nce(image, text, scale, positives(images, captions))
    after = info_nce(image[rows], text[rows], scale, positives(images[rows], captions[rows]))
    assert abs(before.item() - after.item()) < 1e-12


def test_positives_are_rows_that_share_image_or_caption() -> None:
    found = positives(torch.tensor([0, 0, 1, 2]), torch.tensor([5, 6, 6, 7]))
    assert found.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
