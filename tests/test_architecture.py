"""The house's rules, as tests."""

import ast
import re
from pathlib import Path

import pytest
from imports import ROOT, tree_of
from ruamel.yaml import YAML

from pipeline import params

STAGES = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES |= YAML(typ="safe", pure=True).load((ROOT / "stages" / "dvc.yaml").read_text())["stages"]
FILES = sorted([*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "stages").rglob("*.py")])
CODE = ("pipeline/", "stages/")


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_code_that_a_stage_runs(stage: str) -> None:
    listed = {dep for dep in STAGES[stage]["deps"] if dep.startswith(CODE)}
    listed -= {f"pipeline/{part}/templates" for part in ("registry", "reporting", "validation")}
    assert listed == tree_of(f"stages/{stage}.py")


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in ("check", "record")])
def test_params_are_the_sections_that_a_stage_loads(stage: str) -> None:
    kind = getattr(params, f"{stage.capitalize()}Stage")
    assert sorted(STAGES[stage]["params"]) == sorted(params.section_keys(kind))
    assert f"load({kind.__name__})" in (ROOT / "stages" / f"{stage}.py").read_text()


def test_a_stage_reads_no_other_stages_secrets() -> None:
    """What a stage reads through `paths` is among its deps or outs."""
    shown = {"VALID": "data/valid", "CLEAN": "data/clean", "FINETUNED": "models/finetuned"}
    for name, stage in STAGES.items():
        text = (ROOT / "stages" / f"{name}.py").read_text()
        for constant in re.findall(r"paths\.([A-Z_]+)", text):
            if constant in shown:
                assert shown[constant] in [*stage["deps"], *stage["outs"]], (name, constant)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_wiring_only(stage: str) -> None:
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    main = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    loops = (ast.If, ast.For, ast.While, ast.Try, ast.ListComp, ast.DictComp)
    assert not [node for node in ast.walk(main) if isinstance(node, loops)]


def test_gradients_flow_in_the_loop_the_gradient_cache_and_the_loss_in_blocks_alone() -> None:
    found = [f for f in FILES if ".backward(" in f.read_text()]
    named = ("distributed", "finetune", "gradcache")
    allowed = [f"pipeline/training/{name}.py" for name in named]
    assert [f.relative_to(ROOT).as_posix() for f in found] == allowed


def test_nothing_is_unpickled() -> None:
    for file in [*FILES, *(ROOT / "samples").rglob("*.py")]:
        text = file.read_text()
        assert "pickle" not in text.replace("allow_pickle=False", ""), file
        assert "torch.load" not in text, file


def test_params_yaml_holds_every_default() -> None:
    kinds = [kind for kind in vars(params).values() if isinstance(kind, type)]
    sections = [kind for kind in kinds if issubclass(kind, params.Section)]
    defaults = [
        f"{kind.__name__}.{name}"
        for kind in sections
        for name, field in kind.model_fields.items()
        if not field.is_required()
    ]
    assert len(sections) > 10
    assert defaults == []


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_a_file_stays_readable(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert len(lines) <= 300
    assert file.name != "utils.py"
    assert not [line for line in lines if re.search(r"\b(TODO|FIXME|XXX)\b", line)]


def test_packages_hold_no_code() -> None:
    """Deps leave `__init__.py` out, so it must do nothing."""
    root = ROOT / "pipeline" / "__init__.py"  # one line of environment, which changes no result
    for file in [f for f in FILES if f.name == "__init__.py" and f != root]:
        body = ast.parse(file.read_text()).body
        assert all(isinstance(node, (ast.Expr, ast.Assign)) for node in body), file
