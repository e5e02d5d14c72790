"""One run of training, described, so that any process can do its part of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm

from biomassters.chips.store.reader import StoreSplit
from biomassters.network.agb_net import AgbNet
from biomassters.training.feed import Feed
from biomassters.training.interruption import StopRequest
from biomassters.training.keeper import Keeper
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import Ranks
from biomassters.training.result import TrainingResult
from biomassters.training.run import TrainingRun
from biomassters.training.state import TrainingState


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """What a run is made of; it can be pickled.

    Attributes:
        network: With the weights that the run starts from.
        split: Of the chip store, a handle that opens it where it is used.
        training: Indices of the chips to learn from.
        validation: Indices of the chips held out.
        options: Of the run.
        checkpoint_dir: Folder of its checkpoints.
        identity: What ``experiment`` says of it.
        event_dir: Folder of TensorBoard's event files; None writes none.
    """

    network: AgbNet
    split: StoreSplit
    training: tuple[int, ...]
    validation: tuple[int, ...]
    options: TrainingOptions
    checkpoint_dir: Path
    identity: dict[str, Any]
    event_dir: Path | None = None


def run_job(
    job: TrainingJob, ranks: Ranks, device: torch.device, stop: StopRequest, *, progress: bool
) -> TrainingResult:
    """Do this process's part of a run, from wherever it was left.

    Args:
        job: The run; its network is trained in place.
        ranks: This process among those that share the run.
        device: Where it computes.
        stop: Knows whether it was asked to stop.
        progress: Whether to show bars on stderr.

    Returns:
        The same on every rank.
    """
    options = job.options
    network = job.network
    if options.sync_batch_norm and ranks.size > 1:
        network = convert_sync_batchnorm(network)
    network = network.to(device).configure(options.execution)
    feed = Feed(job.split, job.training, job.validation, options, device, ranks)
    keeper = Keeper(job.checkpoint_dir, job.identity, options, feed, ranks)
    run = TrainingRun(
        network,
        feed,
        keeper,
        options,
        device,
        ranks=ranks,
        stop=stop,
        event_dir=job.event_dir,
        progress=progress,
    )
    return run.run()


def stored_result(job: TrainingJob) -> TrainingResult:
    """What a run that other processes did came to, from its checkpoints."""
    options = job.options.model_copy(update={"restart": False})
    feed = Feed(job.split, job.training, job.validation, options, torch.device("cpu"))
    state = TrainingState.begin(job.network, options)
    Keeper(job.checkpoint_dir, job.identity, options, feed).resume(state)
    return TrainingResult.of(state)
