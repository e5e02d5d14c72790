"""Which months the network looked at in each of some chips of a store."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from biomassters.chips.store.reader import StoreSplit
from biomassters.console import Progress
from biomassters.inference.attention import RecordedAttention, recorded_attention
from biomassters.inference.chips import whole_chips
from biomassters.inference.device import autocast, choose_device
from biomassters.inference.options import InferenceOptions
from biomassters.inference.part_threads import part_threads
from biomassters.inference.predict import Images, parts_apart
from biomassters.loading.batch import Batch
from biomassters.network.agb_net import AgbNet
from biomassters.network.backbones import STRIDES

COLUMNS = ("chip_id", "stride", "month", "weight", "has_s2")


def attention_of_split(
    network: AgbNet,
    split: StoreSplit,
    indices: Sequence[int],
    options: InferenceOptions,
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """Mean attention weight of every month of some chips, at every level; one view, unmirrored.

    Args:
        network: Any device; moved to the one of the options.
        split: The chips' split.
        indices: Which of its chips.
        options: Batch size, precision, device.
        progress: Show a bar on stderr.

    Returns:
        A row for each chip, level and month that the chip has: chip_id, stride (of the level, in
        pixels), month (0: September), weight (mean over pixels; a level's months of a chip sum
        to 1) and has_s2 (whether there is an optical image).
    """
    device = choose_device(options.device)
    network.eval().to(device)
    rows: list[tuple[str, int, int, float, bool]] = []
    bar = Progress("reading attention", len(indices), shown=progress)
    loader = whole_chips(split, indices, options, pin_memory=device.type == "cuda")
    with recorded_attention(network.attn) as recorded, bar:
        for batch in loader:
            there = batch.to(device)
            with autocast(device, options.precision):
                levels = _levels(network, recorded, there, options.cpu_parts)
            for stride, weights_BT in zip(STRIDES, levels, strict=True):
                for row, sample in enumerate(batch.samples):
                    chip_id = batch.chip_ids[row]
                    for place, month in enumerate(sample.months):
                        has_s2 = bool(split.present[sample.chip, month, 1])
                        weight = float(weights_BT[row, place])
                        rows.append((chip_id, stride, month, weight, has_s2))
            bar.update(len(batch))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _levels(network: AgbNet, recorded: RecordedAttention, batch: Batch, parts: int) -> list[Tensor]:
    """The weights of a batch at every level, [B, 12]; on a CPU in parts side by side."""

    def look(part: tuple[Images, int]) -> list[Tensor]:
        images, count = part
        network(*images, count)
        return recorded.take()

    images, count = (batch.s1, batch.s2, batch.chip_of_month), len(batch)
    if batch.s1.device.type != "cpu":
        return look((images, count))
    apart = parts_apart(*images, count, parts)
    seen = part_threads(len(apart)).run(look, apart)
    return [torch.cat(level) for level in zip(*seen, strict=True)]
