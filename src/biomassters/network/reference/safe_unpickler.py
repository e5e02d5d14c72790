"""Reading the pickle inside a torch checkpoint without running anything that it names.

A pickle is a small program: it names functions and has them called. Here every name resolves to
an inert stand-in; the few calls that hold tensors together (storages, rebuilding a tensor from
one) are answered by code of this file, calls of harmless containers yield inert objects, and any
other call is refused. Nothing is imported on a file's say-so.

The layout is that of ``torch.save`` (zip form, since torch 1.6): see ``torch.serialization`` and
``torch._utils._rebuild_tensor_v2``.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO, NoReturn

import torch

from biomassters.errors import BadInputError
from biomassters.network.reference.pickle_program import MOST_BYTES, check_program
from biomassters.network.reference.stored_tensor import STORAGE_TYPES, rebuild_tensor

# Called by pickles of plain data; here a call only makes an inert object that remembers nothing.
_HARMLESS_CALLS = {
    "argparse.Namespace",
    "collections.defaultdict",
    "copyreg._reconstructor",
    "functools.partial",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "torch.Size",
    "torch.device",
    "timm.layers.format.Format",
    "_codecs.encode",
}


class Inert:
    """Stands in for an instance of any class; holds the attributes that the pickle gives it."""

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        """Whatever the arguments: an empty instance."""
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        attributes = state[0] if isinstance(state, tuple) and len(state) == 2 else state
        if isinstance(attributes, dict):
            self.__dict__.update(attributes)

    # Pickles of lists and dictionaries of a foreign class fill them item by item.
    def append(self, _: Any) -> None:
        """Forget an item."""

    def extend(self, _: Any) -> None:
        """Forget items."""

    def __setitem__(self, _: Any, __: Any) -> None:
        """Forget an entry."""


class _RefusedError(Exception):
    """The pickle asks for more than data."""


class _InertType(type):
    """The type of stand-ins for classes and functions: calling one is refused or inert."""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        if cls.__name__ in _HARMLESS_CALLS:
            return Inert.__new__(Inert)
        raise _RefusedError(f"it would call {cls.__name__}")

    def __setattr__(cls, *_: Any) -> NoReturn:
        raise _RefusedError(f"it would change {cls.__name__}")


class _Answer:
    """A call that is answered by our own code; nothing about it can be changed."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setattr__(self, *_: Any) -> NoReturn:
        raise _RefusedError("it would change the reader")


class _StorageType(_Answer):
    """Names the type of a storage."""

    __slots__ = ("dtype",)
    dtype: torch.dtype

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__(_refuse_storage)
        object.__setattr__(self, "dtype", dtype)


def _refuse_storage(*_: Any) -> NoReturn:
    raise _RefusedError("it would call a storage")


def _rebuild_subclass(rebuild: Any, _type: Any, args: Any, *_: Any) -> Any:
    if not isinstance(rebuild, _Answer):
        raise _RefusedError("it would rebuild a tensor in an unknown way")
    return rebuild(*args)


def _first(value: Any, *_: Any) -> Any:
    return value


def _ordered_dict(items: Any = ()) -> "OrderedDict[Any, Any]":
    return OrderedDict(items)


def _set(items: Any = ()) -> list[Any]:
    return list(items)


_ANSWERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._tensor._rebuild_from_type_v2": _rebuild_subclass,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "collections.OrderedDict": _ordered_dict,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "builtins.frozenset": _set,
    "__builtin__.frozenset": _set,
}


class _Reader(pickle.Unpickler):
    """Resolves every name to a stand-in."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _ANSWERS:
            return _Answer(_ANSWERS[full])
        if module in {"torch", "torch.storage"} and name in STORAGE_TYPES:
            return _StorageType(STORAGE_TYPES[name])
        return _InertType(full, (Inert,), {})

    def persistent_load(self, pid: Any) -> tuple[str, torch.dtype, int]:
        kind, storage_type, key, _device, numel = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise _RefusedError("it holds storages of an unknown type")
        return str(key), storage_type.dtype, int(numel)


def read_inert(file: BinaryIO, source: str) -> Any:
    """The data of a pickle, with stand-ins for whatever is not plain data or a tensor.

    Args:
        file: The pickle.
        source: The checkpoint's name, for messages.

    Returns:
        Dictionaries, lists, numbers, strings, ``StoredTensor`` and ``Inert``.

    Raises:
        BadInputError: The pickle would call something, or is damaged. Nothing was called.
    """
    content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise BadInputError(f"{source} is no torch checkpoint: its pickle is too long.")
    check_program(content, source)
    try:
        return _Reader(BytesIO(content)).load()
    except _RefusedError as error:
        raise BadInputError(
            f"{source} is refused because {error}, which weights never need; nothing of it was "
            "run: get the file from a source that you trust."
        ) from None
    except Exception as error:  # a damaged pickle fails in any way there is
        raise BadInputError(
            f"{source} holds a damaged pickle ({type(error).__name__}): copy it again."
        ) from None
