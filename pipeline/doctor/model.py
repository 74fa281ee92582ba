"""The base model and the device, without loading a weight.

The model is built on torch's meta device, where tensors have shapes and no content: its parameters
are counted, and what a forward pass keeps for the backward pass is added up, by running it there.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from pipeline import paths
from pipeline.clip import device as devices
from pipeline.clip import heads
from pipeline.clip import model as clip_model
from pipeline.clip.adapters import trainable
from pipeline.clip.tokens import token_counter
from pipeline.doctor.findings import Finding
from pipeline.doctor.seen import Base, Device, Made, Shape
from pipeline.errors import CliptuneError, ModelError
from pipeline.params import FinetuneParams, ModelParams
from pipeline.training import methods

WEIGHTS = {".safetensors", ".bin", ".pt", ".pth"}

PAIRS = 8
"""Pairs in the forward pass whose memory is added up, and half of them in another: what does not
grow with them is no pair's."""


_Forward = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


class _Found(NamedTuple):
    """A base model as `Base` tells of it, and its outline where it can be built."""

    origin: str
    known: bool
    built: nn.Module | None
    findings: list[Finding]


class _Kept(NamedTuple):
    """Bytes of each thing kept, and the width of an embedding."""

    bytes: list[int]
    width: int


def base(model: ModelParams, *, made: Made, finetune: FinetuneParams | None = None) -> Base:
    """Look at the base model, and at how `finetune` would train it, where that is known.

    `made` names the samples' outputs, each with what it is made from.
    """
    found = _base(model, made=made)
    if found.built is None:
        return Base(found.origin, found.known, None, found.findings)
    shape, problems = _shape(found.built, finetune)
    return Base(found.origin, found.known, shape, [*found.findings, *problems])


def _base(model: ModelParams, *, made: Made) -> _Found:
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
    return _Found(named.origin, named.known, named.built, [found, *named.findings])


def device() -> Device | Finding:
    """The device that the stages would choose, or why they can't."""
    try:
        chosen = devices.choose()
    except CliptuneError as error:
        asked = os.environ["CLIPTUNE_DEVICE"]
        return Finding("stops", "CLIPTUNE_DEVICE", asked, str(error), "unset it, or set it to cpu")
    if chosen.type != "cuda":
        units = chosen.type == "cpu" and devices.has_bf16_units(chosen)
        return Device(chosen.type, "", None, None, bf16=units)
    free, total = torch.cuda.mem_get_info(chosen)
    name = torch.cuda.get_device_name(chosen)
    return Device("cuda", name, total, free, bf16=torch.cuda.is_bf16_supported())


def _of_sample(model: ModelParams, path: Path, sources: Sequence[Path]) -> _Found:
    """A model that a stage will make, of the architecture whose JSON file it depends on."""
    origin = f"{path}/, made on demand by samples/dvc.yaml"
    configs = {source.stem: source for source in sources if source.suffix == ".json"}
    if model.name in configs:
        return _Found(origin, False, clip_model.outline(model.name, configs[model.name]), [])
    problem = f"{path} will hold a {' or '.join(configs)}"
    remedy = "set model.pretrained to a pretrained tag, or to the model that you mean"
    found = Finding("stops", "model.name", model.name, problem, remedy)
    return _Found(origin, _is_known(model.name), None, [found])


