"""What a user may turn in a simulated region."""

from pydantic import Field, field_validator

from biomassters.chips.bands import MONTH_COUNT
from biomassters.options import Options


class RegionSimulationOptions(Options):
    """Size, place, months and weather of a simulated region."""

    seed: int = Field(
        20230115, ge=0, description="Chooses the landscape and the weather, as for the archive"
    )
    width: int = Field(2048, ge=32, le=200_000, description="Columns, in 10 m pixels")
    height: int = Field(2048, ge=32, le=200_000, description="Rows, in 10 m pixels")
    months: tuple[int, ...] = Field(
        tuple(range(MONTH_COUNT)), min_length=1, description="Months to write, 0 (September) to 11"
    )
    cloudiness: float = Field(
        1.0, ge=0, le=3, description="Factor on the cloud cover of the Sentinel-2 composites"
    )
    speckle_looks: float = Field(
        20.0, ge=1, description="Equivalent number of looks of a monthly Sentinel-1 composite"
    )
    missing_images: bool = Field(
        True, description="Whether months, orbits and swath borders are missing as in the archive"
    )
    crs: str = Field("EPSG:3067", min_length=1, description="Coordinate system, in metres")
    west_m: float = Field(400_000.0, description="Easting of the left border")
    north_m: float = Field(6_900_000.0, description="Northing of the upper border")

    @field_validator("months")
    @classmethod
    def _known_months(cls, months: tuple[int, ...]) -> tuple[int, ...]:
        if any(month not in range(MONTH_COUNT) for month in months):
            raise ValueError(f"months are 0 (September) to {MONTH_COUNT - 1} (August)")
        return tuple(sorted(set(months)))
