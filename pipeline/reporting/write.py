"""What evaluate leaves to look at: predictions, the rows of DVC's plots, the report page."""

import shutil
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pipeline import paths
from pipeline.artifacts import new_folder, read_json, sha256_of, write_text
from pipeline.data.places import Places
from pipeline.data.plot_rows import write_plot
from pipeline.reporting.classes import class_table, reliability_rows
from pipeline.reporting.plots import confusion_rows, recall_rows
from pipeline.reporting.quality import DOCS_FILE, Quality
from pipeline.reporting.report import render
from pipeline.reporting.svg import standalone
from pipeline.reporting.verdict import verdict

PREDICTION = pa.schema(
    [
        ("image_id", pa.string()),
        ("image", pa.string()),
        ("caption", pa.string()),
        ("label", pa.string()),
        ("base_label", pa.string()),
        ("base_score", pa.float32()),
        ("base_rank_i2t", pa.int64()),
        ("final_label", pa.string()),
        ("final_score", pa.float32()),
        ("final_rank_i2t", pa.int64()),
    ]
)
STAGES = ("validate", "clean", "embed", "finetune")


def stage_metrics() -> dict[str, Any]:
    """What each of the stages before this one found, by its name."""
    return {stage: read_json(paths.metrics_file(stage)) for stage in STAGES}


def write(
    results: Mapping[str, Any],
    predictions: Mapping[str, pd.DataFrame],
    *,
    curve: pd.DataFrame,
    searches: pd.DataFrame,
    places: Mapping[str, Places],
    quality: Quality,
    params: Mapping[str, Any],
) -> None:
    """Write the predictions, plots, page and charts of one evaluation, each where `paths` says."""
    with new_folder(paths.PREDICTIONS) as part:
        for name, frame in predictions.items():
            table = pa.Table.from_pandas(frame, schema=PREDICTION, preserve_index=False)
            pq.write_table(table.replace_schema_metadata(None), part / f"{name}.parquet")
    confusion = confusion_rows(predictions["target"]).query("model == 'fine-tuned'")
    write_plot(paths.PLOTS / "confusion.csv", confusion[["actual", "predicted"]])
    write_plot(paths.PLOTS / "recall.csv", recall_rows(results))
    write_plot(paths.PLOTS / "reliability.csv", reliability_rows(results))
    write_plot(paths.PLOTS / "classes.csv", class_table(results))
    write_plot(paths.CURVE, curve)
    record = read_json(paths.FINETUNED / paths.MANIFEST)
    page = render(
        results,
        stages=stage_metrics(),
        curve=curve,
        history=pd.read_csv(paths.HISTORY),
        projection=pd.read_csv(paths.PROJECTION, dtype={"label": object}),
        predictions=predictions,
        searches=searches,
        places=places,
        quality=quality,
        params={**record["params"], **params},
        model={
            "architecture": record["architecture"],
            "base weights": record["base"]["sha256"],
            "trained bundle": sha256_of(paths.FINETUNED),
            "final bundle": sha256_of(paths.FINAL),
            "training pairs": record["data"]["pairs_sha256"],
            "training code": record["code"]["sha256"],
        },
        title="Cliptune report",
    )
    with new_folder(paths.REPORT.parent) as part:
        write_text(part / paths.REPORT.name, page.html)
        for name, chart in page.figures.items():
            write_text(part / paths.FIGURES.name / f"{name}.svg", standalone(chart))
        shutil.copyfile(paths.QUALITY / DOCS_FILE, part / DOCS_FILE)
    tqdm.write("\n".join([*verdict(results), f"The report: {paths.REPORT}"]))
