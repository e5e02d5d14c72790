"""Options of the data engineering pipeline."""

from typing import Literal

from pydantic import Field

from biomassters.chips.folds import FoldOptions
from biomassters.chips.quality.chip_table import InspectionOptions
from biomassters.chips.quality.verification import VerificationOptions
from biomassters.options import Options


class DataEngineeringOptions(Options):
    """From raw files to training-ready chips."""

    verification: VerificationOptions = Field(
        VerificationOptions(), description="What happens to files that are not as listed"
    )
    inspection: InspectionOptions = Field(InspectionOptions(), description="Which chips are usable")
    folds: FoldOptions = Field(FoldOptions(), description="How train chips are partitioned")
    scaling: Literal["reference", "measured"] = Field(
        "reference",
        description="Min-max constants of the bands: the first place's, or this archive's own",
    )
    codec: Literal["lz4", "zstd", "none"] = Field(
        "lz4", description="Compression of the chip store; 'none' reads fastest"
    )