def _of_folder(model: ModelParams, path: Path, *, origin: str) -> _Found:
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
        return _Found(
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
    built, problems = _built(model, path)
    return _Found(origin, _is_known(model.name), built, [*findings, *problems])


def _of_name(model: ModelParams, *, origin: str, tag: bool) -> _Found:
    try:
        config, tags = clip_model.known(model.name)
    except ModelError:
        problem = "OpenCLIP knows no architecture of that name"
        remedy = (
            "`python -c 'import open_clip; print(open_clip.list_models())'` lists what it knows"
        )
        return _Found(
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
        return _Found(origin, True, None, findings)  # its shape lies on the hub
    built, problems = _built(model, None)
    return _Found(origin, True, built, [*findings, *problems])


def _is_known(name: str) -> bool:
    try:
        clip_model.known(name)
    except ModelError:
        return False
    return True


def _built(model: ModelParams, folder: Path | None) -> tuple[nn.Module | None, list[Finding]]:
    try:
        return clip_model.outline(model.name, folder), []
    except ModelError as error:
        value = model.name if folder is None else model.pretrained
        key = "model.name" if folder is None else "model.pretrained"
        return None, [Finding("stops", key, value, str(error), "take another model")]


def _shape(model: nn.Module, finetune: FinetuneParams | None) -> tuple[Shape, list[Finding]]:
    """What follows from the architecture, and why `finetune` does not fit it.

    A module that does not fit is measured as if all of it were trained. The largest tensor is that
    of a model all of which trains: an embedding passes also through what `finetune` leaves alone.
    """
    parameters = sum(weight.numel() for weight in model.parameters())
    whole = _measured(model, parameters)
    if finetune is None:
        return whole, []
    try:
        with methods.prepared(model, finetune, seed=0):
            pass
        # What is computed anew leaves no trace on the meta device: `memory` has a share for it.
        kept = finetune.model_copy(update={"checkpoint_activations": False})
        with methods.prepared(model, kept, seed=0):
            found = _measured(model, parameters, _heads if finetune.method == "head" else _whole)
            return replace(found, largest=whole.largest), []
    except CliptuneError as error:
        return whole, [Finding("stops", "finetune.method", finetune.method, str(error), "")]


def _whole(model: nn.Module, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Embeddings of the images, after both towers."""
    found: torch.Tensor = model(pixels, tokens)[0]
    return found


def _heads(model: nn.Module, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The same after both heads alone, on features as training looks them up."""
    features = heads.without(model)
    found = {}
    for tower, inputs in (("image", pixels), ("text", tokens)):
        with torch.no_grad():
            looked_up = getattr(features, f"encode_{tower}")(inputs).clone()
        found[tower] = F.normalize(heads.head_of(model, tower).project(looked_up), dim=-1)
    return found["image"]


def _measured(model: nn.Module, parameters: int, forward: _Forward = _whole) -> Shape:
    sides = model.visual.image_size  # type: ignore[union-attr]
    sides = tuple(sides) if isinstance(sides, tuple | list) else (sides, sides)
    context = int(model.context_length)  # type: ignore[arg-type]
    trained = trainable(model)
    model.train()
    half, whole = (
        _kept(model, forward, sides, context, pairs=count) for count in (PAIRS // 2, PAIRS)
    )
    saved = 2 * (sum(whole.bytes) - sum(half.bytes)) / PAIRS
    return Shape(
        parameters=parameters,
        width=whole.width,
        image_size=sides,
        context=context,
        batch_norm=any(
            isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()
        ),
        trained=trained,
        saved=saved,
        fixed=sum(whole.bytes) - PAIRS * saved,
        largest=max(whole.bytes) / PAIRS,
    )


def _kept(
    model: nn.Module, forward: _Forward, sides: tuple[int, int], context: int, *, pairs: int
) -> _Kept:
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

    pixels = torch.empty(pairs, 3, *sides, device="meta")
    tokens = torch.ones(pairs, context, dtype=torch.int64, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        image = forward(model, pixels, tokens)
    return _Kept([storage.nbytes() for storage in kept.values()], int(image.shape[-1]))


def tokens(model: ModelParams, captions: Sequence[str]) -> list[int] | None:
    """Tokens of each caption, both ends included; None where the tokenizer is not here yet.

    The tokenizer of a model that the samples will make is known once `base` has looked at it.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        return [int(count) for count in token_counter(model).count(captions)]
    except (ModelError, ImportError):
        return None
