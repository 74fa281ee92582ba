"""A model as two ONNX graphs, one a tower, for ONNX Runtime and whatever else reads the format.

    image.onnx   pixels B×3×H×W float32, normalised → image_embeddings B×D, of unit length
    text.onnx    tokens T×L int64 → text_embeddings T×D, of unit length
    model.json   what goes before and after: preprocessing, context length, logit scale, opset

The number of rows is free, all else fixed. Logits are image_embeddings @ text_embeddings.T *
logit_scale + logit_bias. Weights of a tower above 1.5 GB lie beside its graph, in `*.onnx.data`:
a file of ONNX ends at 2 GB.

torch's older exporter, which traces, made each architecture that was tried (OpenCLIP's transformers
and ResNets, timm, CoCa) in a third of the newer one's time and half of its size, needs no package
more, and writes no path of this machine into the graph. Both give the same numbers.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.artifacts import new_folder, write_json
from pipeline.clip.model import Clip
from pipeline.errors import ModelError
from pipeline.registry import parity

OPSET = 18
"""Read by ONNX Runtime since 1.14 (February 2023)."""

BOUND = 1e-4
"""What vectors of unit length may differ by."""

ALONE = 1_500_000_000
"""Bytes of weights up to which a graph is one file."""

BATCHES = (1, 3)


class _Image(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        embeddings: Tensor = self.model.encode_image(pixels, normalize=True)  # type: ignore[operator]
        return embeddings


class _Text(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        embeddings: Tensor = self.model.encode_text(tokens, normalize=True)  # type: ignore[operator]
        return embeddings


def export(clip: Clip, folder: Path, *, alone: int = ALONE) -> None:
    """Write `clip` into a new `folder` and run it there; only what says the same stays.

    `alone` is the number of bytes up to which a graph holds its weights itself. Raises ModelError
    where torch can't express the model in ONNX, and where ONNX Runtime's vectors differ.
    """
    pixels_I = parity.pixels(clip, parity.pictures(clip))
    tokens_TL = clip.tokenizer([*parity.TEXTS])
    with new_folder(folder) as part:
        towers = {"image": (_Image(clip.model), pixels_I), "text": (_Text(clip.model), tokens_TL)}
        for name, (tower, shown) in towers.items():
            names = ("pixels" if name == "image" else "tokens", f"{name}_embeddings")
            try:
                _write(part / f"{name}.onnx", tower, shown[:2], names=names, alone=alone)
            except Exception as error:  # the exporter raises whatever an operator provokes
                first = str(error).strip().partition("\n")[0]
                raise ModelError(
                    f"torch can't express the {name} tower of {clip.architecture} in ONNX "
                    f"({type(error).__name__}: {first}). Nothing was written; `--to mlflow` takes "
                    "any architecture"
                ) from error
            _verify(part / f"{name}.onnx", tower, shown, what=clip.architecture)
        write_json(part / "model.json", describe(clip))


def describe(clip: Clip) -> dict[str, Any]:
    """What the graphs leave to their user: how pictures and texts become inputs, and the scale."""
    bias = getattr(clip.model, "logit_bias", None)
    return {
        "architecture": clip.architecture,
        "opset": OPSET,
        "image": {
            "file": "image.onnx",
            "input": "pixels",
            "output": "image_embeddings",
            "preprocess": clip.config["preprocess_cfg"],
        },
        "text": {
            "file": "text.onnx",
            "input": "tokens",
            "output": "text_embeddings",
            "context_length": clip.tokenizer.context_length,  # type: ignore[attr-defined]
            "tokenizer": type(clip.tokenizer).__name__,
        },
        "unit_length": True,
        "logit_scale": clip.model.logit_scale.exp().item(),  # type: ignore[operator]
        "logit_bias": 0.0 if bias is None else bias.item(),
    }


def _write(
    file: Path, tower: nn.Module, shown: Tensor, *, names: tuple[str, str], alone: int
) -> None:
    """Trace a tower on `shown`; the graph says nothing of where it was made."""
    import onnx  # noqa: PLC0415 - an extra

    with _plain_attention(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch's tracer warns of is measured by `_verify`
        torch.onnx.export(
            tower.eval(),
            (shown,),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes={name: {0: "rows"} for name in names},
        )
    graph = onnx.load(file)
    for node in graph.graph.node:
        node.doc_string = ""
    for left in file.parent.glob("*"):  # of large towers torch writes a file a tensor
        if left.suffix not in (".onnx", ".data"):
            left.unlink()
    beside = sum(len(weight.raw_data) for weight in graph.graph.initializer) > alone
    onnx.save_model(
        graph,
        file,
        save_as_external_data=beside,
        location=f"{file.name}.data",
        size_threshold=1024,
    )


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Without gradients torch takes a fused attention, for which ONNX has no word."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@torch.no_grad()
def _verify(file: Path, tower: nn.Module, shown: Tensor, *, what: str) -> None:
    """Raise ModelError where ONNX Runtime finds other vectors, for a batch of one or of three."""
    for size in BATCHES:
        theirs = torch.from_numpy(run(file, shown[:size].numpy()))
        ours = {f"vectors of {size} rows": (tower(shown[:size]), theirs, BOUND)}
        parity.hold(ours, what=f"{what}, {file.name} in ONNX Runtime")


def run(file: Path, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a graph makes of its only input, on the CPU."""
    import onnxruntime  # noqa: PLC0415 - an extra

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found: Sequence[np.ndarray[Any, Any]] = session.run(None, {session.get_inputs()[0].name: rows})
    return found[0]
