"""What a week with 1 % more data costs, stage by stage, beside a retraining with nothing kept.

Draws N scenes as photographs are stored (JPEG, 640×480) in a clone of this repository, and runs the
pipeline on them: with nothing in any cache, then again with 1 % more pictures. The second run has
what a machine that stays has, or what a CI's cache and DVC's remote bring. A stage's time is that
of its whole process, some seconds of imports included. Base model: the sample's.
`make bench NAME=one_percent`; CLIPTUNE_BENCH_IMAGES sets N, by default 8,000, CLIPTUNE_BENCH_EPOCHS
the epochs, by default those of params.yaml.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

from samples.params import ScenesParams
from samples.scenes.files import Picture, Row, write_pictures
from samples.scenes.plan import plan

ROOT = Path(__file__).parents[1]
COUNT = int(os.environ.get("CLIPTUNE_BENCH_IMAGES", "8000"))
EPOCHS = os.environ.get("CLIPTUNE_BENCH_EPOCHS")
STAGES = ("validate", "clean", "embed", "finetune", "evaluate")
SIZE = (640, 480)
GOAL = 0.1
"""Most that a stage other than the fine-tune may take, as a share of the whole first run."""


def main() -> None:
    """Print a table, then one line of JSON; exit 1 when a goal is missed."""
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name, "clone")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        configure(clone)
        pictures, rows = scenes(COUNT + COUNT // 100)
        deliver(clone, pictures[:COUNT], rows)
        first = repro(clone)
        deliver(clone, pictures[COUNT:], rows)
        second = repro(clone)
    whole = sum(first[stage] for stage in STAGES)
    print(f"{COUNT:,} pictures of {SIZE[0]}×{SIZE[1]}")
    print(f"{'':<10}{'first, s':>10}{'+1 %, s':>10}{'of its first':>14}{'of the whole':>14}")
    for stage in STAGES:
        of = second[stage] / first[stage], second[stage] / whole
        print(f"{stage:<10}{first[stage]:>10.1f}{second[stage]:>10.1f}{of[0]:>14.2f}{of[1]:>14.3f}")
    rest = [stage for stage in STAGES if stage != "finetune"]
    most = max(second[stage] / whole for stage in rest)
    found = {"images": COUNT, "first": first, "second": second, "goal": GOAL}
    print(json.dumps(found | {"most": round(most, 4), "met": most <= GOAL}))
    sys.exit(0 if most <= GOAL else 1)


def configure(clone: Path) -> None:
    """Let the clone's params name the data."""
    yaml, file = YAML(), clone / "params.yaml"
    content = yaml.load(file)
    content["data"]["source"] = "data/mine"
    if EPOCHS:
        content["finetune"]["epochs"] = int(EPOCHS)
    yaml.dump(content, file)


def scenes(count: int) -> tuple[list[Picture], list[Row]]:
    """Sound pictures of the sample's kind, and a row a caption."""
    params = ScenesParams(seed=1, images=count, dirty_captions=0, broken_files=0, copies=0)
    pictures, rows, _ = plan(params)
    width, height = SIZE
    large = [replace(p, scene=replace(p.scene, width=width, height=height)) for p in pictures]
    return large, rows


def deliver(clone: Path, pictures: Sequence[Picture], rows: Sequence[Row]) -> None:
    """Add pictures, and their rows, to the clone's data."""
    folder = clone / "data/mine"
    write_pictures(folder, pictures, processes=os.cpu_count() or 1)
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*.jpg")}
    table = pd.DataFrame([vars(row) for row in rows if row.image in there])
    table.to_csv(folder / "captions.csv", index=False)
    time.sleep(2.5)  # real deliveries are not of this second, in which a file's time says little


def repro(clone: Path) -> dict[str, float]:
    """Run DVC, and show what it says; the seconds of each stage that ran."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "dvc", "repro"],
        cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONPATH": str(clone), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    took: dict[str, float] = {}
    stage, began = "", 0.0
    with process:
        for line in process.stdout or ():
            sys.stderr.write(line)
            if line.startswith("Running stage '"):
                stage, began = line.split("'")[1], time.monotonic()
            elif stage and line.startswith("Updating lock file"):
                took[stage], stage = round(time.monotonic() - began, 2), ""
    if process.returncode:
        raise SystemExit(f"dvc repro ended with {process.returncode}")
    return took


if __name__ == "__main__":
    main()
