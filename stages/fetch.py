"""Stage `fetch`: a pretrained tag of OpenCLIP → its model folder in hub/."""

from pipeline import errors, paths
from pipeline.params import FetchStage, load
from pipeline.registry.fetched import fetched


def main() -> None:
    fetched(load(FetchStage).model, paths.HUB)


if __name__ == "__main__":
    errors.run(main)
