"""Memory and disk: what the stages will need, and what there is.

Training keeps 16 bytes of a parameter that trains and 4 of another (fp32 weight, gradient, Adam's
two moments: Rajbhandari et al. 2020, §3.1, without their fp16 copies) and what the forward pass
saves for the backward pass. The last step's gradients live on while the next batch goes forward, so
both add up.
"""

from collections.abc import Mapping

from pipeline.clip import sizes
from pipeline.doctor import expecting
from pipeline.doctor.findings import Fact, Finding, Look, size_of
from pipeline.doctor.seen import Base, Device, Sample, Shape
from pipeline.doctor.settings import Settings
from pipeline.training.auto import Settled

WEIGHT_BYTES = 4
TRAINED_BYTES = 12
"""Beside the weight, of one that trains: its gradient and Adam's two moments. A mean of the weights
(finetune.ema) and the weights at the start (finetune.toward_base) are a copy each."""

SNAPSHOT_BYTES = 8
"""A parameter of the best epoch so far, and of the one that takes its place: both on the host."""

BF16_SHARE = 0.55
"""Of the fp32 bytes saved under bf16 autocast: 0.51 to 0.53, measured on four architectures; and
the weights have a copy in bf16."""

RECOMPUTED_SHARE = 0.2
"""Of what is kept without `checkpoint_activations`: inputs of blocks, what lies outside, and one
block at a time. 0.2 for a ViT-B-32 and 0.14 to 0.18 for a ViT-L-14, counted by their shapes."""

PROCESS_BYTES = 1e9
"""A process with torch, OpenCLIP and MLflow imported; or the context and kernels on a GPU."""

PAIR_MATRICES = 10
"""fp32 matrices of batch × batch that the loss holds at once."""

LOGIT_ROWS = 1024
"""Of a larger batch: what pipeline/training/learner.py has for a block of the loss."""


def training(shape: Shape, params: Settled, *, bf16: bool) -> float:
    """Bytes at the peak of a training step, beyond those of the process."""
    size = params.batch_size
    at_once = min(params.micro_batch or size, size)
    anew = params.checkpoint_activations and params.method != "head"
    saved = shape.fixed + shape.saved * at_once * (RECOMPUTED_SHARE if anew else 1)
    logits = 4 * PAIR_MATRICES * size * min(size, LOGIT_ROWS)
    return _of_weights(shape, params, bf16=bf16) + saved * (BF16_SHARE if bf16 else 1) + logits


def _of_weights(shape: Shape, params: Settled, *, bf16: bool) -> float:
    """What is kept of each parameter, and beside it of each that trains."""
    copies = (params.ema is not None) + (params.toward_base > 0)
    each = WEIGHT_BYTES + (2 if bf16 else 0)
    return each * shape.parameters + (TRAINED_BYTES + WEIGHT_BYTES * copies) * shape.trained


def embedding(shape: Shape, batch_size: int) -> float:
    """Bytes while a batch is embedded: weights, crops in three forms, the largest tensor × 4."""
    height, width = shape.image_size
    crops = 3 * height * width * (1 + 4 + 4)
    return 4 * shape.parameters + batch_size * (crops + 4 * shape.largest)


def fitting(shape: Shape, params: Settled, memory: float, *, bf16: bool) -> dict[str, int]:
    """The key and the largest power of two by which training fits; empty: by none.

    `micro_batch` where it can be, as it leaves the gradient what it is; the gradient cache refuses
    batch norm in training mode.
    """
    mixed = shape.batch_norm and not params.freeze_batch_norm
    for key in ("batch_size",) if mixed else ("micro_batch", "batch_size"):
        size = 1 << (params.batch_size.bit_length() - 1)
        while size >= (2 if key == "batch_size" else 1):
            tried = params.model_copy(update={key: size})
            if PROCESS_BYTES + training(shape, tried, bf16=bf16) <= 0.8 * memory:
                return {key: size}
            size //= 2
    return {}


