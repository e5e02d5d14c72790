"""Options of intervals and totals."""

from pydantic import Field

from biomassters.options import Options


class UncertaintyOptions(Options):
    """How intervals are calibrated and totals are counted."""

    level: float = Field(
        default=0.9, gt=0.0, lt=1.0, description="Share of targets that an interval must hold."
    )
    parts: int = Field(
        default=10,
        ge=2,
        description="Parts of the held-out chips: coverage is measured on each with intervals "
        "calibrated on the others.",
    )
    minimum_pixels: int = Field(
        default=2000, gt=0, description="Pixels in every bin of predicted biomass, at least."
    )
    minimum_chips: int = Field(
        default=100, gt=0, description="Chips in every bin of the chip means' intervals, at least."
    )
    class_tolerance: float = Field(
        default=0.065,
        gt=0.0,
        le=1.0,
        description="How far a target class's coverage may lie from the level.",
    )
    minimum_class_pixels: int = Field(
        default=5000, gt=0, description="Classes with fewer pixels are not balanced."
    )
    shared_sd: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Standard deviation of what a whole region is wrong by beyond what held-out "
        "chips show (another year, other sensors), as a share of its mean biomass.",
    )
    carbon_fraction: float = Field(
        default=0.47,
        gt=0.0,
        le=1.0,
        description="Carbon in dry biomass: IPCC 2006 Guidelines, volume 4, table 4.3.",
    )
    resamples: int = Field(default=2000, gt=0, description="Resamples of a bootstrap over chips.")
    seed: int = Field(default=20230126, ge=0, lt=2**32, description="Of parts and resampling.")
