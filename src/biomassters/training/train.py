"""The entry of training: chips of a store → weights.

``train`` refuses what can be known to go wrong before the first step, prepares the network and
hands it to ``trainer.py``, here or in several processes (``distributed.py``).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from biomassters.chips.chip import read_label
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import StoreSplit
from biomassters.errors import BadInputError
from biomassters.inference.chips import batch_of_chip
from biomassters.inference.device import choose_device
from biomassters.inference.predict import predict_batch
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.training.checkpoint_manager import run_identity
from biomassters.training.distributed import launch
from biomassters.training.losses import LOSSES
from biomassters.training.options import NETWORK_STRIDE, TrainingOptions
from biomassters.training.ranks import Ranks
from biomassters.training.state import TrainingResult
from biomassters.training.train_step import seed_torch
from biomassters.training.trainer import StopRequest, Trainer, TrainingJob

LABELS_READ = 64


def new_network(options: NetworkOptions, scaling: BandScaling, seed: int) -> AgbNet:
    """A network with random weights that the seed decides; the caller's random state stays.

    Raises:
        BadInputError: The backbone is unknown or has no five feature levels.
    """
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed)
        return AgbNet(options, scaling)


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
    on_validation: Callable[[float], object] | None = None,
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
        on_validation: Told the RMSE of the held-out chips, Mg/ha, after each validation; what it
            raises ends the training. For a run of one rank.

    Raises:
        BadInputError: Chips, options, device, disk or checkpoints are not fit; nothing has
            been changed then. Later: the loss is not finite for too many steps in a row, or
            memory runs out, or ranks are lost more often than they may be.
        TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.
    """
    check_chips(split, training, validation, options)
    check_devices(options)
    identity = run_identity(
        options,
        network.state_dict(),
        fingerprint=fingerprint,
        training_ids=[split.chip_ids[chip] for chip in training],
        validation_ids=[split.chip_ids[chip] for chip in validation],
        initial_state=initial_state,
    )
    if initial_state is not None:
        try:
            network.load_state_dict(initial_state)
        except RuntimeError as error:
            raise BadInputError(
                "The weights to start from belong to another network than the parameters "
                "describe: give backbone and decoder the values they had when they were trained."
            ) from error
        if options.start_unbiased:
            shift_head(network, split, training, limit=options.loss_limit_mg_per_ha)
    elif options.start_from_labels:
        initialize_head(network, split, training, limit=options.loss_limit_mg_per_ha)
    job = TrainingJob(
        network,
        split,
        tuple(training),
        tuple(validation),
        options,
        Path(checkpoint_dir),
        identity,
        event_dir,
        LOSSES[options.loss],
    )
    if options.world_size > 1:
        assert on_validation is None, "other processes couldn't call it"
        return launch(job)
    device = choose_device(options.device)
    return Trainer(job, Ranks(), device, StopRequest(), on_validation).run()


def initialize_head(
    network: AgbNet, split: StoreSplit, chips: Sequence[int], *, limit: float
) -> None:
    """Make a fresh network predict in the unit of the labels of some training chips.

    Its last layer gives values around 0 with a standard deviation of about 1, that of labels is
    tens of Mg/ha, as is their mean. Adam moves a weight by no more than the learning rate per
    step, so getting there takes hundreds of steps; short runs don't have them. Labels at or above
    the limit are left out.
    """
    read = (read_label(split, chip) for chip in _some(chips))
    labels = np.concatenate([agb[agb < limit] for agb in read]).astype(np.float64)
    if not labels.size:
        return
    head = network.segmentation_head
    assert head.bias is not None
    with torch.no_grad():
        head.weight.mul_(float(labels.std()) or 1.0)
        head.bias.fill_(float(labels.mean()))


