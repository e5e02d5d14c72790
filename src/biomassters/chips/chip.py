"""One chip in memory: a year of images, which of them exist, and the label; no I/O."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import MONTH_COUNT, S1, S1_LEAST_DB, S2
from biomassters.io.raster_spec import Georeference


@dataclass(frozen=True, eq=False)
class Chip:
    """A year of images of one patch of forest.

    Attributes:
        chip_id: Name of the chip.
        split: ``"train"`` or ``"test"``.
        s1_db: float32 [12, 4, H, W], dB; −9999 (anything below −100) where an orbit has no
            data and everywhere in
            a month without a Sentinel-1 image.
        s2: uint16 [12, 11, H, W], reflectance × 10,000 and cloud probability; 0 everywhere
            in a month without a Sentinel-2 image.
        present: bool [12, 2], whether the Sentinel-1 and the Sentinel-2 image of a month exist.
        agb_mg_per_ha: float32 [H, W], or None without a label.
        georeference: Where the chip lies, or None (the official archive says nothing).
    """

    chip_id: str
    split: str
    s1_db: NDArray[np.float32]
    s2: NDArray[np.uint16]
    present: NDArray[np.bool_]
    agb_mg_per_ha: NDArray[np.float32] | None = None
    georeference: Georeference | None = None

    def __post_init__(self) -> None:
        height, width = self.s1_db.shape[-2:]
        expected = {
            "s1_db": (MONTH_COUNT, len(S1.bands), height, width),
            "s2": (MONTH_COUNT, len(S2.bands), height, width),
            "present": (MONTH_COUNT, 2),
        }
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape:
                raise ValueError(f"Chip {self.chip_id}: {name} has shape {found}, not {shape}.")
        if self.agb_mg_per_ha is not None and self.agb_mg_per_ha.shape != (height, width):
            raise ValueError(
                f"Chip {self.chip_id}: label has shape {self.agb_mg_per_ha.shape}, "
                f"not {(height, width)}."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.s1_db.shape[-2:]
        return height, width

    @cached_property
    def month_mask(self) -> NDArray[np.bool_]:
        """Bool [12]: months with an image of at least one sensor."""
        return self.present[:, 0] | self.present[:, 1]

    def s1_valid(self, month: int) -> NDArray[np.bool_]:
        """Bool [4, H, W]: pixels of a month's Sentinel-1 image that hold data."""
        return self.s1_db[month] >= S1_LEAST_DB

    def s2_valid(self, month: int) -> NDArray[np.bool_]:
        """Bool [H, W]: pixels of a month's Sentinel-2 image that hold any reflectance.

        The archive has no nodata value for Sentinel-2: a pixel never seen is 0 in every
        optical band (and 255 in CLP).
        """
        return self.s2[month, :-1].max(axis=0) > 0
