"""The subcommands of `cliptune` about runs: made before, or to be made; imports as in cli.py."""

import argparse
import json
import os
import sys
from typing import Any

from pipeline import errors


def add_to(commands: Any) -> None:
    """Add the subcommands to those of the command."""
    _add_reproduce(commands)
    _add_diff(commands)
    add = commands.add_parser("tune", help="search params by experiments, as `tune` in params.yaml")
    add.add_argument("--trials", type=count, help="how many in all (tune.trials)")
    add.set_defaults(command=_tune)
    add = commands.add_parser(
        "promote", help="judge the last model; the champion where it is better"
    )
    add.add_argument("--dry-run", action="store_true", help="leave the registry as it is")
    add.set_defaults(command=_promote)
    add = commands.add_parser("rollback", help="make the champion before this one champion again")
    add.add_argument("--why", metavar="TEXT", default="", help="kept with the version that goes")
    add.set_defaults(command=_rollback)
    _add_retrain(commands)
    add = commands.add_parser("sync", help="send what was kept while MLflow's server was away")
    add.set_defaults(command=_sync)
    add = commands.add_parser("seeds", help="runs that differ in their seed alone: mean and spread")
    add.set_defaults(command=_seeds)


def _add_reproduce(commands: Any) -> None:
    add = commands.add_parser("reproduce", help="build a recorded run again and prove it equal")
    add.add_argument("run", metavar="RUN", help="id or name of a run, or models:/NAME/VERSION")
    add.add_argument("--rerun", action="store_true", help="execute its stages too")
    add.add_argument("--keep", action="store_true", help="leave the tree in .cliptune/reproduce")
    add.add_argument(
        "--tolerance",
        type=_share,
        default=0.01,
        help="of metrics, where bytes can't be equal (0.01)",
    )
    add.set_defaults(command=_reproduce)


def _add_diff(commands: Any) -> None:
    add = commands.add_parser("diff", help="in what two recorded runs differ")
    add.add_argument("runs", nargs=2, metavar="RUN", help="as for reproduce")
    add.add_argument("--json", action="store_true", help="as JSON")
    add.set_defaults(command=_diff)


def _reproduce(chosen: argparse.Namespace) -> None:
    from pipeline.history.report import as_markdown
    from pipeline.history.reproduce import reproduce
    from pipeline.tracking_store import main_tree

    report, file = reproduce(
        main_tree(),
        chosen.run,
        rerun=chosen.rerun,
        keep=chosen.keep,
        tolerance=chosen.tolerance,
    )
    print(f"{as_markdown(report)}\nthe report: {file}")
    if not report.proved:
        sys.exit(1)


def _diff(chosen: argparse.Namespace) -> None:
    from pipeline.history.diff import as_text, diff
    from pipeline.tracking_store import main_tree

    found = diff(main_tree(), *chosen.runs)
    facts = {"runs": found.names, **found.facts}
    print(json.dumps(facts, indent=2, ensure_ascii=False) if chosen.json else as_text(found))


def _tune(chosen: argparse.Namespace) -> None:
    from pipeline.params import Params, load
    from pipeline.tracking_store import main_tree
    from pipeline.tuning.told import table
    from pipeline.tuning.tune import tune

    params = load(Params)
    print(table(tune(main_tree(), params, limit=chosen.trials or params.tune.trials)))


def _promote(chosen: argparse.Namespace) -> None:
    from pipeline.history.promote import promote
    from pipeline.history.promotion import as_markdown, plain
    from pipeline.params import PromoteCommand, load
    from pipeline.tracking_store import main_tree

    told, file = promote(main_tree(), load(PromoteCommand), dry=chosen.dry_run)
    print(f"{plain(as_markdown(told))}\nthe report: {file}")


def _rollback(chosen: argparse.Namespace) -> None:
    from pipeline.history.rollback import rollback
    from pipeline.params import PromoteCommand, load
    from pipeline.tracking_store import main_tree

    name = load(PromoteCommand).promote.model
    old, new = rollback(main_tree(), name, why=chosen.why)
    print(f"{name}: version {new} is the champion again, and version {old} is not")


def _add_retrain(commands: Any) -> None:
    add = commands.add_parser(
        "retrain", help="fetch new data, run what it touches, judge the model, publish"
    )
    add.add_argument(
        "--publish",
        choices=["none", "commit", "pull-request"],
        help="what becomes of dvc.lock and the history ($CLIPTUNE_PUBLISH, else none)",
    )
    add.add_argument("--dry-run", action="store_true", help="leave registry, remotes and git")
    add.set_defaults(command=_retrain)


def _retrain(chosen: argparse.Namespace) -> None:
    from pipeline.params import RetrainCommand, load
    from pipeline.retraining.retrain import refused, retrain, show
    from pipeline.retraining.tree import to_publish
    from pipeline.tracking_store import main_tree

    root = main_tree()
    try:
        publish = to_publish(chosen.publish or os.environ.get("CLIPTUNE_PUBLISH") or "none")
        params = load(RetrainCommand)
    except errors.CliptuneError as error:
        refused(root, error)
        raise
    show(*retrain(root, params, publish=publish, dry=chosen.dry_run))


def _sync(_: argparse.Namespace) -> None:
    from pipeline.history.sync import sync, told
    from pipeline.tracking_store import main_tree

    sent = sync(main_tree())
    print(told(sent))
    if sent.refused:
        sys.exit(1)


def _seeds(_: argparse.Namespace) -> None:
    from pipeline.seeds import alike, completed, told
    from pipeline.tracking_store import main_tree

    groups = alike(completed(main_tree()))
    if not groups:
        raise errors.CliptuneError(
            "no two runs differ in their seed alone: `dvc exp run -S seed=1` makes another"
        )
    print("\n\n".join(map(told, groups)))


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return share


def count(text: str) -> int:
    """A number of 1 or more."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)
