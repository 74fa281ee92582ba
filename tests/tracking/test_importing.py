"""Importing tracking is cheap and silent: MLflow is imported where a run begins."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_importing_tracking_imports_no_mlflow() -> None:
    code = "import sys, pipeline.tracking, pipeline.recording; print('mlflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("False\n", "")
