"""The summary that a person reads in a minute, and the line that git keeps."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline.artifacts import write_json
from pipeline.evaluation.duel import Duel, Outcome
from pipeline.evaluation.sets import TARGET
from pipeline.history.drifted import Moved
from pipeline.history.promotion import Promotion
from pipeline.registry.gates import Gate
from pipeline.retraining import record
from pipeline.retraining.commands import CommandError, Said
from pipeline.retraining.news import News
from pipeline.retraining.week import Week, as_markdown, written

BETTER = Outcome(champion=0.5, challenger=0.6, gain=0.1, low=0.02, high=0.18)
WORSE = Outcome(champion=0.8, challenger=0.79, gain=-0.01, low=-0.03, high=0.01)


def told(verdict: str = "promote") -> Promotion:
    outcomes = {TARGET: {"top1": BETTER}, 'an <img src=x> | "odd" set': {"top1": WORSE}}
    return Promotion(
        verdict,  # type: ignore[arg-type]
        "cliptune", "r" * 32, "2", "1", dry=False,
        gates=[
            Gate("gain", "+10", "above 0", True),
            Gate("parts", "label = <b>|`", "none", verdict == "promote"),
        ],
        found=Duel(dict.fromkeys(outcomes, "top1"), outcomes, []),
        drift=[
            Moved("labels", 0.4, 0.2), Moved("rows", 0.5, None), Moved("words", None, 0.2, "no"),
        ],
    )  # fmt: skip


def week(verdict: str = "promote") -> Week:
    promotion = told(verdict)
    return Week(
        dry=False, verdict=verdict, why=promotion.reasons, date="2026-11-30",  # type: ignore[arg-type]
        changed="data data/mine", seconds={"pipeline": 61.26, "judging": 4.0},
        news=News(1200, 30, 2, 1),
        promotion=promotion, model="cliptune", serves="2" if verdict == "promote" else "1",
    )  # fmt: skip


def test_the_first_lines_say_who_serves_and_why() -> None:
    page = as_markdown(week(), rejected={"image_truncated": 1200})
    assert page.splitlines()[:3] == [
        "# Retraining of 2026-11-30: promote",
        "",
        "**Version 2 of cliptune serves from now on, instead of version 1.** all gates passed",
    ]
    assert "| data | 1,200 pictures: 30 new, 2 gone, 1 with another caption or label |" in page
    assert "| rows rejected, of all data | image_truncated 1,200 |" in page
    assert "| changed | data data/mine |" in page
    assert "| all | 65.3 |" in page
    held = as_markdown(week("hold"), rejected={})
    assert held.splitlines()[2] == (
        "**Version 1 of cliptune serves, as before.** parts: label = &lt;b>\\|&#96;, asked: none"
    )


@pytest.mark.parametrize(
    ("rejected", "set_aside", "said"),
    [
        (0, 3, "30 new, 4 gone, 3 set aside now, 1 with"),
        (2, 0, "30 new, 5 gone, 2 rejected now, 1 with"),
        (2, 5, "30 new, 0 gone, 2 rejected now, 5 set aside now, 1 with"),
        (None, None, "30 new, 7 gone or set aside, 1 with"),
    ],
)
def test_what_the_source_still_has_is_not_told_as_gone(
    rejected: int | None, set_aside: int | None, said: str
) -> None:
    found = week()
    found.news = News(1200, 30, 7, 1, rejected, set_aside)
    assert said in as_markdown(found, rejected={})


def test_texts_of_the_data_are_shown_and_not_read() -> None:
    page = as_markdown(week("hold"), rejected={})
    assert "<b>" not in page
    assert "<img" not in page
    assert '| an &lt;img src=x> \\| "odd" set | Zero-shot accuracy | 80.0 % |' in page
    chart = page.partition("```mermaid")[2].partition("```")[0]
    names = '"test pictures, v1", "test pictures, v2", "an img src x …, v1", '
    assert f'x-axis [{names}"an img src x …, v2"]' in chart
    assert "bar [50.0, 60.0, 80.0, 79.0]" in chart


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[win](http://x) ![p](http://y)", "[win]&#40;http://x) ![p]&#40;http://y)"),
        ("@everyone: fixes #12", "@\u200beveryone: fixes #\u200b12"),
        ("a\\|b", "a&#92;\\|b"),
    ],
)
def test_a_label_is_no_link_calls_nobody_and_closes_no_issue(text: str, shown: str) -> None:
    found = week("hold")
    assert found.promotion is not None
    found.promotion.gates = [Gate(f"forgetting on {text}", text, "none", False)]
    found.why = found.promotion.reasons
    page = as_markdown(found, rejected={})
    assert page.count(shown) == 4
    assert text not in page


def test_what_fails_after_a_promotion_does_not_deny_it() -> None:
    failed = week()
    failed.verdict, failed.why = "failed", "git push failed: protected"
    assert as_markdown(failed, rejected={}).splitlines()[2] == (
        "**Version 2 of cliptune serves from now on, instead of version 1.** "
        "git push failed: protected"
    )


def test_what_a_reader_has_to_know_of_the_figures_is_there() -> None:
    found = week("hold")
    assert found.promotion is not None
    found.promotion.notes = ["models/final is the base itself"]
    assert "\nmodels/final is the base itself\n" in as_markdown(found, rejected={})


def test_drift_is_shown_with_its_threshold() -> None:
    page = as_markdown(week(), rejected={})
    assert "| labels | **0.40** | 0.2 |" in page
    assert "| rows | 0.50 | none |" in page
    assert "| words | not measured: no | 0.2 |" in page


def test_nobody_serves_is_not_the_same_as_nobody_knows(tmp_path: Path) -> None:
    failed = Week(dry=False, why="the server is away", model="cliptune")
    assert (
        as_markdown(failed, rejected={}).splitlines()[2].startswith("**Who serves is not known.**")
    )
    failed.serves = None
    assert as_markdown(failed, rejected={}).splitlines()[2].startswith("**No model serves yet.**")
    written(tmp_path, failed)
    assert json.loads((tmp_path / ".cliptune/retrain/summary.json").read_text())["well"] is False


def test_figures_of_another_week_are_not_told_as_if_of_now(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics/validate.json", {"rejected": {"image_missing": 3}})
    for version in ("1", "2"):
        record.recorded(tmp_path, version, judged())
    rejected, history = "| rows rejected, of all data | image_missing 3 |", "Challengers (bars)"
    early = Week(dry=False, why="the server is away", model="cliptune")
    page = written(tmp_path, early).read_text()
    assert (rejected in page, history in page) == (False, False)
    early.validated = True
    page = written(tmp_path, early).read_text()
    assert (rejected in page, history in page) == (True, False)
    page = written(tmp_path, week("hold")).read_text()
    assert (rejected in page, history in page) == (False, True)


def test_checks_that_failed_are_a_list(tmp_path: Path) -> None:
    lines = ["mine.csv: 33 % are rejected. The first:", "  row 1: a|b", "mine.csv: labels: 0.4"]
    error = CommandError("the pipeline failed in the stage validate", lines)
    failed = Week(dry=False, why=str(error), points=error.lines, model="cliptune", serves="1")
    assert as_markdown(failed, rejected={}).splitlines()[2:7] == [
        "**Version 1 of cliptune serves, as before.** the pipeline failed in the stage validate:",
        "",
        "- mine.csv: 33 % are rejected. The first:",
        "  - row 1: a\\|b",
        "- mine.csv: labels: 0.4",
    ]
    written(tmp_path, failed)
    why = json.loads((tmp_path / ".cliptune/retrain/summary.json").read_text())["why"]
    assert why == (
        "the pipeline failed in the stage validate: mine.csv: 33 % are rejected. The first: "
        "row 1: a|b mine.csv: labels: 0.4"
    )
    one = CommandError("fetching failed", ["no such bucket"])
    failed = Week(dry=False, why=str(one), points=one.lines, model="cliptune", serves="1")
    assert (
        as_markdown(failed, rejected={}).splitlines()[2].endswith("fetching failed: no such bucket")
    )


@pytest.mark.parametrize("verdict", ["promote", "hold", "nothing new", "too little new"])
def test_what_needs_nobody_ends_well(verdict: str) -> None:
    assert Week(dry=False, verdict=verdict).well  # type: ignore[arg-type]


def judged() -> dict[str, str]:
    """The tags of a version."""
    return {
        "promotion.at": "2026-11-30T04:00:00+0000", "promotion.verdict": "hold",
        "promotion.why": 'gain, "noise"\nof it', "promotion.against": "1", "pipeline.run_id": "r",
        "promotion.figures": json.dumps(told().figures),
    }  # fmt: skip


def test_where_nothing_was_measured_the_figures_are_those_of_the_last_verdict() -> None:
    found = record.figures(judged(), "3", {})
    assert found == (
        "Zero-shot accuracy 60.0 % on test pictures, Zero-shot accuracy 79.0 % on "
        'an <img src=x> | "odd" set; measured on 2026-11-30'
    )
    quiet = Week(dry=False, verdict="nothing new", model="cliptune", serves="3", figures=found)
    row = "| who serves | version 3: Zero-shot accuracy 60.0 % on test pictures, Zero-shot "
    assert f"{row}accuracy 79.0 % on an &lt;img src=x> \\|" in as_markdown(quiet, rejected={})
    many = json.loads(judged()["promotion.figures"])
    many |= {f"set {number}": many[TARGET] for number in range(5)}
    told_of = record.figures(judged() | {"promotion.figures": json.dumps(many)}, "3", {})
    assert "on set 1, and 3 sets more; measured on" in told_of
    by_hand = {"pipeline.run_id": "r"}  # never judged
    assert record.figures(by_hand, "3", {}) == ""
    later = judged() | {"promotion.against": "3", "promotion.at": "2026-12-07T04:00:00+0000"}
    newer = record.figures(by_hand, "3", later)  # measured as the champion of a later verdict
    assert newer.startswith("Zero-shot accuracy 50.0 % on test pictures")
    assert newer.endswith("measured on 2026-12-07")
    assert record.figures(judged(), "4", later) == found


def test_what_stages_warned_of_is_in_the_summary() -> None:
    said = Said(0, ("warning: drift: rows: 0.59, above <limit>", "an error: warning: none"))
    warned = Week(dry=False, verdict="hold", warnings=said.warnings)
    page = as_markdown(warned, rejected={})
    assert "| warnings | drift: rows: 0.59, above &lt;limit> |" in page


def test_what_is_to_be_done_comes_before_the_figures() -> None:
    page = as_markdown(Week(dry=False, notes=["Merge it."]), rejected={})
    assert page.index("Merge it.") < page.index("| | |")


def test_the_history_has_a_line_a_judgement_and_none_twice(tmp_path: Path) -> None:
    tags = judged()
    for _ in range(2):
        record.recorded(tmp_path, "2", tags)
    record.recorded(tmp_path, "9", {"pipeline.run_id": "r"})  # champion by hand: never judged
    record.recorded(tmp_path, "2", tags | {"promotion.at": "2026-12-07T04:00:00+0000"})
    chart = "\n".join(record.chart(tmp_path))
    assert 'x-axis ["v2, 11-30", "v2, 12-07"]' in chart
    assert "bar [60.0, 60.0]\n    line [50.0, 50.0]" in chart
    rows = pd.read_csv(tmp_path / "metrics/history.csv")
    assert list(rows["date"].str[:10]) == ["2026-11-30", "2026-12-07"]
    first = rows.iloc[0]
    assert (first["verdict"], first["version"], first["against"]) == ("hold", 2, 1)
    assert (first["metric"], first["gain"], first["low"], first["high"]) == (
        "top1",
        0.1,
        0.02,
        0.18,
    )
    assert (first["worst_general"], first["why"]) == (-0.01, 'gain, "noise"\nof it')


def test_a_rollback_is_a_line_of_its_own(tmp_path: Path) -> None:
    tags = {
        "promotion.at": "2026-11-30T04:00:00+0000", "promotion.verdict": "promote",
        "promotion.why": "", "pipeline.run_id": "r", "promotion.figures": "{}",
        "champion.rolled_back": "2026-12-02T09:00:00+0000",
    }  # fmt: skip
    for _ in range(2):
        record.recorded(tmp_path, "2", tags)
    rows = pd.read_csv(tmp_path / "metrics/history.csv")
    assert list(rows["verdict"]) == ["promote", "rolled back"]
    assert list(rows["version"]) == [2, 2]
    assert rows["date"][1].startswith("2026-12-02")
    assert pd.isna(rows["why"][1])
    again = {"champion.rolled_back": "2026-12-03T09", "champion.rolled_back_why": "mixes up, say"}
    record.recorded(tmp_path, "2", tags | again)
    assert list(pd.read_csv(tmp_path / "metrics/history.csv")["why"])[2] == "mixes up, say"


def test_a_rollback_is_told_also_when_another_model_was_judged_since(tmp_path: Path) -> None:
    at = "2026-11-{:02}T04:00:00+0000"
    tags = {
        version: judged() | {"promotion.at": at.format(day), "promotion.verdict": verdict}
        for version, day, verdict in (("1", 2, "promote"), ("2", 9, "promote"), ("3", 16, "hold"))
    }
    for version, known in tags.items():
        record.recorded(tmp_path, version, known)
    asked: list[str] = []

    def tags_of(version: str) -> dict[str, str]:
        asked.append(version)
        return tags[version]

    assert (record.rolled_back(tmp_path, tags_of), asked) == ([], ["2"])
    gone = {"champion.rolled_back": at.format(18), "champion.rolled_back_why": "mixes up shoes"}
    tags["2"] |= gone
    for said in (["Version 2 was rolled back on 2026-11-18: mixes up shoes."], []):
        assert record.rolled_back(tmp_path, tags_of) == said
    rows = pd.read_csv(tmp_path / "metrics/history.csv")
    assert list(rows["verdict"]) == ["promote", "promote", "hold", "rolled back"]
    assert (rows["version"][3], rows["why"][3]) == (2, "mixes up shoes")
