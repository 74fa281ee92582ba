"""The folders that params name: there, made on demand, or in the way of the pipeline's outputs."""

from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

from pipeline import paths
from pipeline.doctor.findings import Fact, Finding, Look
from pipeline.doctor.seen import Made
from pipeline.doctor.settings import Settings
from pipeline.errors import CliptuneError, DataError
from pipeline.evaluation import described
from pipeline.params import DataParams, EvaluateParams
from pipeline.precheck import SAMPLES
from pipeline.validation.drift import read_accepted

OUTPUTS = (paths.VALID, paths.METRICS, paths.PLOTS, paths.RUNS, paths.FINETUNED)
"""One of each folder that the stages write to."""


def made() -> Made:
    """What the samples' stages make, each with the files from which it is made."""
    if not SAMPLES.is_file():
        return {}
    stages = YAML(typ="safe", pure=True).load(SAMPLES.read_text(encoding="utf-8"))["stages"]
    return {
        Path(out): [Path(dep) for dep in stage["deps"]]
        for stage in stages.values()
        for out in stage["outs"]
    }


def look(settings: Settings, outputs: Made) -> Look:
    """`data.source`, the reference for drift, and `evaluate.general`."""
    findings: list[Finding] = []
    facts: list[Fact] = []
    if settings.data is not None:
        findings += _source(settings.data, outputs)
        if not findings and not Path(settings.data.source).exists():
            text = f"{settings.data.source}/, made on demand by {SAMPLES}: nothing to look at yet"
            facts.append(Fact("data", "source", text))
    accepted = _accepted()
    findings += [accepted] if isinstance(accepted, Finding) else []
    facts += [accepted] if isinstance(accepted, Fact) else []
    if settings.evaluate is not None:
        found = _general(settings.evaluate, outputs)
        findings += found.findings
        facts += found.facts
    return Look(findings, facts)


def _source(data: DataParams, outputs: Made) -> Iterator[Finding]:
    folder = Path(data.source)
    remedy = "set it to the folder that holds your captions and pictures"
    if not folder.is_dir() and folder not in outputs:
        what = "is not a folder" if folder.exists() else "does not exist"
        yield Finding("stops", "data.source", data.source, f"it {what}", remedy)
    root = folder.resolve()
    inside = next((out for out in OUTPUTS if out.resolve().is_relative_to(root)), None)
    if folder.is_dir() and inside is not None:
        problem = f"it holds {inside}, which the pipeline writes: DVC refuses such a circle"
        yield Finding(
            "stops", "data.source", data.source, problem, "move your data to a folder of its own"
        )


def _accepted() -> Fact | Finding:
    """The data against which drift will be measured."""
    try:
        profiles = read_accepted(paths.ACCEPTED)
    except DataError as error:
        return Finding("stops", str(paths.ACCEPTED), None, str(error), "")
    if not profiles:
        return Fact("data", "drift", "not measured: `cliptune accept` makes data the reference")
    return Fact("data", "drift", f"measured against the {profiles[-1]['rows']:,} pairs accepted")


def _general(evaluate: EvaluateParams, outputs: Made) -> Look:
    key, value = "evaluate.general", evaluate.general
    folder = Path(value)
    if folder in outputs and not folder.is_dir():
        return Look([], [Fact("plan", "general sets", f"{value}/, made on demand by {SAMPLES}")])
    if not folder.is_dir():
        remedy = (
            "set it to a folder with one data set a folder; data/general, as it comes, is empty"
        )
        return Look([Finding("stops", key, value, "there is no such folder", remedy)], [])
    try:
        sets = described.folders(folder)
    except DataError as error:
        return Look([Finding("stops", key, value, str(error), "mend or remove the set")], [])
    findings = [finding for entry in sets for finding in _set(entry, value)]
    if not sets:
        problem = "it holds no data set: what the model forgets is not measured"
        remedy = "put a data set there, a folder each, in any format that data.source takes"
        findings.append(Finding("note", key, value, problem, remedy))
    names = [entry.name for entry in sets]
    return Look(findings, [Fact("plan", "general sets", ", ".join(names) or "none", names)])


def _set(folder: Path, value: str) -> Iterator[Finding]:
    """A set that can't be opened would stop `evaluate`, after the training."""
    try:
        described.opened(folder, template="a photo of a {}.")
    except CliptuneError as error:
        yield Finding("stops", "evaluate.general", value, str(error), "mend or remove the set")
