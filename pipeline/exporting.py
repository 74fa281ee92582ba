"""`cliptune export-model`: a bundle in the layout of another tool."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pipeline import tracking_model
from pipeline.errors import ConfigError, ModelError
from pipeline.registry import bundle, onnx_export, transformers_layout

Target = Literal["transformers", "onnx", "mlflow"]

NEEDS: dict[Target, tuple[str, ...]] = {
    "transformers": ("transformers",),
    "onnx": ("onnx", "onnxruntime"),
    "mlflow": (),
}
"""Packages of the extra `export`, by what can't be written without them."""

LOADED: dict[Target, str] = {
    "transformers": """\
model = transformers.CLIPModel.from_pretrained("{folder}")
processor = transformers.CLIPProcessor.from_pretrained("{folder}")""",
    "onnx": """\
image = onnxruntime.InferenceSession("{folder}/image.onnx")  # inputs: {folder}/model.json
text = onnxruntime.InferenceSession("{folder}/text.onnx")""",
    "mlflow": """\
model = mlflow.pyfunc.load_model("{folder}")
mlflow models serve --env-manager local -m {folder}""",
}


def export_model(model: Path, folder: Path, *, to: Target) -> str:
    """Write the bundle `model` into a new `folder`; return how to load it, in two lines.

    Raises ConfigError where `folder` is there already and ModelError where a package is missing,
    the bundle is not whole or its architecture does not fit.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already: name a folder that is not")
    missing = [name for name in NEEDS[to] if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"--to {to} needs {' and '.join(missing)}: pip install {' '.join(missing)}"
        )
    writers: dict[Target, Callable[[], object]] = {
        "transformers": lambda: transformers_layout.export(bundle.load(model), folder),
        "onnx": lambda: onnx_export.export(bundle.load(model), folder),
        "mlflow": lambda: _mlflow(model, folder),
    }
    writers[to]()
    return LOADED[to].format(folder=folder)


def _mlflow(model: Path, folder: Path) -> None:
    bundle.verify(model)
    tracking_model.save_model(model, folder)
