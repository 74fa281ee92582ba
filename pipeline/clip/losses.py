"""Contrastive losses in which a twin is a positive.

Shapes: I images, T texts (I = T = B in a batch of pairs), D width of an embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def same(codes_I: Tensor, codes_T: Tensor) -> Tensor:
    """Which of I codes equal which of T codes: bool I×T."""
    return codes_I[:, None] == codes_T[None, :]


def positives(image_codes_B: Tensor, caption_codes_B: Tensor) -> Tensor:
    """Pairs of rows that share an image or a caption, each row with itself included: bool B×B."""
    return same(image_codes_B, image_codes_B) | same(caption_codes_B, caption_codes_B)


def info_nce(image_ID: Tensor, text_TD: Tensor, scale: Tensor, positive_IT: Tensor) -> Tensor:
    """Symmetric InfoNCE with several positives a row.

    Each row's target is spread evenly over its positives, as in UniCL (Yang et al. 2022,
    arXiv:2204.03610); where each row has one positive, this is CLIP's loss (Radford et al. 2021,
    arXiv:2103.00020). Embeddings are of unit length; `scale` is the factor, not its logarithm.
    """
    logits_IT = scale * image_ID @ text_TD.T
    target_IT = positive_IT.to(logits_IT.dtype)
    by_image = F.cross_entropy(logits_IT, target_IT / target_IT.sum(1, keepdim=True))
    target_TI = target_IT.T
    by_text = F.cross_entropy(logits_IT.T, target_TI / target_TI.sum(1, keepdim=True))
    return torch.stack([by_image, by_text]).mean()
