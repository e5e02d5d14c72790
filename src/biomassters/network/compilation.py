"""torch.compile as a switch: what cannot be compiled runs plainly, and the log says so once."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


class CompiledOrPlain:
    """A function, compiled at its first call; plain from then on if that fails.

    Args:
        function: What to compile.
        name: For the log.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self.name = function, name
        self._compiled: Callable[..., Any] | None = None
        self._plain = False

    def __call__(self, *args: Any) -> Any:
        """What the function gives."""
        if self._plain:
            return self.function(*args)
        try:
            if self._compiled is None:
                check_compiler(next(arg.device for arg in _flat(args)))
                self._compiled = torch.compile(self.function, dynamic=None)
            return self._compiled(*args)
        except Exception as error:  # a compiler fails in any way there is
            self._plain = True
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            logger.warning("The %s runs uncompiled: torch.compile failed (%s).", self.name, reason)
            return self.function(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> "CompiledOrPlain":
        return CompiledOrPlain(copy.deepcopy(self.function, memo), self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledOrPlain, (self.function, self.name)


def check_compiler(device: torch.device) -> None:
    """Compile something small, forward and backward, or raise what the compiler raises.

    The backward pass of a network is compiled when it first runs, too late to fall back.
    """
    x = torch.ones(8, device=device, requires_grad=True)
    torch.compile(lambda x: torch.nn.functional.gelu(x).sum())(x).backward()


def _flat(args: Any) -> list[Tensor]:
    if isinstance(args, Tensor):
        return [args]
    return (
        [tensor for arg in args for tensor in _flat(arg)] if isinstance(args, list | tuple) else []
    )
