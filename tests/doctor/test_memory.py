import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.doctor import memory, model
from pipeline.doctor.seen import Device, Sample, Shape
from pipeline.doctor.settings import Settings, read
from pipeline.params import ModelParams
from pipeline.training import auto
from pipeline.training.auto import Settled
from tests.doctor.cases import BASE, CPU, SHAPE, with_

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "samples" / "base_model" / "scenes-resnet.json"
GB = 1e9

STEP = """
import resource, sys
from pathlib import Path
import torch
from pipeline.clip import model
from pipeline.clip.losses import info_nce, positives
from pipeline.params import Params, load
from pipeline.training import optim, rates

size = int(sys.argv[2])
clip = model.create("scenes-resnet", Path(sys.argv[1]), seed=0)
params = load(Params, Path(sys.argv[1]).parents[2] / "params.yaml").finetune
net = clip.model.to(memory_format=torch.channels_last)
optimizer = rates.optimizer(net, params)
optim.train_mode(net, freeze_batch_norm=True)

def step(size):
    image, text, scale = net(torch.rand(size, 3, 64, 64), clip.tokenizer(["a red star"] * size))[:3]
    alone = torch.arange(size)
    loss = info_nce(image, text, scale, positives(alone, alone))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()

def peak():
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells on Linux counts the process it was forked from too
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

with torch.no_grad():
    net(torch.rand(2, 3, 64, 64), clip.tokenizer(["a", "b"]))
before = peak()
step(size), step(size)
print(peak() - before)
"""


def sample_shape() -> Shape:
    made = {Path("nowhere"): [CONFIG]}
    found = model.base(ModelParams(name="scenes-resnet", pretrained="../nowhere"), made=made)
    assert found.shape is not None
    return found.shape


