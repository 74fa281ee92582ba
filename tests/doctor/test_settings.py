from pathlib import Path

import pytest

from pipeline.doctor import settings

ROOT = Path(__file__).parents[2]
DEFAULTS = (ROOT / "params.yaml").read_text(encoding="utf-8")


def edited(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    text = DEFAULTS
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file = tmp_path / "params.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_all_problems_are_told_and_whole_sections_stay(tmp_path: Path) -> None:
    file = edited(
        tmp_path,
        ("  lr: 5.0e-4", "  lr: fast"),
        ("  epochs: 10", "  epoch: 10"),
        ("  dtype: fp16", "  dtype: fp8"),
    )
    read, problems = settings.read(file)
    assert sorted(finding.key for finding in problems) == [
        "embed.dtype",
        "finetune.epoch",
        "finetune.epochs",
        "finetune.lr",
    ]
    assert {finding.level for finding in problems} == {"stops"}
    unknown = next(finding for finding in problems if finding.key == "finetune.epoch")
    assert unknown.problem == "unknown key `finetune.epoch`: did you mean `epochs`?"
    assert read.finetune is None
    assert read.embed is None
    assert read.data is not None
    assert read.data.source == "samples/scenes/out"
    assert read.cpu_threads == 2


@pytest.mark.parametrize("content", [None, "data: [", "- a list", b"\xff\xfe\x00"])
def test_a_file_that_is_none_leaves_nothing(tmp_path: Path, content: str | bytes | None) -> None:
    file = tmp_path / "params.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    read, problems = settings.read(file)
    assert [finding.level for finding in problems] == ["stops"]
    assert str(file) in problems[0].problem
    assert read == settings.Settings(*[None] * 8)
