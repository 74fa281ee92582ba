"""Embedding in several processes, on one machine or many: each fills its share of one cache.

`CLIPTUNE_PROCESSES` says how many this machine runs; by default one for each GPU, and one on a CPU.
For several machines, start this module on each with torchrun, in work trees on one file system that
all of them share; `dvc repro` then finds everything in the cache (docs/scale.md).
"""

import datetime
import os
from pathlib import Path

import torch
import torch.distributed as dist

from pipeline import errors, paths
from pipeline.clip import launch, work
from pipeline.clip.cache import as_ids
from pipeline.errors import DataError, ModelError
from pipeline.params import EmbedStage, load

PATIENCE = datetime.timedelta(minutes=30)
"""For how long a process that is done waits for the others."""


def everywhere() -> None:
    """Where several processes embed: start them on this work tree and wait until all are done.

    Raises ModelError when one is lost, or else what it told; what was finished is kept for the next
    run.
    """
    count = launch.processes()
    if count == 1:
        return
    lost = launch.run("pipeline.clip.spread", count=count)
    if lost is not None:
        raise lost.error or ModelError(
            f"{lost.what} (what it said stands above), and the others were stopped. What they "
            "finished is kept: run `dvc repro` again, or with CLIPTUNE_PROCESSES=1"
        )


def main() -> None:
    """One process of several, as torchrun starts it: its share of what params.yaml asks for."""
    number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if torch.cuda.is_available() and "CLIPTUNE_DEVICE" not in os.environ:
        os.environ["CLIPTUNE_DEVICE"] = f"cuda:{os.environ['LOCAL_RANK']}"
    launch.end_with_parent()
    with launch.reported():
        _embed(number, count)


def _embed(number: int, count: int) -> None:
    params = load(EmbedStage)
    dist.init_process_group(
        "gloo", init_method=launch.joined_by(), rank=number, world_size=count, timeout=PATIENCE
    )
    try:
        cache = paths.shared(paths.EMBEDDED)
        job = work.prepare(
            paths.CLEAN,
            Path(params.source),
            params.embed,
            packed=paths.PACKED,
            base=params.model,
            cpu_threads=params.cpu_threads,
            cache=cache,
        )
        # All see the same cache before any adds to it, or the shares would leave gaps.
        dist.barrier()
        work.complete(job, cache=cache, share=work.Share(number, count))
        dist.barrier()
        seen_by_all(job)
    finally:
        dist.destroy_process_group()


def seen_by_all(job: work.Work) -> None:
    """DataError where the work of another process is not here: its cache is another folder."""
    for unit, known, ids in (
        ("images", job.images, job.image_ids),
        ("captions", job.captions, list(job.texts)),
    ):
        known.refresh()
        lacking = int(known.lacks(as_ids(ids)).sum())
        if lacking:
            raise DataError(
                f"{lacking} {unit} that another process embedded are not in {paths.EMBEDDED}: work "
                "trees of several machines must lie on one file system that all of them share"
            )


if __name__ == "__main__":
    errors.run(main)
