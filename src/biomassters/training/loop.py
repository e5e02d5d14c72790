"""Training: chips of a store → weights. What is to be checked is checked before it begins."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from biomassters.chips.store.reader import StoreSplit
from biomassters.errors import BadInputError
from biomassters.inference.device import choose_device
from biomassters.network.agb_net import AgbNet
from biomassters.training.checks import check_chips, check_devices
from biomassters.training.distributed import launch
from biomassters.training.experiment import experiment
from biomassters.training.head_start import start_from_labels
from biomassters.training.interruption import StopRequest
from biomassters.training.job import TrainingJob, run_job
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import Ranks
from biomassters.training.result import TrainingResult


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
    event_dir: Path | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Train a network, or go on where an interrupted run stopped, or return a finished one.

    Args:
        network: Freshly made; it is moved to the device and trained in place (several ranks
            train copies of it).
        split: Of the chip store, with labels.
        training: Indices of the chips to learn from.
        validation: Indices of the chips held out; empty for no validation.
        options: Of the run.
        checkpoint_dir: Folder of this run's checkpoints, for no other run.
        fingerprint: Of the chip store.
        initial_state: Weights to start from, instead of the network's.
        event_dir: Folder of TensorBoard's event files; None writes none.
        progress: Whether to show bars on stderr.

    Raises:
        BadInputError: Chips, options, device, disk or checkpoints are not fit; nothing has
            been changed then. Later: the loss is not finite for too many steps in a row, or
            memory runs out, or ranks are lost more often than they may be.
        TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.
    """
    check_chips(split, training, validation, options)
    check_devices(options)
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
    chips = tuple(training), tuple(validation)
    job = TrainingJob(network, split, *chips, options, Path(checkpoint_dir), identity, event_dir)
    if options.world_size > 1:
        return launch(job, progress=progress)
    return run_job(job, Ranks(), choose_device(options.device), StopRequest(), progress=progress)


def _start_from(network: AgbNet, initial_state: Mapping[str, Tensor]) -> None:
    try:
        network.load_state_dict(initial_state)
    except RuntimeError as error:
        raise BadInputError(
            "The weights to start from belong to another network than the parameters "
            "describe: give backbone and decoder the values they had when they were trained."
        ) from error
