"""`cliptune retrain`: new data → a model that is judged, promoted where it is proven, published.

The same by hand, from cron and in CI; it asks nothing. Data are fetched, the pipeline runs as far
as something changed, what it made goes to DVC's remote, the model is judged, and git gets
dvc.lock and a line of metrics/history.csv. In this order a commit never names data that are nowhere
else, and a death at any point is completed by the same command.
"""

import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline import lineage_gaps, paths
from pipeline.errors import CliptuneError, DataError, TrackingError
from pipeline.history.promotion import plain, unaddressed
from pipeline.history.registry import CHALLENGER, CHAMPION, Registry, answering, number
from pipeline.history.sync import sync, told
from pipeline.lineage_secrets import redact
from pipeline.params import RetrainCommand
from pipeline.retraining import changes, folders, record, tree
from pipeline.retraining.commands import CommandError, dvc, git, required
from pipeline.retraining.commits import Commits
from pipeline.retraining.judging import judge
from pipeline.retraining.news import news, only_data
from pipeline.retraining.proposals import Proposal, proposed, taken_up
from pipeline.retraining.remote import may_train, require_writable
from pipeline.retraining.tree import Publish
from pipeline.retraining.week import Week, forget, summary, written
from pipeline.tracking_session import stoppable
from pipeline.tracking_store import (
    first_line,
    on_unreachable,
    probe,
    public,
    reach,
    spool,
    user_uri,
    waits,
)


def retrain(
    root: Path, params: RetrainCommand, *, publish: Publish, dry: bool
) -> tuple[Week, Path]:
    """Retrain, judge and publish; what happened, and the file of its summary.

    With `dry` the registry, the remotes and git stay as they are. What goes wrong is told by the
    summary too, and is its verdict. Raises DataError where another retraining is at work in the
    tree.
    """
    (root / paths.RETRAINING).mkdir(parents=True, exist_ok=True)
    week = Week(dry, model=params.promote.model)
    try:
        with FileLock(root / paths.RETRAINING / "lock", blocking=False), stoppable(None):
            forget(root)
            _told(root, params, week, publish)
    except Timeout:
        raise DataError("another `cliptune retrain` is at work in this tree") from None
    except (KeyboardInterrupt, SystemExit):
        if week.verdict == "stopped":
            sys.stderr.write(f"{week.why}; the summary: {summary(root)}\n")
        raise
    return week, summary(root)


def _told(root: Path, params: RetrainCommand, week: Week, publish: Publish) -> None:
    """Retrain, and leave a summary however it ends."""
    commits = None
    try:
        mended = tree.mended(root)
        if mended:
            week.notes.append(
                f"Git could not merge {', '.join(mended)} with what was brought from elsewhere: "
                "that of the commit was taken, and what lay here is in `git stash`."
            )
        tree.require_clean(root)
        commits = Commits(root)
        _retrain(root, params, week, commits=commits, publish=publish)
    except CliptuneError as error:
        week.verdict, week.why = "failed", redact(str(error))
        if isinstance(error, CommandError):
            week.points = [redact(line) for line in error.lines]
        week.left = error.left.as_posix() if error.left and error.left.is_dir() else ""
    except (KeyboardInterrupt, SystemExit):
        week.verdict, week.why = "stopped", "it was stopped: run it again, and it goes on"
        raise
    except Exception as error:  # a defect of ours, whose traceback is shown as well
        week.verdict, week.why = "failed", f"{type(error).__name__}: {first_line(error)}"
        raise
    finally:
        if commits is not None:
            commits.take_back()  # what this branch of origin lacks is no commit yet
        _end(root, week)


def _retrain(
    root: Path, params: RetrainCommand, week: Week, *, commits: Commits, publish: Publish
) -> None:
    remote = lineage_gaps.has_remote([root / ".dvc"])
    _require_places(publish, remote=remote)
    proposal = None
    if publish != "none" and not week.dry:
        base = tree.destination(root)  # before the work
        if publish == "pull-request":
            proposal = _proposal(root, week, commits, base=base)
    with week.step("tracking store"):
        away = _store(root, week)
    with week.step("new data"):
        _update(root)
        if publish != "none" and not week.dry:
            # Without dvc.lock: the one of HEAD is that of the last training, from which is counted.
            commits.add(tree.data_files(root), f"Data of {week.date}")
    if remote and not week.dry and (_to_push(root, publish) or may_train(root)):
        with week.step("a try at the remote"):
            require_writable(root)
    with changes.noted(root, week, pretrained=params.model.pretrained):
        if params.retrain.least_new and _too_little(root, params, week, remote=remote):
            return
        with week.step("pipeline"):
            _run(root, week, remote=remote)
            week.news = week.news or news(root)
    if remote and not week.dry and _to_push(root, publish):
        with week.step("data to the remote"):
            where = lineage_gaps.remote([root / ".dvc"])
            required(dvc(root, "push", "--run-cache"), f"pushing to DVC's remote {where}")
    if away:
        week.verdict, week.place = "not judged", _spooled(root)
        week.why = f"{away}: the runs are kept here, and the next retraining judges the model"
        return
    with week.step("judging"):
        judge(root, params, week, remote=remote)
    if publish != "none" and not week.dry:
        with week.step("publishing"):
            _publish(root, week, commits, proposal)


