"""Writing a safetensors file tensor by tensor, so that it costs no second copy in memory.

The format (https://huggingface.co/docs/safetensors): the header's length as a little-endian
64-bit integer, a JSON header of types, shapes and offsets, then the tensors' bytes.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_TYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNMENT = 8


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors under a temporary name, then put the file in its place.

    Args:
        path: The file.
        tensors: On any device, of any memory format.
        metadata: Strings for the header.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            header = _header(tensors, metadata)
            file.write(len(header).to_bytes(8, "little"))
            file.write(header)
            for tensor in tensors.values():
                flat = tensor.detach().cpu().contiguous().reshape(-1)
                file.write(flat.view(torch.uint8).numpy().data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _header(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": metadata}
    start = 0
    for name, tensor in tensors.items():
        end = start + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _TYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % _ALIGNMENT)
