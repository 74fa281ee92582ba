from typing import get_args

import pytest

from pipeline.clip.model import prompt_sets
from pipeline.errors import DataError
from pipeline.evaluation import prompts
from pipeline.params import PromptSet


def test_openclips_sets_go_by_name() -> None:
    assert set(prompt_sets()) == set(get_args(PromptSet))
    assert len(prompts.templates("openai_imagenet")) == 80
    assert prompts.templates("simple_imagenet")[0] == "itap of a {}."
    assert {template.count("{}") for some in prompt_sets().values() for template in some} == {1}


def test_a_list_of_templates_stays_as_it_is() -> None:
    assert prompts.templates(["{}!"]) == ["{}!"]
    assert prompts.caption_template(["{}!", "{}"]) == "{}!"
    assert prompts.caption_template("openai_imagenet") == "a photo of a {}."


def test_every_name_goes_into_every_template() -> None:
    assert prompts.filled(["a {}", "{}"], ["sofa", "couch"]) == [
        "a sofa",
        "sofa",
        "a couch",
        "couch",
    ]


def test_a_class_comes_before_its_synonyms() -> None:
    found = prompts.names(["sofa", "cat"], {"sofa": ["couch"], "of another set": ["x"]})
    assert found == [["sofa", "couch"], ["cat"]]


@pytest.mark.parametrize(
    ("classes", "synonyms", "said"),
    [
        (["ankle_boot", "Ankle  boot"], {}, "'ankle_boot' and 'Ankle  boot'"),
        (["sofa", "Couch"], {"sofa": ["couch"]}, r"'couch' \(a synonym of 'sofa'\) and 'Couch'"),
        (["a", "b"], {"a": ["x y"], "b": ["X_y"]}, r"'x y' \(a synonym of 'a'\) and 'X_y' \(a"),
    ],
)
def test_two_names_that_are_the_same_are_both_told(
    classes: list[str], synonyms: dict[str, list[str]], said: str
) -> None:
    with pytest.raises(DataError, match=f"the classes {said}"):
        prompts.names(classes, synonyms)


def test_a_synonym_of_what_is_no_class_is_told() -> None:
    prompts.check_synonyms({"cat": ["puss"]}, [["dog"], ["cat"]])
    with pytest.raises(DataError, match=r"names 'cats', which is no class of any set: .* 'cat'"):
        prompts.check_synonyms({"cats": ["puss"]}, [["dog"], ["cat"]])
