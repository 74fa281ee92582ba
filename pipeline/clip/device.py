"""Which device computes, how exactly, and in what precision."""

import os

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
    return choose()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast for `precision`; auto is bf16 on a GPU that has it, fp32 elsewhere.

    fp16 is not offered: with Adam it gives NaN (openai/CLIP#40).
    """
    bf16 = precision == "bf16" or (
        precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)
