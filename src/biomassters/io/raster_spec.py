"""What one file of a chip should be, and what makes it damaged; no I/O.

``raster.py`` reads such files, ``chips/quality`` says which of an archive's are damaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biomassters.errors import BadInputError


class DamagedFileError(BadInputError):
    """A file of the archive that does not hold what it should.

    Args:
        path: The file, or its URL.
        reason: What is wrong with it, as the end of a sentence that begins with its name.
        remedy: What mends it.
    """

    def __init__(
        self, path: Path | str, reason: str, remedy: str = "fetch it again or leave it out"
    ) -> None:
        super().__init__(f"{path} {reason}: {remedy}.")
        self.path = path
        self.name = PurePosixPath(path).name
        self.reason = reason
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason, self.remedy)


@dataclass(frozen=True)
class Georeference:
    """Where a raster lies: WKT or ``EPSG:…``, and affine coefficients a … f, pixel to map units."""

    crs: str
    transform: tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class RasterSpec:
    """What a raster should be."""

    bands: int
    dtype: np.dtype
    shape: tuple[int, int] | None = None  # height and width in pixels; None: any will do

    def require(self, path: Path | str, bands: int, dtype: str, shape: tuple[int, int]) -> None:
        """Refuse a raster of other properties.

        Raises:
            DamagedFileError: It has any.
        """
        if bands != self.bands:
            fault = f"has {_counted(bands, 'band')} instead of {self.bands}"
        elif dtype != self.dtype.name:
            fault = f"holds {dtype} instead of {self.dtype.name} values"
        elif self.shape is not None and shape != self.shape:
            found, expected = ("{} x {}".format(*size) for size in (shape, self.shape))
            fault = f"has {found} pixels, the archive's other files {expected}"
        else:
            return
        raise DamagedFileError(path, fault)


def describe(subject: Path | str, damage: Sequence[DamagedFileError]) -> str:
    """One clause on the first of damaged files, called ``subject``, and the number of others."""
    clause = f"{subject} {damage[0].reason}"
    if len(damage) == 1:
        return clause
    others = _counted(len(damage) - 1, "other file")
    return f"{clause}, and {others} {'is' if len(damage) == 2 else 'are'} damaged"


def image_fault(image: NDArray) -> str | None:
    """What is wrong with the values of one month's image (float32 in dB or uint16), or None.

    An image that is nodata everywhere is not damaged.
    """
    if not image.any():
        return "is 0 everywhere"
    return _non_finite_fault(image) if image.dtype.kind == "f" else None


MOST_AGB = 100_000.0
"""Mg/ha: ten times what the tallest forests hold."""


def label_fault(agb_mg_per_ha: NDArray[np.float32], *, partly: bool = False) -> str | None:
    """What is wrong with the values of a label in Mg/ha, or None.

    ``partly``: whether its file says that NaN means no label; elsewhere NaN is damage.
    """
    labelled = agb_mg_per_ha[~np.isnan(agb_mg_per_ha)] if partly else agb_mg_per_ha
    if not labelled.size:
        return "has no labelled pixel"
    fault = _non_finite_fault(labelled)
    if fault is None and labelled.min() < 0:
        fault = f"has {_counted(int((labelled < 0).sum()), 'negative pixel')}"
    return fault


def _non_finite_fault(values: NDArray[np.floating]) -> str | None:
    # NaN and infinities survive into the extremes, which are quicker to find than a mask.
    if np.isfinite(values.min()) and np.isfinite(values.max()):
        return None
    return f"has {_counted(int((~np.isfinite(values)).sum()), 'NaN or infinite value')}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
