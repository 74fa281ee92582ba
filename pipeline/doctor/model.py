"""The base model and the device, without loading a weight.

The model is built on torch's meta device, where tensors have shapes and no content: its parameters
are counted, and what a forward pass keeps for the backward pass is added up, by running it there.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from pipeline import paths
from pipeline.clip import device as devices
from pipeline.clip import model as clip_model
from pipeline.clip.tokens import token_counter
from pipeline.doctor.findings import Finding
from pipeline.doctor.seen import Base, Device, Made, Shape
from pipeline.errors import CliptuneError, ModelError
from pipeline.params import ModelParams

WEIGHTS = {".safetensors", ".bin", ".pt", ".pth"}

PAIRS = 8
"""Pairs in the forward pass whose memory is added up; it grows in proportion to them."""


def base(model: ModelParams, *, made: Made) -> Base:
    """Look at the base model; `made` names the samples' outputs, each with what it is made from."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # a text tower of Hugging Face's would be looked up there
    path = clip_model.locate(model.pretrained)
    tag = path.is_relative_to(paths.HUB)
    if tag and clip_model.recorded_architecture(path) not in {None, model.name}:
        return _of_name(model, origin="a tag: fetched anew for this architecture", tag=True)
    if path.is_dir():
        origin = f"fetched, in {path}/" if tag else f"the folder {path}/"
        return _of_folder(model, path, origin=origin)
    if path.is_file() or (tag and not path.exists()):
        origin = f"the checkpoint {path}" if path.is_file() else "a tag: fetched once, over the net"
        return _of_name(model, origin=origin, tag=not path.is_file())
    if path in made:
        return _of_sample(model, path, made[path])
    remedy = "set it to a pretrained tag, or to a model folder as a path from hub/"
    problem = f"there is nothing at {path}"
    found = Finding("stops", "model.pretrained", model.pretrained, problem, remedy)
    named = _of_name(model, origin=f"missing: {path}", tag=False)
    return Base(named.origin, named.known, named.shape, [found, *named.findings])


def device() -> Device | Finding:
    """The device that the stages would choose, or why they can't."""
    try:
        chosen = devices.choose()
    except CliptuneError as error:
        asked = os.environ["CLIPTUNE_DEVICE"]
        return Finding("stops", "CLIPTUNE_DEVICE", asked, str(error), "unset it, or set it to cpu")
    if chosen.type != "cuda":
        return Device(chosen.type, "", None, None, bf16=False)
    free, total = torch.cuda.mem_get_info(chosen)
    name = torch.cuda.get_device_name(chosen)
    return Device("cuda", name, total, free, bf16=torch.cuda.is_bf16_supported())


def _of_sample(model: ModelParams, path: Path, sources: Sequence[Path]) -> Base:
    """A model that a stage will make, of the architecture whose JSON file it depends on."""
    origin = f"{path}/, made on demand by samples/dvc.yaml"
    configs = {source.stem: source for source in sources if source.suffix == ".json"}
    if model.name in configs:
        shape = _shape(clip_model.outline(model.name, configs[model.name]))
        return Base(origin, False, shape, [])
    problem = f"{path} will hold a {' or '.join(configs)}"
    remedy = "set model.pretrained to a pretrained tag, or to the model that you mean"
    found = Finding("stops", "model.name", model.name, problem, remedy)
    return Base(origin, _is_known(model.name), None, [found])


def _of_folder(model: ModelParams, path: Path, *, origin: str) -> Base:
    findings = []
    recorded = None
    try:
        recorded = clip_model.recorded_architecture(path)
    except (ValueError, KeyError) as error:
        remedy = "take another copy of the folder"
        text = f"{path / paths.MANIFEST} can't be read ({error})"
        findings.append(Finding("stops", "model.pretrained", model.pretrained, text, remedy))
    if not (path / clip_model.CONFIG_FILE).is_file():
        text = f"{path} holds no {clip_model.CONFIG_FILE}: it is not a model folder of OpenCLIP"
        remedy = "point it at a folder that holds one, or at a pretrained tag"
        return Base(
            origin,
            _is_known(model.name),
            None,
            [Finding("stops", "model.pretrained", model.pretrained, text, remedy)],
        )
    if recorded not in (None, model.name):
        text = f"{path} holds a {recorded}"
        remedy = f"set model.name to {recorded}, or model.pretrained to the model that you mean"
        findings.append(Finding("stops", "model.name", model.name, text, remedy))
    if not any(file.suffix in WEIGHTS for file in path.iterdir()):
        text = f"{path} holds no weights"
        remedy = "take another copy of the folder"
        findings.append(Finding("stops", "model.pretrained", model.pretrained, text, remedy))
    shape, problems = _built(model, path)
    return Base(origin, _is_known(model.name), shape, [*findings, *problems])


