"""Trains a tiny model in processes that are killed at random moments: `killed.py SOURCE KILLS`.

Prints as JSON the hash of the weights of a training that nobody disturbed and of one that was
killed so often, and at which steps that one went on.
"""

import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from pipeline.artifacts import sha256_of
from pipeline.clip import device as devices
from pipeline.clip import model
from pipeline.clip.pixels import Crops
from pipeline.data.places import places_below
from pipeline.evaluation.retrieval import recalls
from pipeline.params import Params, load
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.finetune import fit

ROOT = Path(__file__).parents[2]
SETTINGS = {"epochs": 6, "batch_size": 4, "micro_batch": 2, "freeze_batch_norm": True,
            "ema": 0.9, "distil": 0.0, "toward_base": 0.1, "best_by": "retrieval"}  # fmt: skip


def train(source: Path, kept: Path, out: Path) -> None:
    """A whole training, from wherever `kept` lets it go on; its weights' hash goes to `out`."""
    device = devices.prepare(cpu_threads=1)
    clip = model.create("scenes-resnet", ROOT / "samples/base_model/scenes-resnet.json", seed=0)
    rows = pd.read_csv(source / "captions.csv")
    ids = [sha256_of(source / image) for image in rows.image]
    pairs = rows.assign(image_id=ids, source_row=range(1, len(rows) + 1))
    steps: list[int] = []
    fit(
        clip, pairs, pairs, crops=Crops(clip, places_below(pairs, source)),
        params=load(Params, ROOT / "params.yaml").finetune.model_copy(update=SETTINGS), seed=0,
        recalls=recalls, device=device, checkpoints=Checkpoints(kept, {"training": "of a test"}),
        log=lambda values, step: steps.append(step) if "loss" in values else None,
    )  # fmt: skip
    state = clip.model.state_dict()
    digest = hashlib.sha256(b"".join(state[n].numpy().tobytes() for n in sorted(state)))
    out.write_text(json.dumps({"weights": digest.hexdigest(), "first": steps[0] if steps else 0}))


def forked(source: Path, kept: Path, out: Path, *, seconds: float | None) -> bool:
    """Train in a process that is killed after so many seconds; whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            train(source, kept, out)
            os._exit(0)
        finally:
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status == 0


def main() -> None:
    """Train once undisturbed, and once with kills at moments that a seed draws."""
    source, kills = Path(sys.argv[1]), int(sys.argv[2])
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        start = time.monotonic()
        assert forked(source, root / "whole", root / "whole.json", seconds=None)
        took = time.monotonic() - start
        killed = 0
        while killed < kills:
            # Now and then it comes to its end before: then it begins anew.
            done = forked(
                source, root / "kept", root / "kept.json", seconds=draw.uniform(0.1, 0.5) * took
            )
            killed += not done
            if done:
                Checkpoints(root / "kept", {"training": "of a test"}).clear()
        while not (root / "last.json").is_file():
            forked(source, root / "kept", root / "last.json", seconds=None)
        whole, last = (json.loads((root / f"{n}.json").read_text()) for n in ("whole", "last"))
    print(json.dumps({"whole": whole["weights"], "killed": last["weights"],
                      "went_on_at": last["first"], "kills": killed}))  # fmt: skip


if __name__ == "__main__":
    os.environ["CLIPTUNE_CHECKPOINT_S"] = "0"
    torch.set_num_threads(1)
    main()
