"""The network's last layer brought into the labels' range before the first step."""

from collections.abc import Sequence

import numpy as np
import torch

from biomassters.chips.store.reader import StoreSplit
from biomassters.network.agb_net import AgbNet

LABELS_READ = 64


def start_from_labels(
    network: AgbNet, split: StoreSplit, chips: Sequence[int], *, limit: float
) -> None:
    """Make a fresh network predict in the labels' unit.

    Its last layer gives values around 0 with a spread of about 1, labels have a mean and a
    spread of tens of Mg/ha. Adam moves a weight by no more than the learning rate per step, so
    getting there takes hundreds of steps; short runs don't have them.

    Args:
        network: With random weights; its last layer is changed.
        split: Of the chip store.
        chips: Indices of training chips; some of them are looked at.
        limit: Labels at or above it are left out, Mg/ha.
    """
    mean, spread = _label_statistics(split, chips, limit)
    head = network.segmentation_head
    with torch.no_grad():
        head.weight.mul_(spread)
        assert head.bias is not None
        head.bias.fill_(mean)


def _label_statistics(split: StoreSplit, chips: Sequence[int], limit: float) -> tuple[float, float]:
    """Mean and standard deviation of the labels of evenly spaced chips, Mg/ha."""
    agb = np.empty((split.height, split.width), np.float32)
    pixels = []
    for place in np.linspace(0, len(chips) - 1, min(LABELS_READ, len(chips))).astype(int):
        split.read_agb_into(chips[place], agb)
        pixels.append(agb[agb < limit])
    values = np.concatenate(pixels).astype(np.float64)
    if not values.size:
        return 0.0, 1.0
    return float(values.mean()), float(values.std()) or 1.0
