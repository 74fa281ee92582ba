"""Training where there is a GPU (`pytest -m gpu`): bf16, the same bits again, NCCL, compile.

What needs no GPU to be shown is shown on a CPU, by the other tests.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.clip import model as clip_model
from pipeline.clip.model import Clip
from pipeline.clip.pixels import Crops
from pipeline.data.places import places_below
from pipeline.params import Params
from pipeline.training import compiling, distributed, health, optim, rates
from pipeline.training.distributed import ALONE, World
from pipeline.training.finetune import _backward
from pipeline.training.learner import Learner, coded
from tests.training.test_finetune import pairs_of, run
from tests.training.test_known import VIT, params_of

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def kernels_as_before() -> Iterator[None]:
    """Deterministic kernels are a setting of the process."""
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def vit(folder: Path) -> Clip:
    """A small ViT without dropout, the same each time."""
    file = folder / "vit-gpu.json"
    vision = {**VIT["vision_cfg"], "patch_dropout": 0.0}
    file.write_text(json.dumps({**VIT, "vision_cfg": vision}))
    return clip_model.create("vit-gpu", file, seed=0)


def gradients(
    clip: Clip, source: Path, defaults: Params, *, device: torch.device = GPU,
    precision: str = "fp32", micro_batch: int | None = None, compiled: bool = False,
) -> tuple[float, dict[str, Tensor]]:  # fmt: skip
    """Loss and gradients of a step over all pairs, on the host."""
    pairs = pairs_of(source, defaults)
    clip.model.to(device)
    optim.train_mode(clip.model, freeze_batch_norm=True)
    learner = Learner(
        clip, coded(pairs), Crops(clip, places_below(pairs, source)), augment=None, seed=0,
        precision=precision, loss="sigmoid", same_label="negative", device=device, world=ALONE,
        even=compiled,
    )  # fmt: skip
    with compiling.compiled(clip.model, wanted=compiled):
        loss = _backward(learner, np.arange(len(pairs)), micro_batch=micro_batch)
    found = {
        name: weight.grad.cpu()
        for name, weight in clip.model.named_parameters()
        if weight.grad is not None
    }
    return loss.item(), found


def off(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The length of what all gradients are off by, by the length of what they should be."""
    assert found.keys() == wanted.keys()
    apart = sum((found[name] - wanted[name]).double().square().sum() for name in wanted)
    return float((apart / sum(one.double().square().sum() for one in wanted.values())) ** 0.5)


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({}, 1e-3),
        ({"micro_batch": 5}, 1e-3),
        ({"precision": "bf16"}, 0.1),
        ({"precision": "bf16", "micro_batch": 5}, 0.1),
    ],
    ids=str,
)
def test_gradients_are_a_cpus(
    tmp_path: Path, pictures: Path, defaults: Params, changes: dict[str, Any], most: float
) -> None:
    loss, wanted = gradients(vit(tmp_path), pictures, defaults, device=torch.device("cpu"))
    again, found = gradients(vit(tmp_path), pictures, defaults, **changes)
    assert again == pytest.approx(loss, rel=most / 10)
    assert off(found, wanted) < most
    assert all(gradient.dtype == torch.float32 for gradient in found.values())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # which torch hides itself
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler here")
def test_compiled_towers_have_the_plain_ones_gradients(
    tmp_path: Path, pictures: Path, defaults: Params
) -> None:
    compiling.need(GPU)
    loss, wanted = gradients(vit(tmp_path), pictures, defaults)
    again, found = gradients(vit(tmp_path), pictures, defaults, compiled=True)
    assert again == pytest.approx(loss, rel=1e-4)
    assert off(found, wanted) < 1e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("micro_batch", [None, 4])
def test_the_same_seed_gives_the_same_weights_to_the_bit(
    tmp_path: Path, pictures: Path, defaults: Params, precision: str, micro_batch: int | None
) -> None:
    pairs, weights = pairs_of(pictures, defaults), []
    for _ in range(2):
        clip = vit(tmp_path)
        run(clip, pairs, pictures, defaults, precision=precision, micro_batch=micro_batch)
        weights.append({name: w.cpu() for name, w in clip.model.state_dict().items()})
    began = vit(tmp_path).model.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in began)
    assert not all(torch.equal(weights[0][name], began[name]) for name in began)
    assert all(w.dtype == began[name].dtype for name, w in weights[0].items())


def test_bf16_learns_eight_pairs_by_heart(tiny: Clip, pictures: Path, defaults: Params) -> None:
    pairs = pairs_of(pictures, defaults).iloc[:8].reset_index(drop=True)
    fitted, logged = run(
        tiny, pairs, pictures, defaults, epochs=60, best_by="retrieval", augment=None,
        precision="bf16",
    )  # fmt: skip
    assert fitted.history[fitted.best]["val_mean_r1"] == 1.0
    held = [values["memory_gb"] for _, values in logged if "memory_gb" in values]
    assert 0 < max(held) <= torch.cuda.get_device_properties(GPU).total_memory / 1e9


def test_the_optimiser_is_the_fused_one(tmp_path: Path, defaults: Params) -> None:
    model, params = vit(tmp_path).model.to(GPU), params_of(defaults)
    assert rates.optimizer(model, params).defaults["fused"] is True


def test_memory_that_lacks_is_known_as_such() -> None:
    with pytest.raises(torch.OutOfMemoryError) as error:
        torch.empty(2**50, dtype=torch.uint8, device=GPU)
    assert health.is_lack_of_memory(error.value)


@pytest.mark.skipif(not dist.is_nccl_available(), reason="this torch has no NCCL")
def test_nccl_carries_embeddings_and_gradients(tmp_path: Path) -> None:
    """One process: what it gathers and averages is its own, through the very calls of several."""
    here = torch.device("cuda", 0)
    torch.cuda.set_device(here)
    dist.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1, device_id=here
    )
    try:
        own = torch.randn(5, 3, device=here, requires_grad=True)
        seen = distributed._Gather.apply(own, World(0, 1))
        assert torch.equal(seen, own)
        (seen * torch.arange(3.0, device=here)).sum().backward()
        assert torch.equal(own.grad, torch.arange(3.0, device=here).expand(5, 3))
        without = torch.zeros(2, device=here, requires_grad=True)
        distributed._average([own, without], World(0, 1))
        assert torch.equal(own.grad, torch.arange(3.0, device=here).expand(5, 3))
        assert without.grad is None
    finally:
        dist.destroy_process_group()
