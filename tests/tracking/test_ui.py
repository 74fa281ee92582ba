"""MLflow's UI as a user meets it: started by `cliptune ui`, in a real browser, on runs of a toy.

What the UI makes of saved views, notes and artifacts is nobody's promise: a new MLflow shows here.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import toy_result
from toy_server import Server, free_port, wait_for
from toy_tree import Toy, make_toy

from pipeline.tracking_views import PIPELINE_COLUMNS
from tests.browsers import chromium
from tests.reporting.test_report import rendered

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: it is of extra `dev`")
expect = sync_api.expect

pytestmark = pytest.mark.slow

BEST = "metrics.`evaluate/target/final/top1`"
SHUT = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
"""MLflow's assistant opens itself at the first visit and takes a quarter of the window."""

WAIT_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = chromium()
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def toy(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Three pipelines: one by `dvc repro`, and two experiments, of which `gentle` is the best."""
    toy = make_toy(tmp_path_factory.mktemp("ui") / "toy")
    shutil.copy(toy_result.__file__, toy.path / "stages")
    (toy.path / "params.yaml").write_text(toy_result.PARAMS)
    (toy.path / "dvc.yaml").write_text(toy_result.GRAPH)
    (toy.path / "page").mkdir()
    (toy.path / "page/index.html").write_text(rendered(toy.path))
    with (toy.path / ".gitignore").open("a") as file:
        file.write("/models/\n")
    toy.commit()
    toy.dvc("repro")
    for name, lr in (("gentle", 0.125), ("rash", 0.5)):
        toy.dvc("exp", "run", "-n", name, "-S", f"finetune.lr={lr}")
    return toy


@pytest.fixture(scope="module")
def link(toy: Toy) -> Iterator[str]:
    """The address that `cliptune ui` prints, while its server runs."""
    port, log = free_port(), toy.path.parent / "ui.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["cliptune", "ui", "--port", str(port)],
            cwd=toy.path,
            env=toy.environ({}),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(port, process)
    try:
        wait_for(server)
        yield re.findall(rf"Pipeline runs: ({server.uri}/\S+)\n", log.read_text())[0]
    finally:
        server.end()


@pytest.fixture
def page(browser: Any, link: str) -> Iterator[Any]:
    """The view that a user sees first."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    context.add_init_script(SHUT)
    page = context.new_page()
    page.goto(link)
    expect(run_link(page, "gentle")).to_be_visible()
    yield page
    context.close()


def run_link(page: Any, name: str) -> Any:
    return page.get_by_role("link", name=name, exact=True)


def follow(link: Any) -> Any:
    """The page that a link of a note opens, in a tab of its own."""
    with link.page.context.expect_page() as opened:
        link.click()
    return opened.value


def names(page: Any) -> list[str]:
    """The runs of the table in the order in which they are shown."""
    rows = page.locator("[role=row][row-index]:has(a)").all()
    rows.sort(key=lambda row: int(row.get_attribute("row-index")))
    return [row.locator("a").first.inner_text() for row in rows]


def column_ids(page: Any) -> list[str]:
    """Those in view, from left to right."""
    cells = page.locator(".ag-header-cell[col-id]").all()
    cells.sort(key=lambda cell: cell.bounding_box()["x"])
    return [cell.get_attribute("col-id") for cell in cells]


def test_the_printed_link_opens_the_pipelines_with_their_result_in_view(page: Any) -> None:
    expect(page.get_by_role("button", name="Pipelines")).to_be_visible()
    repro, rash, gentle = sorted(names(page), reverse=True)
    assert (rash, gentle) == ("rash", "gentle")
    assert re.fullmatch(r"repro [0-9a-f]{7} \d\d:\d\d", repro)
    assert names(page) == [rash, gentle, repro]
    assert column_ids(page)[1:6] == [
        "attributes.`Run Name`",
        "runDateAndNestInfo",
        "duration",
        *PIPELINE_COLUMNS[1:3],
    ]


def test_the_best_run_is_one_click_away(page: Any) -> None:
    page.locator(f".ag-header-cell[col-id='{BEST}']").click()
    expect(page.locator("[role=row][row-index='0'] a")).to_have_text("gentle")
    assert names(page)[-1] == "rash"
    top = page.locator(f"[role=row][row-index='0'] [col-id='{BEST}']")
    expect(top).to_have_text("0.875")


def test_two_runs_compare_side_by_side(page: Any) -> None:
    for name in ("gentle", "rash"):
        found = page.locator("[role=row][row-index]").filter(has=run_link(page, name)).first
        place = f"[role=row][row-index='{found.get_attribute('row-index')}']"
        page.locator(f"{place} input[type=checkbox]").first.check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("Comparing 2 Runs")).to_be_visible()
    lr = page.get_by_role("row").filter(has_text="finetune.lr")
    expect(lr).to_contain_text(re.compile(r"0\.125.*0\.5|0\.5.*0\.125", re.DOTALL))
    for value in ("0.875", "0.5"):
        metric = page.get_by_text("evaluate/target/final/top1", exact=True)
        expect(metric.first).to_be_visible()
        expect(page.get_by_text(value, exact=True).first).to_be_visible()


