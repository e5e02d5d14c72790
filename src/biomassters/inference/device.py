"""Where the network runs and in which arithmetic."""

from contextlib import AbstractContextManager, nullcontext

import torch

from biomassters.errors import BadInputError


def choose_device(name: str) -> torch.device:
    """The device that a name means on this machine.

    Args:
        name: ``auto`` (the first GPU, else the CPU) or a torch device.

    Raises:
        BadInputError: This machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    usable = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= usable.get(device.type, 0):
        raise BadInputError(f"device: this machine has no {name}; set it to auto or cpu.")
    return device


def precision_used(device: torch.device, precision: str) -> str:
    """The precision that ``auto`` means on a device; any other is itself."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """A context in which matrix products and convolutions run in a precision.

    Args:
        device: Where the network runs.
        precision: ``float32``, ``bfloat16``, ``float16``, or ``auto``: the 16-bit type that a
            GPU is made for, float32 elsewhere.
    """
    precision = precision_used(device, precision)
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))
