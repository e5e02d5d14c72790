"""A run shared by several processes: started, watched over and, when one is lost, started again.

``elastic_launch`` is what ``torchrun`` is made of. One process a GPU exchanges gradients by NCCL;
without GPUs any number of processes do by gloo. On several machines the same command runs on
each; they meet at the rendezvous address. ``launch`` is the parent's part, ``work_as_rank`` that
of each process; what ranks do together in training is in ``ranks.py``.
"""

import contextlib
import dataclasses
import logging
import math
import multiprocessing
import os
import pickle
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, NoReturn

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from biomassters.console import log_here, quiet
from biomassters.errors import BadInputError
from biomassters.inference.device import set_float32_arithmetic
from biomassters.training.checkpoint_manager import CheckpointManager
from biomassters.training.micro_batches import Feed
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import CommonRefusalError, Ranks
from biomassters.training.state import TrainingResult, TrainingState
from biomassters.training.trainer import StopRequest, Trainer, TrainingInterrupted, TrainingJob

logger = logging.getLogger(__name__)

LOOK_S = 0.5
ANSWER_S = 2.0
"""How long the others have to say that they, too, found somebody missing."""
# Their tables and warnings; what matters of them ``launch`` puts into sentences.
QUIETENED = ("torch.distributed.elastic", "torch.multiprocessing.spawn")
GO_ON = "run the same command again to continue from the newest checkpoint"


class Outcome(NamedTuple):
    """What a rank hands back to the process that started it; weights lie in the checkpoints."""

    refusal: str = ""  # why all ranks refused to go on; empty when they did not
    interruption: str = ""  # what to say when they were asked to stop; empty when they were not


class RankLostError(Exception):
    """Other ranks of the run do not answer."""


# ---- the parent


def launch(job: TrainingJob) -> TrainingResult:
    """Have ranks do a run, and read what it came to from its checkpoints.

    Raises:
        BadInputError: The ranks refused, or were lost too often, or the machines did not meet.
        TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.
        SystemExit: On a machine other than the first, when all is done.
    """
    options = job.options
    # A store of its own for every start of the ranks: addresses of lost ones must not linger.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    agent = elastic_launch(_config(options), work_as_rank)
    with (
        TemporaryDirectory() as folder,
        StopRequest() as stop,
        ThreadPoolExecutor(1) as executor,
        quiet(*QUIETENED),
    ):
        job_file = Path(folder) / "job.pickle"
        job_file.write_bytes(pickle.dumps(job))
        future = executor.submit(agent, job_file)
        try:
            outcomes = _watched(future, stop)
        except ChildFailedError as error:
            _explain(error, options, stopped=stop.requested)
        except RendezvousError as error:
            nodes, address = options.launch.nodes, options.launch.rendezvous_address
            raise BadInputError(
                f"The {nodes} machines did not meet at {address} within "
                f"{options.launch.timeout_s:g} s: check that the address is the first machine's, "
                "that its port is open to the others, and that the command runs on each."
            ) from error
    for outcome in outcomes.values():
        if outcome.refusal:
            raise BadInputError(outcome.refusal)
        if outcome.interruption:
            raise TrainingInterrupted(outcome.interruption)
    if 0 not in outcomes:
        logger.info("This machine's share is done; the first one goes on with the result.")
        raise SystemExit(0)
    return _stored_result(job)


def _config(options: TrainingOptions) -> LaunchConfig:
    launch = options.launch
    alone = launch.nodes == 1
    seconds = math.ceil(launch.timeout_s)
    return LaunchConfig(
        min_nodes=launch.nodes,
        max_nodes=launch.nodes,
        nproc_per_node=options.world_size // launch.nodes,
        run_id=f"biomassters-{os.getpid()}" if alone else "biomassters",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0" if alone else launch.rendezvous_address,
        rdzv_configs=dict.fromkeys(("timeout", "join_timeout", "read_timeout"), seconds),
        max_restarts=launch.max_restarts,
        start_method="spawn",
        local_addr="127.0.0.1" if alone else None,
    )


def _watched(future: Future[dict[int, Outcome]], stop: StopRequest) -> dict[int, Outcome]:
    """Wait for the ranks; pass on a request to stop, and don't outlive an impatient one."""
    others = set(multiprocessing.active_children())
    told: set = set()
    try:
        while not wait([future], LOOK_S).done:
            if stop.requested:
                told |= _signal(others | told, signal.SIGTERM)
    except KeyboardInterrupt:
        while not wait([future], LOOK_S).done:
            _signal(others, signal.SIGKILL)
        raise
    return future.result()


def _signal(others: set, number: signal.Signals) -> set:
    """Send a signal to the ranks that run; returns them."""
    ranks = set(multiprocessing.active_children()) - others
    for rank in ranks:
        if rank.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank.pid, number)
    return ranks


def _explain(error: ChildFailedError, options: TrainingOptions, *, stopped: bool) -> NoReturn:
    """Say in a sentence which rank failed first, and how."""
    if stopped:
        raise TrainingInterrupted(f"Training was interrupted while ranks started: {GO_ON}.")
    rank, failure = error.get_first_failure()
    told: Any = failure.message  # a dict if the rank wrote a traceback down
    kind, _, sentence = str(told["message"] if isinstance(told, dict) else told).partition(": ")
    if kind == BadInputError.__name__:
        raise BadInputError(sentence) from error
    restarts = f"after {options.launch.max_restarts} restarts (training.launch.max_restarts)"
    if kind == RankLostError.__name__:
        raise BadInputError(f"Training ended {restarts}: {sentence}; {GO_ON}.") from error
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        raise BadInputError(
            f"Training ended {restarts}: rank {rank} was ended by {name}; if nobody did that, the "
            f"machine's memory may be too small; {GO_ON}."
        ) from error
    raise error


def _stored_result(job: TrainingJob) -> TrainingResult:
    """What the ranks came to, from their checkpoints."""
    options = job.options.model_copy(update={"restart": False})
    feed = Feed(job.split, job.training, job.validation, options, torch.device("cpu"))
    state = TrainingState.begin(job.network, options)
    CheckpointManager(job.checkpoint_dir, job.identity, options, feed).resume(state)
    return state.result()


# ---- a rank


def work_as_rank(job_file: Path) -> Outcome:
    """Do one rank's part of a run. The environment says which, as torchrun sets it.

    The run is pickled in a file: handed over as it is, every tensor would become a file
    descriptor that all ranks share, and ranks would start one after another.

    Raises:
        BadInputError: This rank alone can't go on.
        RankLostError: Others do not answer.
    """
    ranks = Ranks(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))
    torch.set_num_threads(ranks.cores)
    log_here()  # the first rank's log goes to stderr; of the others, warnings
    logging.getLogger("biomassters").setLevel(logging.INFO if ranks.first else logging.WARNING)
    job: TrainingJob = pickle.loads(job_file.read_bytes())
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if attempt:
        logger.info("A rank was lost; all %d are started again (%d).", ranks.size, attempt)
        # What was learnt before must not be deleted a second time.
        options = job.options.model_copy(update={"restart": False})
        job = dataclasses.replace(job, options=options)
    device = _device(job.options)
    try:
        with StopRequest(patient=True) as stop, _connected(ranks, job.options, stop):
            Trainer(job, ranks, device, stop).run()
    except CommonRefusalError as refusal:
        return Outcome(refusal=str(refusal))
    except TrainingInterrupted as interruption:
        return Outcome(interruption=str(interruption))
    return Outcome()


def _device(options: TrainingOptions) -> torch.device:
    if options.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    set_float32_arithmetic()
    return device


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
