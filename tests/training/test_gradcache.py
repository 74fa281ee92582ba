"""The cached gradient against that of the one big batch, in fp64."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.clip.losses import Codes, LossName, info_nce, masks, positives, sigmoid
from pipeline.clip.model import Clip
from pipeline.errors import TrainingError
from pipeline.training import gradcache
from pipeline.training.distributed import ALONE, World, average_gradients, mean, share
from tests.training import ranks
from tests.training.towers import CODES, ROWS, inputs, small_vit

CPU = torch.device("cpu")
LOSSES: tuple[LossName, ...] = ("info_nce", "sigmoid")
CUTS = ((3, 2), (8, 8), (1, 5))
"""Rows of a micro-batch of images and of texts."""

Pair = Callable[[Tensor, Tensor], Tensor]


def big_loss(model: nn.Module, name: LossName, codes: Codes = CODES) -> Pair:
    """By the functions on all rows."""

    def loss(image: Tensor, text: Tensor) -> Tensor:
        found = masks(codes, codes, same_label="ignore")
        scale = model.logit_scale.exp()
        if name == "info_nce":
            return info_nce(image, text, scale, found.positive, ignored_IT=found.ignored)
        return sigmoid(
            image, text, scale, model.logit_bias, found.positive, ignored_IT=found.ignored
        )

    return loss


def shared_loss(model: nn.Module, name: LossName, world: World, rows: slice) -> Pair:
    """By blocks of this process's rows against all."""

    def loss(image: Tensor, text: Tensor) -> Tensor:
        return share(
            name, image, text, Codes(*(c[rows] for c in CODES)),
            scale=model.logit_scale.exp(), bias=model.logit_bias if name == "sigmoid" else None,
            same_label="ignore", world=world, block=3,
        )  # fmt: skip

    return loss


def cached(model: nn.Module, loss: Pair, cut: tuple[int, int], rows: slice = slice(None)) -> Tensor:
    pixels, tokens = inputs()
    return gradcache.backward(
        loss,
        embed_images=partial(model.encode_image, normalize=True), images=pixels[rows].split(cut[0]),
        embed_texts=partial(model.encode_text, normalize=True), texts=tokens[rows].split(cut[1]),
        model=model, device=CPU,
    )  # fmt: skip


