import itertools
import math

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

    Exponentials are 2 on the diagonal and 1 elsewhere. Rows 0 and 1 have two negatives, in sum 2:
    their own pair costs ln(1 + 2/2), their twin ln(1 + 2/1). Rows 2 and 3 have three: ln(1 + 3/2).
    """
    image = torch.eye(4, dtype=torch.float64)
    scale = torch.log(torch.tensor(2.0, dtype=torch.float64))
    mask = positives(torch.arange(4), torch.tensor([7, 7, 8, 9]))
    expected = (2 * (math.log(2) + math.log(3)) / 2 + 2 * math.log(2.5)) / 4
    assert abs(info_nce(image, image, scale, mask).item() - expected) < 1e-12


def test_a_twin_is_pulled_where_clips_loss_pushes_it_away() -> None:
    """Two pictures under one caption, the first already nearest: CLIP's loss moves it away."""
    text = F.normalize(torch.tensor([[1.0, 0], [1, 0], [0, 1]], dtype=torch.float64), dim=1)
    image = F.normalize(torch.tensor([[1.0, 0.1], [1, 0.9], [0, 1]], dtype=torch.float64), dim=1)
    image.requires_grad_()
    scale = torch.tensor(10.0, dtype=torch.float64)
    mask = positives(torch.arange(3), torch.tensor([5, 5, 6]))
    mine = torch.autograd.grad(info_nce(image, text, scale, mask), image)[0]
    theirs = torch.autograd.grad(ClipLoss()(image, text, scale), image)[0]
    towards = text[0]
    assert (theirs[0] @ towards).item() > 0.1  # a step against the gradient leaves the caption
    assert (mine[0] @ towards).item() <= 0
    assert (mine[1] @ towards).item() < -0.1


def test_a_batch_of_twins_costs_nothing_and_has_a_gradient() -> None:
    image, text, scale = batch(rows=3)
    same = torch.zeros(3, dtype=torch.long)
    loss = info_nce(image, text, scale, positives(same, same))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, image)[0].abs().max().item() == 0


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


def test_a_target_spread_over_twins_is_clips_loss_again() -> None:
    """Why positives don't compete here: for identical twins a soft target changes nothing."""
    image, text, scale = batch(rows=4)
    with torch.no_grad():
        text[1] = text[0]
    mask = positives(torch.arange(4), torch.tensor([5, 5, 6, 7])).double()
    logits = scale * image @ text.T
    by_image = F.cross_entropy(logits, mask / mask.sum(1, keepdim=True))
    by_text = F.cross_entropy(logits.T, mask / mask.sum(1, keepdim=True))
    spread = (by_image + by_text) / 2
    theirs = ClipLoss()(image, text, scale)
    assert abs(spread.item() - theirs.item()) < 1e-12
    for a, b in zip(
        torch.autograd.grad(spread, image), torch.autograd.grad(theirs, image), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-12)
    assert abs(info_nce(image, text, scale, mask > 0).item() - theirs.item()) > 0.01