def _proposal(root: Path, week: Week, commits: Commits, *, base: str) -> Proposal:
    with week.step("what waits to be merged"):
        proposal = taken_up(root, base, commits)
    week.notes += proposal.notes
    return proposal


def _to_push(root: Path, publish: Publish) -> bool:
    """Whether a .dvc file or dvc.lock names what the remote may lack."""
    return tree.touched(root) or (publish != "none" and tree.ahead(root))


def _require_places(publish: Publish, *, remote: bool) -> None:
    """Raise an error where what is made would vanish with a CI's runner."""
    if publish == "none" or os.environ.get("CI", "").lower() not in {"true", "1"}:
        return
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise TrackingError("MLFLOW_TRACKING_URI is not set: runs and the registry would be in a "
                            "file that goes with this runner. Set it to a server")  # fmt: skip
    if not remote:
        raise DataError("DVC has no default remote: what is made would go with this runner. "
                        "`dvc remote add -d NAME URL`, and commit .dvc/config")  # fmt: skip


def _store(root: Path, week: Week) -> str:
    """Send what was kept while the store was away; why it does not answer, empty: it does.

    Raises TrackingError where it does not and the policy is to stop.
    """
    policy = on_unreachable()
    uri = user_uri(root)
    problem = probe(uri)
    if problem is None:
        if waits(root):
            week.notes.append(told(sync(root), ids=False).replace("\n", "; "))
        return ""
    away = f"MLflow at {public(uri)} does not answer ({problem})"
    if policy == "fail":
        raise TrackingError(
            f"{away}: nothing was computed. Start it, or set CLIPTUNE_ON_UNREACHABLE=spool on a "
            "machine that keeps its folder"
        )
    return away


def _spooled(root: Path) -> str:
    """Where the runs are while the store is away, and how they come from there."""
    if not waits(root):
        return ""
    return (
        f"kept in the spool (`{spool(root).relative_to(root)}`): the next retraining on this "
        "machine sends it, or `cliptune sync` once the server answers"
    )


def _update(root: Path) -> None:
    """Bring the data up to date: what DVC imports, and folders of the tree that it watches."""
    imported = tree.changed(root, tree.imports(root))
    if imported:
        required(dvc(root, "update", *imported), "fetching new data")
    folders.added(root)


def _too_little(root: Path, params: RetrainCommand, week: Week, *, remote: bool) -> bool:
    """Run as far as `clean` and count; whether it is too little to train."""
    with week.step("as far as clean, to count"):
        if not only_data(root, params.model.pretrained):
            return False
        _run(root, week, paths.CLEAN.name, remote=remote)
        week.news = news(root)
    least = params.retrain.least_new
    if week.news is None or not 0 < week.news.new < least:
        return False
    week.verdict = "too little new"
    week.why = (
        f"{week.news.new:,} pictures are new, gone or described otherwise, and retrain.least_new "
        f"asks for {least:,}: nothing was trained"
    )
    return True


def _run(root: Path, week: Week, *targets: str, remote: bool) -> None:
    fetching = ("--pull", "--allow-missing") if remote else ()
    said = dvc(root, "repro", *fetching, *targets)
    week.validated = said.passed("validate")
    week.warnings += [line for line in said.warnings if line not in week.warnings]
    required(said, "the pipeline")


def _publish(root: Path, week: Week, commits: Commits, proposal: Proposal | None) -> None:
    made = commits.add(
        tree.products(root),
        f"Retrained: {week.verdict}",
        f"{unaddressed(week.why)}\n\n{week.place}",
    )
    week.commit = git(root, "rev-parse", "HEAD")
    # What is proposed already, in a branch of origin, is not proposed again.
    if not tree.ahead(root) and not (made and proposal is None):
        return
    if proposal is None:
        week.published = tree.pushed(root)
        commits.publish()
    else:
        week.published = proposed(root, proposal, title=week.title, body=written(root, week))


def _end(root: Path, week: Week) -> None:
    """Who serves, and the summary: a file, what is printed, and the page of the CI job."""
    try:
        connection, _ = reach(root, lambda _: None)
        with answering(connection):
            registry = Registry(connection, week.model)
            champion, last = registry.by_alias(CHAMPION), registry.by_alias(CHALLENGER)
        week.serves = number(champion)
        if champion is not None and (week.promotion is None or week.promotion.found is None):
            judged = last.tags if last is not None else {}
            week.figures = record.figures(champion.tags, str(champion.version), judged)
    except CliptuneError:
        week.serves = ""
    page = written(root, week).read_text(encoding="utf-8")
    job = os.environ.get("GITHUB_STEP_SUMMARY")
    if job:
        with Path(job).open("a", encoding="utf-8") as file:
            file.write(page)


def refused(root: Path, error: CliptuneError) -> None:
    """Leave a summary of a retraining that could not begin: nobody must take the last for it."""
    forget(root)
    written(root, Week(dry=False, why=redact(str(error))))


def show(week: Week, file: Path) -> None:
    """Print the summary, and leave with the exit code that it means."""
    page = plain(file.read_text(encoding="utf-8"))
    sys.stdout.write(f"\n{page}\nthe summary: {file}\n")
    sys.exit(0 if week.well else 1)