def embedded(
    model: nn.Module, cut: tuple[int, int], rows: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """All embeddings in one graph, drawn in the order of the gradient cache."""
    pixels, tokens = inputs()
    image = [model.encode_image(part, normalize=True) for part in pixels[rows].split(cut[0])]
    text = [model.encode_text(part, normalize=True) for part in tokens[rows].split(cut[1])]
    return torch.cat(image), torch.cat(text)


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {n: None if w.grad is None else w.grad.clone() for n, w in model.named_parameters()}


def same(found: dict[str, Tensor | None], wanted: dict[str, Tensor | None], name: LossName) -> None:
    """Equal to 1e-8, each of them, and none of them nothing."""
    assert found.keys() == wanted.keys()
    for key, gradient in wanted.items():
        if key == "logit_bias" and name == "info_nce":
            assert found[key] is gradient is None
            continue
        assert gradient.abs().max() > 1e-6, key
        assert (found[key] - gradient).abs().max().item() <= 1e-8, key


@pytest.mark.parametrize(("name", "cut"), list(itertools.product(LOSSES, CUTS)))
def test_without_dropout_it_is_one_forward_pass_of_all_rows(
    tmp_path: Path, name: LossName, cut: tuple[int, int]
) -> None:
    model = small_vit(tmp_path, dropout=False)
    pixels, tokens = inputs()
    loss = big_loss(model, name)(*model(pixels, tokens)[:2])
    loss.backward()
    wanted = gradients(model)
    model.zero_grad()
    value = cached(model, big_loss(model, name), cut)
    assert not value.requires_grad
    assert value.item() == pytest.approx(loss.item(), abs=1e-10)
    same(gradients(model), wanted, name)


@pytest.mark.parametrize(("name", "cut"), list(itertools.product(LOSSES, CUTS)))
def test_dropout_and_patch_dropout_are_drawn_again(
    tmp_path: Path, name: LossName, cut: tuple[int, int]
) -> None:
    model = small_vit(tmp_path, dropout=True)
    torch.manual_seed(5)
    loss = big_loss(model, name)(*embedded(model, cut))
    loss.backward()
    wanted, then = gradients(model), torch.randn(3)
    model.zero_grad()
    torch.manual_seed(5)
    value = cached(model, big_loss(model, name), cut)
    assert torch.equal(torch.randn(3), then)  # the generator stands where one pass leaves it
    assert value.item() == pytest.approx(loss.item(), abs=1e-10)
    same(gradients(model), wanted, name)

    torch.manual_seed(6)
    model.zero_grad()
    cached(model, big_loss(model, name), cut)
    other = gradients(model)["visual.conv1.weight"]
    assert (other - wanted["visual.conv1.weight"]).abs().max() > 1e-4  # dropout is at work


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_in_blocks_has_the_same_gradient(tmp_path: Path, name: LossName) -> None:
    model = small_vit(tmp_path, dropout=False)
    big_loss(model, name)(*embedded(model, (8, 8))).backward()
    wanted = gradients(model)
    model.zero_grad()
    cached(model, shared_loss(model, name, ALONE, slice(None)), (3, 3))
    same(gradients(model), wanted, name)


MINE = (slice(0, 5), slice(5, 8))
"""Uneven: with micro-batches of 2 images and 3 texts, 3 + 2 and 2 + 1 of them."""


def work(folder: Path, world: World) -> ranks.Found:
    found = {}
    for name in LOSSES:
        model = small_vit(folder / str(world.rank), dropout=True)
        torch.manual_seed(world.rank)
        rows = MINE[world.rank]
        value = cached(model, shared_loss(model, name, world, rows), (2, 3), rows)
        average_gradients(model.parameters(), world)
        grads = {n: None if g is None else g.tolist() for n, g in gradients(model).items()}
        found[name] = {"loss": mean(value, world).item(), "gradients": grads}
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[ranks.Found]:
    folder = tmp_path_factory.mktemp("two")
    for rank in range(2):
        (folder / str(rank)).mkdir()
    return ranks.run(partial(work, folder), size=2, folder=folder)


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_with_dropout_are_one_big_batch(
    two: list[ranks.Found], tmp_path: Path, name: LossName
) -> None:
    """The big batch draws each process's dropout from that process's seed."""
    model = small_vit(tmp_path, dropout=True)
    sides = []
    for rank, rows in enumerate(MINE):
        torch.manual_seed(rank)
        sides.append(embedded(model, (2, 3), rows))
    loss = big_loss(model, name)(*(torch.cat(side) for side in zip(*sides, strict=True)))
    loss.backward()
    for found in two:
        assert found[name]["loss"] == pytest.approx(loss.item(), abs=1e-10)
        grads = found[name]["gradients"].items()
        as_tensors = {
            n: None if g is None else torch.tensor(g, dtype=torch.float64) for n, g in grads
        }
        same(as_tensors, gradients(model), name)


def test_by_hand_where_accumulation_would_fail() -> None:
    """Four pairs, logits s on the diagonal and 0 elsewhere, s = ln 2: ln(1 + 3e^−s) = ln 2.5.

    Its derivative is −3e^−s / (1 + 3e^−s) = −0.6. The mean of two micro-batches of two, each with
    one negative a row, would be ln 1.5, and −1/3.
    """
    scale = nn.Parameter(torch.tensor(math.log(2), dtype=torch.float64))
    rows = torch.eye(4, dtype=torch.float64)
    weight = nn.Parameter(torch.eye(4, dtype=torch.float64))

    def loss(image: Tensor, text: Tensor) -> Tensor:
        codes = torch.arange(len(image))
        return info_nce(image, text, scale, positives(codes, codes))

    value = gradcache.backward(
        loss,
        embed_images=lambda part: part @ weight, images=rows.split(2),
        embed_texts=lambda part: part, texts=rows.split(3),
        model=nn.Module(), device=CPU,
    )  # fmt: skip
    assert value.item() == pytest.approx(math.log(2.5), abs=1e-12)
    assert scale.grad.item() == pytest.approx(-0.6, abs=1e-12)
    # Each own cosine pulls with −s · 0.6 / 4, each of three others pushes with s · 0.2 / 4.
    pull, push = math.log(2) * -0.6 / 4, math.log(2) * 0.2 / 4
    expected = torch.full((4, 4), push, dtype=torch.float64).fill_diagonal_(pull)
    assert (weight.grad - expected).abs().max() < 1e-12

    accumulated = torch.stack([loss(part, part) for part in (rows[:2, :2], rows[2:, 2:])]).mean()
    assert accumulated.item() == pytest.approx(math.log(1.5))
    assert torch.autograd.grad(accumulated, scale)[0].item() == pytest.approx(-1 / 3)


@pytest.mark.parametrize("locked", ["images", "texts", "both"])
def test_a_locked_side_is_embedded_once(locked: str) -> None:
    weights = {side: nn.Parameter(torch.eye(3), locked not in (side, "both")) for side in SIDES}
    scale = nn.Parameter(torch.tensor(2.0))
    calls = dict.fromkeys(SIDES, 0)

    def embed(side: str, rows: Tensor) -> Tensor:
        calls[side] += 1
        return F.normalize(rows @ weights[side], dim=1)

    data = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    gradcache.backward(
        lambda image, text: info_nce(image, text, scale, torch.eye(5, dtype=torch.bool)),
        embed_images=partial(embed, "images"), images=data.split(2),
        embed_texts=partial(embed, "texts"), texts=data.roll(1, 1).split(1),
        model=nn.Module(), device=CPU,
    )  # fmt: skip
    once = {"images": 3, "texts": 5}
    for side, weight in weights.items():
        held = locked in (side, "both")
        assert calls[side] == once[side] * (1 if held else 2)
        assert (weight.grad is None) == held
    assert scale.grad.abs() > 1e-3


SIDES = ("images", "texts")


@contextmanager
def watched() -> Iterator[list[int]]:
    """The bytes that graphs hold: now, and the most so far."""
    held = [0, 0]

    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor.detach()  # a graph held by its own tensor would not end
            held[0] += tensor.nbytes
            held[1] = max(held)

        def __del__(self) -> None:
            held[0] -= self.tensor.nbytes

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        yield held


def test_graphs_hold_one_micro_batch(tmp_path: Path) -> None:
    model = small_vit(tmp_path, dropout=False)
    pixels, tokens = inputs()
    with watched() as of_images:
        kept = model.encode_image(pixels[:2], normalize=True)
    with watched() as of_texts:
        kept_too = model.encode_text(tokens[:2], normalize=True)
    with watched() as of_all:
        cached(model, shared_loss(model, "info_nce", ALONE, slice(None)), (2, 2))
    assert ROWS == 4 * 2
    assert kept.requires_grad
    assert kept_too.requires_grad
    assert of_all[1] == max(of_images[1], of_texts[1])
    assert of_all[0] == 0


def test_under_autocast_the_weights_get_their_gradient() -> None:
    """Autocast keeps casts made without a graph: before the call, and in its first pass.

    `late` is not in the first micro-batch, which alone has a graph in that pass.
    """
    model = nn.ModuleDict({"all": nn.Linear(4, 4), "late": nn.Linear(4, 4)})
    data = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))

    def embed(rows: Tensor) -> Tensor:
        hidden = model["all"](rows)
        if not torch.equal(rows, data[:2]):
            hidden = hidden + model["late"](rows)
        return F.normalize(hidden.float(), dim=1)

    def loss(image: Tensor, text: Tensor) -> Tensor:
        return info_nce(image, text, torch.tensor(5.0), torch.eye(6, dtype=torch.bool))

    with torch.autocast("cpu", torch.bfloat16):
        loss(torch.cat([embed(part) for part in data.split(2)]), data).backward()
    wanted = gradients(model)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            embed(data)
        gradcache.backward(
            loss,
            embed_images=embed, images=data.split(2), embed_texts=lambda part: part,
            texts=data.split(6), model=model, device=CPU,
        )  # fmt: skip
    for name, gradient in gradients(model).items():
        assert gradient is not None, name
        assert torch.allclose(gradient, wanted[name], rtol=0.02, atol=1e-3), name
        assert gradient.abs().max() > 0.01, name


