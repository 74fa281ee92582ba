import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.reporting.report import flat, render
from pipeline.reporting.this_run import with_run
from tests.reporting.synthetic import (
    CHOICE,
    CURVE,
    DETAILS,
    MODEL,
    PARAMS,
    PROBE,
    QUALITY,
    RESULTS,
    SLICES,
    STAGES,
    WHOLE,
    draw_pictures,
    history,
    places,
    points,
    predictions,
    scores,
    searches,
)

ROOT = Path(__file__).parents[2]
ANSWERS = (("cat", "dog", "cat"), ("dog", "dog", "cat"), ("cat", "cat", "cat"))
HOSTILE = '<script>alert(1)</script>"\' onerror="x" {{ 7 * 7 }}'


class Page(HTMLParser):
    """The elements, attributes and texts of a page, as a browser would find them."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        # Splitting also turns the spaces that hold numbers and units together into plain ones.
        self.texts.append(" ".join(data.split()))

    @property
    def text(self):
        return " ".join(" ".join(text for text in self.texts if text).split())


def rendered(*args, **given):
    return built(*args, **given).html


def built(folder, results=RESULTS, answers=ANSWERS, change=lambda frame: frame, **given):
    sets = ["target", *results["general"]]
    arguments = {
        "stages": STAGES,
        "curve": CURVE,
        "history": history(),
        "projection": points(),
        "predictions": {name: change(predictions(*answers)) for name in sets},
        "searches": searches("a cat", "a dog"),
        "places": dict.fromkeys(sets, places(folder)),
        "quality": QUALITY,
        "params": PARAMS,
        "model": MODEL,
        "title": "Scenes",
    }
    results = {"alpha": 1.0, "choice": CHOICE, **results}
    return render(results, **{**arguments, **given})


def digest(folder):
    return hashlib.sha256(rendered(folder).encode()).hexdigest()


@pytest.fixture
def page(tmp_path):
    draw_pictures(tmp_path, 3)
    return partial(rendered, tmp_path)


def test_the_page_says_what_was_found(page):
    text = Page(page()).text
    assert (
        "On 500 test pictures the fine-tuned model names 91 % correctly; the base 42 %: "
        "+49 points [45, 53]. On base_slice it lost 7 points [5, 9]." in text
    )
    assert "Zero-shot accuracy 42.0 % 91.0 % +49.0 [45.0, 53.0]" in text
    assert "Zero-shot accuracy 83.0 % 76.0 % −7.0 [−9.0, −5.0]" in text
    assert "Gained: 1 of 500" in text
    assert "Lost: 1 of 400" in text
    assert "dog taken for cat 1 of 1 pictures; with the base 0" in text
    assert "validate 3 of 20 caption empty 2 image missing 1" in text
    assert "clean 1 of 17 pair repeated 1" in text
    assert "test for the numbers above, used once 2 2" in text
    assert "12.5 % of the captions are longer" in text
    assert "Kept: epoch 1" in text
    assert "evaluate.confidence 0.95" in text
    assert "training pairs c0ffee" in text


def test_the_same_inputs_give_the_same_bytes_in_every_process(tmp_path):
    draw_pictures(tmp_path, 3)
    code = f"from tests.reporting.test_report import *; print(digest(Path({str(tmp_path)!r})))"
    digests = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert digests == [digest(tmp_path)] * 2


def test_the_page_asks_nothing_of_the_network_and_runs_nothing(page):
    source = page()
    found = Page(source)
    assert "http" not in re.sub(r"http-equiv", "", source)
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(found.tags)
    sources = [value for name, value in found.attributes if name in ("src", "href", "srcset")]
    assert all(
        value.startswith(("data:image/jpeg;base64,", "#", "data_docs.html")) for value in sources
    )
    assert "@import" not in source
    assert "default-src 'none'" in dict(found.attributes)["content"]


def test_every_link_within_the_page_has_its_place(page):
    found = Page(page())
    ids = [value for name, value in found.attributes if name == "id"]
    links = {v[1:] for name, v in found.attributes if name == "href" and v.startswith("#")}
    assert len(ids) == len(set(ids))
    assert links <= set(ids)


def test_captions_labels_names_and_settings_are_text_only(page):
    results = {
        **RESULTS,
        **hostile_results(HOSTILE),
        "general": {HOSTILE: RESULTS["general"]["base_slice"]},
    }
    answers = ((HOSTILE, "dog", HOSTILE), ("dog", "dog", HOSTILE))
    reasons = {**STAGES["validate"], "rejected": {HOSTILE: 1}}
    hostile = Page(
        page(
            results,
            answers,
            change=lambda frame: frame.assign(caption=HOSTILE),
            title=HOSTILE,
            model={HOSTILE: HOSTILE},
            params={**PARAMS, HOSTILE: [HOSTILE]},
            stages={**STAGES, "validate": reasons},
            quality=hostile_quality(),
            searches=searches(HOSTILE, f"{HOSTILE} "),
        )
    )
    plain = Page(
        page({**RESULTS, **hostile_results("cat")}, (("cat", "dog", "cat"), ("dog", "dog", "cat")))
    )
    assert "script" not in hostile.tags
    assert "onerror" not in dict(hostile.attributes)
    assert {name for name, _ in hostile.attributes} == {name for name, _ in plain.attributes}
    assert HOSTILE in hostile.text
    assert "49 }}" not in hostile.text


def test_a_picture_that_has_gone_is_said_to_be_missing(page):
    whole = page()
    gone = page(places={key: {} for key in ["target", *RESULTS["general"]]})
    # Five of changes and confusions; of searches by text three, and two with their own after them;
    # of those by picture itself.
    assert whole.count("data:image/jpeg") == 5 + (3 + 3) + 2
    assert gone.count("data:image/jpeg") == 0
    assert "no picture" in gone


def test_the_data_section_tells_checks_changes_and_leaks(page):
    text = Page(page()).text
    assert "Read as table; image from image , caption from text (guessed)." in text
    assert "share of rows rejected 0.15 0.1 0.5 warned" in text
    assert "row 7 a <b>red</b> star → a red star" in text
    assert "near image in two splits, similarity 0.97 train 7.png row 7 test 9.png row 9" in text
    assert "each row is listed in data/clean/leaks.parquet" in text
    assert "10.0 % of the 10 labels are missing in a part" in text.replace("\xa0", " ")
    assert "val lacks 1: ankle boot" in text
    assert "2 pictures are nearly the same as another, in 1 groups" in text
    assert "buy it now" in text
    assert "1,200 training pairs were dropped because the base model" in text
    assert "1,234 pairs of pictures are nearly the same" in text
    assert "tells these pictures from those accepted last with AUC 0.71 [0.68, 0.75]" in text


def test_what_was_neither_dropped_nor_moved_is_not_told(page):
    still = {"auc": None, "low": None, "high": None, "why": "they were embedded in another way"}
    near = {"pairs": 0, "across_splits": None}
    embed = {**STAGES["embed"], "rejected": {}, "drift": still, "near": near}
    text = Page(page(stages={**STAGES, "embed": embed})).text
    assert "were dropped because the base model" not in text
    assert "accepted last with AUC" not in text
    assert "Drift of embeddings is not measured: they were embedded in another way." in text
    assert "nearly the same to the base model" not in text


def hostile_results(text):
    """A target of which every class and slice has a hostile name."""
    named = {**DETAILS["per_class"][0], "class": text, "taken_for": text}
    details = {**DETAILS, "per_class": [named], "classes_without_images": [text]}
    return {
        "target": {**RESULTS["target"], "details": details},
        "slices": [{**SLICES[0], "by": text, "value": text}],
        "probe": PROBE,
    }


def hostile_quality():
    row = {"source_row": 1, "before": HOSTILE, "after": HOSTILE}
    leak = replace(QUALITY.leaks[0], image=HOSTILE, other_image=HOSTILE)
    return replace(
        QUALITY,
        source={
            "format": "table",
            "columns": {"image": HOSTILE},
            "guessed": [],
            "notes": [HOSTILE],
        },
        examples={"strip_html": [row]},
        leaks=[leak],
        labels_missing={"val": [HOSTILE]},
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"distinct": 0, "missing": {}, "missing_share": None}, "No row has a label."),
        (
            {"distinct": 4, "missing": {}, "missing_share": 0.0},
            "Each of the 4 labels stands in every part.",
        ),
    ],
)
def test_no_label_is_not_every_label(page, labels, said):
    clean = {**STAGES["clean"], "labels": labels}
    quality = replace(QUALITY, labels_missing={})
    text = Page(page(stages={**STAGES, "clean": clean}, quality=quality)).text
    assert said in text
    assert "missing in a part" not in text


def test_without_labels_ranks_stand_in_for_classes(page):
    results = {"target": scores(0.4, 0.6, 0.16, 0.24, labels=False), "general": {}}
    found = Page(page(results, [(None, None, None)] * 3))
    assert "finds the right caption first for 60 %" in found.text
    assert "what it forgot is unknown" in found.text
    assert "base rank 3 fine-tuned rank 1" in found.text
    assert "What the fine-tuned model mixes up" not in found.text
    assert "Zero-shot accuracy 4" not in found.text


def whole(**changes):
    target = {**RESULTS["target"], "details": {**DETAILS, **changes}}
    return {**RESULTS, **WHOLE, "target": target}


def test_all_that_may_be_measured_is_shown(page):
    text = Page(page(whole())).text
    assert "dog 60 70 % 65 % −5 cat 21 ×" in text
    assert "cat 40 50 % 75 % +25 dog 9 ×" in text
    assert "No test picture shows owl : nothing is known of it." in text.replace("owl:", "owl :")
    assert "and always the most frequent class 60.0 %" in text
    assert "The fine-tuned model is off by 5.0 points on average ( ECE ) and less sure" in text
    assert "the base by 20.0 points and more sure than it is right." in text
    assert "By shorter side" in text
    assert "64 to 127 px 50 40.0 % 90.0 % +50.0 [40.0, 60.0]" in text
    assert "dog 60 70.0 % 65.0 % −5.0 [−10.0, −1.0] no difference shown" in text
    assert "Nearest neighbours each picture takes the label of its nearest" in text
    assert "80.0 % 90.0 % +10.0 [5.0, 15.0]" in text
    assert "Not shown here" not in text
    assert "“a cat”" in text
    assert "place 7" in text


def test_what_was_not_measured_is_named_with_the_reason(page):
    text = Page(page()).text
    assert "Not shown here" in text
    assert "Class by class evaluate did not measure it" in text
    assert "A second opinion evaluate did not measure it" in text
    for name in ("How sure it is, and how often right", "By image size", "Nearest neighbours"):
        assert name not in text


def test_of_many_classes_the_worst_are_open_and_the_rest_folded(page):
    rows = [{**DETAILS["per_class"][0], "class": f"kind {i}", "final": i / 30} for i in range(30)]
    source = page(whole(per_class=rows))
    assert "The other 10 classes" in source
    folded = source[source.index("The other 10 classes") :]
    assert "kind 20" in folded[: folded.index("</details>")]
    assert "kind 19</td>" not in folded[: folded.index("</details>")]


def test_one_class_is_not_classified(page):
    why = "the set has one class, 'cat': any answer would be right"
    target = scores(0.4, 0.6, 0.16, 0.24, labels=False)
    target |= {"classes": 1, "chance": 1.0, "details": {"omitted": {"classification": why}}}
    text = Page(page({"target": target, "general": {}}, [("cat", None, None)] * 3)).text
    assert f"Confusions {why}" in text
    assert f"Class by class {why}" in text
    assert "finds the right caption first for 60 %" in text
    assert "guessing would name" not in text
    assert "General sets there is none" in text


def test_a_median_rank_is_no_share(page):
    target = scores(0.4, 0.6, 0.16, 0.24)
    name = "text_to_image_median_rank"
    target["base"][name], target["final"][name] = 5.0, 2.0
    target["gain"] = {**target["gain"], name: {"value": -3.0, "low": -4.0, "high": -1.5}}
    source = page({"target": target, "general": {}})
    assert "Text → image, median rank 5 2 −3 places [−4, −1.5]" in Page(source).text
    assert '<td class="gain"><b>−3\xa0places' in source


def test_charts_stand_alone_too_under_names_of_our_own(tmp_path):
    draw_pictures(tmp_path, 3)
    results = {**whole(), "general": {HOSTILE: RESULTS["general"]["base_slice"]}}
    figures = built(tmp_path, results).figures
    assert set(figures) == {
        *(f"target_{what}" for what in ("before_after", "recall_1", "recall_2")),
        *("target_classes", "target_reliability", "curve", "confusion"),
        *(f"general_1_{what}" for what in ("before_after", "recall_1", "recall_2")),
        *("training_1", "training_2", "training_3", "pictures_1", "pictures_2"),
    }


def test_the_page_has_one_place_for_the_facts_of_a_run(page):
    source = page()
    assert "stand in the copy of this page" in Page(source).text
    told = Page(with_run(source, {"commit": HOSTILE})).text
    assert f"This run commit {HOSTILE}" in told
    assert "stand in the copy of this page" not in told


def test_no_difference_is_said_where_the_interval_contains_zero(page):
    results = {"target": scores(0.5, 0.51, -0.02, 0.04), "general": {}}
    text = Page(page(results)).text
    assert "Zero-shot accuracy 50.0 % 51.0 % +1.0 [−2.0, 4.0] no difference shown" in text


def test_a_training_that_only_harmed_is_told(page):
    stages = {**STAGES, "finetune": {**STAGES["finetune"], "best_epoch": 0}}
    assert "No epoch beat the base, which was kept as it is." in Page(page(stages=stages)).text


def test_settings_are_shown_under_dotted_keys():
    nested = {"seed": 0, "clean": {"split": {"train": 0.8}, "min_words": 1}}
    assert dict(flat(nested)) == {"seed": 0, "clean.split.train": 0.8, "clean.min_words": 1}
