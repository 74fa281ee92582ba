"""Small models in the shape of real architectures, every weight of its own value."""

from pathlib import Path
from typing import Any

import open_clip
import torch

from pipeline.artifacts import read_json, write_json
from pipeline.clip import model
from pipeline.clip.model import Clip

CONFIGS = Path(open_clip.__file__).parent / "model_configs"

VISION = {"layers": 2, "width": 32, "head_width": 16, "image_size": 32, "patch_size": 8}
TEXT = {"layers": 2, "width": 24, "heads": 2, "context_length": 16}


def make(
    folder: Path,
    name: str,
    *,
    like: str = "ViT-B-32",
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    **top: Any,
) -> Clip:
    """OpenCLIP's architecture `like`, shrunk and changed; norms and biases are not 1 and 0."""
    config = read_json(CONFIGS / f"{like}.json")
    config["vision_cfg"] |= VISION | (vision or {})
    config["text_cfg"] |= TEXT | (text or {})
    write_json(folder / f"{name}.json", config | {"embed_dim": 20} | top)
    made = model.create(name, folder / f"{name}.json", seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made