def test_batch_norm_in_training_mode_is_refused_and_untouched(tiny: Clip) -> None:
    pixels, tokens = torch.randn(4, 3, 64, 64), torch.ones(4, 32, dtype=torch.long)
    statistics = tiny.model.visual.bn1.running_mean
    before = statistics.clone()

    def step() -> Tensor:
        return gradcache.backward(
            lambda image, text: (image * text).sum(),
            embed_images=tiny.model.encode_image, images=pixels.split(2),
            embed_texts=tiny.model.encode_text, texts=tokens.split(2),
            model=tiny.model, device=CPU,
        )  # fmt: skip

    tiny.model.train()
    with pytest.raises(TrainingError, match=r"visual\.bn1 is batch norm .*freeze_batch_norm"):
        step()
    tiny.model.eval()
    step()
    assert torch.equal(statistics, before)
    assert tiny.model.visual.conv1.weight.grad.abs().max() > 0


def test_a_side_without_rows_is_refused() -> None:
    with pytest.raises(TrainingError, match="at least one image and one text"):
        gradcache.backward(
            lambda image, text: (image * text).sum(),
            embed_images=lambda part: part, images=[], embed_texts=lambda part: part,
            texts=[torch.ones(2, 2)], model=nn.Module(), device=CPU,
        )  # fmt: skip


