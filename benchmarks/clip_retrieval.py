"""`clip-retrieval inference` on the pictures and captions of another benchmark.

It wants an environment of its own, for its pins are old: `uv venv peer && uv pip install --python
peer/bin/python clip-retrieval "setuptools<81"`, and CLIP_RETRIEVAL=peer/bin/clip-retrieval.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

import pandas as pd

COMMAND = os.environ.get("CLIP_RETRIEVAL", "")
FEW = 32
BATCH = 32
WORKERS = 2


def rates(
    weights: Path, architecture: str, source: Path, part: pd.DataFrame
) -> dict[str, float] | None:
    """Images and texts a second, without its start; None where the command is not there.

    Its start (imports, the model, a warm-up) is what a run of few items takes. Images and texts are
    runs of their own: its folder mode with both ends in a KeyError (clip-retrieval#345).
    """
    if not COMMAND:
        return None
    model = f"open_clip:{architecture}/{weights.resolve()}"
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        files = [source / file for file in part["file"].drop_duplicates()]
        few, all_ = (_linked(root / f"images{n}", files[:n]) for n in (FEW, len(files)))
        images = (len(files) - FEW) / (
            _seconds(model, all_, root / "a", "image") - _seconds(model, few, root / "b", "image")
        )
        captions = part["caption"].tolist()
        few, all_ = (_texts(root / f"texts{n}", captions[:n]) for n in (FEW, len(captions)))
        texts = (len(captions) - FEW) / (
            _seconds(model, all_, root / "c", "text") - _seconds(model, few, root / "d", "text")
        )
    return {"images": images, "texts": texts}


def _linked(folder: Path, files: list[Path]) -> Path:
    folder.mkdir()
    for file in files:
        (folder / file.name).symlink_to(file.resolve())
    return folder


def _texts(folder: Path, captions: list[str]) -> Path:
    folder.mkdir()
    for number, caption in enumerate(captions):
        (folder / f"{number:06}.txt").write_text(caption)
    return folder


def _seconds(model: str, source: Path, out: Path, kind: str) -> float:
    command = [
        COMMAND, "inference", f"--input_dataset={source}", f"--output_folder={out}",
        f"--clip_model={model}", f"--batch_size={BATCH}", f"--num_prepro_workers={WORKERS}",
        f"--enable_image={kind == 'image'}", f"--enable_text={kind == 'text'}",
    ]  # fmt: skip
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(WORKERS)}
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode or not list(out.rglob("*.npy")):
        raise SystemExit(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return seconds
