"""Reading the pickle inside a torch checkpoint without running anything that it names.

A pickle is a program for a stack machine: it names functions and has them called. First it is only
counted (``check_program``): one of a few kilobytes can build a tuple that is millions deep, or one
whose hash takes for ever, and either ends the process that unpickles it, whatever else that process
refuses. Then it is run (``safe_load``) with a placeholder for every name. The few calls that hold
tensors together (storages, rebuilding a tensor from one) are answered by code of this file, calls
of harmless containers yield placeholders, and any other call is refused. Nothing is imported on a
file's say-so.

The layout is that of ``torch.save`` (zip form, since torch 1.6): see ``torch.serialization`` and
``torch._utils._rebuild_tensor_v2``. Next: ``checkpoint_file``, which reads the numbers.
"""

import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple, NoReturn

import torch

from biomassters.errors import BadInputError

_MOST_OPCODES = 600_000  # 25 a tensor: a large network five times over, with its optimizer
_MOST_DEPTH = 500
_MOST_HASHED = 1_000_000  # members of a tuple, with those of the tuples in it

_STORAGE_TYPES = {
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

# Called by pickles of plain data; here a call only makes a placeholder that remembers nothing.
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


def _refusal(source: str, reason: str) -> BadInputError:
    return BadInputError(
        f"{source} is refused because {reason}, which weights never need; nothing of it was run: "
        "get the file from a source that you trust."
    )


# ---- Counting, before anything is built ------------------------------------------------------

_OPCODES = {opcode.name: opcode for opcode in pickletools.opcodes}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_HASHABLE = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET")


class _Value(NamedTuple):
    """What would lie on the stack."""

    depth: int
    size: int


_MARK = _Value(0, 0)


def check_program(content: bytes, source: str) -> None:
    """Refuse a pickle that would build more than a checkpoint (``source``, for messages) needs.

    A damaged one passes as far as it can be followed: unpickling it will say so.

    Raises:
        BadInputError: It has too many opcodes, or nests too deeply.
    """
    stack: list[_Value] = []
    memo: dict[object, _Value] = {}
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if number >= _MOST_OPCODES:
                raise _refusal(source, f"its pickle has more than {_MOST_OPCODES:,} steps")
            name = opcode.name
            if name in _PUTS:
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in _GETS:
                stack.append(memo[argument])
            elif name == "MARK":
                stack.append(_MARK)
            else:
                _follow(opcode, stack)
            if stack and stack[-1].depth > _MOST_DEPTH:
                raise _refusal(source, f"its pickle nests more than {_MOST_DEPTH} deep")
            if stack and stack[-1].size > _MOST_HASHED:
                raise _refusal(source, "its pickle holds a tuple of endless size")
    except BadInputError:
        raise
    except Exception:  # a damaged pickle may break off anywhere
        return


def _follow(opcode: pickletools.OpcodeInfo, stack: list[_Value]) -> None:
    """Take from the stack what an opcode takes, and put there what it makes of it."""
    to_mark, count = _taken(opcode.name)
    taken: list[_Value] = []
    if to_mark:
        while (value := stack.pop()) is not _MARK:
            taken.append(value)
    for _ in range(count):
        taken.append(stack.pop())
    if not opcode.stack_after:
        return
    if opcode.name == "DUP":
        stack += [taken[0], taken[0]]
        return
    depth = 1 + max((value.depth for value in taken), default=0)
    hashed = opcode.name in _HASHABLE
    stack.append(_Value(depth, 1 + sum(value.size for value in taken) if hashed else 1))


@lru_cache
def _taken(name: str) -> tuple[bool, int]:
    """Whether an opcode takes all down to the last mark, and how many values before that."""
    before = [kind.name for kind in _OPCODES[name].stack_before]
    return "mark" in before, before.index("mark") if "mark" in before else len(before)


# ---- Loading ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a checkpoint describes it; its numbers are still in the file."""

    storage: str  # its name inside the file
    dtype: torch.dtype
    storage_numel: int
    offset: int  # of the tensor's first number in the storage
    shape: tuple[int, ...]
    stride: tuple[int, ...]  # in numbers


class Placeholder:
    """Stands in for an instance of any class; holds the attributes that the pickle gives it."""

    def __new__(cls, *_: Any, **__: Any) -> "Placeholder":
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


def safe_load(content: bytes, source: str) -> Any:
    """The data of a pickle, with placeholders for whatever is not plain data or a tensor.

    Returns:
        Dictionaries, lists, numbers, strings, ``StoredTensor`` and ``Placeholder``.

    Raises:
        BadInputError: The pickle would build too much or call something, or is damaged. Nothing
            was called.
    """
    check_program(content, source)
    try:
        return _SafeUnpickler(BytesIO(content)).load()
    except _RefusedError as error:
        raise _refusal(source, str(error)) from None
    except Exception as error:  # a damaged pickle fails in any way there is
        raise BadInputError(
            f"{source} holds a damaged pickle ({type(error).__name__}): copy it again."
        ) from None


class _RefusedError(Exception):
    """The pickle asks for more than data."""


class _PlaceholderType(type):
    """The type of what stands for classes and functions: a call is refused or does nothing."""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        if cls.__name__ in _HARMLESS_CALLS:
            return Placeholder.__new__(Placeholder)
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
        object.__setattr__(self, "dtype", dtype)

    def __call__(self, *_: Any) -> NoReturn:
        raise _RefusedError("it would call a storage")


def _rebuild_tensor(storage: Any, offset: int, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    """As ``torch._utils._rebuild_tensor_v2`` is called; gradients and hooks are not wanted."""
    name, dtype, numel = storage
    return StoredTensor(name, dtype, int(numel), int(offset), tuple(shape), tuple(stride))


def _rebuild_subclass(rebuild: Any, _type: Any, args: Any, *_: Any) -> Any:
    if not isinstance(rebuild, _Answer):
        raise _RefusedError("it would rebuild a tensor in an unknown way")
    return rebuild(*args)


def _first(value: Any, *_: Any) -> Any:
    return value


_ANSWERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._tensor._rebuild_from_type_v2": _rebuild_subclass,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "collections.OrderedDict": OrderedDict,
    # As a list, which hashes nothing.
    "builtins.set": list,
    "__builtin__.set": list,
    "builtins.frozenset": list,
    "__builtin__.frozenset": list,
}


class _SafeUnpickler(pickle.Unpickler):
    """Resolves every name to a placeholder."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _ANSWERS:
            return _Answer(_ANSWERS[full])
        if module in {"torch", "torch.storage"} and name in _STORAGE_TYPES:
            return _StorageType(_STORAGE_TYPES[name])
        return _PlaceholderType(full, (Placeholder,), {})

    def persistent_load(self, pid: Any) -> tuple[str, torch.dtype, int]:
        kind, storage_type, key, _device, numel = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise _RefusedError("it holds storages of an unknown type")
        return str(key), storage_type.dtype, int(numel)