def test_the_generators_are_restored_where_the_second_pass_fails() -> None:
    calls = []

    def embed(rows: Tensor) -> Tensor:
        calls.append(rows)
        if len(calls) == 4:
            raise MemoryError
        return rows * torch.rand(1)

    rows = torch.ones(4, 2, requires_grad=True)
    torch.manual_seed(0)
    torch.rand(2)
    then = torch.rand(1)
    torch.manual_seed(0)
    with pytest.raises(MemoryError):
        gradcache.backward(
            lambda image, text: (image * text).sum(),
            embed_images=embed, images=rows.split(2), embed_texts=lambda part: part.detach(),
            texts=[rows], model=nn.Module(), device=CPU,
        )  # fmt: skip
    assert torch.equal(torch.rand(1), then)


@pytest.mark.gpu
def test_a_gpus_own_dropout_is_drawn_again() -> None:
    gpu = torch.device("cuda", torch.cuda.current_device())
    weight = nn.Parameter(torch.eye(8, device=gpu, dtype=torch.float64))
    data = torch.randn(8, 8, device=gpu, dtype=torch.float64)

    def embed(rows: Tensor) -> Tensor:
        return F.normalize(F.dropout(rows @ weight, 0.5), dim=1)

    def loss(image: Tensor, text: Tensor) -> Tensor:
        mask = torch.eye(8, dtype=torch.bool, device=gpu)
        return info_nce(image, text, torch.tensor(5.0, device=gpu), mask)

    torch.manual_seed(0)
    loss(torch.cat([embed(part) for part in data.split(3)]), data).backward()
    wanted, then = weight.grad.clone(), torch.rand(1, device=gpu)
    weight.grad = None
    torch.manual_seed(0)
    gradcache.backward(
        loss,
        embed_images=embed, images=data.split(3), embed_texts=lambda part: part,
        texts=data.split(8), model=nn.Module(), device=gpu,
    )  # fmt: skip
    assert (weight.grad - wanted).abs().max() <= 1e-8
    assert torch.equal(torch.rand(1, device=gpu), then)
