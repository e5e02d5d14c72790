"""What a user may turn in the simulation."""

from pydantic import Field, field_validator

from biomassters.options import Options

CHIP_STEP_PIXELS = 32


class SimulationOptions(Options):
    """Size, seed and weather of a simulated archive.

    What is not an option is a constant with its source, beside the formula that uses it.
    """

    seed: int = Field(20230115, ge=0, description="Chooses the landscape and the weather")
    train_chips: int = Field(200, ge=1, description="Chips with a label")
    test_chips: int = Field(24, ge=0, description="Chips without a label")
    chip_size: int = Field(96, gt=0, description="Rows and columns of a chip, in 10 m pixels")
    cloudiness: float = Field(
        1.0, ge=0, le=3, description="Factor on the cloud cover of the Sentinel-2 composites"
    )
    speckle_looks: float = Field(
        20.0, ge=1, description="Equivalent number of looks of a monthly Sentinel-1 composite"
    )
    missing_images: bool = Field(
        True, description="Whether months, orbits and swath borders are missing as in the archive"
    )

    @field_validator("chip_size")
    @classmethod
    def _fits_the_network(cls, chip_size: int) -> int:
        if chip_size % CHIP_STEP_PIXELS:
            nearest = max(CHIP_STEP_PIXELS, round(chip_size / CHIP_STEP_PIXELS) * CHIP_STEP_PIXELS)
            raise ValueError(f"must be a multiple of {CHIP_STEP_PIXELS}, for example {nearest}")
        return chip_size
