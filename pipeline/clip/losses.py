"""Contrastive losses in which a twin is a positive.

Shapes: I images, T texts (I = T = B in a batch of pairs), D width of an embedding.
"""

import torch
from torch import Tensor


def same(codes_I: Tensor, codes_T: Tensor) -> Tensor:
    """Which of I codes equal which of T codes: bool I×T."""
    return codes_I[:, None] == codes_T[None, :]


def positives(image_codes_B: Tensor, caption_codes_B: Tensor) -> Tensor:
    """Pairs of rows that share an image or a caption, each row with itself included: bool B×B."""
    return same(image_codes_B, image_codes_B) | same(caption_codes_B, caption_codes_B)


def info_nce(image_ID: Tensor, text_TD: Tensor, scale: Tensor, positive_IT: Tensor) -> Tensor:
    """Symmetric InfoNCE with several positives a row, each contrasted with the negatives alone.

    For a row with positives P and negatives N the loss is the mean over p in P of
    −log(e^s_p / (e^s_p + Σ_N e^s_n)). Where each row has one positive, this is CLIP's loss (Radford
    et al. 2021, arXiv:2103.00020). A positive stands in no other positive's denominator: with the
    usual target spread evenly over P (Khosla et al. 2020, arXiv:2004.11362; Yang et al. 2022,
    arXiv:2204.03610) identical twins still compete, and value and gradient are those of CLIP's own
    loss, which takes them for negatives.

    Embeddings are of unit length; `scale` is the factor, not its logarithm.
    """
    logits_IT = scale * image_ID @ text_TD.T
    by_image = _contrast(logits_IT, positive_IT)
    by_text = _contrast(logits_IT.T, positive_IT.T)
    return torch.stack([by_image, by_text]).mean()


def _contrast(logits_QK: Tensor, positive_QK: Tensor) -> Tensor:
    """Mean over queries Q of the mean over each one's positive keys; a row of positives costs 0."""
    nothing = torch.finfo(logits_QK.dtype).min
    negatives_Q1 = logits_QK.masked_fill(positive_QK, nothing).logsumexp(1, keepdim=True)
    zero = torch.zeros_like(logits_QK)
    cost_QK = torch.logaddexp(zero, negatives_Q1 - logits_QK)
    weight_QK = positive_QK.to(logits_QK.dtype)
    return ((cost_QK * weight_QK).sum(1) / weight_QK.sum(1)).mean()
