"""Brightness varied from sample to sample, as places, years and sensors vary it.

A network that learns from one simulation, or from one place, learns the exact levels of its bands,
and no other place shares these. ``change_brightness`` takes this crutch away (domain randomization:
Tobin et al. 2017, arXiv 1703.06907): what is left to learn from is contrast within the image and
between bands and months.

Spreads are one standard deviation at strength 1. They are wider than the sensors' own errors (1 dB
at three deviations, 5 %), for they stand for soils, plants and the height of the sun as well.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from biomassters.chips.bands import BAND_NAMES, OPTICAL_RANGE, S1, S2, channels
from biomassters.loading.samples import Sample

# Radar, dB.
SHARED_DB, BAND_DB, MONTH_DB, BAND_AND_MONTH_DB = 0.7, 0.7, 0.3, 0.2
# Reflectance, of its logarithm.
SHARED, RANGE, BAND, MONTH, BAND_AND_MONTH = 0.06, 0.10, 0.05, 0.06, 0.03


def brightness_changes(
    samples: Sequence[Sample], strength: float, range_C: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw what is done to each image, from the samples' own seeds.

    Args:
        samples: One per chip.
        strength: As ``AugmentationOptions.brightness``.
        range_C: By what each band was divided, float32 [15] (``BandScaler.range``).

    Returns:
        Factors and what is added, float32 [M, 15, 1, 1] on the device of ``range_C``, of images
        that are numbered through the batch. Cloud probability stays as it is.
    """
    radar, optical = channels(S1.bands), channels(S2.measured)
    gain_MC = np.ones((sum(len(sample.months) for sample in samples), len(BAND_NAMES)), np.float32)
    added_MC = np.zeros_like(gain_MC)
    start = 0
    for sample in samples:
        rows = slice(start, start + len(sample.months))
        start = rows.stop
        # All twelve months are drawn, so that one left out leaves the others as they were.
        draw = np.random.default_rng(sample.seed).standard_normal
        bands = len(S1.bands)
        db = SHARED_DB * draw((1, 1)) + BAND_DB * draw((1, bands))
        db = db + MONTH_DB * draw((12, 1)) + BAND_AND_MONTH_DB * draw((12, bands))
        bands = len(OPTICAL_RANGE)
        log = (
            SHARED * draw((1, 1)) + RANGE * draw((1, 4))[:, OPTICAL_RANGE] + BAND * draw((1, bands))
        )
        log = log + MONTH * draw((12, 1)) + BAND_AND_MONTH * draw((12, bands))
        added_MC[rows, radar] = strength * db[list(sample.months)]
        gain_MC[rows, optical] = np.exp(strength * log[list(sample.months)])
    gain, added = (torch.from_numpy(table).to(range_C.device) for table in (gain_MC, added_MC))
    return gain[..., None, None], (added / range_C)[..., None, None]


def change_brightness(x_MCHW: Tensor, gain_MC11: Tensor, added_MC11: Tensor) -> Tensor:
    """Change scaled images in place; what is without data, and so 0, stays 0."""
    radar = channels(S1.bands)
    x_MCHW.mul_(gain_MC11)
    x_MCHW[:, radar] += added_MC11[:, radar] * (x_MCHW[:, radar] != 0)
    return x_MCHW
