"""The model as MLflow serves it: rows of pictures and texts → vectors, or classes.

MLflow copies this file into the model and runs the copy, where neither this project nor its params
are: it imports nothing of ours. The rules for pictures come along as a file beside the weights.
"""

import base64
import binascii
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import open_clip
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

ROWS = 32
"""Pictures, or texts, that go through the model together."""


class ClipModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Vectors of unit length for pictures and texts; probabilities of classes for pictures."""

    def load_context(self, context: Any) -> None:
        """Load the bundle, on the GPU where there is one."""
        name = f"local-dir:{context.artifacts['bundle']}"
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model, self._transform = open_clip.create_model_from_pretrained(name, device=self._device)
        self._model: Any = model.eval()
        self._tokenizer = open_clip.get_tokenizer(name)
        self._images = _imported(Path(context.artifacts["images"]))
        self._max_bytes = int(context.model_config["max_bytes"])
        self._max_pixels = int(context.model_config["max_pixels"])

    def predict(
        self, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """N rows → N rows of vectors; with `classes` in `params`, a probability a class.

        Columns: `image`, an encoded picture as bytes or base64, and `text`; a row may lack one of
        them. Without classes each gives a column of vectors of unit length, `image_embedding` and
        `text_embedding`, with None where the row lacks it. Raises MlflowException, which a server
        answers with 400, naming the row.
        """
        given = params or {}
        classes, templates = list(given.get("classes") or []), list(given.get("templates") or [])
        columns = [name for name in ("image", "text") if name in model_input.columns]
        if not columns:
            raise _refusal("neither a column `image` nor a column `text`: give one of them")
        if classes:
            return self._classified(model_input, classes, templates)
        lacking = model_input[columns].isna().all(axis="columns").tolist()
        if any(lacking):
            raise _refusal(f"row {lacking.index(True)}: it has neither an `image` nor a `text`")
        vectors = {"image": self._pictures, "text": self._texts}
        return pd.DataFrame(
            {f"{name}_embedding": _where(model_input[name], vectors[name]) for name in columns}
        )

    def _classified(
        self, rows: pd.DataFrame, classes: list[str], templates: list[str]
    ) -> pd.DataFrame:
        if list(rows.columns) != ["image"]:
            raise _refusal("with `classes`, give the column `image` and no other")
        if len({*classes}) < len(classes):
            raise _refusal("`classes` names a class twice")
        without = [template for template in templates if "{}" not in template]
        if without or not templates:
            raise _refusal(f"each of `templates` needs {{}} for the class, unlike {without}")
        image_ID = self._pictures(dict(enumerate(rows["image"])))
        class_CD = torch.stack([self._class(name, templates) for name in classes])
        scale = self._model.logit_scale.exp().detach().cpu()
        found_IC = (scale * image_ID @ class_CD.T).softmax(dim=-1)
        return pd.DataFrame(found_IC.numpy(), columns=classes)

    def _class(self, name: str, templates: list[str]) -> Tensor:
        """The mean of a class's prompts, of unit length, as in zero-shot classification."""
        prompts = dict(enumerate(template.replace("{}", name) for template in templates))
        return nn.functional.normalize(self._texts(prompts).mean(dim=0), dim=0)

    def _pictures(self, values: Mapping[int, Any]) -> Tensor:
        decoded = [self._picture(row, value) for row, value in values.items()]
        return self._encoded(decoded, self._model.encode_image)

    def _texts(self, values: Mapping[int, Any]) -> Tensor:
        for row, value in values.items():
            if not isinstance(value, str):
                raise _refusal(f"row {row}: its `text` is {value!r}, not a text")
        tokens = self._tokenizer(list(values.values()))
        return self._encoded(list(tokens), self._model.encode_text)

    @torch.no_grad()
    def _encoded(self, inputs: Sequence[Tensor], encode: Any) -> Tensor:
        parts = [
            encode(torch.stack([*inputs[start : start + ROWS]]).to(self._device), normalize=True)
            for start in range(0, len(inputs), ROWS)
        ]
        return torch.cat(parts).float().cpu()

    def _picture(self, row: int, value: Any) -> Tensor:
        """One encoded picture → the model's input 3×H×W."""
        content = self._content(row, value)
        try:
            with self._images.opened(content) as picture:
                pixels = picture.width * picture.height
                if pixels > self._max_pixels:
                    raise _refusal(
                        f"row {row}: its image has {picture.width}×{picture.height} pixels, and "
                        f"{self._max_pixels:,} are allowed (max_pixels)"
                    )
                picture.load()
                rgb = self._images.to_rgb(self._images.upright(picture))
        except MlflowException:
            raise
        except UnidentifiedImageError:
            raise _refusal(
                f"row {row}: its `image` is no {' or '.join(self._images.FORMATS)}"
            ) from None
        except Exception as error:  # Pillow's decoders raise whatever a broken file provokes
            said = str(error).partition("\n")[0][:200] or type(error).__name__
            raise _refusal(f"row {row}: its `image` can't be decoded ({said})") from None
        found: Tensor = self._transform(rgb)
        return found

    def _content(self, row: int, value: Any) -> bytes:
        if isinstance(value, str):
            try:
                value = base64.b64decode("".join(value.split()), validate=True)
            except (binascii.Error, ValueError):
                raise _refusal(f"row {row}: its `image` is neither bytes nor base64") from None
        if not isinstance(value, bytes):
            raise _refusal(f"row {row}: its `image` is {value!r}, not an encoded picture")
        if len(value) > self._max_bytes:
            raise _refusal(
                f"row {row}: its image has {len(value):,} bytes, and {self._max_bytes:,} are "
                "allowed (max_bytes)"
            )
        return value


def _where(
    column: "pd.Series[Any]", encode: Callable[[Mapping[int, Any]], Tensor]
) -> list[list[float] | None]:
    """The vectors of a column's rows, None where a row has nothing."""
    given = {row: value for row, value in enumerate(column) if not pd.isna(value)}
    vectors = iter(encode(given).tolist() if given else [])
    return [next(vectors) if row in given else None for row in range(len(column))]


def _refusal(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)


def _imported(file: Path) -> ModuleType:
    """The rules for pictures; Pillow's own limit on pixels stays what it was."""
    spec = importlib.util.spec_from_file_location("cliptune_images", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    limit = Image.MAX_IMAGE_PIXELS
    try:
        spec.loader.exec_module(module)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    return module


mlflow.models.set_model(ClipModel())
