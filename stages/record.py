"""Stage `record`: the receipts of all stages → one complete MLflow run of the pipeline."""

from pipeline import errors
from pipeline.recording import record_pipeline


def main() -> None:
    record_pipeline()


if __name__ == "__main__":
    errors.run(main)
