"""What is locked keeps every bit, and the rest learns."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.clip.layers import layers
from pipeline.clip.model import Clip
from pipeline.errors import ConfigError, ModelError
from pipeline.training import optim
from pipeline.training.locking import Extent, lock
from tests import small

RESNET = {"layers": (1, 1, 1, 1), "patch_size": None, "width": 8, "image_size": 32}


def locked(model: nn.Module) -> set[str]:
    return {name for name, weight in model.named_parameters() if not weight.requires_grad}


def loss(model: nn.Module) -> Tensor:
    pixels, tokens = small.inputs()
    image, text, scale = model(pixels, tokens)[:3]
    return F.cross_entropy(scale * image @ text.T, torch.arange(len(image)))


def train(model: nn.Module, steps: int = 3) -> None:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.5)
    optim.train_mode(model, freeze_batch_norm=False)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss(model).backward()
        optimizer.step()


@pytest.mark.parametrize("vision", [None, RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize(
    ("image", "text"),
    [("all", None), (None, "all"), ("all", 1), (1, None), (0, 0), (2, 2), (None, None)],
)
def test_locked_parts_keep_every_bit_and_the_others_move(
    vision: dict[str, Any] | None, image: Extent, text: Extent
) -> None:
    torch.manual_seed(0)
    model = small.vit(vision=vision)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("bn3.weight", "in_proj_bias")):
                weight.normal_()  # zero at first, which would keep gradients from what is before
    placed = layers(model)
    lock(model, image=image, text=text)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model)
    extents = {"image": image, "text": text, "scale": None}
    seen = set()
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        module = name.rpartition(".")[0]
        at = placed.get(name) or placed[f"{module}.weight"]  # statistics stand beside the gain
        extent = extents[at.tower]
        still = extent == "all" or (extent is not None and at.depth <= extent)
        assert torch.equal(value, before[name]) == still, name
        seen.add((at.tower, still))
    for tower in ("image", "text"):
        assert ((tower, True) in seen) == (extents[tower] is not None)
        assert ((tower, False) in seen) == (extents[tower] != "all")


def test_a_locked_tower_builds_no_graph() -> None:
    model = small.vit(blocks=3)
    lock(model, image="all", text=2)
    optim.train_mode(model, freeze_batch_norm=False)
    graphs = {}
    for i, block in enumerate(model.transformer.resblocks):
        block.register_forward_hook(
            lambda module, args, out, i=i: graphs.update({i: out.grad_fn is not None})
        )
    image, text, _ = model(*small.inputs())[:3]
    assert image.grad_fn is None
    assert text.grad_fn is not None
    assert graphs == {0: False, 1: False, 2: True}


def test_a_locked_part_is_as_at_evaluation() -> None:
    model = small.vit(vision={**RESNET})
    dropout = nn.Dropout(0.5)
    model.visual.layer1.add_module("dropout", dropout)
    lock(model, image=2, text=None)
    optim.train_mode(model, freeze_batch_norm=False)
    modes = [getattr(model.visual, f"layer{i}").training for i in (1, 2, 3, 4)]
    assert modes == [False, False, True, True]
    assert not dropout.training
    assert model.training
    assert model.transformer.training
    assert model.visual.training


def test_what_is_locked_is_said_by_depth(tiny: Clip) -> None:
    lock(tiny.model, image=1, text=0)
    names = locked(tiny.model)
    assert {"visual.conv1.weight", "visual.bn3.bias", "visual.layer1.0.conv1.weight"} <= names
    assert "visual.layer2.0.conv1.weight" not in names
    assert {n for n in names if not n.startswith("visual.")} == {
        "token_embedding.weight", "positional_embedding",
    }  # fmt: skip


@pytest.mark.parametrize("image", [-1, 3])
def test_a_block_that_is_not_there_is_refused(image: int) -> None:
    model = small.vit()
    message = rf"lock\.image is {image}, and the image tower has 2 blocks: .* to 2, all, or null"
    with pytest.raises(ConfigError, match=message):
        lock(model, image=image, text=None)
    assert not locked(model)


def test_two_towers_wholly_locked_are_refused_unless_something_else_trains() -> None:
    model = small.vit()
    with pytest.raises(ConfigError, match=r"lock\.image is all and lock\.text is all, so that"):
        lock(model, image="all", text="all")
    assert not locked(model)
    model.add_module("head", nn.Linear(2, 2))
    lock(model, image="all", text="all")
    trains = {name for name, _ in model.named_parameters()} - locked(model)
    assert trains == {"head.weight", "head.bias", "logit_scale"}


def test_a_tower_without_known_blocks_can_be_locked_whole() -> None:
    model = small.vit()
    model.visual = nn.ModuleDict({"stem": nn.Linear(2, 2)})
    with pytest.raises(ModelError, match=r"lock\.image: 1 needs the blocks of the image tower"):
        lock(model, image=1, text=None)
    lock(model, image="all", text=None)
    assert locked(model) == {"visual.stem.weight", "visual.stem.bias"}
