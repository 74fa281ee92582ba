"""OpenCLIP's trainer as it is installed, with a clock around its epochs, for train_sides.py.

Its own imports and no others: its memory is measured. It also imports what reads tar shards, which
a CSV doesn't need: where those packages are absent, empty modules stand in for them.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

SHARDS = {
    "braceexpand": (),
    "webdataset": ("PipelineStage",),
    "webdataset.filters": ("_shuffle",),
    "webdataset.tariterators": (
        "base_plus_ext", "url_opener", "tar_file_expander", "valid_sample",
    ),
}  # fmt: skip


def stand_in() -> None:
    """Let OpenCLIP's trainer be imported where what reads tar shards is absent."""
    absent = [name for name in ("braceexpand", "webdataset") if not importlib.util.find_spec(name)]
    for name, needed in SHARDS.items():
        if name.split(".")[0] in absent:
            sys.modules[name] = ModuleType(name)
            vars(sys.modules[name]).update(dict.fromkeys(needed, object))


def wait() -> None:
    """Until a GPU, where one is in use, has done what was asked of it."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def gpu_bytes() -> int:
    """The most memory of a GPU that was in use, 0 without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Call its main with `arguments` on so many `threads`; seconds and pairs of each epoch."""
    stand_in()
    from open_clip_train import main as trainer  # noqa: PLC0415

    torch.set_num_threads(spec["threads"])
    times = spec["accumulated"]
    seconds: list[float] = []
    pairs: list[int] = []
    epoch = trainer.train_one_epoch

    def timed(model: Any, data: Any, *rest: Any, **named: Any) -> None:
        began = time.perf_counter()
        epoch(model, data, *rest, **named)
        wait()
        seconds.append(time.perf_counter() - began)
        loader = data["train"].dataloader
        pairs.append(loader.num_batches // times * times * loader.batch_size)

    trainer.train_one_epoch = timed
    trainer.main(spec["arguments"])
    return {
        "seconds": seconds, "pairs": pairs[0], "best": len(seconds),
        "gpu_bytes": gpu_bytes(),
    }  # fmt: skip


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    (Path(given["folder"]) / "report.json").write_text(json.dumps(run(given)))
