"""Contrastive losses in which a twin is a positive.

Shapes: I images, T texts (I = T = B in a batch of pairs), D width of an embedding; Q rows that look
for their positives among K rows of the other kind.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SameLabel = Literal["positive", "ignore", "negative"]
"""What a pair of rows counts as that shares a label, but neither image nor caption."""

LossName = Literal["info_nce", "sigmoid"]


class Codes(NamedTuple):
    """Numbers of B rows: what is equal has one number.

    Attributes:
        image: of the image, or of the group of pictures that are nearly the same.
        caption: of the normalised caption.
        label: of the label, negative where a row has none; None where no row has one.
    """

    image: Tensor
    caption: Tensor
    label: Tensor | None = None


class Masks(NamedTuple):
    """Which pairs attract and which count neither way, bool Q×K; all others are negatives."""

    positive: Tensor
    ignored: Tensor | None = None


def same(codes_I: Tensor, codes_T: Tensor) -> Tensor:
    """Which of I codes equal which of T codes: bool I×T."""
    return codes_I[:, None] == codes_T[None, :]


def positives(image_codes_B: Tensor, caption_codes_B: Tensor) -> Tensor:
    """Pairs of rows that share an image or a caption, each row with itself included: bool B×B."""
    codes = Codes(image_codes_B, caption_codes_B)
    return masks(codes, codes, same_label="negative").positive


def masks(rows: Codes, columns: Codes, *, same_label: SameLabel) -> Masks:
    """The masks of Q rows against K columns; a twin is positive whatever its label.

    Rows without a label share none.
    """
    twin_QK = same(rows.image, columns.image) | same(rows.caption, columns.caption)
    if same_label == "negative" or rows.label is None or columns.label is None:
        return Masks(twin_QK)
    alike_QK = same(rows.label, columns.label) & (rows.label >= 0)[:, None]
    if same_label == "positive":
        return Masks(twin_QK | alike_QK)
    return Masks(twin_QK, alike_QK & ~twin_QK)


def info_nce(
    image_ID: Tensor,
    text_TD: Tensor,
    scale: Tensor,
    positive_IT: Tensor,
    *,
    ignored_IT: Tensor | None = None,
) -> Tensor:
    """Symmetric InfoNCE with several positives a row, each contrasted with the negatives alone.

    For a row with positives P and negatives N the loss is the mean over p in P of
    −log(e^s_p / (e^s_p + Σ_N e^s_n)). Where each row has one positive, this is CLIP's loss (Radford
    et al. 2021, arXiv:2103.00020). A positive stands in no other positive's denominator: with the
    usual target spread evenly over P (Khosla et al. 2020, arXiv:2004.11362; Yang et al. 2022,
    arXiv:2204.03610) identical twins still compete, and value and gradient are those of CLIP's own
    loss, which takes them for negatives.

    Embeddings are of unit length; `scale` is the factor, not its logarithm. An ignored pair is
    neither in P nor in N, even where it is in `positive_IT` too; a row without positives costs 0.
    """
    logits_IT = logits(image_ID, text_TD, scale)
    ignored_TI = None if ignored_IT is None else ignored_IT.T
    by_image = contrast_rows(logits_IT, Masks(positive_IT, ignored_IT)).mean()
    by_text = contrast_rows(logits_IT.T, Masks(positive_IT.T, ignored_TI)).mean()
    return torch.stack([by_image, by_text]).mean()


def sigmoid(
    image_ID: Tensor,
    text_TD: Tensor,
    scale: Tensor,
    bias: Tensor,
    positive_IT: Tensor,
    *,
    ignored_IT: Tensor | None = None,
) -> Tensor:
    """SigLIP's loss (Zhai et al. 2023, arXiv:2303.15343) with several positives a row.

    Each pair is a yes-or-no question of its own: −Σ log σ(±(scale · cosine + bias)) over all pairs,
    by the number of images; an ignored pair is not asked. Embeddings are of unit length; `scale` is
    the factor, not its logarithm.
    """
    return sigmoid_rows(
        logits(image_ID, text_TD, scale, bias), Masks(positive_IT, ignored_IT)
    ).mean()


def logits(query_QD: Tensor, key_KD: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scaled cosines Q×K in fp32 or wider, under autocast too: in bf16 one near 100 is off by ¼."""
    wide = torch.promote_types(query_QD.dtype, torch.float32)
    with torch.autocast(query_QD.device.type, enabled=False):
        logits_QK = scale * query_QD.to(wide) @ key_KD.to(wide).T
    return logits_QK if bias is None else logits_QK + bias


def contrast_rows(logits_QK: Tensor, kinds: Masks) -> Tensor:
    """InfoNCE's cost of each query, in one direction; a row of positives costs 0."""
    positive_QK, ignored_QK = kinds
    apart_QK = positive_QK
    if ignored_QK is not None:
        positive_QK, apart_QK = positive_QK & ~ignored_QK, positive_QK | ignored_QK
    nothing = torch.finfo(logits_QK.dtype).min
    negatives_Q1 = logits_QK.masked_fill(apart_QK, nothing).logsumexp(1, keepdim=True)
    zero = logits_QK.new_zeros(())
    cost_QK = torch.logaddexp(zero, negatives_Q1 - logits_QK)
    weight_QK = positive_QK.to(logits_QK.dtype)
    return (cost_QK * weight_QK).sum(1) / weight_QK.sum(1).clamp(min=1)


def sigmoid_rows(logits_QK: Tensor, kinds: Masks) -> Tensor:
    """SigLIP's cost of each query: the sum over its keys."""
    positive_QK, ignored_QK = kinds
    cost_QK = -F.logsigmoid(torch.where(positive_QK, logits_QK, -logits_QK))
    if ignored_QK is not None:
        cost_QK = cost_QK.masked_fill(ignored_QK, 0)
    return cost_QK.sum(1)


class Loss(NamedTuple):
    """A loss as a mean over rows, so that it can be summed up in blocks of them.

    Attributes:
        rows: logits Q×K and their masks → the cost of each of Q rows.
        both_ways: whether it is the mean of images' rows and texts' rows; else images' rows alone.
    """

    rows: Callable[[Tensor, Masks], Tensor]
    both_ways: bool


LOSSES: Mapping[LossName, Loss] = {
    "info_nce": Loss(contrast_rows, both_ways=True),
    "sigmoid": Loss(sigmoid_rows, both_ways=False),
}
