"""The bundle: a model folder that plain OpenCLIP loads, with the record of how it came to be.

`open_clip.create_model_and_transforms("local-dir:models/final")` and
`open_clip.get_tokenizer("local-dir:models/final")` give the model, without this project.

`cliptune.json` holds the SHA-256 and the size of every other file. They are there against accident
(a copy cut short, a file of another run): whoever can change a file can change them too.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from pipeline import paths
from pipeline.artifacts import new_folder, read_json, sha256_of, write_json, write_text
from pipeline.clip.model import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    Clip,
    load_folder,
    save_tokenizer,
)
from pipeline.errors import ModelError

FILES = "files"
"""In the manifest: name → `bytes` and `sha256` of every other file."""

PROMPTS = "prompts"
"""In the manifest of a model that was evaluated: `templates`, `classes`, `synonyms` asked with."""

_AGAIN = "`dvc repro` writes models/finetuned and models/final anew, `make repro` a base model too"
_RESTORE = (
    "copy the whole folder again from where it came; where DVC made it, delete it and name it to "
    "`dvc checkout`, as in `rm -r models/final && dvc checkout models/final`"
)


def save(folder: Path, clip: Clip, *, record: Mapping[str, Any], card: str | None = None) -> None:
    """Write weights, configuration, tokenizer, model card and `cliptune.json`.

    That holds the architecture, the hashes of all other files, and `record`. The same model gives
    the same bytes: tensors are written in the order of their names.
    """
    with new_folder(folder) as part:
        safetensors.torch.save_file(_weights(clip.model), part / WEIGHTS_FILE)
        write_json(part / CONFIG_FILE, clip.config)
        save_tokenizer(clip, part)
        if card is not None:
            write_text(part / CARD_FILE, card)
        manifest = {**record, "architecture": clip.architecture, FILES: _hashes(part)}
        write_json(part / paths.MANIFEST, manifest)


def load(folder: Path) -> Clip:
    """The model of a bundle, on the CPU, each file as it was written.

    Raises ModelError as `verify` does, before anything is loaded, and for an architecture that this
    OpenCLIP can't build.
    """
    manifest = verify(folder)
    try:
        return load_folder(folder)
    except ModelError as error:
        raise ModelError(
            f"{folder} is as it was written, but its architecture, {manifest['architecture']}, "
            f"does not load with the OpenCLIP installed here: {error}\n"
            "       Install the open_clip_torch with which it was made (requirements.lock)"
        ) from error


def verify(folder: Path) -> dict[str, Any]:
    """The manifest, if all that it lists is there with the same bytes.

    What it does not list is let be: OpenCLIP takes weights and configuration by the names listed.
    Raises ModelError that names the first file that is missing or changed, and the remedy.
    """
    manifest = read_manifest(folder)
    files = manifest[FILES]
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            raise ModelError(f"{file} is missing, and {paths.MANIFEST} lists it: {_RESTORE}")
        size = file.stat().st_size
        if size != expected["bytes"]:
            raise ModelError(
                f"{file} has {size:,} bytes, and {paths.MANIFEST} says {expected['bytes']:,}: it "
                f"was cut short or replaced; {_RESTORE}"
            )
    for name, expected in files.items():
        found = sha256_of(folder / name)
        if found != expected["sha256"]:
            raise ModelError(
                f"{folder / name} changed since it was written (its SHA-256 begins {found[:12]}, "
                f"and {paths.MANIFEST} says {expected['sha256'][:12]}): {_RESTORE}"
            )
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `cliptune.json` says; no other file is looked at.

    Raises ModelError where there is none, or none that says what a bundle must.
    """
    file = folder / paths.MANIFEST
    try:
        manifest = read_json(file)
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():
            raise ModelError(
                f"{folder} does not exist: where a stage makes it, `dvc checkout {folder}` brings "
                f"back the last one; {_AGAIN}"
            ) from None
        raise ModelError(
            f"{folder} holds no {paths.MANIFEST}, so it is no bundle of this project: name a "
            f"folder that holds one, as models/final does; {_AGAIN}"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{file} is not valid JSON ({error}): {_RESTORE}") from None
    except OSError as error:
        raise ModelError(f"{file} can't be read ({error})") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("architecture"), str):
        raise ModelError(f"{file} names no architecture: {_RESTORE}")
    if FILES not in manifest:
        raise ModelError(
            f"{file} records no hashes of files, as bundles of earlier versions do: make it again; "
            f"{_AGAIN}"
        )
    wrong = _wrong(manifest[FILES])
    if wrong is not None:
        raise ModelError(f"{file}: {FILES} {wrong}; {_RESTORE}")
    return manifest


def point(
    finetuned: Path,
    results: Mapping[str, Any],
    *,
    prompts: Mapping[str, Any],
    params: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of a model between its base and the fine-tuned bundle.

    To that of the bundle come the hash of its weights, where the model lies, its figures, and the
    params and prompts with which they were measured.
    """
    record = read_manifest(finetuned)
    weights = record[FILES][WEIGHTS_FILE]["sha256"]
    del record["architecture"], record[FILES]
    chosen = {key: results[key] for key in ("alpha", "choice")}
    figures = {
        name: {key: scores[key] for key in ("images", "base", "final", "gain")}
        for name, scores in {"target": results["target"], **results["general"]}.items()
    }
    return {
        **record,
        **chosen,
        "evaluation": figures,
        "finetuned": {"weights_sha256": weights},
        "params": {**record["params"], **params},
        PROMPTS: prompts,
    }


def _hashes(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": sha256_of(file),
        }
        for file in files
    }


def _wrong(files: Any) -> str | None:
    """What keeps the list of files from vouching for a model; None: nothing."""
    if not isinstance(files, dict):
        return "is no mapping of names"
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if name not in files:
            return f"lacks {name}, without which there is no model"
    for name, said in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            return f"names {name!r}, which lies outside the folder"
        if not (
            isinstance(said, dict)
            and isinstance(said.get("bytes"), int)
            and isinstance(said.get("sha256"), str)
        ):
            return f"lacks bytes or sha256 of {name!r}"
    return None


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Own, contiguous copies on the CPU: safetensors refuses tensors that share memory."""
    state = model.state_dict()
    return {name: state[name].detach().cpu().contiguous().clone() for name in sorted(state)}
