from pathlib import Path

import pytest

from pipeline import params
from pipeline.errors import ConfigError
from pipeline.params import CleanStage, EmbedStage, Params

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "params.yaml").read_text()


def changed(folder: Path, *replacements: tuple[str, str]) -> Path:
    """params.yaml with lines replaced, in a new file."""
    text = TEXT
    for before, after in replacements:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    path = folder / "params.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("  epochs: 10", "  epoch: 10", "unknown key `finetune.epoch`: did you mean `epochs`?"),
        ("  epochs: 10", "  epochs: ten", "`finetune.epochs` is 'ten'"),
        ("  epochs: 10", "", "`finetune.epochs` is missing"),
        ("  lr: 5.0e-4", "  lr: 0", "`finetune.lr` is 0: input should be greater than 0"),
        ("  lr: 5.0e-4", "  lr: [1]", "`finetune.lr` is [1]: input should be a valid number, or "),
        ("  lr: 5.0e-4", "  lr: aut", "`finetune.lr` is 'aut'"),
        ("  warmup: 0.1", "  warmup: 1.0", "`finetune.warmup` is 1.0"),
        ("  max_twins: 0.9", "  max_twins: 0", "`finetune.max_twins` is 0: input should be gre"),
        ("{image: all, text", "{image: al, text", "`finetune.lock.image` is 'al'"),
        ("key, value, output, mlp]", "keys]", "`finetune.lora.targets.1` is 'keys'"),
        (
            "rejected_for: {}",
            "rejected_for: {a: {warn: -1, stop: 1}}",
            "`validate.table.rejected_for.a.warn`",
        ),
        ("train: 0.8", "train: 0.7", "train + val + test = 0.9: make them add up to 1"),
        ("min_words: 1", "min_words: 400", "min_words 400 is above max_words 300"),
        ('- "a photo of a {}."', '- "a photo"', "needs exactly one {} for the class name"),
        (
            "below_words: 3",
            "below_words: 101",
            "below_words 101 is above long_captions.above_words",
        ),
        ("synonyms: {}", "synonyms: {sofa: couch}", "`evaluate.synonyms.sofa` is 'couch'"),
        ("best_by: loss", "best_by: luck", "'loss' or 'retrieval'"),
        ("seed: 0", "seed: 0\nsead: 1", "unknown key `sead`: did you mean `seed`?"),
        ("seed: 0", "seed: [0", "not valid YAML"),
        ("  model: cliptune", '  model: ""', "`promote.model` is ''"),
        (
            "  model: cliptune",
            "  model: the shop's",
            "`promote.model`: \"the shop's\" is no name for MLflow's registry, where \"'\" can't "
            "be part of one: use letters, digits, spaces and . - _",
        ),
        ("  model: cliptune", "  model: a`b", "`promote.model`: 'a`b' is no name"),
        ("  model: cliptune", "  model: shop/clip:1", "where '/' ':' can't be part"),
        ("  model: cliptune", '  model: "a\\nb"', "where '\\n' can't be part"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_remedy(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        params.load(CleanStage, changed(tmp_path, (before, after)))
    assert message in str(error.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = changed(tmp_path, ("  epochs: 10", "  epochs: -1"), ("min_side: 16", "min_side: no"))
    with pytest.raises(ConfigError) as error:
        params.load(CleanStage, path)
    assert "finetune.epochs" in str(error.value)
    assert "validate.min_side" in str(error.value)


def test_a_key_of_several_types_fails_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        params.load(CleanStage, changed(tmp_path, ("  epochs: 10", "  epochs: ten")))
    assert str(error.value).count("\n") == 0
    assert str(error.value).endswith("input should be a valid integer, or input should be 'auto'")


def test_auto_stands_for_numbers_of_a_training(tmp_path: Path) -> None:
    keys = (("  epochs: 10", "  epochs: auto"), ("  lr: 5.0e-4", "  lr: auto"))
    assert params.load(Params, changed(tmp_path, *keys)).finetune.lr == "auto"


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run from the folder"):
        params.load(Params, tmp_path / "params.yaml")


def test_an_exponent_is_a_number(tmp_path: Path) -> None:
    loaded = params.load(Params, changed(tmp_path, ("lr: 5.0e-4", "lr: 1e-5")))
    assert loaded.finetune.lr == 1e-5


def test_a_stage_sees_its_sections_only(defaults: Params) -> None:
    stage = params.load(EmbedStage, ROOT / "params.yaml")
    assert stage.source == defaults.data.source
    assert not hasattr(stage, "finetune")


def test_params_are_frozen(defaults: Params) -> None:
    with pytest.raises(ValueError, match="frozen"):
        defaults.finetune.lr = 1.0  # type: ignore[misc]


def test_a_set_of_prompts_goes_by_its_name(tmp_path: Path) -> None:
    listed = TEXT[TEXT.index("  templates:") : TEXT.index("  # Other names of a class")]
    path = changed(tmp_path, (listed, "  templates: openai_imagenet\n"))
    assert params.load(Params, path).evaluate.templates == "openai_imagenet"
    with pytest.raises(ConfigError, match=r"`evaluate.templates` is 'imagenet'.*'simple_imagenet'"):
        params.load(Params, changed(tmp_path, (listed, "  templates: imagenet\n")))
