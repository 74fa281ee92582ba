"""Loading an OpenCLIP model with all that belongs to it; the only importer of open_clip."""

import copy
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from pipeline import paths
from pipeline.artifacts import read_json, sha256_of
from pipeline.errors import ModelError
from pipeline.params import ModelParams

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
CARD_FILE = "README.md"
TOLD = (CARD_FILE, paths.MANIFEST)
"""Files that tell of a model and change nothing of what it computes."""

Tokenizer = Callable[..., Tensor]


@dataclass(frozen=True)
class Clip:
    """A model and what turns pictures and texts into its inputs.

    Attributes:
        architecture: the name under which OpenCLIP knows it.
        model: the towers, fp32, on the CPU until moved.
        config: `model_cfg` and `preprocess_cfg`, as OpenCLIP's `local-dir:` schema reads them.
        crop: picture → uint8 array H×W×3, OpenCLIP's own transform up to its last picture.
        mean, std: what normalises a crop scaled to 0…1, each of 3 channels.
        tokenizer: list of T texts → int64 tokens T×L.
        fingerprint: hash of weights, configuration and tokenizer.
    """

    architecture: str
    model: nn.Module
    config: dict[str, Any]
    crop: Callable[[Image.Image], np.ndarray[Any, np.dtype[np.uint8]]]
    mean: Tensor
    std: Tensor
    tokenizer: Tokenizer
    fingerprint: str

    def pixels(self, crops: Tensor) -> Tensor:
        """Crops B×H×W×3 uint8 → the model's input B×3×H×W, bit for bit what OpenCLIP makes."""
        unit = crops.permute(0, 3, 1, 2).to(torch.float32).div(255)
        shape = (1, 3, 1, 1)
        mean, std = (
            self.mean.to(unit.device).view(shape),
            self.std.to(unit.device).view(shape),
        )
        return unit.sub(mean).div(std).contiguous()


def locate(pretrained: str) -> Path:
    """The folder or file that `model.pretrained` names: fetched into hub/, or a path from there."""
    return Path(os.path.normpath(paths.HUB / pretrained))


def load(path: Path, *, architecture: str) -> Clip:
    """Load a model folder, or a checkpoint file of the named architecture.

    Raises ModelError when there is nothing to load, when the folder records another architecture,
    and when weights and architecture don't fit.
    """
    if path.is_dir():
        return _load_folder(path, architecture=architecture)
    if path.is_file():
        config = _known_config(architecture)
        model = _create(architecture, pretrained=str(path))
        return _assemble(architecture, model, config, open_clip.get_tokenizer(architecture), path)
    raise ModelError(
        f"no model at {path}: set model.pretrained in params.yaml to a pretrained tag of "
        f"{architecture}, or to a model folder as a path from {paths.HUB}/"
    )


def load_folder(path: Path) -> Clip:
    """Load a folder of ours, under the architecture that it records."""
    return _load_folder(path, architecture=recorded_architecture(path) or path.name)


def create(architecture: str, config_file: Path, *, seed: int) -> Clip:
    """A randomly initialised model of the architecture in `config_file`, the same for each seed."""
    open_clip.add_model_config(config_file)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _create(architecture, pretrained=None)
    tokenizer = open_clip.get_tokenizer(architecture)
    return _assemble(architecture, model, _known_config(architecture), tokenizer, config_file)


def fetch(architecture: str, tag: str) -> Clip:
    """Download the weights of a pretrained tag with OpenCLIP's own code.

    The activation with which a tag was trained is taken from OpenCLIP's table of tags: OpenAI's
    weights under plain `ViT-B-32` would silently get another (mlfoundations/open_clip#771).

    Raises ModelError for an unknown architecture or tag, and when the hub can't be reached.
    """
    config = _known_config(architecture)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        known = f"one of {', '.join(tags)}" if tags else "none: it has no pretrained tags"
        raise ModelError(
            f"model.pretrained is {tag!r}, which is no pretrained tag of {architecture} ({known}); "
            f"for a model of your own write its path from {paths.HUB}/, as in ../models/mine"
        )
    quick_gelu = bool(open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu"))
    try:
        model = _create(architecture, pretrained=tag, force_quick_gelu=quick_gelu)
    except ModelError as error:
        raise ModelError(
            f"{error}\n       Fetching needs the network, once. Without it, point "
            f"model.pretrained at a model folder, as a path from {paths.HUB}/"
        ) from error
    if quick_gelu:
        config["quick_gelu"] = True
    return _assemble(architecture, model, config, open_clip.get_tokenizer(architecture), None)


def known(architecture: str) -> tuple[dict[str, Any], list[str]]:
    """Configuration and pretrained tags of an architecture; ModelError if OpenCLIP knows none."""
    return _known_config(architecture), open_clip.list_pretrained_tags_by_model(architecture)


def published(architecture: str, tag: str) -> str | None:
    """The Hugging Face repository from which OpenCLIP takes a tag's weights; None: not known."""
    owner, _, rest = str(open_clip.get_pretrained_cfg(architecture, tag).get("hf_hub")).partition(
        "/"
    )
    name = rest.partition("/")[0]
    return f"{owner}/{name}" if name else None


def prompt_sets() -> dict[str, list[str]]:
    """OpenCLIP's sets of prompts for classification by name, with `{}` for the class."""
    sets = {
        "openai_imagenet": open_clip.OPENAI_IMAGENET_TEMPLATES,
        "simple_imagenet": open_clip.SIMPLE_IMAGENET_TEMPLATES,
    }
    return {name: [template("{}") for template in some] for name, some in sets.items()}


def outline(architecture: str, origin: Path | None = None) -> nn.Module:
    """The model without weights, on torch's meta device: its shapes, at the cost of nothing.

    `origin` is a model folder, or the JSON file of an architecture; None: OpenCLIP knows the name.
    Raises ModelError when the model can't be built.
    """
    name = architecture
    if origin is not None and origin.is_dir():
        name = f"local-dir:{origin}"
    elif origin is not None:
        open_clip.add_model_config(origin)
    with torch.device("meta"):  # OpenCLIP moves a model after it has drawn its weights
        return _create(name, pretrained=None, load_weights=False, device="meta")


def load_tokenizer(base: ModelParams) -> Tokenizer:
    """The tokenizer of a base model, without its weights; ModelError where there is none."""
    path = locate(base.pretrained)
    with _quiet():
        try:
            if (path / CONFIG_FILE).is_file():
                found: Tokenizer = open_clip.get_tokenizer(f"local-dir:{path}")
            else:
                _known_config(base.name)
                found = open_clip.get_tokenizer(base.name)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"can't load the tokenizer of {base.name}: {error}") from error
    return found


