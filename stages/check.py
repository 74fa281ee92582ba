"""Stage `check`: params.yaml → the knowledge that each key and path in it can be used."""

from pipeline import errors, paths
from pipeline.params import Params, load
from pipeline.precheck import check


def main() -> None:
    check(load(Params), paths.CHECKED)


if __name__ == "__main__":
    errors.run(main)
