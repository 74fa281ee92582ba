"""A bundle as a model of MLflow: `mlflow.pyfunc.load_model(folder)`, `mlflow models serve`.

The model is a copy of pipeline/tracking_model_code.py, the bundle and the rules for pictures:
source and safetensors, no serialised object. It loads where OpenCLIP, torch and MLflow are, without
this project.
"""

import base64
import io
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipeline import tracking_store
from pipeline.artifacts import new_folder, read_json
from pipeline.data import images
from pipeline.errors import ModelError

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

LIMITS = {"max_bytes": 50_000_000, "max_pixels": 50_000_000}
"""What a picture may have, as `validate` has it in params.yaml. Whoever loads or serves the model
may say otherwise: `load_model(folder, model_config={"max_pixels": …})`."""

TEMPLATES = ["a photo of a {}."]

CODE = Path(__file__).with_name("tracking_model_code.py")

CONFIG = "open_clip_config.json"

PACKAGES = ("mlflow", "open_clip_torch", "torch", "torchvision", "pillow", "pandas", "safetensors")
"""What the code and the bundle need. Named, not inferred: MLflow takes 30 s to infer them."""


def save_model(bundle: Path, folder: Path) -> None:
    """Write the model of `bundle` into a new `folder`, in MLflow's layout.

    Raises ModelError where `bundle` is no model folder.
    """
    if not (bundle / CONFIG).is_file():
        raise ModelError(f"{bundle} holds no {CONFIG}: it is not a model folder of OpenCLIP")
    tracking_store.import_quietly()
    import mlflow  # noqa: PLC0415 - seconds

    with new_folder(folder) as part, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own deprecations
        part.rmdir()  # MLflow makes it
        mlflow.pyfunc.save_model(
            part,
            python_model=CODE,
            artifacts={"bundle": str(bundle), "images": images.__file__},
            model_config=dict(LIMITS),
            signature=_signature(),
            input_example=_example(),
            pip_requirements=_requirements(bundle),
        )
        _forget_places(part)


def _signature() -> "ModelSignature":
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema  # noqa: PLC0415

    columns = [ColSpec("string", name, required=False) for name in ("image", "text")]
    params = [
        ParamSpec("classes", "string", [], shape=(-1,)),
        ParamSpec("templates", "string", TEMPLATES, shape=(-1,)),
    ]
    return ModelSignature(inputs=Schema(columns), params=ParamSchema(params))


def _example() -> tuple[Any, dict[str, list[str]]]:
    """A grey picture, to be told from two classes."""
    import pandas as pd  # noqa: PLC0415

    file = io.BytesIO()
    Image.new("RGB", (32, 24), (128, 128, 128)).save(file, "PNG")
    encoded = base64.b64encode(file.getvalue()).decode("ascii")
    return pd.DataFrame({"image": [encoded]}), {"classes": ["a cat", "a dog"]}


def _requirements(bundle: Path) -> list[str]:
    """The packages at the versions that are installed here, without what a build adds to them."""
    text = read_json(bundle / CONFIG)["model_cfg"]["text_cfg"]
    theirs = [key for key in ("hf_model_name", "hf_tokenizer_name") if text.get(key)]
    names = (*PACKAGES, "transformers") if theirs else PACKAGES
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


def _forget_places(folder: Path) -> None:
    """Take the paths of this machine out of what MLflow wrote; it reads none of them again."""
    from mlflow.models import Model  # noqa: PLC0415

    model = Model.load(folder)
    flavour = model.flavors["python_function"]
    flavour["model_code_path"] = CODE.name
    for artifact in flavour["artifacts"].values():
        artifact["uri"] = artifact["path"]
    model.save(folder / "MLmodel")
