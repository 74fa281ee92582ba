"""The `cliptune` command.

What a subcommand needs beyond the standard library is imported inside it, so that the command
answers at once.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import cli_runs, errors, paths
from pipeline.artifacts import read_json
from pipeline.reporting.summary import summary
from pipeline.tracking_views import PIPELINES, link

SERVER = {
    "PYTHONWARNINGS": "ignore",  # it warns of its own parts
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # of language models' judges; takes seconds
}
"""Of the server that `ui` starts, where the user has set nothing."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the subcommand that `arguments` (or the command line) name."""
    chosen = _parser().parse_args(arguments)
    errors.run(partial(chosen.command, chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cliptune",
        description="Look at what the pipeline made. `make repro` runs it.",
    )
    commands = parser.add_subparsers(metavar="COMMAND")
    parser.set_defaults(command=lambda _: parser.print_help())
    add = commands.add_parser("summary", help="the result in a few lines")
    add.set_defaults(command=_summary)
    add = commands.add_parser("doctor", help="what `dvc repro` will do, problems first")
    add.add_argument("--json", action="store_true", help="as JSON")
    add.set_defaults(command=_doctor)
    add = commands.add_parser("accept", help="make the present data the reference for drift")
    add.set_defaults(command=_accept)
    _add_predict(commands)
    _add_search(commands)
    add = commands.add_parser("leaks", help="pictures that leak across the split, side by side")
    add.add_argument("--top", type=cli_runs.count, default=500, help="how many (500)")
    add.set_defaults(command=_leaks)
    add = commands.add_parser("export", help="embeddings in the layout of clip-retrieval and faiss")
    add.add_argument("folder", type=Path, help="a folder that is not there yet")
    add.add_argument("--dtype", choices=["fp16", "fp32"], default="fp32")
    add.set_defaults(command=_export)
    add = commands.add_parser("export-model", help="the model as other tools load it")
    add.add_argument("folder", type=Path, help="a folder that is not there yet")
    add.add_argument("--to", choices=["transformers", "onnx", "mlflow"], required=True)
    add.add_argument("--model", type=Path, default=paths.FINAL, help=f"a bundle ({paths.FINAL})")
    add.set_defaults(command=_export_model)
    cli_runs.add_to(commands)
    add = commands.add_parser("ui", help="the runs in MLflow's UI")
    add.add_argument("--port", default="5000")
    add.set_defaults(command=_ui)
    return parser


def _add_predict(commands: Any) -> None:
    add = commands.add_parser(
        "predict", help="the likeliest classes of pictures, by a model folder"
    )
    add.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a file or a folder")
    add.add_argument("--classes", nargs="+", metavar="NAME", help="(those it was evaluated with)")
    add.add_argument("--model", type=Path, default=paths.FINAL, help=f"its folder ({paths.FINAL})")
    add.add_argument(
        "--templates", nargs="+", metavar="TEXT", help="with {} for the class (as for --classes)"
    )
    add.add_argument("--top", type=cli_runs.count, default=5, help="how many classes (5)")
    add.add_argument("--json", action="store_true", help="a JSON object a picture, one a line")
    _add_max_pixels(add)
    add.set_defaults(command=_predict)


def _add_search(commands: Any) -> None:
    add = commands.add_parser(
        "search", help="the pictures nearest to a text: of the data, or of any folder"
    )
    add.add_argument("text", help='such as "a red metal star"')
    add.add_argument("--top", type=cli_runs.count, default=10, help="how many (10)")
    add.add_argument("--model", type=Path, help="a model folder (the base model of params.yaml)")
    add.add_argument("--images", type=Path, help="a folder of pictures (those that embed embedded)")
    _add_max_pixels(add)
    add.set_defaults(command=_search)


def _add_max_pixels(add: argparse.ArgumentParser) -> None:
    """As in params.yaml, which is not there where a model is used."""
    add.add_argument(
        "--max-pixels", type=cli_runs.count, default=50_000_000, help="of a picture (50,000,000)"
    )


def _ui(chosen: argparse.Namespace) -> None:
    """Name the view to begin with, then become MLflow's server where there is no other."""
    from pipeline.tracking_database import driven
    from pipeline.tracking_store import main_tree, public, user_uri

    uri = user_uri(main_tree())
    remote = uri.startswith("http")
    address = public(uri).rstrip("/") if remote else f"http://127.0.0.1:{chosen.port}"
    print(f"Pipeline runs: {address}/{_view(public(uri))}", flush=True)
    if not remote:
        server = [sys.executable, "-m", "mlflow", "ui", "--workers", "1"]  # of one person
        for key, value in SERVER.items():
            os.environ.setdefault(key, value)
        os.environ["MLFLOW_BACKEND_STORE_URI"] = driven(uri)  # everyone can read a command line
        os.execv(sys.executable, [*server, "--port", chosen.port])


def _doctor(chosen: argparse.Namespace) -> None:
    from pipeline.doctor.examine import examine
    from pipeline.doctor.show import as_dict, as_text

    found = examine()
    if chosen.json:
        print(json.dumps(as_dict(found.findings, found.facts), indent=2, ensure_ascii=False))
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print(as_text(found.findings, found.facts, colour=colour))
    if found.stops:
        sys.exit(1)


def _accept(_: argparse.Namespace) -> None:
    from pipeline.validation.accept import accept

    print(accept(paths.QUALITY / "profile.json", paths.ACCEPTED))
    embedded = paths.EMBEDDINGS / "profile.json"
    if embedded.is_file():
        from pipeline.clip import shift

        shift.accept(embedded, paths.ACCEPTED_EMBEDDINGS)
        print(f"and their embeddings: commit {paths.ACCEPTED_EMBEDDINGS} too")


def _predict(chosen: argparse.Namespace) -> None:
    from pipeline.using import predict

    found = predict(
        chosen.model,
        chosen.images,
        classes=chosen.classes,
        templates=chosen.templates,
        top=chosen.top,
        max_pixels=chosen.max_pixels,
        as_json=chosen.json,
    )
    print(found)


def _search(chosen: argparse.Namespace) -> None:
    if not chosen.text.strip():
        raise errors.CliptuneError("the text is empty: say what to look for")
    if (chosen.model is None) != (chosen.images is None):
        raise errors.CliptuneError(
            "--model and --images go together: a model folder, and the folder of pictures to search"
        )
    if chosen.model is None:
        _search_embedded(chosen)
        return
    from pipeline.using import search

    print(
        search(
            chosen.text,
            chosen.model,
            chosen.images,
            top=chosen.top,
            max_pixels=chosen.max_pixels,
        )
    )


def _search_embedded(chosen: argparse.Namespace) -> None:
    from pipeline.artifacts import write_text
    from pipeline.clip.search import search
    from pipeline.data.pairs import read_pairs
    from pipeline.params import EmbedStage, load
    from pipeline.reporting import hits

    params = load(EmbedStage)
    found = search(
        chosen.text,
        paths.EMBEDDINGS,
        base=params.model,
        cpu_threads=params.cpu_threads,
        count=chosen.top,
    )
    described = hits.describe(
        found,
        read_pairs(paths.CLEAN),
        source=Path(params.source),
        packed=paths.PACKED,
        pictures=True,
    )
    write_text(paths.SEARCHED, hits.as_page(chosen.text, described, model="the base model"))
    print(f"{hits.as_text(described)}\n\nby the base model; with pictures: {paths.SEARCHED}")


def _leaks(chosen: argparse.Namespace) -> None:
    from pipeline.artifacts import write_text
    from pipeline.params import EmbedStage, load
    from pipeline.reporting import leaks

    # DVC deletes the outputs of a stage that stops, so where both are there, clean's are the newer.
    table = leaks.find_table(paths.CLEAN, paths.failed_folder("clean"))
    source = Path(load(EmbedStage).source)
    shown, count = leaks.read_leaks(
        table, paths.VALID, source=source, packed=paths.PACKED, limit=chosen.top
    )
    write_text(paths.LEAKING, leaks.as_page(shown, count=count, table=table))
    print(f"{count:,} pictures stand in two parts of the split ({table}): {paths.LEAKING}")


def _export(chosen: argparse.Namespace) -> None:
    from pipeline.clip.export import export

    count = export(paths.CLEAN, paths.EMBEDDINGS, chosen.folder, dtype=chosen.dtype)
    print(f"{count:,} pairs in {chosen.folder}")


def _export_model(chosen: argparse.Namespace) -> None:
    from pipeline.exporting import export_model

    print(export_model(chosen.model, chosen.folder, to=chosen.to))


def _view(store: str) -> str:
    """The part of the address that leads to the saved view of this checkout's experiment.

    A receipt that DVC brought from elsewhere names an experiment of another store.
    """
    receipts = map(read_json, sorted(paths.RUNS.glob("*.json")))
    own = (r["experiment_id"] for r in receipts if r.get("tracking_uri") == store)
    experiment = next(own, None)
    return "#/experiments" if experiment is None else link(experiment, PIPELINES)


def _summary(_: argparse.Namespace) -> None:
    print(summary(_results(), report=str(paths.REPORT)))


def _results() -> dict[str, Any]:
    """What `evaluate` found; raises CliptuneError where there is nothing to read."""
    file = paths.metrics_file("evaluate")
    try:
        results: dict[str, Any] = read_json(file)
    except FileNotFoundError:
        raise errors.CliptuneError(f"{file} is missing: run `make repro` first") from None
    except json.JSONDecodeError as error:
        message = f"{file} is not valid JSON ({error}): run `make repro` again"
        raise errors.CliptuneError(message) from None
    return results
