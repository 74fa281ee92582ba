"""Values that several tests of the doctor look at."""

from dataclasses import replace

from pipeline.doctor.seen import Base, Device, Sample, Shape
from pipeline.doctor.settings import Settings

SHAPE = Shape(
    parameters=100_000_000,
    width=512,
    image_size=(224, 224),
    context=77,
    batch_norm=False,
    trained=100_000_000,
    saved=50e6,
    fixed=0,
    largest=1e6,
)
BASE = Base("a tag", known=True, shape=SHAPE, findings=[])
CPU = Device("cpu", "", memory=None, free=None, bf16=False)

SAMPLE = Sample(
    format="table",
    columns={"image": "image", "caption": "caption"},
    exact=True,
    whole=True,
    rows=1000,
    pairs=1000,
    images=1000,
    splits={},
    labelled=False,
    captions=["a red square"],
    looked=200,
    bad={},
    side=256,
    pixels=256 * 256,
    embedded=False,
    image_bytes=50_000,
)


def with_(settings: Settings, section: str, **values: object) -> Settings:
    """`settings` with other values in a section, as if they stood in params.yaml."""
    old = getattr(settings, section)
    return replace(
        settings, **{section: type(old).model_validate({**old.model_dump(by_alias=True), **values})}
    )
