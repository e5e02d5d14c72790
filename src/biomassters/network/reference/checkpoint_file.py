"""The tensors of a file that ``torch.save`` wrote, read without running any of it.

``read_checkpoint`` is for weights of others, ``check_archive`` for our own checkpoints before torch
loads them. Next: ``convert``.
"""

import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biomassters.errors import BadInputError
from biomassters.network.reference.safe_unpickler import (
    Placeholder,
    StoredTensor,
    check_program,
    safe_load,
)

_LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_STATE_KEYS = ("state_dict", "model_state_dict", "model")
_PARALLEL_PREFIX = "module."
_MOST_PICKLE_BYTES = 64 * 2**20
_MAX_DEPTH = 64
_MOST_USES = 4  # of a number, by tensors that are views of one storage
_FEW_NUMBERS = 2**20
_MOST_NUMBERS = 2**40
_MOST_DIMENSIONS = 16
_PIECE = 2**20


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint: a pickled module, or a dictionary with a state dict.

    Only the storages that the weights use are read, each once: an optimizer's state costs
    nothing.

    Args:
        path: As ``torch.save`` wrote it, in the zip form of torch 1.6 and later.

    Returns:
        Tensors on the CPU by name, without the prefix of parallel training.

    Raises:
        BadInputError: No checkpoint, a damaged one, or one that would run something.
    """
    with _opened(path) as (archive, name):
        stored = _find_weights(safe_load(archive.read(name), str(path)), path)
        if all(key.startswith(_PARALLEL_PREFIX) for key in stored):
            stored = {key.removeprefix(_PARALLEL_PREFIX): one for key, one in stored.items()}
        return _read_tensors(archive, name.removesuffix("data.pkl") + "data/", stored, path)


def check_archive(path: Path) -> None:
    """Refuse a checkpoint that would become larger than its file, before torch loads it.

    Raises:
        BadInputError: It is no checkpoint, its entries are compressed or overlap, or its pickle
            builds more than a checkpoint needs.
    """
    with _opened(path) as (archive, name):
        check_program(archive.read(name), str(path))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, str]]:
    """A checkpoint's archive and the name of its pickle, which is no larger than it may be."""
    if not path.is_file():
        raise BadInputError(f"{path} is missing: give the path of a checkpoint.")
    with path.open("rb") as file:
        start = file.read(len(_LEGACY_MAGIC))
    if start == _LEGACY_MAGIC:
        raise BadInputError(
            f"{path} has the form of torch before 1.6, which is not read here: load it with torch "
            "where you trust it and save its state dict again."
        )
    if not start.startswith(b"PK"):
        raise BadInputError(f"{path} is no torch checkpoint: give a file that torch.save wrote.")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise BadInputError(f"{path} is a zip file but no torch checkpoint.")
            # torch never compresses, so a compressed entry could only be a bomb.
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise BadInputError(
                    f"{path} is no torch checkpoint: it is compressed, or declares more than it "
                    "holds."
                )
            if pickles[0].file_size > _MOST_PICKLE_BYTES:
                raise BadInputError(f"{path} is no torch checkpoint: its pickle is too long.")
            yield archive, pickles[0].filename
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise BadInputError(f"{path} is truncated or damaged ({error}): copy it again.") from None


def _find_weights(content: Any, path: Path) -> dict[str, StoredTensor]:
    found: dict[str, StoredTensor] = {}
    if isinstance(content, Mapping):
        content = next((content[key] for key in _STATE_KEYS if key in content), content)
    if isinstance(content, Placeholder):
        found = dict(_module_tensors(content))
    elif isinstance(content, Mapping):
        for key, value in content.items():
            if not isinstance(value, StoredTensor):
                raise BadInputError(f"{path} is no state dict of a network: {key} is no tensor.")
            found[str(key)] = value
    if not found:
        raise BadInputError(f"{path} holds no weights: neither a module nor a state_dict.")
    return found


