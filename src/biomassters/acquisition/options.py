"""Options of acquisition."""

from typing import Literal, Self

from pydantic import Field, model_validator

from biomassters.chips.bands import MONTH_COUNT, SENSOR
from biomassters.options import Options, Places

_KINDS = (*SENSOR, "label")


class SubsetOptions(Options):
    """Which of the listed files are wanted."""

    split: Literal["train", "test"] | None = Field(None, description="Of one split; null: both")
    sensors: tuple[Literal[(*_KINDS, "test_label")], ...] = Field(  # type: ignore[valid-type]
        _KINDS,
        min_length=1,
        description="Kinds of files; test_label: labels of the test chips, to be scored with, "
        "never to be learnt from",
    )
    months: tuple[int, ...] | None = Field(
        None, description=f"Months of the images, 0 (September) to {MONTH_COUNT - 1}; null: all"
    )
    chips: tuple[str, ...] | None = Field(None, description="Names of the chips; null: all")
    first: int | None = Field(
        None, ge=1, description="Only so many of these chips, by name; null: all"
    )


class AcquisitionOptions(Options):
    """Where the raw archive comes from, and how much of it."""

    source: str = Field(
        "s3",
        min_length=1,
        description="s3: the addresses in the metadata; or a folder, an http(s):// or an s3:// "
        "address that holds train_features, test_features and train_agbm",
    )
    region: Literal["us", "eu", "as"] = Field(
        "eu", description="Which of the metadata's three buckets; take the nearest"
    )
    endpoint: str | None = Field(
        None, description="Address of another S3-compatible service; null: Amazon's"
    )
    tar_parts: Places = Field(
        (),
        description="Paths or addresses of tar files, or of the pieces of one, in order; they are "
        "read as a stream instead of the source",
    )
    zips: Places = Field(
        (),
        description="Paths or addresses of zip files, of a split one the .zip beside its .z01, "
        ".z02 …; only the wanted files are read out of them, instead of from the source",
    )
    subset: SubsetOptions = Field(SubsetOptions(), description="Which files")
    parallel: int = Field(64, ge=1, le=1024, description="Files fetched at the same time")
    retries: int = Field(5, ge=0, description="Further tries for a file that came wrong or not")
    backoff_s: float = Field(
        0.5, ge=0, description="Pause before the second try; doubles with every further one"
    )
    timeout_s: float = Field(60.0, gt=0, description="Longest time for one try")

    @model_validator(mode="after")
    def _one_kind_of_archive(self) -> Self:
        if self.tar_parts and self.zips:
            raise ValueError("tar_parts and zips are both given; fetch from one after the other.")
        return self
