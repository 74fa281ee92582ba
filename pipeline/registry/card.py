"""The model card: what a model is, what it was made from, what it is worth and where that ends.

In the format of the Hugging Face hub: a YAML block, then Markdown. The same inputs give the same
bytes: it holds no time and no run.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from ruamel.yaml import YAML

from pipeline.clip.model import published
from pipeline.evaluation.headline import HEADLINES
from pipeline.params import CardParams
from pipeline.registry.limits import limits
from pipeline.reporting.choice import choice_sentence
from pipeline.reporting.comparison import Comparison, all_sets, compare, percent
from pipeline.reporting.svg import printable
from pipeline.reporting.verdict import gains

TEMPLATES = Path(__file__).parent / "templates"

METHODS = {
    "full": "all weights trained",
    "lit": "some blocks locked, the others trained (LiT)",
    "lora": "low-rank updates, merged into the weights (LoRA)",
    "head": "the projections that end the towers trained",
}

_LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigcode-openrail-m bigscience-openrail-m bsd
bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0
cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m ecl-2.0 epl-1.0
epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0
lgpl-lr lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++ osl-3.0 pddl
postgresql unlicense wtfpl zlib
"""

HUB_LICENSES = frozenset(_LICENSES.split())
"""Identifiers that the hub knows (https://huggingface.co/docs/hub/repositories-licenses)."""

SHOWN = (*HEADLINES, "mean_per_class")
"""Metrics of which the card tells; cliptune.json holds all."""

_CHARS = 2000
"""Of a sentence."""

_NAME_CHARS = 60
_NAMES = 50
"""Classes that are named."""

_MARKS = re.compile(r"[\\`*_\[\]#|~$@]|:(?=/)|(?<=\bwww)\.", re.IGNORECASE)
"""What begins emphasis, code, a link, a heading, a cell, mathematics, a mention, an address."""

_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True)
class _Set:
    """A set on which the model was measured."""

    name: str
    images: int
    chance: float | None
    rows: list[Comparison]


def render(
    record: Mapping[str, Any],
    results: Mapping[str, Any],
    *,
    architecture: str,
    stages: Mapping[str, Mapping[str, Any]],
    params: CardParams,
    confidence: float,
) -> str:
    """The card of a model that was evaluated.

    `record` is that of the bundle, `results` what evaluate found, `stages` the metrics of the
    stages before it by name. Text of the data and of params is escaped: it can be no markup.
    """
    base = record["base"]
    hub = published(base["name"], base["pretrained"])
    classes = record["prompts"]["classes"]
    classified = results["target"]["base"]["top1"] is not None
    text = (
        _environment()
        .get_template("card.md.j2")
        .render(
            architecture=architecture,
            base=base,
            hub=hub,
            method=METHODS[record["params"]["finetune"]["method"]],
            choice=choice_sentence(results["alpha"], results["choice"], model="This model"),
            verdict=gains(results),
            sets=[_set(name, scores) for name, scores in all_sets(results).items()],
            confidence=confidence,
            stages=stages,
            classes=classes[:_NAMES],
            classified=classified,
            more_classes=max(0, len(classes) - _NAMES),
            templates=record["prompts"]["templates"],
            limits=limits(results, stages),
            record=record,
            params=params,
        )
    )
    return f"---\n{_front(params, hub=hub, classified=classified)}---\n\n{text}"


def markdown(text: str) -> str:
    """`text` as Markdown that shows it within a line and is neither markup, HTML nor a web link."""
    marked = _MARKS.sub(lambda found: f"\\{found.group()}", printable(text, _CHARS))
    return "".join(_HTML.get(c, c) for c in marked)


def _front(params: CardParams, *, hub: str | None, classified: bool) -> str:
    """The YAML block, as https://huggingface.co/docs/hub/model-cards describes it."""
    found: dict[str, Any] = _license(params.license)
    found["library_name"] = "open_clip"
    found["pipeline_tag"] = "zero-shot-image-classification"
    found["tags"] = ["clip", "open_clip", "cliptune"]
    if hub is not None:
        found |= {"base_model": hub, "base_model_relation": "finetune"}
    found["metrics"] = ["accuracy", "recall"] if classified else ["recall"]
    yaml = YAML()
    yaml.width = 10_000
    file = io.StringIO()
    yaml.dump(found, file)
    return file.getvalue()


def _license(said: str | None) -> dict[str, Any]:
    """A name that the hub knows; any other goes by `license_name`, in its form."""
    if said is None:
        return {"license": "unknown"}
    name = said.strip().lower()
    if name in HUB_LICENSES:
        return {"license": name}
    slug = re.sub(r"[^a-z0-9.]+", "-", name).strip("-.")[:80]
    return {"license": "other", "license_name": slug or "other"}


def _set(name: str, scores: Mapping[str, Any]) -> _Set:
    rows = [found for found in compare(scores).values() if found.metric in SHOWN]
    return _Set(name, scores["images"], scores["chance"], rows)


def _environment() -> Environment:
    """Whatever the template prints is escaped, unless it is marked safe."""
    environment = Environment(  # noqa: S701  (the page is Markdown; `finalize` escapes)
        loader=FileSystemLoader(TEMPLATES),
        finalize=lambda value: value if isinstance(value, Markup) else markdown(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "name": lambda name: printable(name, _NAME_CHARS),
        "percent": percent,
        "reason": lambda name: name.replace("_", " "),
        "stated": lambda value: value or "not stated",
    }
    return environment
