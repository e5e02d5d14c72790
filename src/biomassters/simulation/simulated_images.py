"""A year of images by sensor: who looks at the landscape, for chips and regions alike.

A further sensor of ``chips/bands`` is a function in ``SIMULATED`` here. Begin with ``radar`` or
``optical`` for what such a function does.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import S1, S2, SENSORS
from biomassters.simulation.landscape import Landscape
from biomassters.simulation.optical import make_reflectance
from biomassters.simulation.options import YearOptions
from biomassters.simulation.radar import make_backscatter
from biomassters.simulation.random_fields import one_blas_thread
from biomassters.simulation.year import Availability, Weather

MakeYear = Callable[
    [Landscape, Weather, Availability, YearOptions, np.random.Generator], NDArray[Any]
]
"""Gives [12, bands, H, W] in the archive's type and unit, ``nodata`` where there is no data."""

SIMULATED: Mapping[str, MakeYear] = {
    S1.name: make_backscatter,
    S2.name: make_reflectance,
}


@one_blas_thread
def simulate_year(
    landscape: Landscape,
    weather: Weather,
    available: Availability,
    options: YearOptions,
    random: Callable[[int], np.random.Generator],
) -> dict[str, NDArray[Any]]:
    """A year of every sensor.

    Args:
        landscape: What is looked at.
        weather: The year's weather.
        available: Which images exist.
        options: Speckle and clouds.
        random: A generator for the sensor of each column.

    Returns:
        By sensor [12, bands, H, W], as ``Chip.images``.
    """
    return {
        sensor.name: SIMULATED[sensor.name](
            landscape, weather, available, options, random(sensor.column)
        )
        for sensor in SENSORS
    }
