"""What is read of each chip in each epoch, as a pure function of (seed, epoch, chip).

Every chip has a random stream of its own, so what happens to it depends on no other chip,
thread, process or restart. Next: ``batches``; ``training/augmentation`` does what a sample says.
"""

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import MONTH_COUNT
from biomassters.loading.options import AugmentationOptions

_MIDDLE_YX = (0.5, 0.5)


@dataclass(frozen=True)
class Sample:
    """What is read of one chip, and how it is varied.

    The changes are made in this order: crop, flip, quarter turns, rotation.

    Attributes:
        chip: Index of the chip in its split of the store.
        months: Months read, ascending, at least one.
        top: First row of the crop, pixels.
        left: First column of the crop, pixels.
        flip: Whether to mirror left to right.
        quarter_turns: Turns by 90 degrees, counter-clockwise, 0 to 3.
        rotation_deg: Turn by an arbitrary angle, counter-clockwise, degrees.
        centre_yx: Centre of that turn, in fractions of the crop.
        seed: Of what else is drawn for the sample (``training/brightness``).
    """

    chip: int
    months: tuple[int, ...]
    top: int = 0
    left: int = 0
    flip: bool = False
    quarter_turns: int = 0
    rotation_deg: float = 0.0
    centre_yx: tuple[float, float] = _MIDDLE_YX
    seed: int = 0


def plain_sample(chip: int, months: Sequence[int]) -> Sample:
    """A whole chip as it is: no crop, no augmentation."""
    return Sample(chip, tuple(months))


def epoch_samples(
    chips: Sequence[int],
    chip_ids: Sequence[str],
    month_masks: NDArray[np.bool_],
    *,
    seed: int,
    epoch: int,
    options: AugmentationOptions,
    size: tuple[int, int],
    crop: int | None,
    crops_per_chip: int = 1,
) -> list[Sample]:
    """One epoch's samples, in shuffled order.

    Args:
        chips: Indices into the split of the chips to use.
        chip_ids: Names of all chips of the split.
        month_masks: bool [N, 12], months that each chip of the split has.
        seed: Of the whole run.
        epoch: Counted from 0.
        options: Which augmentations, how strong.
        size: Height and width of the split's chips, pixels.
        crop: Side of the crop, pixels, at most height and width; None for whole chips.
        crops_per_chip: Samples of each chip, drawn one apart from the other.

    Returns:
        So many samples per chip. A chip's samples, and which of two comes first, depend on
        seed, epoch and the chips' names alone.
    """
    draws = [
        (_draw(seed, epoch, chip_ids[chip], number), chip)
        for chip in chips
        for number in range(crops_per_chip)
    ]
    draws.sort(key=lambda drawn: (drawn[0].order, chip_ids[drawn[1]]))
    return [_sample(chip, month_masks[chip], draw, options, size, crop) for draw, chip in draws]


@dataclass(frozen=True)
class _Draw:
    """Uniform numbers of one sample of a chip in one epoch.

    All are drawn whatever the options, so switching one augmentation off leaves the others
    as they were.
    """

    months: NDArray[np.float64]  # [12]
    order: float
    top: float
    left: float
    flip: float
    turns: float
    rotate: float
    angle: float
    centre_y: float
    centre_x: float
    drop: float
    seed: float


def _draw(seed: int, epoch: int, chip_id: str, number: int) -> _Draw:
    name = int.from_bytes(hashlib.sha256(chip_id.encode()).digest()[:16], "little")
    # The first sample's numbers are those of a run with one sample a chip.
    entropy = [seed, epoch, name] + [number] * (number > 0)
    generator = np.random.default_rng(np.random.SeedSequence(entropy))
    return _Draw(generator.random(MONTH_COUNT), *generator.random(11).tolist())


def _kept_months(
    present: NDArray[np.bool_], draw: _Draw, options: AugmentationOptions
) -> tuple[int, ...]:
    months = np.flatnonzero(present)
    if draw.drop < options.month_dropout_probability:
        kept = months[draw.months[months] >= options.month_drop_rate]
        # Were all dropped, the one that came closest to staying stays.
        months = kept if len(kept) else months[[np.argmax(draw.months[months])]]
    return tuple(months.tolist())


def _sample(
    chip: int,
    present: NDArray[np.bool_],
    draw: _Draw,
    options: AugmentationOptions,
    size: tuple[int, int],
    crop: int | None,
) -> Sample:
    height, width = size
    side_y, side_x = (height, width) if crop is None else (crop, crop)
    turns = int(draw.turns * 4) if options.quarter_turns else 0
    if side_y != side_x:
        turns -= turns % 2  # a quarter turn would swap the sides
    low, high = options.rotation_range_deg
    rotates = draw.rotate < options.rotation_probability
    reach = 2.0 * options.rotation_centre_jitter
    return Sample(
        chip=chip,
        months=_kept_months(present, draw, options),
        top=math.floor(draw.top * (height - side_y + 1)),
        left=math.floor(draw.left * (width - side_x + 1)),
        flip=options.flip and draw.flip < 0.5,
        quarter_turns=turns,
        rotation_deg=low + draw.angle * (high - low) if rotates else 0.0,
        centre_yx=(0.5 + reach * (draw.centre_y - 0.5), 0.5 + reach * (draw.centre_x - 0.5))
        if rotates
        else _MIDDLE_YX,
        seed=int(draw.seed * 2**53) if options.brightness else 0,
    )


def batches_of(
    samples: Sequence[Sample], batch_size: int, *, drop_last: bool
) -> list[list[Sample]]:
    """Consecutive samples in batches; the last may be smaller unless it is dropped."""
    batches = [
        list(samples[start : start + batch_size]) for start in range(0, len(samples), batch_size)
    ]
    return [batch for batch in batches if not drop_last or len(batch) == batch_size]


def parts_of(batch: Sequence[Sample], count: int) -> list[list[Sample]]:
    """A batch cut into ``count`` consecutive parts, even to one sample; empty where it is short."""
    cuts = [len(batch) * part // count for part in range(count + 1)]
    return [list(batch[a:b]) for a, b in itertools.pairwise(cuts)]
