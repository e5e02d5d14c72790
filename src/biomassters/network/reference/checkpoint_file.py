"""The tensors of a file that ``torch.save`` wrote, read without running any of it."""

import math
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from biomassters.errors import BadInputError
from biomassters.network.reference.pickle_program import MOST_BYTES, check_program
from biomassters.network.reference.safe_unpickler import Inert, read_inert
from biomassters.network.reference.stored_tensor import StoredTensor

_LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_STATE_KEYS = ("state_dict", "model_state_dict", "model")
_PARALLEL_PREFIX = "module."
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
    _check_kind(path)
    try:
        with zipfile.ZipFile(path) as archive:
            pickle = _pickle_name(archive, path)
            content = read_inert(_open_stored(archive, pickle, path), str(path))
            stored = _without_prefix(_find_weights(content, path))
            folder = pickle.removesuffix("data.pkl") + "data/"
            return _read_tensors(archive, folder, stored, path)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise BadInputError(f"{path} is truncated or damaged ({error}): copy it again.") from None


def check_archive(path: Path) -> None:
    """Refuse a checkpoint that would become larger than its file, before torch loads it.

    Raises:
        BadInputError: It is no checkpoint, its entries are compressed or overlap, or its pickle
            builds more than a checkpoint needs.
    """
    _check_kind(path)
    try:
        with zipfile.ZipFile(path) as archive:
            pickle = _pickle_name(archive, path)
            check_program(_open_stored(archive, pickle, path).getvalue(), str(path))
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise BadInputError(f"{path} is truncated or damaged ({error}): copy it again.") from None


def _pickle_name(archive: zipfile.ZipFile, path: Path) -> str:
    entries = archive.infolist()
    pickles = [entry.filename for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise BadInputError(f"{path} is a zip file but no torch checkpoint.")
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
        # torch never compresses, so a compressed entry could only be a bomb.
        raise BadInputError(
            f"{path} is no torch checkpoint: it is compressed, or declares more than it holds."
        )
    return pickles[0]


def _check_kind(path: Path) -> None:
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


def _open_stored(archive: zipfile.ZipFile, name: str, path: Path) -> BytesIO:
    """An entry's bytes, if they may be a checkpoint's pickle."""
    entry = archive.getinfo(name)
    if entry.file_size > MOST_BYTES:
        raise BadInputError(f"{path} is no torch checkpoint: its pickle is too long.")
    return BytesIO(archive.read(entry))


def _find_weights(content: Any, path: Path) -> dict[str, StoredTensor]:
    if isinstance(content, Inert):
        found = dict(_module_tensors(content, "", _MAX_DEPTH))
    elif isinstance(content, Mapping):
        inner = next((content[key] for key in _STATE_KEYS if key in content), content)
        if isinstance(inner, Inert):
            found = dict(_module_tensors(inner, "", _MAX_DEPTH))
        else:
            found = _state_tensors(inner, path)
    else:
        found = {}
    if not found:
        raise BadInputError(f"{path} holds no weights: neither a module nor a state_dict.")
    return found


def _state_tensors(state: Any, path: Path) -> dict[str, StoredTensor]:
    if not isinstance(state, Mapping):
        raise BadInputError(f"{path} holds no weights: its state_dict is no dictionary.")
    for key, value in state.items():
        if not isinstance(value, StoredTensor):
            raise BadInputError(f"{path} is no state dict of a network: {key} is no tensor.")
    return {str(key): value for key, value in state.items()}


def _module_tensors(module: Inert, prefix: str, depth: int) -> Iterator[tuple[str, StoredTensor]]:
    """Tensors of a module and of its parts; one that is a part twice is visited once.

    A module may contain itself, or each of 64 others twice: a walk without memory would not end.
    """
    visited: set[int] = set()
    waiting = [(module, prefix, depth)]
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
            if isinstance(child, Inert) and depth
        ]
        waiting += reversed(parts)


def _items(mapping: Any) -> list[tuple[Any, Any]]:
    return list(mapping.items()) if isinstance(mapping, Mapping) else []


def _without_prefix(stored: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    if all(key.startswith(_PARALLEL_PREFIX) for key in stored):
        return {key.removeprefix(_PARALLEL_PREFIX): value for key, value in stored.items()}
    return stored


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
    with archive.open(entry) as file:  # reading to the end checks the checksum
        if _fill(buffer, file) != size or file.read(1):
            raise BadInputError(f"{path} is damaged: the numbers of {key} are cut short.")
    return torch.from_numpy(buffer)


def _fill(buffer: np.ndarray, file: IO[bytes]) -> int:
    """Read piece by piece: ``ZipExtFile.readinto`` would hold all of it twice more."""
    done = 0
    while piece := file.read(min(_PIECE, len(buffer) - done)):
        buffer[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)
    return done
