"""Stage `fetch`: a pretrained tag of OpenCLIP → its model folder in hub/."""

from pipeline import errors, paths
from pipeline.clip import model
from pipeline.params import FetchStage, load
from pipeline.registry import bundle


def main() -> None:
    params = load(FetchStage)
    clip = model.fetch(params.model.name, params.model.pretrained)
    bundle.save(paths.HUB / params.model.pretrained, clip, record=params.model_dump())


if __name__ == "__main__":
    errors.run(main)
