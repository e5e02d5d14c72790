"""A tensor as a torch checkpoint describes it, before its numbers are read."""

from dataclasses import dataclass
from typing import Any

import torch

STORAGE_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a checkpoint describes it; its numbers are still in the file.

    Attributes:
        storage: Name of the storage inside the file.
        dtype: Type of its numbers.
        storage_numel: Numbers in the storage.
        offset: First number that belongs to the tensor.
        shape: Shape.
        stride: Strides, in numbers.
    """

    storage: str
    dtype: torch.dtype
    storage_numel: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def rebuild_tensor(storage: Any, offset: int, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    """What ``torch._utils._rebuild_tensor_v2`` is called for: a tensor of a storage.

    Args:
        storage: Its name, type and size.
        offset: First number.
        shape: Shape.
        stride: Strides.
        _: Whether it needs gradients, and hooks: not wanted here.
    """
    name, dtype, numel = storage
    return StoredTensor(name, dtype, int(numel), int(offset), tuple(shape), tuple(stride))