def open_stage(page: Any, pipeline: str, stage: str) -> None:
    run_link(page, pipeline).click()
    run_link(page, f"{stage} {pipeline}").first.click()
    expect(page.get_by_role("heading", name=f"{stage} {pipeline}")).to_be_visible()


def test_the_report_opens_where_its_run_is(page: Any, toy: Toy) -> None:
    open_stage(page, "gentle", "evaluate")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("report", exact=True).click()
    page.get_by_text("index.html", exact=True).click()
    report = page.frame_locator("iframe").first
    expect(report.locator(".verdict")).to_contain_text("On 500 test pictures the fine-tuned model")
    runs = {run.info.run_name: run.info.run_id for run in toy.runs()}
    facts = report.locator("dl.facts", has_text="MLflow run")
    expect(facts).to_contain_text(runs["evaluate gentle"])


def test_a_stage_leads_to_what_it_was_made_from(page: Any, toy: Toy) -> None:
    runs = {run.info.run_name: run for run in toy.runs()}
    evaluate, finetune = runs["evaluate gentle"], runs["finetune gentle"]
    assert evaluate.data.tags["dvc.upstream.finetune.run_id"] == finetune.info.run_id
    digests = {one.dataset.name: one.dataset.digest for one in evaluate.inputs.dataset_inputs}
    assert digests["models/finetuned"].endswith(".dir")
    assert "metrics/finetune.json" not in digests

    open_stage(page, "gentle", "evaluate")
    expect(page.get_by_text(digests["models/finetuned"])).to_be_visible()
    expect(page.get_by_role("button", name="Register model").first).to_be_visible()
    expect(page.get_by_role("link", name="pyfunc")).to_be_visible()
    expect(page.get_by_text("models/final", exact=True)).to_be_visible()
    upstream = follow(run_link(page, finetune.info.run_id[:8]))
    expect(upstream.get_by_role("heading", name="finetune gentle")).to_be_visible()
    assert finetune.info.run_id in upstream.url

    pipeline = follow(run_link(upstream, runs["gentle"].info.run_id[:8]))
    expect(pipeline.get_by_role("heading", name="gentle", exact=True)).to_be_visible()
    stage = pipeline.get_by_role("row").filter(has_text="executed").filter(has_text="evaluate")
    again = follow(stage.get_by_role("link", name=evaluate.info.run_id[:8]))
    expect(again.get_by_role("heading", name="evaluate gentle")).to_be_visible()


def test_charts_stand_together_by_stage(page: Any) -> None:
    run_link(page, "gentle").click()
    page.set_viewport_size({"width": 1400, "height": 5000})  # what is below the window isn't drawn
    page.get_by_role("tab", name="Model metrics").click()
    for section in ("evaluate", "evaluate/choice", "evaluate/target/gain/top1", "finetune"):
        expect(page.get_by_text(section, exact=True)).to_be_visible()


def test_the_stages_view_shows_stages_newest_first(page: Any) -> None:
    stages = follow(run_link(page, "Stages"))
    expect(run_link(stages, "finetune gentle")).to_be_visible()
    assert names(stages)[:4] == [
        "evaluate rash",
        "finetune rash",
        "evaluate gentle",
        "finetune gentle",
    ]
