"""How a chip is varied while it is read; no torch, so that the command line starts fast."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from biomassters.options import Options

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class AugmentationOptions(Options):
    """How a chip is varied from epoch to epoch."""

    flip: bool = Field(default=True, description="Mirror left to right every other time.")
    quarter_turns: bool = Field(default=True, description="Turn by 0, 90, 180 or 270 degrees.")
    rotation_probability: Probability = Field(
        default=0.3,
        description="Share of samples turned by an arbitrary angle as well. Reference: 0.7.",
    )
    rotation_range_deg: tuple[float, float] = Field(
        default=(-45.0, 45.0), description="Smallest and largest arbitrary angle, degrees."
    )
    rotation_centre_jitter: float = Field(
        default=0.1,
        ge=0.0,
        le=0.5,
        description="Farthest the centre may lie from the middle, in sides.",
    )
    border: Literal["symmetric", "reflect"] = Field(
        default="symmetric",
        description="How a chip goes on beyond its border when it is turned: mirrored with its "
        "outermost pixels repeated, or, as the reference, without repeating them.",
    )
    month_dropout_probability: Probability = Field(
        default=0.25, description="Share of samples that lose months. Reference: 0.5."
    )
    month_drop_rate: float = Field(
        default=0.3,
        ge=0.0,
        lt=1.0,
        description="Chance of each month of such a sample to be left out; never all.",
    )

    brightness: float = Field(
        default=0.0,
        ge=0.0,
        description="How far a sample's brightness is changed at random, in part band by band and "
        "month by month: at 1 by 1 dB of radar and 14 % of reflectance (one standard deviation).",
    )

    @field_validator("rotation_range_deg")
    @classmethod
    def _ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not -180.0 <= value[0] <= value[1] <= 180.0:
            raise ValueError(
                f"{value} is not a range of angles; give the smaller one first, "
                "both between -180 and 180."
            )
        return value
