"""What to do when memory runs out, and only then."""

import logging
from dataclasses import dataclass

import torch

from biomassters.errors import BadInputError

log = logging.getLogger(__name__)
# What PyTorch's allocators say; on a CPU it raises a plain RuntimeError.
_MESSAGES = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, and nothing else."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(text in message for text in _MESSAGES)


@dataclass
class MemoryLimit:
    """How many chips fit into memory at once, as far as is known.

    Attributes:
        batch: Chips to try.
    """

    batch: int

    def exceeded(self, chips: int, error: BaseException) -> None:
        """Halve the batch.

        Args:
            chips: So many were too many.
            error: What was raised.

        Raises:
            BadInputError: It was one chip.
        """
        if chips == 1:
            raise BadInputError(
                f"One chip is too much for the memory ({error}): lower mapping.chip, or take a "
                "device with more."
            ) from error
        self.batch = chips // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning(
            "Memory ran out with %d chips (%s); going on with %d.", chips, error, self.batch
        )
