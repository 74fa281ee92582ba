"""Executions of the toy pipeline by the real DVC, and the runs that each of them added."""

import os
import signal
import subprocess
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
from toy_tree import Run, Toy, by_role

PATIENCE = 120.0
"""Seconds until what was waited for counts as lost."""


@dataclass(frozen=True)
class Execution:
    """What an execution said, the runs that it added, and the state of the tree after it."""

    output: str
    commit: str
    added: list[Run]
    receipts: dict[str, Any]

    @property
    def pipeline(self) -> Run:
        (run,) = by_role(self.added, "pipeline")
        return run

    @property
    def stages(self) -> dict[str, Run]:
        return {run.data.tags["dvc.stage"]: run for run in by_role(self.added, "stage")}

    @property
    def status(self) -> dict[str, str]:
        """That of each run, by stage."""
        runs = {"pipeline": self.pipeline} | self.stages
        return {name: run.info.status for name, run in runs.items()}

    @property
    def how(self) -> dict[str, str]:
        """What the pipeline's run says became of each stage."""
        return {k: v for k, v in self._of_stages().items() if not k.endswith(".run_id")}

    @property
    def made_by(self) -> dict[str, str]:
        """The run that the pipeline's names for each stage."""
        named = self._of_stages().items()
        return {k.removesuffix(".run_id"): v for k, v in named if k.endswith(".run_id")}

    def _of_stages(self) -> dict[str, str]:
        tags = self.pipeline.data.tags.items()
        return {k.removeprefix("dvc.stage."): v for k, v in tags if k.startswith("dvc.stage.")}


def execute(
    toy: Toy, *command: str, known: Collection[Run] | None = None, code: int = 0
) -> Execution:
    """Run DVC to its end; `known` are the runs before, and are looked up unless given."""
    before = toy.runs() if known is None else known
    done = toy.run("dvc", *command)
    assert done.returncode == code, done.stdout + done.stderr
    return look(toy, before, done.stdout + done.stderr)


def look(toy: Toy, known: Collection[Run], output: str) -> Execution:
    """The tree as it is, and its runs without those that were `known`."""
    ids = {run.info.run_id for run in known}
    added = [run for run in toy.runs() if run.info.run_id not in ids]
    receipts = {path.stem: toy.receipt(path.stem) for path in (toy.path / "runs").glob("*.json")}
    return Execution(output, toy.git("rev-parse", "HEAD"), added, receipts)


def again(toy: Toy, execution: Execution) -> Execution:
    """The runs of an execution as the store has them now."""
    client = toy.client()
    added = [client.get_run(run.info.run_id) for run in execution.added]
    return Execution(execution.output, execution.commit, added, execution.receipts)


@dataclass
class Begun:
    """An execution whose `train` has begun and takes its time."""

    toy: Toy
    dvc: "subprocess.Popen[str]"
    below: list[psutil.Process]
    known: list[Run]

    def signal_all(self, number: int) -> None:
        """What Ctrl-C in a terminal does: the whole process group gets the signal."""
        os.killpg(self.dvc.pid, number)

    def end(self) -> Execution:
        """Wait until DVC and every process below it have gone."""
        _, left = psutil.wait_procs(self.below, timeout=PATIENCE / 4)
        orphans = [" ".join(process.cmdline()) for process in left]
        for process in left:
            process.kill()
        output, _ = self.dvc.communicate(timeout=PATIENCE)
        assert orphans == []
        return look(self.toy, self.known, output)


def begin(toy: Toy) -> Begun:
    """`dvc repro`; returns when `train` has logged all of its epochs."""
    known = toy.runs()
    # A shell lets what it starts in the background ignore Ctrl-C, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        dvc = toy.start("dvc", "repro")
    finally:
        signal.signal(signal.SIGINT, before)
    until = time.monotonic() + PATIENCE
    while not _trained(look(toy, known, "")):
        if dvc.poll() is not None or time.monotonic() > until:
            with suppress(ProcessLookupError):
                os.killpg(dvc.pid, signal.SIGKILL)
            raise AssertionError(f"train did not begin: {dvc.communicate()[0]}")
        time.sleep(0.2)
    return Begun(toy, dvc, psutil.Process(dvc.pid).children(recursive=True), known)


def _trained(execution: Execution) -> bool:
    train = execution.stages.get("train")
    return train is not None and train.data.metrics.get("train/loss") == 1 / 3
