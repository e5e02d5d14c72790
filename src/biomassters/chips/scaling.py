"""Constants of the min-max scaling, by band name.

The network scales its input itself (``BandScaler``); what it scales by travels with the
weights.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.bands import BAND_NAMES, BANDS, SENSORS
from biomassters.errors import BadInputError
from biomassters.io.files import JsonModel


@dataclass(frozen=True)
class BandScaling(JsonModel):
    """What each band's values are scaled by: (x − minimum) / (maximum − minimum), not clipped.

    Attributes:
        minimum: Value that becomes 0, by band name, in the band's unit.
        maximum: Value that becomes 1, likewise.

    Raises:
        ValueError: If a band is missing or unknown, or its range is empty.
    """

    minimum: dict[str, float]
    maximum: dict[str, float]

    def __post_init__(self) -> None:
        for name, values in (("minimum", self.minimum), ("maximum", self.maximum)):
            wrong = set(values) ^ set(BAND_NAMES)
            if wrong:
                raise ValueError(f"Scaling {name} lacks or doesn't know {sorted(wrong)}.")
        for band in BAND_NAMES:
            if not self.minimum[band] < self.maximum[band] < np.inf:
                raise ValueError(
                    f"Scaling of {band} from {self.minimum[band]} to {self.maximum[band]} is empty."
                )

    @classmethod
    def reference(cls) -> "BandScaling":
        """The constants of the challenge's first place."""
        return cls(
            {band.name: band.reference_min for band in BANDS},
            {band.name: band.reference_max for band in BANDS},
        )

    @classmethod
    def measured(cls, statistics: pd.DataFrame) -> "BandScaling":
        """The extremes of the training chips, by ``BandStatistics.to_frame``.

        A sensor whose pixels are 0 where never seen keeps 0 as minimum, so that such a pixel
        scales to 0 as an absent image does. A band with a value for none keeps its constants.

        Raises:
            BadInputError: If a band has no pixels or a single value.
        """
        minimum, maximum = cls.reference().minimum, cls.reference().maximum
        for sensor in SENSORS:
            for band in sensor.measured:
                if sensor.floor is not None:
                    minimum[band] = float(statistics["min"][band])
                maximum[band] = float(statistics["max"][band])
                if not minimum[band] < maximum[band]:
                    raise BadInputError(
                        f"Band {band} has too few different values in the usable training chips to "
                        "be scaled by its own statistics: choose the reference scaling."
                    )
        return cls(minimum, maximum)

    def offset_and_range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Minimum and (maximum − minimum), each float32 [bands] in the order of ``BANDS``."""
        minimum, maximum = (
            np.array([values[band] for band in BAND_NAMES])
            for values in (self.minimum, self.maximum)
        )
        return minimum.astype(np.float32), (maximum - minimum).astype(np.float32)
