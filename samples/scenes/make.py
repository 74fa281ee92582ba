"""Make the sample data set: nothing → samples/scenes/out/ and, beside it, the truth about it.

Run from the repository's root: python -m samples.scenes.make
"""

import os
from pathlib import Path

from pipeline.artifacts import new_folder
from samples import params as sample_params
from samples.params import ScenesParams
from samples.scenes.files import write_captions, write_csv, write_pictures
from samples.scenes.plan import plan

OUT = Path("samples/scenes/out")
TRUTH = Path("samples/scenes/truth.csv")


def main() -> None:
    make(sample_params.load().scenes, OUT, TRUTH, processes=os.cpu_count() or 1)


def make(params: ScenesParams, out: Path, truth_file: Path, *, processes: int) -> None:
    """Write the folder and the truth; their bytes do not depend on `processes`."""
    pictures, rows, truth = plan(params)
    with new_folder(out) as folder:
        write_pictures(folder, pictures, processes=processes)
        write_captions(folder / "captions.csv", rows)
    write_csv(truth_file, ("source_row", "image", "defect", "detail", "of"), truth)


if __name__ == "__main__":
    main()
