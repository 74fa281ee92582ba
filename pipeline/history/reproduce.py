"""`cliptune reproduce RUN`: a run of the tracking store, built again and proved equal.

Verdicts, and what each of them says:

    identical           nothing was run: commit, patch, params, data and outputs, as they were
                        recorded, stand in a tree of their own, and DVC finds no difference
    reproduced          every stage was run again, and every output has the recorded hash
    within tolerances   run again on another kind of machine, or with other packages: outputs
                        differ in their bytes, and no metric by more than the tolerance
    differs             something does, and is named

The verdict becomes tags of the run, `reproduced.verdict` and `reproduced.at`, and the report its
artifact reproduced/<time>.md.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from pipeline import lineage, paths
from pipeline.artifacts import sha256_bytes, write_json, write_text
from pipeline.errors import DataError, TrackingError
from pipeline.history.report import Report, as_markdown, environment_differences, judged
from pipeline.lineage_dvc import Graph, overlap, read_graph
from pipeline.registry import trees
from pipeline.registry.reproduce import compared, figures, hashes, outputs
from pipeline.tracking_records import Record, read_record
from pipeline.tracking_store import Connection, first_line


def reproduce(
    root: Path, name: str, *, rerun: bool, keep: bool, tolerance: float
) -> tuple[Report, Path]:
    """Build the run `name` again below .cliptune/reproduce, and say what that proves.

    With `rerun` its stages are executed; with `keep` the tree stays. Returns the report and its
    file. Raises TrackingError as `read_record` does, and DataError where the tree can't be built,
    or its data can't be read from DVC's remote.
    """
    work = root / paths.WORK / "reproduce"
    # A folder of its own: what is left of another record there would count as this one's.
    with _alone(work, name), TemporaryDirectory(dir=work) as copies:
        connection, record = read_record(root, name, Path(copies))
        report = _begun(record, rerun=rerun, tolerance=tolerance)
        folder = work / record.run_id[:12]
        _check_record(record)
        tree_of = trees.worktree(root, record.commit, folder, keep=keep, commits=record.commits)
        with tree_of as tree:
            _say(f"commit {record.commit[:10]} is checked out in {folder}")
            _examine(report, record, tree, root)
    file = root / paths.WORK / "reproduced" / f"{record.asked}.md"
    write_text(file, as_markdown(report))
    write_json(file.with_suffix(".json"), asdict(report))
    _tag(connection, record, report, file)
    return report, file


@contextmanager
def _alone(work: Path, name: str) -> Iterator[None]:
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / "lock", timeout=0):
            yield
    except Timeout:
        raise TrackingError(
            f"another `cliptune reproduce` works in {work}: wait for its end, then ask for {name}"
        ) from None


def _begun(record: Record, *, rerun: bool, tolerance: float) -> Report:
    here = lineage.environment()
    machine = [f"{key}: {record.environment.get(key)} → {here.get(key)}" for key in ("cpu", "gpus")
               if record.environment.get(key) != here.get(key)]  # fmt: skip
    differences = environment_differences(record.environment, here)
    gpus = record.environment.get("gpus") or here.get("gpus")
    return Report(
        run=record.asked,
        name=record.name,
        stage=record.stage,
        commit=record.commit,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        rerun=rerun,
        tolerance=tolerance,
        environment=[*machine, *differences],
        exact=not (machine or differences or gpus),
    )


def _check_record(record: Record) -> None:
    """Raise TrackingError where the record itself says that it is not enough."""
    if not record.commit:
        raise TrackingError(f"run {record.run_id} was made without a git commit: nothing to build")
    digest = record.tags.get("source.patch_sha256", "")
    if digest != (sha256_bytes(record.patch) if record.patch else ""):
        what = "is missing" if not record.patch else "is not the one that was recorded"
        raise TrackingError(f"run {record.run_id}: source/uncommitted.patch {what}")
    if not (record.sources / paths.DVC_YAML.with_suffix(".lock")).is_file():
        left_out = record.tags.get("source.left_out")
        raise TrackingError(
            f"run {record.run_id}: source/dvc.lock is missing, so there is nothing to prove it by"
            + (f" ({left_out})" if left_out else "")
        )


def _check_lock(record: Record, graph: Graph) -> None:
    """Raise TrackingError where the lock says nothing of a stage that the run is made of.

    DVC takes such a stage for one that has never run, in which nothing can have changed.
    """
    made = {
        key.removeprefix("dvc.stage.")
        for key, how in record.tags.items()
        if key.startswith("dvc.stage.") and how in {"executed", "reused"}
    }
    known = {stage.name for stage in graph.stages.values() if stage.out_digests}
    if made - known or not made:
        names = ", ".join(sorted(made - known)) or "any stage"
        raise TrackingError(f"run {record.run_id}: its dvc.lock holds no outputs of {names}")


def _examine(report: Report, record: Record, tree: Path, root: Path) -> None:
    if record.tags.get("reproducible") == "no":
        report.reasons.append(f"recorded as not reproducible: {record.tags['reproducible.why']}")
    stages = (record.stage,) if record.stage else ()
    built = trees.restore(tree, root, patch=record.patch, sources=record.sources, stages=stages)
    graph = read_graph(tree)
    _check_lock(record, graph)
    if record.patch:
        _say(f"the recorded patch is applied ({len(record.patch):,} bytes)")
    report.reasons += [
        f"{path} is neither in git nor in DVC: taken from this work tree" for path in built.borrowed
    ]
    _check_remote(report, built, graph)
    report.reasons += [f"{path} is in no cache and no remote" for path in built.missing]
    report.changes = trees.changes(built)
    if report.changes and not report.rerun:
        report.verdict = "differs"
    _say("DVC finds " + ("differences" if report.changes else "nothing that differs"))
    if not report.rerun:
        return
    if not all(_is_made(line, graph) for lines in report.changes.values() for line in lines):
        report.verdict = "differs"
        report.reasons.append("the stages were not run: their inputs are not the recorded ones")
        return
    _run_again(report, built)


def _check_remote(report: Report, built: trees.Tree, graph: Graph) -> None:
    """Raise DataError where the remote can't be read, and what it may hold is needed.

    That is no difference, so the run must not be told of one.
    """
    needed = [path for path in built.missing if not report.rerun or path in graph.sources]
    if built.unfetched and needed:
        more = f" (and {len(needed) - 1:,} more)" if len(needed) > 1 else ""
        raise DataError(f"{needed[0]}{more} is not in the cache, and DVC's remote gives nothing: "
                        f"{built.unfetched}. So nothing is proved")  # fmt: skip


def _is_made(change: str, graph: Graph) -> bool:
    """Whether a change is one of what the stages make, which running them again brings back."""
    if change.startswith("changed outs: "):
        return True
    dep = change.removeprefix("changed deps: ").rpartition(" (")[0]
    return dep not in ("", change) and any(overlap(dep, out) for out in graph.outs)


def _run_again(report: Report, built: trees.Tree) -> None:
    recorded = hashes(read_graph(built.path), built.stages)
    before = figures(built.path)
    uri = f"sqlite:///{built.path.parent / built.path.name}.mlflow.db"
    _say("the stages run again")
    code = trees.run_again(built, tracking_uri=uri)
    for file in built.path.parent.glob(f"{built.path.name}.mlflow.db*"):
        file.unlink()
    if code:
        report.verdict = "differs"
        report.reasons.append(f"`dvc repro` failed with exit code {code}")
        return
    now = hashes(read_graph(built.path), built.stages)
    report.outputs = outputs(recorded, now)
    report.figures = compared(before, figures(built.path))
    report.verdict = judged(report)


def _tag(connection: Connection, record: Record, report: Report, file: Path) -> None:
    """Tell the run; a store that has gone meanwhile costs no verdict."""
    client = connection.client
    try:
        client.set_tag(record.asked, "reproduced.verdict", report.verdict)
        client.set_tag(record.asked, "reproduced.at", report.at)
        name = report.at.replace(":", "-")
        client.log_text(record.asked, file.read_text(encoding="utf-8"), f"reproduced/{name}.md")
    except Exception as error:
        sys.stderr.write(f"the run is not tagged ({first_line(error)}); the report is {file}\n")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
