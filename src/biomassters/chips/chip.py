"""One chip in memory: a year of images, which of them exist, and the label.

``archive.archive`` reads chips from TIFFs, ``store.reader`` from a chip store. Scoring, baselines
and pictures take either's labelled chips by index (``LabelledChips``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import MONTH_COUNT, SENSOR, SENSOR_OF_BAND, SENSORS
from biomassters.errors import BadInputError
from biomassters.io.raster_spec import Georeference


@dataclass(frozen=True, eq=False)
class Chip:
    """A year of images of one patch of forest.

    Attributes:
        chip_id: Name of the chip.
        split: ``"train"`` or ``"test"``.
        images: By sensor [12, bands, H, W] in the archive's type and unit: ``"s1"`` float32 in dB,
            −9999 (anything below −100) where an orbit has no data; ``"s2"`` uint16, reflectance
            × 10,000 and cloud probability. A month without an image holds no data anywhere.
        present: bool [12, sensors], which images exist, in the order of ``SENSORS``.
        agb_mg_per_ha: float32 [H, W], or None without a label.
        georeference: Where the chip lies, or None (the official archive says nothing).
    """

    chip_id: str
    split: str
    images: Mapping[str, NDArray[Any]]
    present: NDArray[np.bool_]
    agb_mg_per_ha: NDArray[np.float32] | None = None
    georeference: Georeference | None = None

    def __post_init__(self) -> None:
        if self.images.keys() != SENSOR.keys():
            raise ValueError(
                f"Chip {self.chip_id}: images of {', '.join(self.images)}, not of "
                f"{', '.join(SENSOR)}."
            )
        size = self.shape
        expected: dict[str, tuple[NDArray[Any], tuple[int, ...]]] = {
            sensor.name: (self.images[sensor.name], (MONTH_COUNT, len(sensor.bands), *size))
            for sensor in SENSORS
        }
        expected["present"] = self.present, (MONTH_COUNT, len(SENSORS))
        if self.agb_mg_per_ha is not None:
            expected["label"] = self.agb_mg_per_ha, size
        for name, (array, shape) in expected.items():
            if array.shape != shape:
                raise ValueError(
                    f"Chip {self.chip_id}: {name} has shape {array.shape}, not {shape}."
                )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = next(iter(self.images.values())).shape[-2:]
        return height, width

    @cached_property
    def month_mask(self) -> NDArray[np.bool_]:
        """Bool [12]: months with an image of at least one sensor."""
        return np.asarray(self.present.any(axis=1))

    def seen(self, sensor: str, month: int) -> NDArray[np.bool_]:
        """Bool [H, W]: pixels of a month's image that hold data in any band that measures."""
        return SENSOR[sensor].seen(self.images[sensor][month])

    def valid(self, sensor: str, month: int) -> NDArray[np.bool_]:
        """Bool [bands, H, W]: pixels of a month's image that hold data."""
        return SENSOR[sensor].has_data(self.images[sensor][month])

    def band(self, name: str) -> NDArray[Any]:
        """A band's year, [12, H, W]."""
        sensor = SENSOR_OF_BAND[name]
        return self.images[sensor.name][:, sensor.bands.index(name)]


class LabelledChips(Protocol):
    """Chips by index; a split of a chip store is one."""

    @property
    def chip_ids(self) -> Sequence[str]:
        """In the order of their indices."""
        ...

    @property
    def height(self) -> int:
        """Of every chip, pixels."""
        ...

    @property
    def width(self) -> int:
        """Of every chip, pixels."""
        ...

    def read_chip(self, index: int) -> Chip:
        """Images and label."""
        ...

    def read_agb_into(self, index: int, out: NDArray[np.float32]) -> None:
        """The label alone into ``out``, float32 [height, width], Mg/ha."""
        ...


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
