"""What a user may choose in the simulation.

What is not an option is a constant with its source, beside the formula that uses it.
"""

from typing import Annotated

from pydantic import Field, field_validator

from biomassters.chips.bands import MONTH_COUNT
from biomassters.options import Options

CHIP_STEP_PIXELS = 32

Strength = Annotated[float, Field(ge=0, le=3)]


class VarietyOptions(Options):
    """How simulated chips differ beyond the weather, and from real ones less.

    Each is a factor on spreads that ``simulation/sites.py`` cites: 0 leaves the mechanism out, 1
    takes the published spread.
    """

    levels: Strength = Field(
        0.0,
        description="Correct radar of open ground, young and old stands to the real chips' levels",
    )
    climate: Strength = Field(0.0, description="Mild and cold winters, with or without snow")
    layover: Strength = Field(
        0.0, description="Displacement of crowns towards the radar, to the west or to the east"
    )
    radar: Strength = Field(
        0.0,
        description="Soil moisture, roughness, canopy, incidence angle and calibration in radar",
    )
    vegetation: Strength = Field(
        0.0, description="Spectra of trees and understory, and the mixture of species"
    )
    phenology: Strength = Field(0.0, description="Dates of leaves and of green-up")
    atmosphere: Strength = Field(
        0.0, description="Sun and view angles, haze, and thin cloud that the mask has left"
    )
    resampling: bool = Field(
        False, description="Whether 20 m bands are whole pixels of their own grid"
    )
    seams: Strength = Field(0.0, description="Sentinel-2 months put together from two days")
    texture: Strength = Field(0.0, description="Contrast of single pixels, in radar and optics")
    relief: Strength = Field(0.0, description="Steepness of slopes, in radar and optics")
    structure: Strength = Field(
        0.0, description="Density, height and form of trees that biomass doesn't tell"
    )
    labels: Strength = Field(0.0, description="Noise and misregistration of laser-scanned labels")
    towns: bool = Field(
        False,
        description="Whether towns have streets and roofs of all heights, which labels take for "
        "trees",
    )


class YearOptions(Options):
    """A year of simulated images, be they of chips or of a region."""

    cloudiness: float = Field(
        1.0, ge=0, le=3, description="Factor on the cloud cover of the Sentinel-2 composites"
    )
    speckle_looks: float = Field(
        20.0, ge=1, description="Equivalent number of looks of a monthly Sentinel-1 composite"
    )
    missing_images: bool = Field(
        True, description="Whether months, orbits and swath borders are missing as in the archive"
    )


class SimulationOptions(YearOptions):
    """Size, seed and weather of a simulated archive."""

    seed: int = Field(20230115, ge=0, description="Chooses the landscape and the weather")
    train_chips: int = Field(200, ge=1, description="Chips with a label")
    test_chips: int = Field(24, ge=0, description="Chips without a label")
    chip_size: int = Field(96, gt=0, description="Rows and columns of a chip, in 10 m pixels")
    variety: VarietyOptions = VarietyOptions()

    @field_validator("chip_size")
    @classmethod
    def _fits_the_network(cls, chip_size: int) -> int:
        if chip_size % CHIP_STEP_PIXELS:
            nearest = max(CHIP_STEP_PIXELS, round(chip_size / CHIP_STEP_PIXELS) * CHIP_STEP_PIXELS)
            raise ValueError(f"must be a multiple of {CHIP_STEP_PIXELS}, for example {nearest}")
        return chip_size


class RegionSimulationOptions(YearOptions):
    """Size, place, months and weather of a simulated region."""

    seed: int = Field(
        20230115, ge=0, description="Chooses the landscape and the weather, as for the archive"
    )
    width: int = Field(2048, ge=32, le=200_000, description="Columns, in 10 m pixels")
    height: int = Field(2048, ge=32, le=200_000, description="Rows, in 10 m pixels")
    months: tuple[int, ...] = Field(
        tuple(range(MONTH_COUNT)), min_length=1, description="Months to write, 0 (September) to 11"
    )
    crs: str = Field("EPSG:3067", min_length=1, description="Coordinate system, in metres")
    west_m: float = Field(400_000.0, description="Easting of the left border")
    north_m: float = Field(6_900_000.0, description="Northing of the upper border")

    plots: int = Field(120, ge=16, le=100_000, description="Field plots of each sampling design")

    @field_validator("months")
    @classmethod
    def _known_months(cls, months: tuple[int, ...]) -> tuple[int, ...]:
        if any(month not in range(MONTH_COUNT) for month in months):
            raise ValueError(f"months are 0 (September) to {MONTH_COUNT - 1} (August)")
        return tuple(sorted(set(months)))


class SceneSimulationOptions(Options):
    """How the months of a simulated region are taken apart into scenes, as a catalogue has them."""

    seed: int = Field(20230115, ge=0, description="Chooses clouds, swaths and speckle")
    year: int = Field(2020, ge=2015, description="Year of the September that the months begin with")
    optical_scenes: int = Field(3, ge=1, le=10, description="Scenes of Sentinel-2 in a month")
    radar_scenes: int = Field(
        3, ge=1, le=10, description="Scenes of Sentinel-1 in a month and orbit"
    )
    cloud_share: float = Field(
        0.35,
        ge=0,
        le=0.9,
        description="Share of a scene under clouds; every place is clear in one of a month",
    )