def save_tokenizer(clip: Clip, folder: Path) -> None:
    """Files of a Hugging Face tokenizer; CLIP's own lies in OpenCLIP and needs none."""
    if isinstance(clip.tokenizer, HFTokenizer):
        clip.tokenizer.save_pretrained(folder)
    elif not isinstance(clip.tokenizer, SimpleTokenizer):
        raise ModelError(
            f"{clip.architecture} has a {type(clip.tokenizer).__name__}, which OpenCLIP can't load "
            "from a folder: choose an architecture with a CLIP or Hugging Face tokenizer"
        )


def recorded_architecture(folder: Path) -> str | None:
    """The architecture that a bundle of ours records, or None for a folder from elsewhere."""
    manifest = folder / paths.MANIFEST
    if not manifest.is_file():
        return None
    name = read_json(manifest)["architecture"]
    return str(name)


def _load_folder(path: Path, *, architecture: str) -> Clip:
    if not (path / CONFIG_FILE).is_file():
        raise ModelError(f"{path} holds no {CONFIG_FILE}: it is not a model folder of OpenCLIP")
    recorded = recorded_architecture(path)
    if recorded not in (None, architecture):
        raise ModelError(
            f"{path} holds a {recorded}, model.name says {architecture}: "
            f"set model.name to {recorded}, or model.pretrained to the model that you mean"
        )
    name = f"local-dir:{path}"
    model = _create(name, pretrained=None, require_pretrained=True)
    config = read_json(path / CONFIG_FILE)["model_cfg"]
    with _quiet():
        tokenizer = open_clip.get_tokenizer(name)
    return _assemble(architecture, model, config, tokenizer, path)


def _known_config(architecture: str) -> dict[str, Any]:
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise ModelError(
            f"model.name is {architecture!r}, which OpenCLIP does not know: "
            "`python -c 'import open_clip; print(open_clip.list_models())'` lists what it knows"
        )
    return copy.deepcopy(config)


def _create(name: str, *, pretrained: str | None, device: str = "cpu", **options: Any) -> nn.Module:
    with _quiet():
        try:
            model: nn.Module = open_clip.create_model(
                name, pretrained=pretrained, precision="fp32", device=device, **options
            )
        except (RuntimeError, ValueError, OSError, KeyError, TypeError, AttributeError) as error:
            source = f"{name} with pretrained {pretrained!r}" if pretrained else name
            raise ModelError(f"can't load {source}: {error}") from error
    return model.eval()


def _assemble(
    architecture: str,
    model: nn.Module,
    model_config: dict[str, Any],
    tokenizer: Tokenizer,
    origin: Path | None,
) -> Clip:
    preprocess = dict(model.visual.preprocess_cfg)  # type: ignore[union-attr,arg-type]
    transform = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
    *to_picture, _to_tensor, normalize = transform.transforms

    def crop(picture: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
        for step in to_picture:
            picture = step(picture)
        return np.asarray(picture, dtype=np.uint8)

    return Clip(
        architecture=architecture,
        model=model,
        config={"model_cfg": model_config, "preprocess_cfg": preprocess},
        crop=crop,
        mean=torch.tensor(normalize.mean),
        std=torch.tensor(normalize.std),
        tokenizer=tokenizer,
        fingerprint=sha256_of(origin, without=TOLD) if origin else "",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCLIP logs its progress to the root logger, and warns of what is checked here."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
