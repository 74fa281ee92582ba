"""What can be known to fail before any stage has run: a path in params.yaml that leads nowhere.

DVC stops at a missing dependency with the path alone, before a stage could say which key to mend.
So the stage `check` comes first, and runs only when params.yaml changes.
"""

from pathlib import Path

from ruamel.yaml import YAML

from pipeline import paths
from pipeline.artifacts import write_json
from pipeline.errors import DataError
from pipeline.params import Params

SAMPLES = Path("samples/dvc.yaml")


def check(params: Params, checked: Path) -> None:
    """Raise DataError, naming each key whose path does not exist, is nobody's output and not DVC's.

    Writes `checked`, always the same, for `validate` to depend on.
    """
    named = {"data.source": params.data.source, "evaluate.general": params.evaluate.general}
    remedies = {
        "data.source": "set it to the folder that holds your captions file and images",
        "evaluate.general": "set it to a folder with one data set per subfolder; data/general, as "
        "it comes, measures no forgetting",
    }
    made = outputs(SAMPLES)
    wrong = [
        f"{key} is {value!r}, which does not exist: {remedies[key]}"
        for key, value in named.items()
        if not (Path(value).exists() or Path(value) in made or _kept(Path(value)))
    ]
    if wrong:
        raise DataError("\n       ".join(wrong))
    write_json(checked, {"checked": paths.PARAMS.as_posix()})


def _kept(path: Path) -> bool:
    """Whether DVC keeps it, or what it lies in: in a fresh clone it is fetched when it is read."""
    return any(place.with_name(f"{place.name}.dvc").is_file() for place in (path, *path.parents)
               if place.name)  # fmt: skip


def outputs(pipeline: Path) -> set[Path]:
    """What the stages of a dvc.yaml make; none where there is no such file."""
    if not pipeline.is_file():
        return set()
    stages = YAML(typ="safe", pure=True).load(pipeline.read_text(encoding="utf-8"))["stages"]
    return {Path(out) for stage in stages.values() for out in stage["outs"]}
