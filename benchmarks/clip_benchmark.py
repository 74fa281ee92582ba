"""`clip_benchmark eval` and our own evaluation, each as a command, on the same images and captions.

The peer wants an environment of its own: `uv venv peer && uv pip install --python peer/bin/python
clip-benchmark requests "numpy<2.4" open_clip_torch torch torchvision`, and
CLIP_BENCHMARK_PYTHON=peer/bin/python. It runs without a network: a folder of classes stands in for
ImageNet-Sketch, and a list of captions for Flickr8k.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from pipeline import params as params_of
from pipeline.clip import device as devices
from pipeline.clip.model import load
from pipeline.clip.pixels import Crops
from pipeline.data.pairs import caption_key
from pipeline.evaluation import sets
from pipeline.evaluation.bootstrap import value
from pipeline.evaluation.score import score
from pipeline.params import Params

PYTHON = os.environ.get("CLIP_BENCHMARK_PYTHON", "")
THREADS = 2
SAMPLE = "scenes-resnet"
NAMES = {
    "acc1": "top1",
    "acc5": "top5",
    "mean_per_class_recall": "mean_per_class",
    **{f"image_retrieval_recall@{k}": f"text_to_image_r{k}" for k in (1, 5, 10)},
    **{f"text_retrieval_recall@{k}": f"image_to_text_r{k}" for k in (1, 5, 10)},
}
"""The peer's name of a metric, and ours."""


class Run(NamedTuple):
    """Metrics by our names, and the seconds of the commands that found them."""

    metrics: dict[str, float]
    seconds: float


def laid_out(source: Path, folder: Path, *, images: int) -> list[str]:
    """The first `images` of `source` whose captions are unique, in all three layouts; the classes.

    Captions that occur twice are left out: there the peer counts a caption's other image as wrong.
    """
    rows = pd.read_csv(source / "captions.csv", dtype=str)
    rows = rows[~rows["caption"].map(caption_key).duplicated(keep=False)]
    rows = rows[rows["image"].isin(rows["image"].drop_duplicates().head(images))]
    classes = sorted(rows["label"].unique())
    ours, flickr, sketch = folder / "sets" / "both", folder / "flickr8k", folder / "sketch"
    for place in (ours / "images", flickr, *(sketch / _number(i) for i in range(len(classes)))):
        place.mkdir(parents=True)
    for row in rows.drop_duplicates("image").itertuples():
        file = (source / str(row.image)).resolve()
        number = _number(classes.index(str(row.label)))
        for place in (ours / "images", flickr, sketch / number):
            shutil.copy(file, place)
    names = rows["image"].map(lambda image: Path(image).name)
    rows.assign(image="images/" + names).to_csv(ours / "captions.csv", index=False)
    lines = [f"{name},{caption}" for name, caption in zip(names, rows["caption"], strict=True)]
    (flickr / "captions.txt").write_text("\n".join(["image,caption", *lines]) + "\n")
    templates = [template.replace("{}", "{c}") for template in _templates()]
    (folder / "classes.json").write_text(json.dumps({"imagenet_sketch": classes}))
    (folder / "templates.json").write_text(json.dumps({"imagenet_sketch": templates}))
    return classes


def theirs(model: Path, folder: Path) -> Run:
    """Both commands of the peer, in fp32."""
    classes, templates = folder / "classes.json", folder / "templates.json"
    commands = {
        "classification": [
            "--task=zeroshot_classification", "--dataset=imagenet_sketch",
            f"--dataset_root={folder / 'sketch'}", f"--custom_classname_file={classes}",
            f"--custom_template_file={templates}",
        ],
        "retrieval": [
            "--task=zeroshot_retrieval", "--dataset=flickr8k",
            f"--dataset_root={folder / 'flickr8k'}",
            f"--annotation_file={folder / 'flickr8k' / 'captions.txt'}",
            "--recall_k", "1", "5", "10",
        ],
    }  # fmt: skip
    metrics: dict[str, float] = {}
    seconds = 0.0
    for name, options in commands.items():
        output = folder / f"{name}.json"
        program = "from clip_benchmark.cli import main; main()"
        command = [
            PYTHON, "-c", program, "eval", f"--model=local-dir:{model.resolve()}", "--pretrained=",
            "--no_amp", f"--num_workers={THREADS}", f"--output={output}", *options,
        ]  # fmt: skip
        seconds += _run(command)[1]
        metrics |= json.loads(output.read_text())["metrics"]
    return Run({ours: metrics[theirs] for theirs, ours in NAMES.items()}, seconds)


def ours(model: Path, folder: Path, architecture: str) -> Run:
    """The same by the evaluation stage's own code, as one command."""
    command = [sys.executable, "-m", "benchmarks.clip_benchmark", str(model), str(folder)]
    command.append(architecture)
    said, seconds = _run(command)
    return Run(json.loads(said.splitlines()[-1]), seconds)


def _run(command: list[str]) -> tuple[str, float]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(THREADS)}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout, seconds


def _number(index: int) -> str:
    """A folder's name, in the order of the classes."""
    return f"{index:05}"


def _templates() -> list[str]:
    asked = params_of.load(Params).evaluate.templates
    if isinstance(asked, str):
        raise SystemExit("set evaluate.templates to a list: the peer is given the same prompts")
    return asked


def main() -> None:
    """Score the set of `laid_out` and print the metrics that the peer has too."""
    model, folder = Path(sys.argv[1]), Path(sys.argv[2])
    device = devices.prepare(cpu_threads=THREADS)
    params = params_of.load(Params).evaluate
    (data,) = sets.general(
        folder / "sets", scratch=folder / "scratch", template=_templates()[0]
    ).values()
    clip = load(model, architecture=sys.argv[3])
    metrics = score(clip, data, Crops(clip, data.places), params, device=device).metrics
    print(json.dumps({name: value(metrics[name]) for name in NAMES.values()}))


if __name__ == "__main__":
    main()