def test_a_training_step_takes_what_was_estimated() -> None:
    """Peak memory of a real step of the sample's model, in a process of its own."""
    shape, size = sample_shape(), 512
    params = params_of(read(ROOT / "params.yaml")[0], batch_size=size)
    command = [sys.executable, "-c", STEP, str(CONFIG), str(size)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    weights = 4 * shape.parameters  # they were there before
    measured = int(told) + weights
    estimated = memory.training(shape, params, bf16=False)
    assert measured / 2 < estimated < measured * 2


def params_of(settings: Settings, **values: object) -> Settled:
    asked = with_(settings, "finetune", **values).finetune
    assert asked is not None
    return auto.settled(asked, images=1000, parameters=100_000_000)


def test_training_by_hand(settings: Settings) -> None:
    """1.6 GB of weights, gradients and moments, 128 × 50 MB, ten matrices of 128 × 128."""
    params = params_of(settings)
    assert memory.training(SHAPE, params, bf16=False) == 1.6e9 + 6.4e9 + 655_360
    assert memory.training(SHAPE, params, bf16=True) == pytest.approx(1.8e9 + 3.52e9 + 655_360)


@pytest.mark.parametrize(
    ("values", "change"),
    [
        ({"micro_batch": 32}, -96 * 50e6),
        ({"micro_batch": 512}, 0),
        ({"checkpoint_activations": True}, -0.8 * 128 * 50e6),
        ({"checkpoint_activations": True, "method": "head"}, 0),
        ({"ema": 0.999}, 0.4e9),
        ({"toward_base": 0.1}, 0.4e9),
        ({"ema": 0.999, "toward_base": 0.1}, 0.8e9),
    ],
)
def test_what_else_takes_memory(
    settings: Settings, values: dict[str, object], change: float
) -> None:
    """Rows that wait do not count; a mean of the weights and those at the start are copies."""
    plain = memory.training(SHAPE, params_of(settings), bf16=False)
    found = memory.training(SHAPE, params_of(settings, **values), bf16=False)
    assert found == pytest.approx(plain + change, rel=1e-12)


def test_what_does_not_train_has_no_gradient(settings: Settings) -> None:
    """4 bytes each of 100 million, 12 more of one million, and the updated weights once."""
    shape = replace(SHAPE, trained=1_000_000, fixed=300e6)
    found = memory.training(shape, params_of(settings), bf16=False)
    assert found == 0.4e9 + 12e6 + 0.3e9 + 6.4e9 + 655_360


def test_a_head_fits_where_no_tower_would(settings: Settings) -> None:
    """99 M parameters of 4 bytes and 1 M of 16, 4,096 pairs of vectors, their logits: 2 GB."""
    levels = {}
    for method, shape in {
        "full": SHAPE, "head": replace(SHAPE, trained=1_000_000, saved=10e3)
    }.items():  # fmt: skip
        chosen = with_(settings, "finetune", method=method, batch_size=4096)
        base = replace(BASE, shape=shape)
        looked = memory.look(chosen, base, CPU, host=8 * GB, disk=1e12, sample=None)
        levels[method] = [one.level for one in looked.findings if "finetune" in one.key]
    assert levels == {"full": ["stops"], "head": []}


def test_logits_of_a_large_batch_are_made_in_blocks(settings: Settings) -> None:
    saveless = replace(SHAPE, saved=0, parameters=0, trained=0)
    found = memory.training(saveless, params_of(settings, batch_size=16_384), bf16=False)
    assert found == 40 * 16_384 * 1024


def test_what_is_proposed_fits_and_its_double_does_not(settings: Settings) -> None:
    asked = params_of(settings, batch_size=512)
    assert memory.fitting(SHAPE, asked, 24 * GB, bf16=False) == {"micro_batch": 256}
    assert memory.fitting(SHAPE, asked, 2 * GB, bf16=False) == {}
    mixed = replace(SHAPE, batch_norm=True)
    free = params_of(settings, batch_size=512, freeze_batch_norm=False)
    assert memory.fitting(mixed, free, 24 * GB, bf16=False) == {"batch_size": 256}


@pytest.mark.parametrize(
    ("batch_size", "free", "level"),
    [(256, 80, None), (256, 16, "hurts"), (256, 8, "stops")],
)
def test_a_batch_that_does_not_fit_is_a_problem(
    settings: Settings, batch_size: int, free: float, level: str | None
) -> None:
    """256 pairs take 16.4 GB: 1 for the process, 1.6 for the weights, 12.8 for the pairs, and
    0.8 on the host for the best epoch's weights."""
    chosen = with_(settings, "finetune", batch_size=batch_size)
    found = memory.look(chosen, BASE, CPU, host=free * GB, disk=1e12, sample=None).findings
    found = [finding for finding in found if finding.key == "finetune.batch_size"]
    assert [finding.level for finding in found] == ([level] if level else [])
    if level == "hurts":
        assert found[0].problem == "a batch needs about 16 GB, and 16 GB are free on the host"
        assert found[0].remedy.startswith("set finetune.micro_batch to 128: the same gradient")


def test_a_gpu_is_judged_by_what_is_free_on_it(settings: Settings) -> None:
    gpu = Device("cuda", "a GPU", memory=80 * 10**9, free=4 * 10**9, bf16=True)
    found = memory.look(settings, BASE, gpu, host=200 * GB, disk=1e12, sample=None).findings
    assert ("stops", "finetune.batch_size") in [(f.level, f.key) for f in found]


def test_outputs_that_do_not_fit_on_the_disk_stop(settings: Settings, sample: Sample) -> None:
    """1,000 pictures and as many captions × 512 × 2 bytes, a bundle of 400 MB, all twice."""
    assert memory.outputs("fp16", SHAPE, sample) == 2 * (2_048_000 + 400_000_000)
    packed = replace(sample, embedded=True)
    assert memory.outputs("fp16", SHAPE, packed) == 2 * (2_048_000 + 400_000_000 + 50_000_000)
    found = memory.look(settings, BASE, CPU, host=80 * GB, disk=5e8, sample=sample).findings
    assert [(f.level, f.key, f.value) for f in found] == [("stops", "disk", "500 MB")]


def test_a_batch_that_auto_will_choose_is_judged(settings: Settings, sample: Sample) -> None:
    """800 training pictures make batches of 64: 1 + 1.6 + 3.2 + 0.8 GB."""
    chosen = with_(settings, "finetune", batch_size="auto")
    look = memory.look(chosen, BASE, CPU, host=80 * GB, disk=1e12, sample=sample)
    facts = {fact.name: fact.value for fact in look.facts}
    assert facts["training needs"]["bytes"] == pytest.approx(6.6e9, rel=1e-3)
    blind = memory.look(chosen, BASE, CPU, host=80 * GB, disk=1e12, sample=None)
    assert "training needs" not in {fact.name for fact in blind.facts}
