from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from pipeline.params import CardParams
from pipeline.registry import card
from pipeline.registry.limits import limits
from tests.reporting.synthetic import DETAILS, RESULTS, STAGES, scores

SILENT = CardParams(license=None, data_license=None, authors=None, intended_use=None)
HOSTILE = "<script>x</script> [a](https://evil.test) `b` | **c** www.evil.test\x1b[2J @you"
FOUND = {
    **STAGES,
    "embed": {**STAGES["embed"], "accepted": 16},
    "finetune": {**STAGES["finetune"], "train_images": 9},
}
RECORD: dict[str, Any] = {
    "base": {"name": "ViT-B-32", "pretrained": "laion2b_s34b_b79k", "sha256": "b" * 64},
    "data": {"pairs_sha256": "d" * 64},
    "code": {"sha256": "c" * 64},
    "finetuned": {"weights_sha256": "f" * 64},
    "params": {"finetune": {"method": "lora"}},
    "prompts": {"templates": ["a photo of a {}."], "classes": ["cat", "dog"], "synonyms": {}},
}


def rendered(
    record: dict[str, Any] = RECORD, results: dict[str, Any] = RESULTS, said: CardParams = SILENT
) -> str:
    return card.render(
        record, results, architecture="ViT-B-32", stages=FOUND, params=said, confidence=0.95
    )


def front(text: str) -> dict[str, Any]:
    """The block as the hub's own library reads it."""
    found: dict[str, Any] = ModelCard(text, ignore_metadata_errors=False).data.to_dict()
    return found


def test_the_hub_reads_the_block() -> None:
    assert front(rendered()) == {
        "license": "unknown",
        "library_name": "open_clip",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["clip", "open_clip", "cliptune"],
        "base_model": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "base_model_relation": "finetune",
        "metrics": ["accuracy", "recall"],
    }


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        (
            'ours: "all" rights\n# reserved',
            {"license": "other", "license_name": "ours-all-rights-reserved"},
        ),
        ("???", {"license": "other", "license_name": "other"}),
    ],
)
def test_a_license_goes_by_the_hubs_name_or_as_another(said: str, expected: dict[str, str]) -> None:
    text = rendered(said=SILENT.model_copy(update={"license": said}))
    found = front(text)
    assert {key: found[key] for key in found if key.startswith("license")} == expected


def test_it_tells_data_numbers_and_hashes() -> None:
    lines = rendered().splitlines()
    for line in (
        "| License | not stated |",
        "| Base | ViT-B-32, laion/CLIP-ViT-B-32-laion2B-s34B-b79K |",
        "Of 20 rows 16 pairs of a picture and a caption were kept.",
        "| caption empty (validate) | 2 |",
        "| pair repeated (clean) | 1 |",
        "| caption mismatched (embed) | 1,200 |",
        "| train | 9 | 12 |",
        "Classes (2): cat, dog.",
        "| Zero-shot accuracy | 42.0 % | 91.0 % | +49.0 \\[45.0, 53.0\\] |  |",
        "| Zero-shot accuracy | 83.0 % | 76.0 % | −7.0 \\[−9.0, −5.0\\] | worse |",
        "By chance the accuracy would be 10.0 %.",
        "- It forgot: on base\\_slice it is worse than its base (see above).",
        f"| trained weights | {'f' * 64} |",
    ):
        assert line in lines


def test_an_interval_that_holds_0_shows_no_difference() -> None:
    text = rendered(results={**RESULTS, "target": scores(0.42, 0.43, -0.01, 0.03)})
    assert "+1.0 \\[−1.0, 3.0\\] | no difference shown |" in text
    assert "- On its own test pictures no difference from the base was shown." in text


def test_without_labels_nothing_is_said_of_classes() -> None:
    target = scores(0.42, 0.91, 0.45, 0.53, labels=False)
    record = deepcopy(RECORD)
    record["prompts"]["classes"] = []
    text = rendered(record, {**RESULTS, "target": target, "general": {}})
    assert "Classification was not measured" in text
    assert "By chance" not in text
    assert "A class was asked for" not in text
    assert front(text)["metrics"] == ["recall"]
    assert "No general set was measured" in text


def test_text_of_the_data_is_no_markup() -> None:
    """Names of classes, of sets and of the base, and what params.yaml says."""
    record = deepcopy(RECORD)
    record["prompts"]["classes"] = [HOSTILE, "dog"]
    record["base"]["pretrained"] = "mine`<b>"
    results = {**RESULTS, "general": {HOSTILE: scores(0.8, 0.7, -0.2, -0.1)}}
    words = dict.fromkeys(CardParams.model_fields, HOSTILE)
    text = rendered(record, results, CardParams(**words))
    body = text.split("---\n", 2)[2]
    assert "<" not in body
    assert "\x1b" not in body
    for mark in ("[a]", "https://", "`b`", "**c**", " @you", " | **", "www.evil"):
        assert mark not in body, mark
    assert card.markdown("a [b](https://c) <i> & www.d.e") == (
        r"a \[b\](https\://c) &lt;i&gt; &amp; www\.d.e"
    )


def test_a_base_of_ones_own_tells_no_path() -> None:
    record = {**RECORD, "base": {**RECORD["base"], "pretrained": "/home/alice/secret/model"}}
    assert "alice" not in rendered(record)


def test_limits_follow_from_what_was_found() -> None:
    target = {**RESULTS["target"], "details": DETAILS}
    target["final"] = {**target["final"], "top1": 0.55}
    found = limits({**RESULTS, "target": target}, FOUND)
    assert found == [
        "Measured on 500 test pictures: a difference below about 4.0 points would not show.",
        "It is no better than always naming the most frequent class (60.0 %).",
        "1 class has no test picture, so nothing is known of them: owl.",
        "It is less sure than it is right, by 5 points on average.",
        "It forgot: on base_slice it is worse than its base (see above).",
        "12.5 % of its captions were cut: what stands behind was not read.",
        "56 pairs of pictures on two sides of the split look nearly the same to the base, so the "
        "figures may flatter.",
    ]


def test_a_model_that_is_its_base_says_so() -> None:
    target = scores(0.42, 0.42, 0.0, 0.0)
    found = limits({**RESULTS, "target": target, "alpha": 0.0}, FOUND)
    assert found[0].startswith("Its weights are those of its base")
    assert not [sentence for sentence in found if "would not show" in sentence]


def test_classes_with_few_pictures_are_named() -> None:
    rows = [
        {"class": f"k{i}", "images": i, "base": 0.5, "final": 0.0 if i == 3 else 1.0,
         "taken_for": None, "taken_for_count": 0}
        for i in range(1, 15)
    ]  # fmt: skip
    target = {**RESULTS["target"], "details": {"per_class": rows}}
    found = limits({**RESULTS, "target": target}, FOUND)
    few = ", ".join(f"k{i}" for i in range(1, 10))
    assert f"9 classes have fewer than 10 test pictures: {few}." in found
    assert "No test picture of these is named rightly: k3." in found


def test_it_is_the_same_each_time_and_stands_beside_its_package() -> None:
    assert rendered() == rendered()
    assert (Path(card.__file__).parent / "templates/card.md.j2").is_file()
