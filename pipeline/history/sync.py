"""`cliptune sync`: what was kept while the tracking store was away → the store.

The spool holds whole runs, in a store of its own, and journals: what could not be sent of a run
that had begun in the user's store. A run gets another id in the user's store, since MLflow chooses
it; the old one stays as the tag `spool.run_id`, by which receipts lead to the run and a sync that
was cut short finds what it had made. Links between runs are those of the new ids. What is sent
leaves the spool; what the store refuses stays, and is told.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import write_text
from pipeline.errors import TrackingError
from pipeline.history.spooled import Names, send_runs, session_of, stage_of
from pipeline.tracking_session import still_runs
from pipeline.tracking_sink import Operation, is_refusal, send
from pipeline.tracking_store import Connection, first_line, locked, reach, spool, waits

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass
class Sent:
    """What became of the spool.

    Attributes:
        runs: that were made in the store, or completed there: their ids in the spool, and there.
        stages: of which these runs are; `pipeline` is the run of them all.
        journals: that were sent whole; each is the rest of a run.
        completed: the stages that these are of.
        waiting: names of executions that still run; the next sync sends theirs.
        refused: what the store would not take, by the file that keeps it.
    """

    uri: str
    runs: dict[str, str] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)
    journals: int = 0
    completed: list[str] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    refused: dict[Path, str] = field(default_factory=dict)


def sync(root: Path) -> Sent:
    """Send what the spool of the work tree at `root` keeps; a second time sends nothing.

    Raises TrackingError where the store does not answer, or stops answering: what was not sent by
    then is still there.
    """
    if not waits(root):
        return Sent("")
    connection, _ = reach(root, lambda _: None)
    found = Sent(connection.public_uri)
    with locked(root):
        try:
            names = send_runs(connection, root, found.waiting)
            found.runs, found.stages = names.sent, names.stages
            for journal in sorted(spool(root).glob("*.jsonl")):
                _send_journal(connection, journal, names, found)
        except TrackingError:
            raise
        except Exception as error:  # whatever the client raises when its server goes
            raise TrackingError(
                f"MLflow at {connection.public_uri} stopped answering ({first_line(error)}): "
                "what is not sent stays, `cliptune sync` goes on with it"
            ) from error
    return found


def _send_journal(connection: Connection, journal: Path, names: Names, found: Sent) -> None:
    """Send the operations of a journal in their order; those that are refused stay in it."""
    read = _read(journal)
    if read is None:
        found.refused[journal] = "it is no journal: its first line does not say which run it is"
        return
    head, operations = read
    run = str(head["run"])
    if run not in names.known and head["tracking_uri"] != connection.public_uri:
        found.refused[journal] = (
            f"its run is in {head['tracking_uri']}, and the store is {connection.public_uri}"
        )
        return
    client = connection.client
    target = names.known.get(run, run)
    there = _there(client, target)
    session = session_of(there) if there else ""
    if still_runs(session):
        found.waiting.add(session)
        return
    refused, why = [], ""
    for operation in operations:
        try:
            send(client, _ready(operation, journal.parent, names))
        except Exception as error:
            if not is_refusal(error):
                raise
            refused.append(operation)
            why = why or first_line(error)
    if refused:
        found.refused[journal] = f"{len(refused)} of {len(operations)} entries refused: {why}"
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in (head, *refused)]
        write_text(journal, "".join(lines))
        return
    journal.unlink()
    shutil.rmtree(journal.with_suffix(""), ignore_errors=True)
    found.journals += 1
    found.completed.append(stage_of(there) if there else "")


def _there(client: "MlflowClient", run: str) -> "Run | None":
    try:
        return client.get_run(run)
    except Exception as error:
        if is_refusal(error):
            return None
        raise


def _read(journal: Path) -> tuple[dict[str, Any], list[Operation]] | None:
    """The head and the operations; None where there is no head.

    A line that was being written when the power or the disk's room ended is dropped.
    """
    lines: list[Operation] = []
    # At \n alone: a text may hold other characters that Python takes for the end of a line.
    texts = journal.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, text in enumerate(texts, start=1):
        if text:
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                sys.stderr.write(f"{journal}: line {number} is cut short and left out\n")
    if not lines or lines[0].get("op") != "journal":
        return None
    return lines[0], lines[1:]


def _ready(operation: Operation, folder: Path, names: Names) -> Operation:
    """An operation of a journal with the ids and paths of now."""
    ready = operation | {"run": names.known.get(operation["run"], operation["run"])}
    if operation["op"] == "artifact":
        ready |= {"path": str(folder / operation["path"])}
    if operation["op"] == "tags":
        ready |= {"values": {key: names.new(text) for key, text in operation["values"].items()}}
    return ready


def told(sent: Sent, *, ids: bool = True) -> str:
    """What to print; with `ids` also which run has which name now."""
    if not sent.uri:
        return "the spool is empty: nothing to send"
    parts = [f"{_many(len(sent.runs), 'run')}{_names(sent.stages)}"] if sent.runs else []
    if sent.journals:
        parts.append(f"the rest of {_many(sent.journals, 'run')}{_names(sent.completed)}")
    lines = [f"sent to {sent.uri}: {', and '.join(parts) or 'nothing'}"]
    if ids:
        lines += [f"  {old[:8]} is now {new}" for old, new in sent.runs.items()]
    lines += [f"not yet, it still runs: {session}" for session in sorted(sent.waiting)]
    lines += [f"kept in {file}: {why}" for file, why in sorted(sent.refused.items())]
    return "\n".join(lines)


def _names(stages: Sequence[str]) -> str:
    """Of which stages runs are, in the order in which they were made; in brackets."""
    counts = Counter(stage for stage in stages if stage)
    named = [f"{count} of {stage}" if count > 1 else stage for stage, count in counts.items()]
    return f" ({', '.join(named)})" if named else ""


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
