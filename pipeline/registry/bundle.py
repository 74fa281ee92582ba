"""The bundle: a model folder that plain OpenCLIP loads, with the record of how it came to be.

`open_clip.create_model_and_transforms("local-dir:models/finetuned")` and
`open_clip.get_tokenizer("local-dir:models/finetuned")` give the model, without this project.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from pipeline import paths
from pipeline.artifacts import new_folder, read_json, write_json
from pipeline.clip.model import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Clip,
    save_tokenizer,
)


def save(folder: Path, clip: Clip, *, record: Mapping[str, Any]) -> None:
    """Write weights, configuration, tokenizer and `cliptune.json` (architecture and `record`).

    The same model gives the same bytes: tensors are written in the order of their names.
    """
    with new_folder(folder) as part:
        safetensors.torch.save_file(_weights(clip.model), part / WEIGHTS_FILE)
        write_json(part / CONFIG_FILE, clip.config)
        save_tokenizer(clip, part)
        write_json(part / paths.MANIFEST, {"architecture": clip.architecture, **record})


def point(finetuned: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a model between its base and the fine-tuned bundle: where, and its figures."""
    record = read_json(finetuned / paths.MANIFEST)
    del record["architecture"]
    chosen = {key: results[key] for key in ("alpha", "choice")}
    figures = {
        name: {key: scores[key] for key in ("images", "base", "final", "gain")}
        for name, scores in {"target": results["target"], **results["general"]}.items()
    }
    return {**record, **chosen, "evaluation": figures}


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Own, contiguous copies on the CPU: safetensors refuses tensors that share memory."""
    state = model.state_dict()
    return {name: state[name].detach().cpu().contiguous().clone() for name in sorted(state)}
