"""Where the network runs, in which arithmetic and on how many threads: the one place that decides.

Training and inference alike multiply in bfloat16 (inference on an older GPU: float16) or in full
float32, never in TF32. cuDNN's convolutions take TF32 by default: they round what they are given
to 10 bits, in which folded and unfolded BatchNorm, a GPU's map and a CPU's, differ visibly. The
GPUs that have TF32 are those that have bfloat16, which ``auto`` takes; who asks them for float32
means it. The network's head, which stays float32 under autocast, is exact, too. On a CPU bfloat16
pays for wide networks alone, and on few processors.

On a CPU parts of a batch are worked side by side, a thread each, instead of every operation split
over all cores. torch splits a single convolution over OpenMP threads that wait for each other at
its end, and spin while they wait. Beside another busy process one of them is always late: on two
cores the default run fell to a quarter. Parts of a batch meet once a step only, and a core that has
less to do meanwhile takes the next part. ``workers/cores`` says how many cores there are.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import TypeVar

import torch

from biomassters.errors import BadInputError
from biomassters.workers.cores import say_once, usable_cores

# A decoder that begins with so many channels is predicted 1.5 times as fast in bfloat16, one of 384
# more than twice, the default one of 64 no faster (benchmarks/results/network.md).
WIDE_CHANNELS = 128

Item = TypeVar("Item")
Result = TypeVar("Result")


# ---- Device and arithmetic -------------------------------------------------------------------


def choose_device(name: str) -> torch.device:
    """The torch device that a name (``auto``: the first GPU, else the CPU) means on this machine.

    float32 arithmetic is set for it.

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


def set_float32_arithmetic() -> None:
    """Make this process multiply float32 in full on a GPU, not in TF32: see the module."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def precision_used(device: torch.device, precision: str, width: int) -> str:
    """The precision that ``auto`` means for a network on a device; any other is itself.

    Args:
        device: Where the network runs.
        precision: As in ``InferenceOptions``.
        width: Channels of the decoder's first block, ``AgbNet.width``.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "bfloat16" if device.type == "cpu" and cpu_gains_by_bfloat16(width) else "float32"


def cpu_gains_by_bfloat16(width: int) -> bool:
    """Whether this CPU multiplies bfloat16 in hardware, for a network that gains by it."""
    able = torch.cpu.get_capabilities()
    return width >= WIDE_CHANNELS and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """A context in which matrix products and convolutions run in a precision, not ``auto``."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


# ---- Threads of a CPU ------------------------------------------------------------------------


class PartThreads:
    """Threads that work on the parts of batches and may keep so many cores busy.

    Attributes:
        count: Threads: not more than parts or cores.
        inside: torch's own threads in each: cores beyond the parts. Sums inside an operation
            depend on it in their last bits; on ``count`` nothing depends.
    """

    def __init__(self, parts: int, cores: int) -> None:
        self.count, self.inside = min(parts, cores), max(1, cores // parts)
        say_once(cores, parts, self.inside)
        self._pool = (
            ThreadPoolExecutor(
                self.count,
                thread_name_prefix="part",
                initializer=torch.set_num_threads,
                initargs=(self.inside,),
            )
            if self.count > 1
            else None
        )

    def run(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Work on every item and wait for all; what ``work`` returned, in the order of the items.

        ``work`` runs in any thread, with the caller's autocast, gradient and inference modes.

        Raises:
            Exception: The first one by the order of the items, when all have ended.
        """
        if self._pool is None:
            with threads_inside(self.inside):
                return [work(item) for item in items]
        work = _in_callers_modes(work)
        futures = [self._pool.submit(work, item) for item in items]
        for future in futures:
            future.exception()  # nobody still works when the first error is raised
        return [future.result() for future in futures]


def part_threads(parts: int, cores: int | None = None) -> PartThreads:
    """The threads for batches of some number of parts, made once a process.

    They may keep so many cores busy; None: all that the process may use.
    """
    # Of each thread that asks, so that nobody waits for parts of another's batch.
    return _threads(parts, cores or usable_cores(), threading.get_ident())


@lru_cache(maxsize=8)
def _threads(parts: int, cores: int, owner: int) -> PartThreads:
    return PartThreads(parts, cores)


@contextmanager
def threads_inside(count: int) -> Iterator[None]:
    """Torch's threads inside an operation, in the calling thread, within the block."""
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)


def _in_callers_modes(work: Callable[[Item], Result]) -> Callable[[Item], Result]:
    """``work`` in the calling thread's modes, which torch keeps for each thread apart."""
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    autocasts, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def call(item: Item) -> Result:
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(gradients),
            torch.autocast("cpu", dtype=dtype, enabled=autocasts),
        ):
            return work(item)

    return call
