"""Options of scoring and the report."""

from pydantic import Field

from biomassters.options import Options


class ReportingOptions(Options):
    """What is compared and shown."""

    dataset: str = Field(default="simulated", description="Name of the data, in the title.")
    simulated: bool = Field(
        default=True, description="Whether the data come from this project's simulation."
    )
    seed: int = Field(
        default=20230126, ge=0, lt=2**32, description="Of the baselines' sample of pixels."
    )
    ridge_chips: int = Field(
        default=1000,
        gt=0,
        description="Training chips at most that the ridge regression is fitted on, at random.",
    )
    ridge_pixels_per_chip: int = Field(
        default=256, gt=0, description="Pixels at random from each of these chips."
    )
    ridge_alpha: float = Field(
        default=1.0, ge=0.0, description="Strength of the ridge penalty on standardised features."
    )
    picture_chips: int = Field(
        default=4, gt=0, le=24, description="Chips shown as maps, from the best to the worst."
    )
    attention_chips: int = Field(
        default=100, gt=0, description="Held-out chips at most whose attention is read."
    )
    known_mean: float = Field(
        default=63.5,
        ge=0.0,
        description="Biomass that the simplest answer predicts everywhere, Mg/ha, where labels of "
        "an archive are compared with maps by weights that never saw it (real_check). 63.5 is the "
        "mean of BioMassters' training labels.",
    )
    listed_chips: int = Field(
        default=10, ge=0, description="Worst chips that the report lists by name."
    )
