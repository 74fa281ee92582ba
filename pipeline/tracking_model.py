"""A bundle as a model of MLflow: `mlflow.pyfunc.load_model(folder)`, `mlflow models serve`.

The model is a copy of pipeline/tracking_model_code.py, the bundle and the rules for pictures:
source and safetensors, no serialised object. It loads where OpenCLIP, torch and MLflow are, without
this project.
"""

import base64
import io
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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


def save_model(bundle: Path, folder: Path, *, run: str | None = None) -> dict[str, Any]:
    """Write the model of `bundle` into a new `folder`, in MLflow's layout; return its description.

    `run` is the id of the MLflow run that the model belongs to. Raises ModelError where `bundle` is
    no model folder.
    """
    if not (bundle / CONFIG).is_file():
        raise ModelError(f"{bundle} holds no {CONFIG}: it is not a model folder of OpenCLIP")
    tracking_store.import_quietly()
    import mlflow  # noqa: PLC0415 - seconds

    described = mlflow.models.Model(artifact_path=folder.name, run_id=run)
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
            mlflow_model=described,
        )
        _forget_places(described)
        described.save(part / "MLmodel")
    return dict(described.get_tags_dict())


@contextmanager
def logged(bundle: Path, *, run: str, work: Path) -> Iterator[list[dict[str, Any]]]:
    """What to send to log `bundle` as the model of a run, whose files lie below `work` meanwhile.

    Nothing where CLIPTUNE_LOG_MODEL is off, nor, with a line on stderr, where MLflow can't write
    the model: a log is not worth a result.
    """
    if os.environ.get("CLIPTUNE_LOG_MODEL") == "off":
        yield []
        return
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as made:
        folder = Path(made, "model")
        try:
            described = save_model(bundle, folder, run=run)
        except Exception as error:
            what = tracking_store.first_line(error)
            sys.stderr.write(f"{bundle} is not logged as a model of MLflow: {what}\n")
            yield []
            return
        # Without this tag MLflow's page of the run shows a folder, and no model to register.
        tags = {"mlflow.log-model.history": json.dumps([described])}
        yield [
            {"op": "artifact", "run": run, "path": str(folder), "folder": ""},
            {"op": "tags", "run": run, "values": tags},
        ]


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


def _forget_places(model: Any) -> None:
    """Take the paths of this machine out of what MLflow wrote; it reads none of them again."""
    flavour = model.flavors["python_function"]
    flavour["model_code_path"] = CODE.name
    for artifact in flavour["artifacts"].values():
        artifact["uri"] = artifact["path"]
