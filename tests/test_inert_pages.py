"""In a real browser, nothing that comes with the data runs or asks the network for anything.

Two things keep it so, and each must do alone: texts are escaped, and the page's policy forbids
scripts and requests. So each page is loaded whole; without its policy; and with its texts
unescaped. A page with neither shows that this browser would have run them.
"""

import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from markupsafe import escape

from pipeline.data.places import Place
from pipeline.data.plot_rows import write_plot
from pipeline.reporting.hits import Found
from pipeline.reporting.hits import as_page as hits_page
from pipeline.reporting.leaks import as_page as leaks_page
from pipeline.reporting.report import render
from pipeline.reporting.thumbnails import thumbnail
from pipeline.validation.docs import data_docs
from tests.browsers import chromium
from tests.reporting import synthetic
from tests.validation import quality
from tests.validation.tables import images, pairs, profile

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=5000", "--dump-dom",
)  # fmt: skip
RAN = "<title>ran</title>"
POLICY = re.compile(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>\n")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Load a page; return its DOM after all that it runs has run."""
    found = chromium()
    folder = tmp_path_factory.mktemp("browser")

    def load(source):
        file = folder / "page.html"
        file.write_text(source, encoding="utf-8")
        command = [found, *FLAGS, f"--user-data-dir={folder / 'profile'}", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    return load


@pytest.fixture(scope="module")
def listener():
    """A server on this machine, and the paths that it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield SimpleNamespace(asked=asked, url=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def payloads(listener):
    """Each sets the page's title when it runs, or asks the server."""
    runs = "document.title='ran'"
    return [
        f"<script>{runs}</script>",
        f'<img src=x onerror="{runs}">',
        f'"><svg onload="{runs}">',
        f"'><svg onload={runs}>",
        f"</style><script>{runs}</script>",
        f"</title><script>{runs}</script>",
        f"</text></svg><script>{runs}</script>",
        f'<iframe srcdoc="<script>parent.{runs}</script>"></iframe>',
        f'<a href="javascript:void({runs})" id=go>x</a><img src=x onerror="go.click()">',
        f"<img src='{listener.url}/img'>",
        f"<style>@import '{listener.url}/css';p{{background:url({listener.url}/bg)}}</style><p>",
        "{{7*7}}{% raw %}<b id=hurt>",
    ]


@pytest.fixture(scope="module")
def docs(payloads):
    """Data Docs of data in which every text is hostile."""
    checks = [
        {
            **check,
            **dict.fromkeys(("name", "expectation", "about", "reason", "observed"), text),
            "examples": [{"source_row": 1, "value": text}],
        }
        for check in (quality.CHECKS[1], quality.CHECKS[3])
        for text in payloads
    ]
    rows = [(str(i), text, text) for i, text in enumerate(payloads)]
    pictures = images([id_ for id_, _, _ in rows]).assign(format=payloads)
    found = profile(pairs(*rows).assign(split=payloads), pictures)
    found["vocabulary"]["words"] = dict.fromkeys(payloads, 1)
    return data_docs(
        checks,
        source={
            "format": payloads[0],
            "files": 1,
            "columns": {text: text for text in payloads},
            "guessed": payloads,
            "notes": payloads,
        },
        found={**quality.FOUND, "rejected": dict.fromkeys(payloads, 1)},
        profile=found,
        drift=quality.DRIFT,
    )


@pytest.fixture(scope="module")
def report(payloads, tmp_path_factory):
    """The report on data in which every text is hostile."""
    folder = tmp_path_factory.mktemp("pictures")
    synthetic.draw_pictures(folder, 3)
    texts = payloads[:7]
    answers = [(text, text, texts[i - 1]) for i, text in enumerate(texts)]
    answers += [(text, texts[i - 1], text) for i, text in enumerate(texts)]
    shown = synthetic.predictions(*answers)
    shown["caption"] = [*payloads, *payloads][: len(shown)]
    leak = synthetic.QUALITY.leaks[0]
    names = [f"{text}.png" for text in payloads]
    rows = [{"source_row": 1, "before": text, "after": text} for text in payloads]
    sets = [payloads[0], payloads[1]]
    points = synthetic.points()
    points["label"] = (payloads * 9)[: len(points)]
    return render(
        {"target": {**synthetic.scores(0.4, 0.6, 0.1, 0.3), "details": {
            **synthetic.DETAILS,
            "per_class": [
                {**synthetic.DETAILS["per_class"][0], "class": text, "taken_for": text}
                for text in payloads
            ],
            "classes_without_images": payloads,
        }}, "slices": [
            {**synthetic.SLICES[0], "by": text, "value": text} for text in payloads
        ], "probe": synthetic.PROBE, "general": {
            name: synthetic.scores(0.4, 0.6, 0.1, 0.3) for name in sets
        }, "alpha": 1.0, "choice": synthetic.CHOICE},
        curve=synthetic.CURVE.replace({"set": {"base_slice": payloads[0]}}),
        stages={
            **synthetic.STAGES,
            "validate": {**synthetic.STAGES["validate"], "rejected": dict.fromkeys(payloads, 1)},
            "clean": {**synthetic.STAGES["clean"], "frequent_phrases": payloads},
        },
        history=synthetic.history(),
        projection=points,
        predictions=dict.fromkeys(["target", *sets], shown),
        searches=synthetic.searches(*payloads),
        places=dict.fromkeys(["target", *sets], synthetic.places(folder)),
        quality=replace(
            synthetic.QUALITY,
            source={
                "format": payloads[0], "columns": {"image": payloads[1]}, "guessed": [],
                "notes": payloads,
            },
            checks=[{**synthetic.QUALITY.checks[0], "about": text} for text in payloads],
            examples={"strip_html": rows},
            leaks=[replace(leak, image=name, other_image=name) for name in names],
            labels_missing={"val": payloads},
        ),
        params={**synthetic.PARAMS, **dict.fromkeys(payloads, payloads)},
        model={text: text for text in payloads},
        title=payloads[5],
    ).html  # fmt: skip


@pytest.fixture(scope="module")
def search(payloads, picture):
    """The page of a search, with a hostile query, among hostile captions and names."""
    hits = [Found(i, 0.5, text, text, text, picture) for i, text in enumerate(payloads, 1)]
    return hits_page(payloads[5], hits, model=payloads[4])


@pytest.fixture(scope="module")
def leaks(payloads, picture):
    """The page of leaks between pictures with hostile names."""
    leak = replace(synthetic.QUALITY.leaks[0], picture=picture)
    shown = [replace(leak, image=text, other_image=text) for text in payloads]
    return leaks_page(shown, count=99, table=Path(payloads[0]))


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("picture")
    synthetic.draw_pictures(folder, 1)
    return thumbnail(Place(folder / "0.png"))


@pytest.fixture(params=["docs", "report", "search", "leaks"])
def page(request):
    return request.getfixturevalue(request.param)


def test_a_page_without_either_defence_would_run_them(browser, listener, payloads):
    for text in payloads[:9]:
        naive = f"<!doctype html><title>t</title><style></style><p title=''>{text}</p>"
        assert RAN in browser(naive), text
    listener.asked.clear()
    browser(f"<!doctype html><title>t</title>{''.join(payloads[9:])}")
    assert {"/img", "/css", "/bg"} <= set(listener.asked)


def test_the_page_is_inert(browser, listener, payloads, page):
    listener.asked.clear()
    dom = browser(page)
    assert_inert(dom, listener)
    assert sum(str(escape(text)) in page for text in payloads) == len(payloads)


def test_escaping_alone_keeps_it_so(browser, listener, page):
    open_page, removed = POLICY.subn("", page)
    assert removed == 1
    listener.asked.clear()
    assert_inert(browser(open_page), listener)


def test_the_policy_alone_keeps_it_so(browser, listener, payloads, page):
    raw = page
    for text in payloads:
        raw = raw.replace(str(escape(text)), text)
    assert raw.count("<script>") > 10
    # A style of the page's own may end where a hostile one begins; the title is what tells.
    listener.asked.clear()
    dom = browser(raw)
    assert "<script>" in dom
    assert RAN not in dom
    assert listener.asked == []


PLOTS = """\
plots:
  - confusion: {template: confusion, x: predicted, y: {confusion.csv: actual}}
"""


@pytest.fixture(scope="module")
def plotted(tmp_path_factory, payloads):
    """The page that `dvc plots show` makes of hostile classes, by how their rows are written."""
    rows = pd.DataFrame({"actual": payloads, "predicted": payloads})

    def show(write):
        folder = tmp_path_factory.mktemp("plots")
        (folder / "dvc.yaml").write_text(PLOTS)
        write(folder / "confusion.csv", rows)
        dvc = Path(sys.executable).parent / "dvc"
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
        for command in (["init", "--no-scm", "-q"], ["plots", "show", "-q", "-o", "shown"]):
            subprocess.run([dvc, *command], cwd=folder, env=environment, check=True, timeout=120)
        return (folder / "shown" / "index.html").read_text()

    return show


def test_what_dvc_plots_runs_nothing(browser, plotted):
    page = plotted(write_plot)
    assert r"\u2039script\u203adocument.title=" in page
    assert RAN not in browser(page)


def test_dvc_plots_would_run_them_without_our_writing(browser, plotted):
    assert RAN in browser(plotted(lambda path, rows: rows.to_csv(path, index=False)))


class Elements(HTMLParser):
    """The elements and attributes of a page that a browser wrote out again as it understood it."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def assert_inert(dom, listener):
    assert RAN not in dom
    assert listener.asked == []
    found = Elements(dom)
    assert found.tags.count("style") == 1
    assert not {"script", "iframe", "object", "embed", "form", "link", "base"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name == "srcdoc"]
    leads = [value for name, value in found.attributes if name in ("href", "src", "action")]
    assert leads
    known = ("#", "data:image/jpeg;base64,", "data_docs.html")
    assert [value for value in leads if not value.startswith(known)] == []
    assert ("id", "hurt") not in found.attributes
    assert "{{7*7}}" in dom
