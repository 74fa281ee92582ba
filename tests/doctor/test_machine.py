from dataclasses import replace

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


def test_a_cpu_trains_in_bf16_only_if_asked(settings: Settings) -> None:
    units = replace(CPU, bf16=True)

    def trains_in(settings: Settings, device: Device) -> str:
        facts = machine.look(settings, None, device, tokens=None).facts
        return next(fact.text for fact in facts if fact.name == "trains in")

    assert trains_in(settings, CPU) == "fp32"
    assert trains_in(settings, units).startswith("fp32; finetune.precision bf16 may be faster")
    asked = with_(settings, "finetune", precision="bf16")
    assert trains_in(asked, units) == "bf16"
    assert machine.look(asked, None, units, tokens=None).findings == []
    (found,) = machine.look(asked, None, CPU, tokens=None).findings
    assert (found.level, found.key) == ("hurts", "finetune.precision")


def test_compiling_without_a_compiler_stops(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = with_(settings, "finetune", compile=True)
    monkeypatch.setenv("CXX", "/nowhere/g++")
    (found,) = machine.look(asked, None, CPU, tokens=None).findings
    assert (found.level, found.key) == ("stops", "finetune.compile")
    assert "/nowhere/g++" in found.problem
    monkeypatch.setenv("CXX", "true")
    assert machine.look(asked, None, CPU, tokens=None).findings == []
