"""One chip in memory: a year of images, which of them exist, and the label.

``archive.archive`` reads chips from TIFFs, ``store.reader`` from a chip store. Scoring, baselines
and pictures take either's labelled chips by index (``LabelledChips``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import MONTH_COUNT, S1, S1_LEAST_DB, S2
from biomassters.errors import BadInputError
from biomassters.io.raster_spec import Georeference


@dataclass(frozen=True, eq=False)
class Chip:
    """A year of images of one patch of forest.

    Attributes:
        chip_id: Name of the chip.
        split: ``"train"`` or ``"test"``.
        s1_db: float32 [12, 4, H, W], dB; −9999 (anything below −100) where an orbit has no
            data and everywhere in a month without a Sentinel-1 image.
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
        expected = {
            "s1_db": (MONTH_COUNT, len(S1.bands), *self.shape),
            "s2": (MONTH_COUNT, len(S2.bands), *self.shape),
            "present": (MONTH_COUNT, 2),
            "agb_mg_per_ha": self.shape,
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                name = "label" if name == "agb_mg_per_ha" else name
                raise ValueError(
                    f"Chip {self.chip_id}: {name} has shape {array.shape}, not {shape}."
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


class LabelledChips(Protocol):
    """Chips by index; a split of a chip store is one. ``height`` and ``width`` are in pixels."""

    @property
    def chip_ids(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    def read_chip(self, index: int) -> Chip: ...  # noqa: D102
    def read_agb_into(self, index: int, out: NDArray[np.float32]) -> None: ...  # noqa: D102


def positions(chips: LabelledChips, chip_ids: Sequence[str]) -> list[int]:
    """Index of each named chip.

    Raises:
        BadInputError: No chip is named, or one that isn't there.
    """
    if not chip_ids:
        raise BadInputError("No chips are named to score; check training.folds.")
    index_of = {chip_id: index for index, chip_id in enumerate(chips.chip_ids)}
    unknown = [chip_id for chip_id in chip_ids if chip_id not in index_of]
    if unknown:
        raise BadInputError(
            f"Chip {unknown[0]} is not in the chip store ({len(unknown)} of {len(chip_ids)} chips "
            "asked for aren't); run data_engineering again, so that folds and store agree."
        )
    return [index_of[chip_id] for chip_id in chip_ids]


def read_label(chips: LabelledChips, index: int) -> NDArray[np.float32]:
    """A chip's AGB, float32 [H, W], Mg/ha."""
    agb_HW = np.empty((chips.height, chips.width), np.float32)
    chips.read_agb_into(index, agb_HW)
    return agb_HW