def shift_head(network: AgbNet, split: StoreSplit, chips: Sequence[int], *, limit: float) -> float:
    """Take the mean error of a network's maps of some chips off its last layer's bias.

    The optimizer would need hundreds of steps for it. Of n chips n / (n + 1) is taken off: what
    chips of a place have in common was found to be about as large as what sets one apart from the
    others (shrinkage: Efron & Morris 1975, Journal of the American Statistical Association 70).
    The network lies on the CPU; labels at or above the limit are left out.

    Returns:
        What was added, Mg/ha.
    """
    errors = []
    network.eval()
    for index in _some(chips):
        chip = split.read_chip(index)
        batch = batch_of_chip(chip)
        agb_1HW = predict_batch(network, batch.images, batch.chip_of_month, 1, clip_negative=False)
        assert chip.agb_mg_per_ha is not None, "checked: the split has labels"
        counted = chip.agb_mg_per_ha < limit  # NaN, no label, is not
        if counted.any():
            errors.append(float((chip.agb_mg_per_ha - agb_1HW[0].numpy())[counted].mean()))
    shift = sum(errors) / (len(errors) + 1)
    assert network.segmentation_head.bias is not None
    with torch.no_grad():
        network.segmentation_head.bias.add_(shift)
    return shift


def _some(chips: Sequence[int]) -> list[int]:
    """A few of the chips, evenly spaced."""
    few = np.linspace(0, len(chips) - 1, min(LABELS_READ, len(chips))).astype(int)
    return [chips[number] for number in few]


def check_chips(
    split: StoreSplit, training: Sequence[int], validation: Sequence[int], options: TrainingOptions
) -> None:
    """Refuse chips that are none, too few, without label or images, or of an unfit size."""
    if not training:
        raise BadInputError(
            "There are no chips to train on: the archive needs more labelled chips than one fold "
            f"holds, and training.folds {list(options.folds)} must leave some over."
        )
    if options.folds and not validation:
        raise BadInputError(
            f"Fold {options.folds[0]} holds no chips to validate on: take fewer folds, "
            "others in training.folds, or [] to train without validation."
        )
    if len(training) * options.crops_per_chip < options.batch_size and options.drop_last:
        raise BadInputError(
            f"{len(training)} training chips don't fill one batch of {options.batch_size}: lower "
            "training.batch_size, raise training.crops_per_chip, or set training.drop_last=false."
        )
    _check_size(split, options)
    if not split.has_agb:
        raise BadInputError(
            f"The split {split.name} of the chip store has no labels to learn from: train on a "
            "split that has."
        )
    for chip in (*training, *validation):
        if not split.present[chip].any():
            raise BadInputError(
                f"Chip {split.chip_ids[chip]} has no image of any month: leave it out of the folds."
            )


def _check_size(split: StoreSplit, options: TrainingOptions) -> None:
    size = f"{split.height} x {split.width}"
    if options.crop is not None and options.crop > min(split.height, split.width):
        raise BadInputError(
            f"training.crop is {options.crop} pixels, but the chips are {size}: lower it, or set "
            "it to null for whole chips."
        )
    if split.height % NETWORK_STRIDE or split.width % NETWORK_STRIDE:
        raise BadInputError(
            f"The chips of the store are {size} pixels, but the network needs multiples of "
            f"{NETWORK_STRIDE}: cut or pad the images of the archive."
        )
    side = options.crop or min(split.height, split.width)
    if side == NETWORK_STRIDE and options.batch_size == options.gradient_accumulation:
        raise BadInputError(
            f"One chip of {side} pixels at a time leaves batch normalization a single value when "
            "one month is kept: raise training.batch_size or training.crop, or lower "
            "training.gradient_accumulation."
        )


def check_devices(options: TrainingOptions) -> None:
    """Refuse a device that this machine lacks, and more ranks than it has GPUs."""
    device = choose_device(options.device)
    if options.sync_batch_norm and device.type != "cuda":
        raise BadInputError(
            f"training.sync_batch_norm needs GPUs, but this run is on {device.type}: set it to "
            "false."
        )
    if options.world_size == 1 or device.type == "cpu":
        return
    if device.type != "cuda" or device.index is not None:
        raise BadInputError(
            f"training.device is {options.device}, but {options.world_size} ranks take a device "
            "each: set it to auto, cuda or cpu."
        )
    wanted, present = options.world_size // options.launch.nodes, torch.cuda.device_count()
    if wanted > present:
        raise BadInputError(
            f"training.world_size {options.world_size} asks for {wanted} GPUs on this machine, "
            f"which has {present}: lower it, or set training.device=cpu."
        )
