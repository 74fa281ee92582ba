"""Which device computes, how exactly, and in what precision."""

import os
from typing import Any, Literal

import psutil
import torch

from pipeline.errors import ConfigError


def choose() -> torch.device:
    """The GPU if there is one, else the CPU; CLIPTUNE_DEVICE overrides.

    Which machine computes is environment, not a param.
    """
    asked = os.environ.get("CLIPTUNE_DEVICE")
    if not asked:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(1, device=device)
    except RuntimeError as error:
        raise ConfigError(f"CLIPTUNE_DEVICE is {asked!r}, which can't be used: {error}") from None
    return device


def prepare(*, cpu_threads: int, deterministic: bool = True) -> torch.device:
    """Set threads and kernels so that the same inputs give the same bits; return the device."""
    torch.set_num_threads(cpu_threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic)
    # With those algorithms torch also fills all memory that it takes, to show who reads what nobody
    # wrote: a sixth of a small model's training, and no result depends on it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return choose()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast for `precision`; auto is bf16 on a GPU that has it, fp32 elsewhere.

    fp16 is not offered: with Adam it gives NaN (openai/CLIP#40).
    """
    bf16 = training_precision(device, precision) == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def training_precision(device: torch.device, asked: str) -> Literal["fp32", "bf16"]:
    """The precision of training: as asked; auto is bf16 on a GPU that has it, fp32 elsewhere.

    On a CPU auto does not look for units: a run in CI would train in another precision from one
    hired machine to the next.
    """
    bf16 = asked == "bf16" or (
        asked == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return "bf16" if bf16 else "fp32"


def precision(device: torch.device, asked: str) -> Literal["fp32", "bf16", "fp16"]:
    """The precision of embedding: as asked; auto is bf16 where the device computes in it, or fp32.

    Raises ConfigError for one that the device can't compute in.
    """
    if asked == "fp16":
        require_gpu(device, "embed.precision is fp16")
    if asked == "auto":
        return "bf16" if has_bf16_units(device) else "fp32"
    return asked  # type: ignore[return-value]


def has_bf16_units(device: torch.device) -> bool:
    """Whether the device computes in bf16, rather than take it apart into fp32."""
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def require_gpu(device: torch.device, what: str) -> None:
    """ConfigError where `device` is none: `what` is the key and its value."""
    if device.type != "cuda":
        raise ConfigError(
            f"{what}, which needs a GPU, and here is {device.type}: take another value "
            "(params.yaml tells which there are), or look at CLIPTUNE_DEVICE"
        )


def described(device: torch.device, *, cpu_threads: int) -> dict[str, Any]:
    """What of a device decides the last digits of a result."""
    if device.type == "cpu":
        return {
            "kind": "cpu",
            "capability": torch.backends.cpu.get_cpu_capability(),
            "amx": torch.cpu._is_amx_tile_supported(),
            "bf16": bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
            "threads": cpu_threads,
        }
    return {
        "kind": device.type,
        "name": torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda,
    }


def sharing() -> int:
    """How many processes that do one thing share this machine, as torchrun tells each of them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def cores() -> int:
    """How many cores this process may use."""
    return len(psutil.Process().cpu_affinity() or [0])
