"""What one of several processes of a training run does, from its start to its end."""

import contextlib
import dataclasses
import logging
import os
import pickle
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist

from biomassters.console import log_here
from biomassters.errors import BadInputError
from biomassters.inference.device import set_float32_arithmetic
from biomassters.training.interruption import StopRequest, TrainingInterrupted
from biomassters.training.job import TrainingJob, run_job
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import CommonRefusalError, Ranks

logger = logging.getLogger(__name__)

ANSWER_S = 2.0
"""How long the others have to say that they, too, found somebody missing."""


class Outcome(NamedTuple):
    """What a rank hands back to the process that started it; weights lie in the checkpoints.

    Attributes:
        refusal: Why all ranks refused to go on; empty when they did not.
        interruption: What to say when they were asked to stop; empty when they were not.
    """

    refusal: str = ""
    interruption: str = ""


class RankLostError(Exception):
    """Other ranks of the run do not answer."""


def work_as_rank(job_file: Path, progress: bool) -> Outcome:
    """Do one rank's part of a run. The environment says which, as torchrun sets it.

    Args:
        job_file: The pickled run. Handed over as it is, every tensor would become a file
            descriptor that all ranks share, and ranks would start one after another.
        progress: Whether the first rank shows bars on stderr.

    Raises:
        BadInputError: This rank alone can't go on.
        RankLostError: Others do not answer.
    """
    ranks = Ranks(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))
    torch.set_num_threads(ranks.cores)
    _speak(ranks)
    job: TrainingJob = pickle.loads(job_file.read_bytes())
    device = _device(job.options)
    job = dataclasses.replace(job, options=_without_second_restart(job.options))
    try:
        with StopRequest(patient=True) as stop, _connected(ranks, job.options, stop):
            run_job(job, ranks, device, stop, progress=progress)
    except CommonRefusalError as refusal:
        return Outcome(refusal=str(refusal))
    except TrainingInterrupted as interruption:
        return Outcome(interruption=str(interruption))
    return Outcome()


def _speak(ranks: Ranks) -> None:
    """The first rank's log goes to stderr; of the others, warnings."""
    level = logging.INFO if ranks.first else logging.WARNING
    log_here()
    logging.getLogger("biomassters").setLevel(level)
    again = _attempt()
    if again:
        logger.info("A rank was lost; all %d are started again (%d).", ranks.size, again)


def _attempt() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _device(options: TrainingOptions) -> torch.device:
    if options.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    set_float32_arithmetic()
    return device


def _without_second_restart(options: TrainingOptions) -> TrainingOptions:
    """What was learnt before a rank was lost isn't deleted when ranks are started again."""
    return options.model_copy(update={"restart": False}) if _attempt() else options


@contextlib.contextmanager
def _connected(ranks: Ranks, options: TrainingOptions, stop: StopRequest) -> Iterator[None]:
    """The process group, within the block."""
    if options.launch.nodes == 1 and "lo" in (name for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store, _, _ = next(dist.rendezvous("env://"))
    on_gpus = torch.cuda.is_available() and options.device != "cpu"
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpus else "gloo",
        store=store,
        rank=ranks.rank,
        world_size=ranks.size,
        timeout=timedelta(seconds=options.launch.timeout_s),
    )
    try:
        yield
    except (BadInputError, TrainingInterrupted):
        raise
    except RuntimeError as error:
        missing = [] if stop.requested else _missing(store, ranks)
        if not missing:
            raise
        raise RankLostError(
            f"rank {', '.join(map(str, missing))} of {ranks.size} does not answer, waited for up "
            f"to {options.launch.timeout_s:g} s"
        ) from error
    dist.destroy_process_group()


def _missing(store: dist.Store, ranks: Ranks) -> list[int]:
    """Ranks that do not come to say that an exchange failed: they are gone, or stalled."""
    keys = [f"exchange failed on {rank}" for rank in range(ranks.size)]
    deadline = time.monotonic() + ANSWER_S
    try:
        store.set(keys[ranks.rank], "yes")
        while not store.check(keys) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [rank for rank, key in enumerate(keys) if not store.check([key])]
    except RuntimeError:  # the first rank holds the store
        return [0]
