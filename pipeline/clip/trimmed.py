"""Texts of a training batch: each distinct one through the tower once, cut to what is read.

A causal tower that reads out at the end token never looks past it, and most captions end long
before the context does: with 20 tokens of 77 the text tower has a quarter of its work left. Loss
and gradients are those of the whole forward; tests/clip/test_trimmed.py says so.

Shapes: B texts of a batch, U distinct ones, L tokens as the tokenizer gives them, K ≤ L as they are
read, D width of an embedding.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.clip.towers import read_lengths, shortened

EVEN = 16
"""Tokens: a context of 77 has five lengths then."""


class Texts(NamedTuple):
    """A batch of texts without what repeats.

    Attributes:
        tokens: U×K, distinct rows in an order that is theirs, not the batch's.
        which: for each of B texts the row of `tokens` that holds it.
    """

    tokens: Tensor
    which: Tensor

    def to(self, device: torch.device) -> "Texts":
        """The same on another device."""
        return Texts(*(part.to(device, non_blocking=True) for part in self))


def trimmed(model: nn.Module, tokens: Tensor, *, even: bool = False) -> Texts:
    """Tokens B×L → the distinct texts, all cut to what `model` reads of the longest.

    `even`: all B of them, cut to a multiple of `EVEN` tokens, so that few shapes occur.

    Call it where the tokens come from, on the host: on a GPU it would wait for the device. Towers
    that look at the whole text get the whole text.
    """
    longest = int(read_lengths(model, tokens).max())
    if even:
        return Texts(tokens[:, : -(-longest // EVEN) * EVEN], torch.arange(len(tokens)))
    return Texts(*torch.unique(tokens[:, :longest], dim=0, return_inverse=True))


def encode_text(model: nn.Module, texts: Texts) -> Tensor:
    """What `model.encode_text(tokens, normalize=True)` gives for the B texts, B×D; differentiable.

    Where a tower has dropout, texts that are equal share what is dropped.
    """
    tower = shortened(model, texts.tokens.shape[1])
    features: Tensor = tower.encode_text(texts.tokens, normalize=True)  # type: ignore[operator]
    return features.index_select(0, texts.which)
