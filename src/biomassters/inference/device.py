"""Where the network runs and in which arithmetic: the one place that decides it.

Training and inference alike multiply in bfloat16 (inference on an older GPU: float16) or in full
float32, never in TF32. cuDNN's convolutions take TF32 by default: they round what they are given
to 10 bits, in which folded and unfolded BatchNorm, a GPU's map and a CPU's, differ visibly. The
GPUs that have TF32 are those that have bfloat16, which ``auto`` takes; who asks them for float32
means it. The network's head, which stays float32 under autocast, is exact, too.
"""

from contextlib import AbstractContextManager, nullcontext

import torch

from biomassters.errors import BadInputError


def choose_device(name: str) -> torch.device:
    """The device that a name means on this machine, with float32 arithmetic set for it.

    Args:
        name: ``auto`` (the first GPU, else the CPU) or a torch device.

    Raises:
        BadInputError: This machine has no such device.
    """
    set_float32_arithmetic()
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


def set_float32_arithmetic() -> None:
    """Make this process multiply float32 in full on a GPU, not in TF32: see the module."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


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
