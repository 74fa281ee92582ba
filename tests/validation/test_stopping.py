import pandas as pd
import pytest

from pipeline.artifacts import read_json, write_json
from pipeline.data.pairs import read_rejected
from pipeline.errors import ConfigError, DataError
from pipeline.params import ShortCaptions, Threshold
from tests.validation.validating import QUALITY, read_table, run

SHORT = ShortCaptions(below_words=2, warn=0.1, stop=None)


def test_no_row_left_stops_with_the_first_rows(pictures, out, defaults):
    with pytest.raises(DataError) as error:
        run(pictures, out, defaults, limits={"min_side": 5000})
    said = str(error.value).split("\n       ")
    assert said == [
        "captions.csv: no row is left (image_too_small 16). The first:",
        "  row 1: image_too_small: 48x40",
        "  row 2: image_too_small: 49x40",
        "  row 3: image_too_small: 50x40",
        f"All that was found is in {out / 'failed/quality/data_docs.html'}, each rejected row in "
        f"{out / 'failed/rejected.parquet'}: mend the data, or change the limit in params.yaml",
    ]


def test_a_figure_above_its_stop_ends_and_leaves_what_was_found(pictures, out, defaults):
    rows = read_table(pictures)
    rows.loc[[2, 5], "caption"] = None
    rows.loc[7, "image"] = "images/none.jpg"
    rows.loc[8:, "caption"] = "a caption that is said of many"
    rows.to_csv(pictures / "captions.csv", index=False)
    table = {
        "rejected": Threshold(warn=0.1, stop=0.18),
        "rejected_for": {"caption_empty": Threshold(warn=None, stop=0.12)},
        "most_frequent_caption": Threshold(warn=0.2, stop=0.5),
    }
    with pytest.raises(DataError) as error:
        run(pictures, out, defaults, table=table)
    said = str(error.value).split("\n       ")
    assert said[0] == (
        "captions.csv: share of pairs rejected: 0.188, above validate.table.rejected.stop: 0.18 "
        "(caption_empty 2, image_missing 1): "
        "expect_column_values_to_be_between(column='rejected', max_value=0.18) does not hold. "
        "The first:"
    )
    assert said[1:4] == [
        "  row 3: caption_empty",
        "  row 6: caption_empty",
        "  row 8: image_missing: images/none.jpg",
    ]
    assert error.value.left == out / "failed"
    assert "above validate.table.rejected_for.caption_empty.stop: 0.12" in said[4]
    assert "above validate.table.most_frequent_caption.stop: 0.5" in said[7]
    assert said[8] == "  row 9: a caption that is said of many"
    assert not any((out / name).exists() for name in ("valid", "images", "quality"))
    assert sorted(f.name for f in (out / "failed" / "quality").iterdir()) == sorted(QUALITY)
    assert len(read_rejected(out / "failed")) == 3
    checks = {c["name"]: c for c in read_json(out / "failed" / "quality" / "checks.json")}
    assert checks["rejected"]["status"] == "stopped"
    assert checks["unlabelled"]["status"] == "met"
    assert "The pipeline stops" in (out / "failed/quality/data_docs.html").read_text()


def test_a_figure_above_its_warning_is_told_and_goes_on(pictures, out, defaults, capsys):
    rows = read_table(pictures)
    rows.loc[4:, "caption"] = "said of many"
    rows.to_csv(pictures / "captions.csv", index=False)
    found = run(pictures, out, defaults)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "format table: captions.csv: image=image (guessed), caption=caption (guessed), "
        "label=label (guessed)",
        "warning: share of pairs whose caption another image has too: 0.75, above "
        "validate.table.caption_elsewhere.warn: 0.5",
        "warning: share of the most frequent caption: 0.75, above "
        "validate.table.most_frequent_caption.warn: 0.2",
        "16 of 16 rows accepted",
    ]
    assert found["warned"] == ["caption_elsewhere", "most_frequent_caption"]
    checks = {c["name"]: c for c in read_json(out / "quality" / "checks.json")}
    assert checks["caption_elsewhere"]["count"] == 12
    assert [e["source_row"] for e in checks["caption_elsewhere"]["examples"]] == [5, 6, 7]


def test_each_reason_that_occurs_is_a_figure_though_it_has_no_limit(pictures, out, defaults):
    rows = read_table(pictures)
    rows.loc[[2, 5], "caption"] = None
    rows.to_csv(pictures / "captions.csv", index=False)
    found = run(pictures, out, defaults)
    checks = {c["name"]: c for c in read_json(out / "quality" / "checks.json")}
    empty = checks["rejected_for.caption_empty"]
    assert (empty["observed"], empty["count"], empty["status"]) == (0.125, 2, "measured")
    assert [e["source_row"] for e in empty["examples"]] == [3, 6]
    assert [name for name in checks if name.startswith("rejected_for.")] == [empty["name"]]
    assert found["checks"]["measured"] == 1
    page = (out / "quality" / "data_docs.html").read_text()
    assert "share of pairs rejected for caption_empty" in page
    assert '<span class="chip measured">· measured</span>' in page


def test_a_repeated_row_and_a_bare_caption_are_told(pictures, out, defaults, capsys):
    rows = read_table(pictures)
    rows.loc[4:7, "caption"] = "square"
    rows = pd.concat([rows, rows[:4]])
    rows.to_csv(pictures / "captions.csv", index=False)
    found = run(pictures, out, defaults, table={"short_captions": SHORT})
    assert found["warned"] == ["short_captions", "repeated"]
    assert capsys.readouterr().out.splitlines()[1:3] == [
        "warning: share of captions with fewer than 2 words: 0.2, above "
        "validate.table.short_captions.warn: 0.1",
        "warning: share of pairs whose image and caption an earlier pair has too: 0.2, above "
        "validate.table.repeated.warn: 0.1",
    ]
    checks = {c["name"]: c for c in read_json(out / "quality" / "checks.json")}
    assert [e["source_row"] for e in checks["repeated"]["examples"]] == [17, 18, 19]


def test_drift_is_told_and_stops_by_its_own_limits(pictures, out, defaults):
    run(pictures, out / "first", defaults)
    accepted = out / "accepted.json"
    write_json(accepted, [read_json(out / "first" / "quality" / "profile.json")])
    same = run(pictures, out / "same", defaults, accepted=accepted)
    assert same["drift"]["status"] == "none"  # a profile is not compared with itself
    rows = read_table(pictures)
    pd.concat([rows, rows]).to_csv(pictures / "captions.csv", index=False)
    warned = run(pictures, out / "more", defaults, accepted=accepted)
    assert warned["drift"]["status"] == "warned"
    assert warned["drift"]["figures"]["rows"] == 1.0
    assert warned["warned"] == ["repeated", "drift.rows"]
    assert read_json(out / "more/quality/drift.json")["warned"] == ["rows"]
    steady = {"rows": Threshold(warn=1.0, stop=None)}
    assert (
        run(pictures, out / "steady", defaults, accepted=accepted, drift=steady)["drift"]["status"]
        == "steady"
    )
    with pytest.raises(DataError, match=r"drift: .* above validate\.drift\.rows\.stop: 0\.9"):
        run(
            pictures, out / "stop", defaults, accepted=accepted,
            drift={"rows": Threshold(warn=0.5, stop=0.9)},
        )  # fmt: skip


def test_a_limit_for_a_reason_that_there_is_not_is_refused(pictures, out, defaults):
    table = {"rejected_for": {"image_mising": Threshold(warn=0.1, stop=None)}}
    with pytest.raises(ConfigError, match=r"rejected_for\.image_mising.*image_missing"):
        run(pictures, out, defaults, table=table)
