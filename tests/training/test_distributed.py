"""Two and three processes against one, with linear towers in fp64."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.clip.losses import Codes, LossName, info_nce, masks, sigmoid
from pipeline.training import distributed
from pipeline.training.distributed import ALONE, World, average_gradients, gather, mean, share
from tests.training import ranks

ROWS = {1: (8,), 2: (4, 4), 3: (3, 3, 2)}
CODES = Codes(
    torch.tensor([0, 0, 1, 2, 3, 4, 5, 6]),
    torch.tensor([0, 1, 2, 3, 4, 5, 5, 6]),
    torch.tensor([7, 8, 7, 9, -1, -1, 9, 7]),
)
CASES = list(itertools.product(("info_nce", "sigmoid"), ("positive", "ignore", "negative"), (2, 9)))
"""Loss, what a shared label means, rows of a block."""


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(6, 5), nn.Linear(4, 5)
        self.log_scale, self.bias = (
            nn.Parameter(torch.tensor(1.2)),
            nn.Parameter(torch.tensor(-2.0)),
        )
        self.unused = nn.Parameter(torch.ones(3))
        self.locked = nn.Parameter(torch.ones(3), requires_grad=False)
        self.double()

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(self.image(pixels), dim=1), F.normalize(self.text(tokens), dim=1)


def inputs() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return tuple(torch.randn(8, n, generator=random, dtype=torch.float64) for n in (6, 4))


def gradients(model: nn.Module) -> dict[str, list[float] | None]:
    return {
        name: None if w.grad is None else w.grad.flatten().tolist()
        for name, w in model.named_parameters()
    }


def expected(name: LossName, same_label: str) -> tuple[float, dict[str, list[float] | None]]:
    """By the functions on the one big batch."""
    model = Towers()
    image, text = model(*inputs())
    found = masks(CODES, CODES, same_label=same_label)
    scale = model.log_scale.exp()
    if name == "info_nce":
        loss = info_nce(image, text, scale, found.positive, ignored_IT=found.ignored)
    else:
        loss = sigmoid(image, text, scale, model.bias, found.positive, ignored_IT=found.ignored)
    loss.backward()
    return loss.item(), gradients(model)


def shared(world: World, name: LossName, same_label: str, block: int) -> ranks.Found:
    rows = ROWS[world.size]
    mine = slice(sum(rows[: world.rank]), sum(rows[: world.rank + 1]))
    model = Towers()
    image, text = model(*(x[mine] for x in inputs()))
    loss = share(
        name, image, text, Codes(*(c[mine] for c in CODES)),
        scale=model.log_scale.exp(), bias=model.bias if name == "sigmoid" else None,
        same_label=same_label, world=world, block=block,
    )  # fmt: skip
    loss.backward()
    average_gradients(model.parameters(), world)
    return {"loss": mean(loss, world).item(), "gradients": gradients(model)}


def work(world: World) -> ranks.Found:
    distributed.BUCKET = 30  # several buckets, and a weight that fills one alone
    found: ranks.Found = {"cases": [shared(world, *case) for case in CASES]}

    here = torch.full((world.rank, 2), float(world.rank), requires_grad=True)
    all_rows = gather(here, world)
    weights = torch.arange(1.0, len(all_rows) + 1)[:, None] * (world.rank + 1)
    (all_rows * weights).sum().backward()
    found["gathered"], found["asked"] = all_rows[:, 0].tolist(), here.grad[:, 0].tolist()

    half = torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True)
    gather(half, world).sum().backward()
    found["half"] = (str(half.grad.dtype), half.grad.flatten().tolist())

    last = nn.Parameter(torch.zeros(2, 2).to(torch.bfloat16))
    wide = nn.Parameter(torch.zeros(4, 3, 2, 2).to(memory_format=torch.channels_last))
    if world.rank == world.size - 1:
        last.grad = torch.tensor([[1.0, 2], [3, 4]]).to(torch.bfloat16)
    wide.grad = torch.arange(48.0).view(4, 3, 2, 2) * (world.rank + 1)
    average_gradients([last, wide, last], world)
    found["last"], found["wide"] = last.grad.tolist(), wide.grad.flatten().tolist()
    return found


@pytest.fixture(scope="module", params=[2, 3])
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list:
    folder: Path = tmp_path_factory.mktemp("ranks")
    return ranks.run(work, size=request.param, folder=folder)


def compare(found: ranks.Found, case: tuple) -> None:
    loss, wanted = expected(*case[:2])
    assert found["loss"] == pytest.approx(loss, abs=1e-10, rel=0)
    assert found["gradients"].keys() == wanted.keys()
    assert wanted["unused"] is None
    assert (wanted["bias"] is None) == (case[0] == "info_nce")
    for name, gradient in wanted.items():
        if gradient is None:
            assert found["gradients"][name] is None, name
        else:
            assert max(map(abs, gradient)) > 1e-3, name
            assert found["gradients"][name] == pytest.approx(gradient, abs=1e-10, rel=0), name


@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])
def test_several_processes_are_the_one_big_batch(several: list, number: int) -> None:
    for found in several:
        compare(found["cases"][number], CASES[number])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_process_touches_no_backend(monkeypatch: pytest.MonkeyPatch, case: tuple) -> None:
    monkeypatch.setattr(distributed, "dist", None)
    compare(shared(ALONE, *case), case)


def test_rows_of_all_come_in_order_and_send_back_what_each_wants(several: list) -> None:
    """Rank r has r rows, so rank 0 has none; rank r weighs row n of all by n · (r + 1)."""
    size = len(several)
    rows = [float(rank) for rank in range(size) for _ in range(rank)]
    asks = sum(range(1, size + 1))
    assert [found["gathered"] for found in several] == [rows] * size
    wanted = [asks * (n + 1) for n in range(len(rows))]
    assert [x for found in several for x in found["asked"]] == wanted


def test_half_precision_rows_get_gradients_of_their_own_kind(several: list) -> None:
    assert several[0]["half"] == ("torch.bfloat16", [float(len(several))] * 4)


def test_a_gradient_that_only_one_process_has_is_shared(several: list) -> None:
    size = len(several)
    third = torch.tensor([[1.0, 2], [3, 4]]).div(size).to(torch.bfloat16).tolist()
    assert [found["last"] for found in several] == [third] * size
    assert several[0]["wide"] == pytest.approx([n * (size + 1) / 2 for n in range(48)])


def test_plain_averages_of_local_losses_would_differ() -> None:
    """What the tests above would see if negatives stayed within a process."""
    image, text = (x.detach() for x in Towers()(*inputs()))
    loss, _ = expected("info_nce", "negative")
    halves = [slice(0, 4), slice(4, 8)]
    parts = [
        info_nce(
            image[h], text[h], torch.tensor(1.2).exp(),
            masks(*[Codes(*(c[h] for c in CODES))] * 2, same_label="negative").positive,
        )
        for h in halves
    ]  # fmt: skip
    assert abs(torch.stack(parts).mean().item() - loss) > 0.1
