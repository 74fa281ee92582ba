import pytest

from pipeline.doctor import machine
from pipeline.doctor.seen import Device
from pipeline.doctor.settings import Settings
from tests.doctor.cases import CPU, with_

GPU = Device("cuda", "a GPU", memory=80 * 10**9, free=80 * 10**9, bf16=True)


@pytest.mark.parametrize(("key", "value"), [("precision", "fp16"), ("decoder", "nvjpeg")])
def test_what_needs_a_gpu_stops_without_one(settings: Settings, key: str, value: str) -> None:
    chosen = with_(settings, "embed", **{key: value})
    (found,) = machine.look(chosen, None, CPU, tokens=None).findings
    assert (found.level, found.key, found.value) == ("stops", f"embed.{key}", value)
    assert machine.look(chosen, None, GPU, tokens=None).findings == []
    assert machine.look(settings, None, CPU, tokens=None).findings == []
