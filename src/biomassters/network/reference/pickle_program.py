"""How large and how deep is what a pickle builds? Found out before anything is built.

A pickle is a program for a stack machine. One of a few kilobytes can build a tuple that is
millions deep, or one whose hash takes for ever, and either ends the process that unpickles it,
whatever else that process refuses. Here the program is only counted, opcode by opcode
(``pickletools.genops``), with the depth and size of what would lie on its stack.
"""

import pickletools
from functools import lru_cache
from typing import NamedTuple

from biomassters.errors import BadInputError

MOST_BYTES = 64 * 2**20
_MOST_OPCODES = 600_000  # 25 a tensor: a large network five times over, with its optimizer
_MOST_DEPTH = 500
_MOST_HASHED = 1_000_000  # members of a tuple, with those of the tuples in it
_OPCODES = {opcode.name: opcode for opcode in pickletools.opcodes}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_HASHABLE = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET")


class _Value(NamedTuple):
    depth: int
    size: int


_LEAF = _Value(1, 1)
_MARK = _Value(0, 0)


def check_program(content: bytes, source: str) -> None:
    """Refuse a pickle that would build more than a checkpoint needs.

    A damaged one passes as far as it can be followed: unpickling it will say so.

    Args:
        content: The pickle.
        source: The checkpoint's name, for messages.

    Raises:
        BadInputError: It has too many opcodes, or nests too deeply.
    """
    stack: list[_Value] = []
    memo: dict[object, _Value] = {}
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if number >= _MOST_OPCODES:
                raise _refusal(source, f"has more than {_MOST_OPCODES:,} steps")
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
                raise _refusal(source, f"nests more than {_MOST_DEPTH} deep")
            if stack and stack[-1].size > _MOST_HASHED:
                raise _refusal(source, "holds a tuple of endless size")
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


def _refusal(source: str, fault: str) -> BadInputError:
    return BadInputError(
        f"{source} is refused because its pickle {fault}, which weights never need; nothing of it "
        "was run: get the file from a source that you trust."
    )
