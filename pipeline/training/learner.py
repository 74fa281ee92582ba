"""A model as it learns: two functions from rows to embeddings, and a loss of both.

Shapes: B rows of a batch, D width of an embedding.
"""

from typing import Any, NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.clip import device as devices
from pipeline.clip.losses import Codes, LossName, SameLabel
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.clip.trimmed import encode_text, trimmed
from pipeline.data.pairs import caption_key
from pipeline.sections import AugmentParams
from pipeline.training import batches
from pipeline.training.distributed import World, share
from pipeline.training.known import NOTHING, Known
from pipeline.training.pictures import Pictures

BLOCK = 1024
"""Rows of logits in memory at once."""


class Data(NamedTuple):
    """The training pairs: what the model sees of each, and what tells twins."""

    image_ids: Any
    captions: Any
    codes: Codes


def coded(pairs: pd.DataFrame) -> Data:
    """Pairs of the same picture, or of pictures that are nearly the same, have one image code."""
    group = pairs["image_id"]
    if "image_group" in pairs:
        group = pairs["image_group"].where(pairs["image_group"].notna(), pairs["image_id"])
    label = None
    if "label" in pairs and pairs["label"].notna().any():
        label = torch.from_numpy(batches.codes(pairs["label"]))
    return Data(
        pairs["image_id"].to_numpy(dtype=object),
        pairs["caption"].to_numpy(dtype=object),
        Codes(
            torch.from_numpy(batches.codes(group)),
            torch.from_numpy(batches.codes(pairs["caption"].map(caption_key))),
            label,
        ),
    )


class Learner:
    """The model, its training pairs, and how both meet.

    Attributes:
        pictures: what the model sees of each row.
        loss: which loss the model learns by.
        device: where the model is.
    """

    def __init__(
        self,
        clip: Clip,
        data: Data,
        crops: Crops,
        *,
        augment: AugmentParams | None,
        seed: int,
        precision: str,
        loss: LossName,
        same_label: SameLabel,
        device: torch.device,
        world: World,
        known: Known = NOTHING,
        even: bool = False,
    ) -> None:
        """Learn from `data`; nothing is moved or changed here. What is `known` is looked up.

        `even`: texts come in few shapes, for towers that are compiled for each.
        """
        self._clip, self._data = clip, data
        self.pictures = Pictures(
            crops, data.image_ids, augment, seed=seed, ahead=known.images is None
        )
        self._precision, self._same_label = precision, same_label
        self._world, self._known, self._even = world, known, even
        self.device, self.loss = device, loss

    @property
    def model(self) -> Any:
        """The module that trains."""
        return self._clip.model

    def images(self, rows: batches.Rows) -> Tensor:
        """The images of B rows → B×D of unit length, with a graph where they train."""
        if self._known.images is not None:
            return self._known.images.of(self._data.image_ids[rows])
        pixels = self._clip.pixels(self.pictures.batch(rows, self.device))
        with devices.autocast(self.device, self._precision):
            return F.normalize(self.model.encode_image(pixels), dim=-1).float()

    def texts(self, rows: batches.Rows) -> Tensor:
        """The captions of B rows → B×D of unit length, with a graph where they train."""
        if self._known.texts is not None:
            return self._known.texts.of(self._data.captions[rows])
        tokens = self._clip.tokenizer(list(self._data.captions[rows]))
        texts = trimmed(self.model, tokens, even=self._even).to(self.device)
        with devices.autocast(self.device, self._precision):
            return encode_text(self.model, texts).float()

    def cost(self, image_BD: Tensor, text_BD: Tensor, rows: batches.Rows) -> Tensor:
        """This process's share of the loss, for the embeddings of its B rows."""
        image, caption, label = self._data.codes
        codes = Codes(
            image[rows].to(self.device),
            caption[rows].to(self.device),
            None if label is None else label[rows].to(self.device),
        )
        loss = share(
            self.loss,
            image_BD,
            text_BD,
            codes,
            scale=self.model.logit_scale.float().exp(),
            bias=self.model.logit_bias if self.loss == "sigmoid" else None,
            same_label=self._same_label,
            world=self._world,
            block=BLOCK,
        )
        if self._known.pull is None:
            return loss
        return loss + self._known.pull.share(
            image_BD, text_BD, image_ids=self._data.image_ids[rows],
            captions=self._data.captions[rows], world=self._world,
        )  # fmt: skip
