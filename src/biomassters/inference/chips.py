"""Chips of a store or a raw archive through the network: maps, and the attention paid to months.

What loader and network give together; ``predict`` has the arithmetic.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from biomassters.chips.bands import PIXEL_SIZE_M, S2, SENSORS
from biomassters.chips.chip import Chip
from biomassters.chips.pixel_checks import check_chip
from biomassters.chips.predicted_maps import Prediction
from biomassters.chips.store.reader import StoreSplit
from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.inference.device import autocast, choose_device, part_threads, precision_used
from biomassters.inference.options import InferenceOptions
from biomassters.inference.predict import (
    MonthNetwork,
    Part,
    parts_apart,
    predict_batches,
    ready_network,
)
from biomassters.loading.batches import Batch
from biomassters.loading.loader import ThreadedLoader
from biomassters.loading.samples import batches_of, plain_sample
from biomassters.network.agb_net import AgbNet, check_size
from biomassters.network.encoder import STRIDES
from biomassters.network.temporal_attention import Months, TemporalAttention

_LOOKED_AT = 8  # chips of an archive, before any is predicted


# ---- Maps ------------------------------------------------------------------------------------


def predict_split(
    network: MonthNetwork, split: StoreSplit, indices: Sequence[int], options: InferenceOptions
) -> Iterator[Prediction]:
    """Map chips of a store, whole and with every month they have, in the order of ``indices``.

    The network is moved to the device of the options.

    Raises:
        BadInputError: The network cannot take the chips' size, or predicts no number.
    """
    device = choose_device(options.device)
    loader = whole_chips(split, indices, options, pin_memory=device.type == "cuda")
    place = {split.chip_ids[index]: split.georeference(index) for index in indices}
    ready = ready_network(network, options, device)
    maps = predict_batches(ready, loader, options, device, total=len(indices))
    return (Prediction(chip_id, agb, place[chip_id]) for chip_id, agb in maps)


def whole_chips(
    split: StoreSplit, indices: Sequence[int], options: InferenceOptions, *, pin_memory: bool
) -> ThreadedLoader:
    """Batches of whole chips with every month they have, in the order of ``indices``.

    Raises:
        BadInputError: The network cannot take the chips' size.
    """
    check_size(split.height, split.width)
    month_masks = np.asarray(split.present.any(axis=2))
    samples = [
        plain_sample(index, np.flatnonzero(month_masks[index]).tolist()) for index in indices
    ]
    return ThreadedLoader(
        split,
        batches_of(samples, options.batch_size, drop_last=False),
        crop=None,
        threads=options.loader_threads,
        pin_memory=pin_memory,
    )


def predict_chips(
    network: MonthNetwork,
    chip_ids: Sequence[str],
    read_chip: Callable[[str], Chip],
    options: InferenceOptions,
) -> Iterator[Prediction]:
    """Map chips that lie in no store, read one at a time and predicted one by one.

    Raises:
        BadInputError: A chip has no image, a size that the network cannot take, other units than
            it was trained on, or a file that cannot be read. Some chips from all over the archive
            are looked at before the first is predicted.
    """
    device = choose_device(options.device)
    read: dict[str, Chip] = {}
    if options.check_ranges:
        for chip_id in chip_ids[:: -(-len(chip_ids) // _LOOKED_AT) or 1]:
            check_chip(read_chip(chip_id), PIXEL_SIZE_M)

    def batches() -> Iterable[Batch]:
        for chip_id in chip_ids:
            read.clear()
            read[chip_id] = read_chip(chip_id)
            if options.check_ranges:
                check_chip(read[chip_id], PIXEL_SIZE_M, warn=True)
            yield batch_of_chip(read[chip_id])

    ready = ready_network(network, options, device)
    maps = predict_batches(ready, batches(), options, device, total=len(chip_ids))
    return (Prediction(chip_id, agb, read[chip_id].georeference) for chip_id, agb in maps)


def batch_of_chip(chip: Chip) -> Batch:
    """One chip as the network takes it, with every month that it has.

    Raises:
        BadInputError: The chip has no image at all.
    """
    months = np.flatnonzero(chip.month_mask)
    if not len(months):
        raise BadInputError(f"Chip {chip.chip_id} has no image of any month; leave it out.")
    check_size(*chip.shape)
    return Batch(
        images={
            sensor.name: torch.from_numpy(sensor.pack(chip.images[sensor.name][months]))
            for sensor in SENSORS
        },
        chip_of_month=torch.zeros(len(months), dtype=torch.int64),
        agb=torch.full((1, *chip.shape), torch.nan),
        samples=(plain_sample(0, months.tolist()),),
        chip_ids=(chip.chip_id,),
    )


# ---- Attention by month ----------------------------------------------------------------------


def attention_of_split(
    network: AgbNet, split: StoreSplit, indices: Sequence[int], options: InferenceOptions
) -> pd.DataFrame:
    """Mean attention weight of every month of some chips, at every level; one view, unmirrored.

    Returns:
        A row for each chip, level and month that the chip has: chip_id, stride (of the level, in
        pixels), month (0: September), weight (mean over pixels; a level's months of a chip sum
        to 1) and has_s2 (whether there is an optical image).
    """
    device = choose_device(options.device)
    network.eval().to(device)
    precision = precision_used(device, options.precision, network.width)
    rows: list[tuple[str, int, int, float, bool]] = []
    loader = whole_chips(split, indices, options, pin_memory=device.type == "cuda")
    with Progress("reading attention", len(indices)) as bar:
        for batch in loader:
            with autocast(device, precision):
                levels = _levels(network, batch.to(device), options.cpu_parts)
            for stride, weights_BT in zip(STRIDES, levels, strict=True):
                for row, sample in enumerate(batch.samples):
                    for place, month in enumerate(sample.months):
                        has_s2 = bool(split.present[sample.chip, month, S2.column])
                        weight = float(weights_BT[row, place])
                        rows.append((batch.chip_ids[row], stride, month, weight, has_s2))
            bar.update(len(batch))
    return pd.DataFrame(rows, columns=["chip_id", "stride", "month", "weight", "has_s2"])


def _levels(network: AgbNet, batch: Batch, parts: int) -> list[Tensor]:
    """The weights of a batch at every level, [B, 12]; on a CPU in parts side by side."""
    whole = Part(batch.images, batch.chip_of_month, len(batch))
    if batch.agb.device.type != "cpu":
        return month_weights(network, whole)
    apart = parts_apart(whole, parts)
    seen = part_threads(len(apart)).run(lambda part: month_weights(network, part), apart)
    return [torch.cat(level) for level in zip(*seen, strict=True)]


@torch.inference_mode()
def month_weights(network: AgbNet, batch: Part) -> list[Tensor]:
    """What each month of each chip counts, the mean over pixels, at every level.

    The network is on the device of the images, which are not scaled yet.

    Returns:
        A tensor a level, float32 [B, 12] on the CPU, in the order of the months that the chip
        has; over them it sums to 1.
    """
    months = Months.of(batch.chip_of_month, batch.chips)
    found = []
    features = network.encode(network.scale(batch.images))
    for attention, level in zip(network.attn, features, strict=True):
        assert isinstance(attention, TemporalAttention)
        found.append(attention.weights(level, months).mean(dim=(2, 3)).cpu())
    return found
