import itertools
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor

from pipeline.clip.losses import Codes, SameLabel, info_nce, masks, positives, sigmoid

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


def fp64(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_with_unique_pairs_the_sigmoid_loss_is_open_clips_in_value_and_gradient() -> None:
    image, text, _ = batch()
    scale, bias = fp64(10.0), fp64(-10.0)
    mine = sigmoid(image, text, scale, bias, positives(CODES, CODES))
    theirs = SigLipLoss()(image, text, scale, bias)
    wanted = [image, text, scale, bias]
    assert abs(mine.item() - theirs.item()) < 1e-12
    for a, b in zip(
        torch.autograd.grad(mine, wanted), torch.autograd.grad(theirs, wanted), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_the_scales_gradient_is_open_clips() -> None:
    image, text, _ = batch()
    scale = fp64(14.0)
    mine = torch.autograd.grad(info_nce(image, text, scale, positives(CODES, CODES)), scale)[0]
    theirs = torch.autograd.grad(ClipLoss()(image, text, scale), scale)[0]
    assert abs(mine.item() - theirs.item()) < 1e-12


def test_the_sigmoid_loss_of_a_batch_of_four_by_hand() -> None:
    """Logits ln 2 on the diagonal, 0 elsewhere, less ln 4: σ is 1/3 there and 1/5 elsewhere.

    Rows 0 and 1 share a caption: 4 own pairs cost ln 3 each, the 2 twin pairs ln 5, the 10 others
    −ln(4/5). By 4 images.
    """
    image = torch.eye(4, dtype=torch.float64)
    scale, bias = fp64(math.log(2)), fp64(-math.log(4))
    mask = positives(torch.arange(4), torch.tensor([7, 7, 8, 9]))
    loss = sigmoid(image, image, scale, bias, mask)
    expected = (4 * math.log(3) + 2 * math.log(5) + 10 * math.log(5 / 4)) / 4
    assert abs(loss.item() - expected) < 1e-12
    # d/ds of −ln σ(s) is σ(s) − 1, of −ln σ(−s) it is σ(s): −2/3, −4/5 and 1/5.
    by_bias = (4 * -2 / 3 + 2 * -4 / 5 + 10 * 1 / 5) / 4
    by_scale = 4 * (-2 / 3) / 4  # only the diagonal has a cosine
    found = torch.autograd.grad(loss, [scale, bias])
    assert [g.item() for g in found] == pytest.approx([by_scale, by_bias], abs=1e-12)


def test_ignored_pairs_by_hand() -> None:
    """As above, and rows 2 and 3 share a label that is ignored: no negatives of each other."""
    image = torch.eye(4, dtype=torch.float64)
    codes = Codes(torch.arange(4), torch.tensor([7, 7, 8, 9]), torch.tensor([-1, -1, 5, 5]))
    found = masks(codes, codes, same_label="ignore")
    contrast = info_nce(image, image, fp64(math.log(2)), found.positive, ignored_IT=found.ignored)
    assert abs(contrast.item() - ((math.log(2) + math.log(3)) + 2 * math.log(2)) / 4) < 1e-12
    asked = sigmoid(
        image,
        image,
        fp64(math.log(2)),
        fp64(-math.log(4)),
        found.positive,
        ignored_IT=found.ignored,
    )
    expected = (4 * math.log(3) + 2 * math.log(5) + 8 * math.log(5 / 4)) / 4
    assert abs(asked.item() - expected) < 1e-12


def test_an_ignored_positive_is_neither_and_a_row_without_positives_costs_nothing() -> None:
    image = torch.eye(3, dtype=torch.float64).requires_grad_()
    ignored = torch.zeros(3, 3, dtype=torch.bool)
    ignored[0, 0] = True
    mask = torch.eye(3, dtype=torch.bool)
    loss = info_nce(image, image, fp64(math.log(2)), mask, ignored_IT=ignored)
    assert abs(loss.item() - 2 / 3 * math.log(1 + 2 / 2)) < 1e-12
    assert torch.isfinite(torch.autograd.grad(loss, image)[0]).all()
    asked = sigmoid(image, image, fp64(0.0), fp64(0.0), mask, ignored_IT=ignored)
    assert abs(asked.item() - 8 * math.log(2) / 3) < 1e-12


@pytest.mark.parametrize("same_label", ["positive", "ignore", "negative"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(6)))[::143])
def test_permuting_pairs_changes_neither_loss(
    order: tuple[int, ...], same_label: SameLabel
) -> None:
    image, text, scale = batch()
    codes = Codes(
        torch.tensor([0, 0, 1, 2, 3, 4]),
        torch.tensor([0, 1, 1, 2, 3, 3]),
        torch.tensor([0, -1, 2, 2, -1, 0]),
    )
    rows = torch.tensor(order)
    moved = Codes(*(column[rows] for column in codes))
    before, after = (masks(c, c, same_label=same_label) for c in (codes, moved))
    for loss in (info_nce, partial(sigmoid, bias=fp64(-3.0))):
        one = loss(image, text, scale, positive_IT=before[0], ignored_IT=before[1])
        other = loss(image[rows], text[rows], scale, positive_IT=after[0], ignored_IT=after[1])
        assert abs(one.item() - other.item()) < 1e-12


def test_masks_from_labels() -> None:
    """Rows 0 and 1 are twins with one label, 2 shares it; 3 and 4 have none."""
    codes = Codes(torch.tensor([0, 0, 1, 2, 3]), torch.arange(5), torch.tensor([7, 7, 7, -1, -1]))
    twins = [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    alike = [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    between = [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [1, 1, 0, 0, 0], [0] * 5, [0] * 5]
    negative = masks(codes, codes, same_label="negative")
    assert (negative.positive.int().tolist(), negative.ignored) == (twins, None)
    positive = masks(codes, codes, same_label="positive")
    assert (positive.positive.int().tolist(), positive.ignored) == (alike, None)
    ignore = masks(codes, codes, same_label="ignore")
    assert ignore.positive.int().tolist() == twins
    assert ignore.ignored is not None
    assert ignore.ignored.int().tolist() == between


def test_masks_of_a_few_rows_are_rows_of_the_masks() -> None:
    codes = Codes(
        torch.tensor([0, 0, 1, 2]), torch.tensor([5, 6, 6, 7]), torch.tensor([1, 2, 3, 1])
    )
    some = Codes(*(column[1:3] for column in codes))
    whole, part = (masks(c, codes, same_label="ignore") for c in (codes, some))
    for a, b in zip(whole, part, strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a[1:3], b)
    without = Codes(codes.image, codes.caption)
    assert masks(without, without, same_label="ignore").ignored is None


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["info_nce", "sigmoid"])
def test_bf16_embeddings_at_scale_100_are_as_exact_as_their_own_rounding(
    name: str, autocast: bool
) -> None:
    """Nearest pairs at cosine 1: the logits lie at ±100, where a bf16 logit is off by ¼."""
    image, text, _ = batch(rows=64)
    with torch.no_grad():
        text[:32] = image[:32]
        text[32:48] = -image[32:48]
    codes = torch.arange(64) // 2
    results = []
    for dtype, wide in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        ends = [x.detach().to(torch.bfloat16).to(dtype).requires_grad_() for x in (image, text)]
        scale, bias = (torch.tensor(v, dtype=wide, requires_grad=True) for v in (100.0, -10.0))
        more = (bias,) if name == "sigmoid" else ()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = {"info_nce": info_nce, "sigmoid": sigmoid}[name](
                *ends, scale, *more, positive_IT=positives(codes, codes)
            )
        results.append((loss, torch.autograd.grad(loss, [*ends, scale, *more])))
    (low, low_grads), (exact, exact_grads) = results
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(exact.item(), rel=1e-5)
    for a, b in zip(low_grads, exact_grads, strict=True):
        assert torch.isfinite(a).all()
        assert torch.allclose(a.double(), b, rtol=1e-2, atol=1e-5 * b.abs().max().item())
