"""Which class each picture is of, by a bundle alone: zero-shot, as evaluate measures it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import paths
from pipeline.clip import device as devices
from pipeline.clip.embed import embed_texts
from pipeline.clip.files import embed_files
from pipeline.data.pictures import Unread, named
from pipeline.errors import ConfigError, DataError, ModelError
from pipeline.evaluation import prompts
from pipeline.evaluation.exact import finite
from pipeline.evaluation.likeliest import Prediction, likeliest
from pipeline.evaluation.zeroshot import class_weights
from pipeline.registry import bundle

_TEXTS = 256
"""Embedded at once."""


class Predicted(NamedTuple):
    """Of each picture its classes, and the files of folders that gave no picture."""

    predictions: list[Prediction]
    unread: list[Unread]


class Asked(NamedTuple):
    """What to look for: classes, the sentences around their names, and their other names."""

    classes: list[str]
    templates: list[str]
    synonyms: Mapping[str, Sequence[str]]


def predict(
    folder: Path,
    images: Sequence[Path],
    *,
    classes: Sequence[str] | None,
    templates: Sequence[str] | None,
    top: int,
    max_pixels: int,
) -> Predicted:
    """The `top` classes of each image; a folder stands for the images below it.

    A probability is that of a softmax over logit scale × cosine (Radford et al. 2021, figure 3).
    Where `classes` or `templates` are None, those count that the bundle records.

    Raises ModelError as `bundle.load` does, ConfigError for classes or templates that can't be
    used, DataError for an image that can't be read: where it was named, or no other can either.
    """
    asked = asked_of(folder, bundle.read_manifest(folder), classes=classes, templates=templates)
    files = named(images)
    unread = list(files.unread)

    def passed_over(one: Unread) -> None:
        if one.name in map(str, images):
            raise DataError(f"{one.name}: {one.why}; mend it or leave it out")
        unread.append(one)

    clip = bundle.load(folder)
    device = devices.choose()
    clip.model.to(device)
    weights = class_weights(
        asked.classes,
        asked.templates,
        lambda texts: embed_texts(clip, texts, batch_size=_TEXTS, device=device),
        synonyms=asked.synonyms,
    )
    found = embed_files(clip, files.files, max_pixels=max_pixels, device=device, unread=passed_over)
    if not found.names:
        first = unread[0]
        raise DataError(f"no file gives a picture; {first.name}: {first.why}")
    if not (finite(weights) and finite(found.vectors)):
        raise ModelError(f"the embeddings of {folder} are not finite: its weights are broken")
    scale = float(clip.model.logit_scale.detach().exp())  # type: ignore[operator]
    said = likeliest(found.names, found.vectors, weights, asked.classes, scale=scale, top=top)
    return Predicted(said, unread)


def asked_of(
    folder: Path,
    manifest: Mapping[str, Any],
    *,
    classes: Sequence[str] | None,
    templates: Sequence[str] | None,
) -> Asked:
    """What is asked, completed by what the bundle records.

    Synonyms are those of the recorded classes, so they go with these alone. Raises ConfigError.
    """
    recorded = manifest.get(bundle.PROMPTS, {})
    chosen = list(classes or recorded.get("classes", ()))
    if not chosen:
        raise ConfigError(
            f"{folder / paths.MANIFEST} records no classes, as a model has them that was evaluated "
            "on labelled pictures: name them, as in --classes cat dog"
        )
    _require_distinct(chosen)
    sentences = list(templates or recorded.get("templates", ()))
    if not sentences:
        raise ConfigError(
            f"{folder / paths.MANIFEST} records no templates, as models/final does: name them, as "
            'in --templates "a photo of a {}."'
        )
    for sentence in sentences:
        if sentence.count("{}") != 1:
            raise ConfigError(f"template {sentence!r} needs exactly one {{}} for the class name")
    return Asked(chosen, sentences, {} if classes else recorded.get("synonyms", {}))


def _require_distinct(classes: Sequence[str]) -> None:
    known: dict[str, str] = {}
    for name in classes:
        key = prompts.name_key(name)
        if not key:
            raise ConfigError(f"class {name!r} is empty: name what to look for")
        if key in known:
            raise ConfigError(
                f"the classes {known[key]!r} and {name!r} are the same but for case, space or "
                "underscores: name each once"
            )
        known[key] = name
    if len(known) == 1:
        raise ConfigError(
            f"{classes[0]!r} is the only class, so each picture would be it for sure: name at "
            "least two, as in --classes cat dog"
        )
