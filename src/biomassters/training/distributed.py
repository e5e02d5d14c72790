"""A run shared by several processes: started, watched over and, when one is lost, started again.

``elastic_launch`` is what ``torchrun`` is made of. One process a GPU exchanges gradients by NCCL;
without GPUs any number of processes do by gloo. On several machines the same command runs on
each; they meet at the rendezvous address.
"""

import contextlib
import logging
import math
import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from biomassters.errors import BadInputError
from biomassters.training.interruption import StopRequest, TrainingInterrupted
from biomassters.training.job import TrainingJob, stored_result
from biomassters.training.options import TrainingOptions
from biomassters.training.rank_process import Outcome, RankLostError, work_as_rank
from biomassters.training.result import TrainingResult

logger = logging.getLogger(__name__)

LOOK_S = 0.5
QUIETENED = ("distributed.elastic", "multiprocessing.spawn")
GO_ON = "run the same command again to continue from the newest checkpoint"

Outcomes = dict[int, Outcome]


def launch(job: TrainingJob, *, progress: bool) -> TrainingResult:
    """Have ranks do a run, and read what it came to from its checkpoints.

    Args:
        job: The run.
        progress: Whether the first rank shows bars on stderr.

    Raises:
        BadInputError: The ranks refused, or were lost too often, or the machines did not meet.
        TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.
        SystemExit: On a machine other than the first, when all is done.
    """
    options = job.options
    here = options.world_size // options.launch.nodes
    # A store of its own for every start of the ranks: addresses of lost ones must not linger.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    agent = elastic_launch(_config(options, here), work_as_rank)
    with (
        TemporaryDirectory() as folder,
        StopRequest() as stop,
        ThreadPoolExecutor(1) as executor,
        _quiet_launcher(),
    ):
        job_file = Path(folder) / "job.pickle"
        job_file.write_bytes(pickle.dumps(job))
        future = executor.submit(agent, job_file, progress)
        try:
            outcomes = _watched(future, stop)
        except ChildFailedError as error:
            _explain(error, options, stopped=stop.requested)
        except RendezvousError as error:
            raise BadInputError(_not_met(options)) from error
    _raise_what_ended(outcomes)
    if 0 not in outcomes:
        logger.info("This machine's share is done; the first one goes on with the result.")
        raise SystemExit(0)
    return stored_result(job)


def _config(options: TrainingOptions, here: int) -> LaunchConfig:
    launch = options.launch
    alone = launch.nodes == 1
    seconds = math.ceil(launch.timeout_s)
    return LaunchConfig(
        min_nodes=launch.nodes,
        max_nodes=launch.nodes,
        nproc_per_node=here,
        run_id="biomassters" if not alone else f"biomassters-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0" if alone else launch.rendezvous_address,
        rdzv_configs={
            "timeout": seconds,
            "join_timeout": seconds,
            "read_timeout": seconds,
        },
        max_restarts=launch.max_restarts,
        start_method="spawn",
        local_addr="127.0.0.1" if alone else None,
    )


def _watched(future: "Future[Outcomes]", stop: StopRequest) -> Outcomes:
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


def _raise_what_ended(outcomes: Outcomes) -> None:
    for outcome in outcomes.values():
        if outcome.refusal:
            raise BadInputError(outcome.refusal)
        if outcome.interruption:
            raise TrainingInterrupted(outcome.interruption)


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


def _not_met(options: TrainingOptions) -> str:
    launch = options.launch
    return (
        f"The {launch.nodes} machines did not meet at {launch.rendezvous_address} within "
        f"{launch.timeout_s:g} s: check that the address is the first machine's, that its port is "
        "open to the others, and that the command runs on each."
    )


@contextlib.contextmanager
def _quiet_launcher() -> Iterator[None]:
    """Without the launcher's own tables and warnings, which ``launch`` puts into sentences."""
    loggers = [logging.getLogger(f"torch.{name}") for name in QUIETENED]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