def look(
    settings: Settings,
    base: Base | None,
    device: Device | None,
    *,
    host: float,
    disk: float,
    sample: Sample | None,
) -> Look:
    """Compare the needs with the memory of device and host and with the free disk, in bytes."""
    findings: list[Finding] = []
    facts: list[Fact] = []
    shape = None if base is None else base.shape
    if shape is None or device is None:
        return Look([], [])
    gpu = device.free is not None
    memory = host if device.free is None else device.free
    where = "GPU" if gpu else "host"
    params = expecting.settled(settings, sample, base)
    if params is not None:
        bf16 = uses_bf16(settings, device)
        need = PROCESS_BYTES + training(shape, params, bf16=bf16)
        need += 0 if gpu else SNAPSHOT_BYTES * shape.parameters
        facts.append(_compared("training needs", need, memory, where))
        text = f"{shape.trained / 1e6:,.3g} million parameters, method {params.method}"
        facts.append(Fact("model", "trains", text, shape.trained))
        if need > 0.9 * memory:
            remedy = _smaller(fitting(shape, params, memory, bf16=bf16))
            findings.append(
                _too_large(
                    "finetune.batch_size",
                    params.batch_size,
                    need=need,
                    memory=memory,
                    where=where,
                    remedy=remedy,
                )
            )
    if settings.embed is not None:
        asked = settings.embed.batch_size
        kind = "cuda" if gpu else "cpu"
        auto = sizes.batch_of(device=kind, parameters=shape.parameters)
        size = auto.images if asked == "auto" else asked
        need = PROCESS_BYTES + embedding(shape, size)
        facts.append(_compared("embedding needs", need, memory, where))
        if need > 0.9 * memory:
            remedy = f"set embed.batch_size to {max(size // 4, 1)}"
            findings.append(
                _too_large(
                    "embed.batch_size", size, need=need, memory=memory, where=where, remedy=remedy
                )
            )
    if settings.embed is not None and sample is not None:
        need = outputs(settings.embed.dtype, shape, sample)
        facts.append(
            Fact("device", "outputs need", f"{size_of(need)}; {size_of(disk)} are free", need)
        )
        if need > disk:
            problem = f"the outputs take about {size_of(need)}, and {size_of(disk)} are free"
            findings.append(
                Finding("stops", "disk", size_of(disk), problem, "free some, or `dvc gc`")
            )
    return Look(findings, facts)


def uses_bf16(settings: Settings, device: Device) -> bool:
    """Whether training runs under bf16 autocast here (see `pipeline.clip.device.autocast`)."""
    asked = settings.finetune.precision if settings.finetune is not None else "auto"
    return asked == "bf16" or (asked == "auto" and device.kind == "cuda" and device.bf16)


def outputs(dtype: str, shape: Shape, sample: Sample) -> float:
    """Bytes of embeddings, bundle and packed pictures, twice: DVC keeps a copy in its cache."""
    vectors = (sample.images + sample.pairs) * shape.width * (2 if dtype == "fp16" else 4)
    packed = sample.images * sample.image_bytes if sample.embedded else 0
    return 2 * (vectors + 4 * shape.parameters + packed)


def _smaller(fits: Mapping[str, int]) -> str:
    if "micro_batch" in fits:
        return (
            f"set finetune.micro_batch to {fits['micro_batch']}: the same gradient in less memory, "
            "for 1.3 to 2 times the time"
        )
    if "batch_size" in fits:
        return f"set finetune.batch_size to {fits['batch_size']}"
    return "take a smaller model.name, or set finetune.method to lora"


def _compared(name: str, need: float, memory: float, where: str) -> Fact:
    text = f"{about_size(need)} of {size_of(memory)} free on the {where}"
    return Fact("device", name, text, {"bytes": round(need), "of": round(memory)})


def about_size(count: float) -> str:
    """Bytes that are an estimate, in two digits."""
    return "about " + size_of(float(f"{count:.2g}"))


def _too_large(
    key: str, value: int, *, need: float, memory: float, where: str, remedy: str
) -> Finding:
    """The estimate is up to a third too high, so a near miss may yet pass."""
    problem = f"a batch needs {about_size(need)}, and {size_of(memory)} are free on the {where}"
    return Finding("stops" if need > 1.3 * memory else "hurts", key, value, problem, remedy)
