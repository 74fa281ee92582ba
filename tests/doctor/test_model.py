from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from pipeline.clip import device as devices
from pipeline.clip import model as clip_model
from pipeline.clip.model import Clip
from pipeline.doctor import model
from pipeline.doctor.findings import Finding
from pipeline.doctor.seen import Base, Device
from pipeline.params import FinetuneParams, ModelParams, Params
from pipeline.registry import bundle

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "samples" / "base_model" / "scenes-resnet.json"


@pytest.fixture(autouse=True)
def work_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def base(name: str, pretrained: str) -> Base:
    return model.base(ModelParams(name=name, pretrained=pretrained), made={})


def problems(found: Base) -> list[tuple[str, str]]:
    return [(finding.level, finding.key) for finding in found.findings]


def test_a_folder_is_measured_without_its_weights(tiny: Clip) -> None:
    """The numbers are the model's own: its parameters counted, its embedding's width."""
    bundle.save(Path("models/mine"), tiny, record={})
    Path("models/mine/open_clip_model.safetensors").write_bytes(b"not read")
    found = base("scenes-resnet", "../models/mine")
    assert problems(found) == []
    assert found.shape is not None
    assert found.shape.parameters == sum(weight.numel() for weight in tiny.model.parameters())
    assert (found.shape.width, found.shape.image_size) == (128, (64, 64))
    assert (found.shape.context, found.shape.batch_norm) == (32, True)


def test_what_a_forward_pass_saves_is_what_a_real_one_saves(tiny: Clip) -> None:
    """On a CPU attention is fused and saves less, for this model by 5 %."""
    tiny.model.train()
    weights = {w.data_ptr() for w in [*tiny.model.parameters(), *tiny.model.buffers()]}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        tiny.model(torch.rand(8, 3, 64, 64), tiny.tokenizer(["a red star"] * 8))
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 8
    found = model.base(
        ModelParams(name="scenes-resnet", pretrained="../made"), made={Path("made"): [CONFIG]}
    )
    assert found.shape is not None
    assert real < found.shape.saved < 1.1 * real


def test_a_folder_of_another_architecture_stops(tiny: Clip) -> None:
    bundle.save(Path("models/mine"), tiny, record={})
    found = base("ViT-B-32", "../models/mine")
    assert problems(found) == [("stops", "model.name")]
    assert found.findings[0].remedy.startswith("set model.name to scenes-resnet")


def test_a_sample_still_to_be_made_of_another_architecture_stops() -> None:
    chosen = ModelParams(name="ViT-B-32", pretrained="../made")
    found = model.base(chosen, made={Path("made"): [CONFIG]})
    assert problems(found) == [("stops", "model.name")]
    assert found.findings[0].problem == "made will hold a scenes-resnet"


def test_a_tag_fetched_for_another_architecture_is_fetched_anew(tiny: Clip) -> None:
    bundle.save(Path("hub/openai"), tiny, record={})
    found = base("ViT-B-32", "openai")
    assert problems(found) == []
    assert found.origin == "a tag: fetched anew for this architecture"


def test_a_folder_without_weights_stops(tiny: Clip) -> None:
    bundle.save(Path("models/mine"), tiny, record={})
    Path("models/mine/open_clip_model.safetensors").unlink()
    found = base("scenes-resnet", "../models/mine")
    assert problems(found) == [("stops", "model.pretrained")]
    assert found.findings[0].problem == "models/mine holds no weights"


def test_a_folder_that_is_none_stops() -> None:
    Path("models/mine").mkdir(parents=True)
    assert problems(base("ViT-B-32", "../models/mine")) == [("stops", "model.pretrained")]
    assert problems(base("ViT-B-32", "../models/other")) == [("stops", "model.pretrained")]


def test_a_tag_is_looked_up_and_the_model_counted() -> None:
    """151,277,313 parameters: what OpenCLIP's own table says of ViT-B-32."""
    found = base("ViT-B-32", "laion2b_s34b_b79k")
    assert problems(found) == []
    assert found.known
    assert found.shape is not None
    assert found.shape.parameters == 151_277_313
    assert found.shape.context == 77
    wrong = base("ViT-B-32", "laion2b")
    assert problems(wrong) == [("stops", "model.pretrained")]
    assert wrong.findings[0].remedy.startswith("take one of openai, ")


def test_an_architecture_nobody_knows_stops() -> None:
    assert problems(base("ViT-B-31", "openai")) == [("stops", "model.name")]


