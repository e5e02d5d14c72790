"""What can be known to go wrong before the first step is said before it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from biomassters.chips.store.reader import StoreSplit
from biomassters.errors import BadInputError
from biomassters.inference.device import choose_device
from biomassters.training.options import NETWORK_STRIDE, TrainingOptions


def check_chips(
    split: StoreSplit,
    training: Sequence[int],
    validation: Sequence[int],
    options: TrainingOptions,
) -> None:
    """Refuse chips that can't be trained on.

    Args:
        split: Of the chip store.
        training: Chips to learn from.
        validation: Chips held out.
        options: Of the run.

    Raises:
        BadInputError: No chips, too few, without label or images, or of an unfit size.
    """
    _check_numbers(len(training), len(validation), options)
    _check_size(split, options)
    if not split.has_agb:
        raise BadInputError(
            f"The split {split.name} of the chip store has no labels to learn from: train on a "
            "split that has."
        )
    months = split.present.any(axis=2).sum(axis=1)
    for chip in (*training, *validation):
        if not months[chip]:
            raise BadInputError(
                f"Chip {split.chip_ids[chip]} has no image of any month: leave it out of the folds."
            )


def _check_numbers(training: int, validation: int, options: TrainingOptions) -> None:
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
    if training < options.batch_size and options.drop_last:
        raise BadInputError(
            f"{training} training chips don't fill one batch of {options.batch_size}: lower "
            "training.batch_size or set training.drop_last=false."
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
    """Refuse a device that this machine lacks, and more ranks than it has GPUs.

    Raises:
        BadInputError: One of these.
    """
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


@contextmanager
def explained_memory_errors(options: TrainingOptions) -> Iterator[None]:
    """Turn an exhausted memory within the block into advice; leave other errors alone.

    Raises:
        BadInputError: Memory ran out; the message says what to lower.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        parts = options.batch_size // options.gradient_accumulation
        raise BadInputError(
            f"Memory ran out with {parts} {_size_of(options)} at a time: "
            "raise training.gradient_accumulation (same batch, in parts), or lower "
            "training.crop or training.batch_size."
        ) from error


def _size_of(options: TrainingOptions) -> str:
    return "whole chips" if options.crop is None else f"crops of {options.crop} pixels"


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return "DefaultCPUAllocator: can't allocate memory" in str(error)