def _module_tensors(module: Placeholder) -> Iterator[tuple[str, StoredTensor]]:
    """Tensors of a module and of its parts; one that is a part twice is visited once.

    A module may contain itself, or each of 64 others twice: a walk without memory would not end.
    """
    visited: set[int] = set()
    waiting = [(module, "", _MAX_DEPTH)]
    while waiting:
        module, prefix, depth = waiting.pop()
        if id(module) in visited:
            continue
        visited.add(id(module))
        attributes = vars(module)
        unsaved = attributes.get("_non_persistent_buffers_set", ())
        unsaved = unsaved if isinstance(unsaved, list | tuple) else ()
        for kind in ("_parameters", "_buffers"):
            for name, value in _items(attributes.get(kind)):
                if isinstance(value, StoredTensor) and name not in unsaved:
                    yield f"{prefix}{name}", value
        parts = [
            (child, f"{prefix}{name}.", depth - 1)
            for name, child in _items(attributes.get("_modules"))
            if isinstance(child, Placeholder) and depth
        ]
        waiting += reversed(parts)


def _items(mapping: Any) -> list[tuple[Any, Any]]:
    return list(mapping.items()) if isinstance(mapping, Mapping) else []


def _read_tensors(
    archive: zipfile.ZipFile, folder: str, stored: dict[str, StoredTensor], path: Path
) -> dict[str, Tensor]:
    for key, tensor in stored.items():
        _check_extent(key, tensor, path)
    sizes = {tensor.storage: tensor.storage_numel for tensor in stored.values()}
    numbers_used = sum(math.prod(tensor.shape) for tensor in stored.values())
    if numbers_used > _MOST_USES * sum(sizes.values()) + _FEW_NUMBERS:
        raise BadInputError(f"{path} is no state dict: its tensors share each other's numbers.")
    storages: dict[str, Tensor] = {}
    tensors = {}
    for key, tensor in stored.items():
        if tensor.storage not in storages:
            storages[tensor.storage] = _read_storage(archive, folder, key, tensor, path)
        content = storages[tensor.storage]
        numbers = content.view(tensor.dtype) if len(content) else content.to(tensor.dtype)
        tensors[key] = torch.as_strided(numbers, tensor.shape, tensor.stride, tensor.offset)
    return tensors


def _check_extent(key: str, tensor: StoredTensor, path: Path) -> None:
    sizes = (*tensor.shape, *tensor.stride, tensor.offset)
    whole = all(isinstance(size, int) and 0 <= size < _MOST_NUMBERS for size in sizes)
    if not whole or len(sizes) > 2 * _MOST_DIMENSIONS or len(tensor.shape) != len(tensor.stride):
        raise BadInputError(f"{path} is damaged: {key} has an impossible shape.")
    last = tensor.offset + sum(
        (size - 1) * step for size, step in zip(tensor.shape, tensor.stride, strict=True)
    )
    if 0 not in tensor.shape and last >= tensor.storage_numel:
        raise BadInputError(f"{path} is damaged: {key} reaches beyond its storage.")
    if math.prod(tensor.shape) > tensor.storage_numel:
        raise BadInputError(f"{path} is damaged: {key} has more numbers than its storage.")


def _read_storage(
    archive: zipfile.ZipFile, folder: str, key: str, tensor: StoredTensor, path: Path
) -> Tensor:
    size = tensor.storage_numel * tensor.dtype.itemsize
    try:
        entry = archive.getinfo(folder + tensor.storage)
    except KeyError:
        raise BadInputError(f"{path} is damaged: the numbers of {key} are missing.") from None
    if entry.file_size != size or entry.compress_type != zipfile.ZIP_STORED:
        raise BadInputError(f"{path} is damaged: the numbers of {key} have the wrong size.")
    buffer = np.empty(size, dtype=np.uint8)
    done = 0
    # Piece by piece: ``ZipExtFile.readinto`` would hold all of it twice more.
    with archive.open(entry) as file:
        while piece := file.read(min(_PIECE, size - done)):
            buffer[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
            done += len(piece)
        if done != size or file.read(1):  # reading to the end checks the checksum
            raise BadInputError(f"{path} is damaged: the numbers of {key} are cut short.")
    return torch.from_numpy(buffer)