def _of_name(model: ModelParams, *, origin: str, tag: bool) -> Base:
    try:
        config, tags = clip_model.known(model.name)
    except ModelError:
        problem = "OpenCLIP knows no architecture of that name"
        remedy = (
            "`python -c 'import open_clip; print(open_clip.list_models())'` lists what it knows"
        )
        return Base(
            origin, False, None, [Finding("stops", "model.name", model.name, problem, remedy)]
        )
    findings = []
    if tag and model.pretrained not in tags:
        offered = ", ".join(tags[:6]) + (", …" if len(tags) > 6 else "")
        problem = f"that is no pretrained tag of {model.name}"
        remedy = (
            f"take one of {offered}" if tags else "it has none: name a model folder of your own"
        )
        findings.append(Finding("stops", "model.pretrained", model.pretrained, problem, remedy))
    needs = {"hf_model_name", "hf_tokenizer_name"} & config["text_cfg"].keys()
    if needs and find_spec("transformers") is None:
        problem = "its tokenizer or text tower is Hugging Face's, and transformers is not installed"
        findings.append(
            Finding("stops", "model.name", model.name, problem, "pip install transformers")
        )
    if "hf_model_name" in config["text_cfg"]:
        return Base(origin, True, None, findings)  # its shape lies on the hub
    shape, problems = _built(model, None)
    return Base(origin, True, shape, [*findings, *problems])


def _is_known(name: str) -> bool:
    try:
        clip_model.known(name)
    except ModelError:
        return False
    return True


def _built(model: ModelParams, folder: Path | None) -> tuple[Shape | None, list[Finding]]:
    try:
        return _shape(clip_model.outline(model.name, folder)), []
    except ModelError as error:
        value = model.name if folder is None else model.pretrained
        key = "model.name" if folder is None else "model.pretrained"
        return None, [Finding("stops", key, value, str(error), "take another model")]


def _shape(model: nn.Module) -> Shape:
    sides = model.visual.image_size  # type: ignore[union-attr]
    sides = tuple(sides) if isinstance(sides, tuple | list) else (sides, sides)
    context = int(model.context_length)  # type: ignore[arg-type]
    model.train()
    pixels = torch.empty(PAIRS, 3, *sides, device="meta")
    tokens = torch.ones(PAIRS, context, dtype=torch.int64, device="meta")
    kept, image = _kept(model, pixels, tokens)
    return Shape(
        parameters=sum(weight.numel() for weight in model.parameters()),
        width=int(image.shape[-1]),
        image_size=sides,
        context=context,
        batch_norm=any(
            isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()
        ),
        saved=sum(kept) / PAIRS,
        largest=max(kept) / PAIRS,
    )


def _kept(model: nn.Module, *inputs: torch.Tensor) -> tuple[list[int], torch.Tensor]:
    """Bytes of each storage that a forward pass keeps for the backward pass, weights aside.

    Attention is not fused on the meta device, so its matrices count here and not on a GPU: the sum
    is too high by a fifth for a ViT-B-32, a third for a ViT-L-14.
    """
    weights = {w.untyped_storage()._cdata for w in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        image: torch.Tensor = model(*inputs)[0]
    return [storage.nbytes() for storage in kept.values()], image


def tokens(model: ModelParams, captions: Sequence[str]) -> list[int] | None:
    """Tokens of each caption, both ends included; None where the tokenizer is not here yet.

    The tokenizer of a model that the samples will make is known once `base` has looked at it.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        return [int(count) for count in token_counter(model).count(captions)]
    except (ModelError, ImportError):
        return None
