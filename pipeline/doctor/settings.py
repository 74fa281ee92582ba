"""params.yaml: every problem of it, and the sections that can be used all the same."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.captions.languages import check_languages
from pipeline.doctor.findings import Finding
from pipeline.errors import ConfigError
from pipeline.params import (
    CleanParams,
    DataParams,
    EmbedParams,
    EvaluateParams,
    FinetuneParams,
    ModelParams,
    Params,
    Section,
    ValidateParams,
    load,
)
from pipeline.validation.reasons import check_reasons

Kind = TypeVar("Kind", bound=Section)


@dataclass(frozen=True)
class Settings:
    """The sections of params.yaml; None: that section is wrong."""

    data: DataParams | None
    limits: ValidateParams | None
    clean: CleanParams | None
    model: ModelParams | None
    embed: EmbedParams | None
    finetune: FinetuneParams | None
    evaluate: EvaluateParams | None
    cpu_threads: int | None


def read(path: Path) -> tuple[Settings, list[Finding]]:
    """All problems of `path` at once, and each section that holds none."""
    content = _content(path)
    settings = Settings(
        data=_section(DataParams, content, "data"),
        limits=_section(ValidateParams, content, "validate"),
        clean=_section(CleanParams, content, "clean"),
        model=_section(ModelParams, content, "model"),
        embed=_section(EmbedParams, content, "embed"),
        finetune=_section(FinetuneParams, content, "finetune"),
        evaluate=_section(EvaluateParams, content, "evaluate"),
        cpu_threads=_threads(content),
    )
    return settings, _problems(path)


def unknown_names(settings: Settings) -> list[Finding]:
    """Languages and reasons that the stages will refuse, as they say it themselves."""
    findings = []
    clean, limits = settings.clean, settings.limits
    try:
        if clean is not None and clean.languages:
            check_languages(clean.languages)
    except ConfigError as error:
        value = ", ".join(clean.languages) if clean is not None else None
        findings.append(Finding("stops", "clean.languages", value, str(error), ""))
    try:
        if limits is not None:
            check_reasons(limits)
    except ConfigError as error:
        findings.append(Finding("stops", "validate.table.rejected_for", None, str(error), ""))
    return findings


def _threads(content: dict[str, Any]) -> int | None:
    if "cpu_threads" not in content:
        return None
    threads = content["cpu_threads"]
    return threads if isinstance(threads, int) else None


def _problems(path: Path) -> list[Finding]:
    try:
        load(Params, path)
    except ConfigError as error:
        lines = str(error).removeprefix(f"{path}: ").split(f"\n       {path}: ")  # as `load` joins
        return [_finding(line, path) for line in lines]
    return []


def _finding(line: str, path: Path) -> Finding:
    """A problem as `load` words it: value and remedy stand in it already."""
    key = re.search("`([^`]+)`", line)
    return Finding("stops", key.group(1) if key else str(path), None, line, "")


def _content(path: Path) -> dict[str, Any]:
    """The mapping in `path`; an empty one where there is none, which `load` tells of."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _section(kind: type[Kind], content: dict[str, Any], key: str) -> Kind | None:
    try:
        return kind.model_validate(content[key])
    except (KeyError, ValidationError):
        return None
