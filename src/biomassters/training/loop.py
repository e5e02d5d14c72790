"""Training: chips of a store → weights. What is to be checked is checked before it begins."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from biomassters.chips.store_reader import StoreSplit
from biomassters.errors import BadInputError
from biomassters.inference.device import choose_device
from biomassters.network.agb_net import AgbNet
from biomassters.training.checks import check_chips
from biomassters.training.experiment import experiment
from biomassters.training.feed import Feed
from biomassters.training.head_start import start_from_labels
from biomassters.training.keeper import Keeper
from biomassters.training.options import TrainingOptions
from biomassters.training.result import TrainingResult
from biomassters.training.run import TrainingRun


def train(
    network: AgbNet,
    split: StoreSplit,
    training: Sequence[int],
    validation: Sequence[int],
    options: TrainingOptions,
    checkpoint_dir: Path,
    *,
    fingerprint: str,
    initial_state: Mapping[str, Tensor] | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Train a network, or go on where an interrupted run stopped, or return a finished one.

    Args:
        network: Freshly made; it is moved to the device and trained in place.
        split: Of the chip store, with labels.
        training: Indices of the chips to learn from.
        validation: Indices of the chips held out; empty for no validation.
        options: Of the run.
        checkpoint_dir: Folder of this run's checkpoints, for no other run.
        fingerprint: Of the chip store.
        initial_state: Weights to start from, instead of the network's.
        progress: Whether to show bars on stderr.

    Raises:
        BadInputError: Chips, options, device, disk or checkpoints are not fit; nothing has
            been changed then. Later: the loss is not finite for too many steps in a row, or
            memory runs out.
        TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.
    """
    check_chips(split, training, validation, options)
    device = choose_device(options.device)
    identity = experiment(
        options,
        network.state_dict(),
        fingerprint=fingerprint,
        training_ids=[split.chip_ids[chip] for chip in training],
        validation_ids=[split.chip_ids[chip] for chip in validation],
        initial_state=initial_state,
    )
    if initial_state is not None:
        _start_from(network, initial_state)
    elif options.start_from_labels:
        start_from_labels(network, split, training, limit=options.loss_limit_mg_per_ha)
    network.to(device).configure(options.execution)
    feed = Feed(split, training, validation, options, device)
    keeper = Keeper(checkpoint_dir, identity, options, feed)
    return TrainingRun(network, feed, keeper, options, device, progress=progress).run()


def _start_from(network: AgbNet, initial_state: Mapping[str, Tensor]) -> None:
    try:
        network.load_state_dict(initial_state)
    except RuntimeError as error:
        raise BadInputError(
            "The weights to start from belong to another network than the parameters "
            "describe: give backbone and decoder the values they had when they were trained."
        ) from error
