"""The base model and the device, told: facts, and what will hurt."""

import os
import shutil
from collections.abc import Iterator, Sequence

from pipeline.doctor.findings import Fact, Finding, Look, percent, size_of
from pipeline.doctor.memory import uses_bf16
from pipeline.doctor.seen import Base, Device
from pipeline.doctor.settings import Settings


def look(
    settings: Settings,
    base: Base | None,
    device: Device | None,
    *,
    tokens: Sequence[int] | None,
) -> Look:
    """What was seen of model and device; `tokens` of each caption looked at."""
    looks = [] if base is None else [_of_base(settings, base, tokens)]
    looks += [] if device is None else [_of_device(settings, device)]
    return Look([f for one in looks for f in one.findings], [f for one in looks for f in one.facts])


def _of_base(settings: Settings, base: Base, tokens: Sequence[int] | None) -> Look:
    """Where the model comes from, its shape, and how many of the captions it cuts."""
    facts = [Fact("model", "weights", base.origin)]
    if settings.model is not None:
        facts.insert(0, Fact("model", "architecture", settings.model.name))
    shape = base.shape
    findings = list(base.findings)
    if shape is None:
        return Look(findings, facts)
    height, width = shape.image_size
    facts += [
        Fact("model", "parameters", f"{shape.parameters / 1e6:,.1f} million", shape.parameters),
        Fact("model", "reads", f"pictures of {width} × {height}, texts of {shape.context} tokens"),
        Fact("model", "embeds in", f"{shape.width} numbers", shape.width),
    ]
    if tokens:
        cut = sum(count > shape.context for count in tokens) / len(tokens)
        ordered = sorted(tokens)
        text = f"{ordered[0]} to {ordered[-1]}, {percent(cut)} of them cut"
        facts.append(Fact("model", "caption tokens", text, {"cut": cut, "longest": ordered[-1]}))
        findings += _cut(settings, cut, shape.context)
    return Look(findings, facts)


def _of_device(settings: Settings, device: Device) -> Look:
    """What computes, and settings that don't suit it."""
    cores = os.cpu_count() or 1
    name = f"CPU, {cores} cores" if device.kind == "cpu" else device.name or device.kind
    if device.memory is not None and device.free is not None:
        name = f"{name}, {size_of(device.memory)} ({size_of(device.free)} free)"
    precision = "bf16" if uses_bf16(settings, device) else "fp32"
    if precision == "fp32" and device.kind == "cpu" and device.bf16:
        precision = "fp32; finetune.precision bf16 may be faster: this CPU has units for it"
    facts = [
        Fact("device", "computes on", name, device.kind),
        Fact("device", "trains in", precision),
    ]
    return Look([*_settings(settings, device, cores)], facts)


def _cut(settings: Settings, cut: float, context: int) -> Iterator[Finding]:
    limit = settings.limits.table.truncated if settings.limits is not None else None
    if limit is None:
        return
    problem = (
        f"{percent(cut)} of the captions looked at have more tokens than the {context} it reads"
    )
    remedy = "shorten them, or take a model with a longer context"
    if limit.stop is not None and cut > limit.stop:
        yield Finding("stops", "validate.table.truncated.stop", limit.stop, problem, remedy)
    elif limit.warn is not None and cut > limit.warn:
        yield Finding("hurts", "validate.table.truncated.warn", limit.warn, problem, remedy)


def _settings(settings: Settings, device: Device, cores: int) -> Iterator[Finding]:
    finetune, embed, threads = settings.finetune, settings.embed, settings.cpu_threads
    gpu = device.kind == "cuda"
    if embed is not None and not gpu:
        for key, value, other in (
            ("precision", embed.precision, "fp16"),
            ("decoder", embed.decoder, "nvjpeg"),
        ):
            if value == other:
                problem = f"needs a GPU, and here is {device.kind}: embed stops"
                instead = "auto" if key == "precision" else "cpu"
                yield Finding("stops", f"embed.{key}", value, problem, f"set it to {instead}")
    if finetune is not None and finetune.precision == "bf16" and not device.bf16:
        problem = f"this {device.kind.upper()} has no fast bf16: slower than fp32"
        yield Finding("hurts", "finetune.precision", "bf16", problem, "set it to auto")
    compiler = os.environ.get("CXX") or "g++"
    if finetune is not None and finetune.compile and shutil.which(compiler) is None:
        problem = f"there is no C++ compiler here ({compiler}): finetune stops"
        yield Finding("stops", "finetune.compile", True, problem, "install g++, or set it to false")
    if threads is not None and threads > cores:
        problem = f"more threads than the {cores} cores here: slower"
        yield Finding("hurts", "cpu_threads", threads, problem, f"set it to {cores}")