@pytest.mark.skipif(find_spec("transformers") is not None, reason="transformers is installed")
def test_a_tokenizer_that_is_not_installed_is_told() -> None:
    found = base("ViT-B-16-SigLIP", "webli")
    assert problems(found) == [("stops", "model.name")]
    assert found.findings[0].remedy == "pip install transformers"


def test_outline_needs_no_memory_for_weights() -> None:
    outline = clip_model.outline("ViT-bigG-14")
    assert {weight.device.type for weight in outline.parameters()} == {"meta"}


def test_a_device_that_is_not_there_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPTUNE_DEVICE", "cpu")
    units = devices.has_bf16_units(torch.device("cpu"))
    assert model.device() == Device("cpu", "", None, None, bf16=units)
    monkeypatch.setenv("CLIPTUNE_DEVICE", "cuda:99")
    found = model.device()
    assert isinstance(found, Finding)
    assert (found.level, found.key) == ("stops", "CLIPTUNE_DEVICE")


def trained(defaults: Params, **values: object) -> Base:
    """A ViT-B-32 as `finetune` with these values would train it."""
    asked = FinetuneParams.model_validate({**defaults.finetune.model_dump(), **values})
    wanted = ModelParams(name="ViT-B-32", pretrained="openai")
    return model.base(wanted, made={}, finetune=asked)


def test_a_method_trains_and_keeps_what_it_says(defaults: Params) -> None:
    """LoRA of rank 8: A and B of each packed third, output and both sides of the MLP, by block."""
    shapes = {method: trained(defaults, method=method).shape for method in ("full", "lit", "lora")}
    full, lit, lora = (shape for shape in shapes.values() if shape is not None)
    assert full.trained == full.parameters == lit.parameters == lora.parameters == 151_277_313
    assert lit.trained == 151_277_313 - 87_849_216  # the vision tower of a ViT-B-32
    per_block = {w: 8 * (4 * 2 * w + 2 * 5 * w) for w in (768, 512)}
    assert lora.trained == 12 * sum(per_block.values()) + 1
    assert 0.4 * full.saved < lit.saved < 0.7 * full.saved
    updated = {w: 12 * w * w for w in (768, 512)}
    # An updated weight is kept for its input's gradient, which the first block does not need.
    assert 4 * 11 * sum(updated.values()) <= lora.fixed - full.fixed


def test_what_is_looked_up_takes_its_weights_alone(defaults: Params) -> None:
    """Of a ViT-B-32 two projections and the scale; a pair's vectors and little else is kept."""
    full, head = (trained(defaults, method=method).shape for method in ("full", "head"))
    assert full is not None
    assert head is not None
    assert head.trained == 768 * 512 + 512 * 512 + 1
    assert 4 * (768 + 512) <= head.saved < 0.001 * full.saved
    assert head.largest == full.largest  # embed sends a batch through all of it


def test_a_model_without_heads_is_told(defaults: Params) -> None:
    """Which tower it is that ends without a projection."""
    asked = defaults.finetune.model_copy(update={"method": "head"})
    outline = clip_model.outline("ViT-B-16-SigLIP")
    shape, (one,) = model._shape(outline, asked)
    assert (one.level, one.key, one.value) == ("stops", "finetune.method", "head")
    assert "the image tower of this model has none" in one.problem
    assert shape.trained == shape.parameters
    assert model._shape(outline, defaults.finetune)[1] == []


def test_a_method_that_does_not_fit_the_model_stops(defaults: Params) -> None:
    """A ViT-B-32 has 12 blocks a tower; it is measured as if all of it trained."""
    found = trained(defaults, method="lit", lock={"image": 13, "text": None})
    assert problems(found) == [("stops", "finetune.method")]
    assert "lock.image is 13, and the image tower has 12 blocks" in found.findings[0].problem
    assert found.shape is not None
    assert found.shape.trained == 151_277_313


def test_recomputing_is_refused_where_a_tower_can_not(defaults: Params) -> None:
    values = {"checkpoint_activations": True, "method": "lora"}
    asked = defaults.finetune.model_copy(update=values)
    vit = ModelParams(name="ViT-B-32", pretrained="laion2b_s34b_b79k")
    found = model.base(vit, made={}, finetune=asked)
    plain = model.base(vit, made={}, finetune=defaults.finetune.model_copy(update=values | {
        "checkpoint_activations": False}))  # fmt: skip
    assert problems(found) == []
    assert found.shape == plain.shape
    resnet = ModelParams(name="RN50", pretrained="openai")
    full = asked.model_copy(update={"method": "full"})
    (refused,) = model.base(resnet, made={}, finetune=full).findings
    assert refused.level == "stops"
    assert "finetune.checkpoint_activations is true" in refused.problem
