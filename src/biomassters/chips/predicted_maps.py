"""Predicted maps on disk, one ``{chip_id}_agbm.tif`` a chip, read one at a time.

``write_predictions`` makes a folder that is finished when its manifest stands; ``PredictionFolder``
reads it, ``MapFolder`` reads maps that anybody wrote. What a map was made with: ``provenance``.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.archive.layout import label_name
from biomassters.chips.provenance import UNKNOWN, Provenance, map_tags
from biomassters.errors import BadInputError
from biomassters.io.files import publish_folder
from biomassters.io.raster import read_raster, write_raster
from biomassters.io.raster_spec import Georeference

_MANIFEST = "predictions.json"
_BAND_NAMES = ("AGB, Mg/ha", "lower bound of AGB, Mg/ha", "upper bound of AGB, Mg/ha")


@dataclass(frozen=True, eq=False)
class Prediction:
    """One predicted map.

    Attributes:
        chip_id: Name of the chip.
        agb_mg_per_ha: float32 [H, W].
        georeference: Where the chip lies, or None.
        bounds_mg_per_ha: Lower and upper bound, float32 [H, W] each, or None.
    """

    chip_id: str
    agb_mg_per_ha: NDArray[np.float32]
    georeference: Georeference | None = None
    bounds_mg_per_ha: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None


class PredictionFolder(Mapping[str, NDArray[np.float32]]):
    """A finished folder of predictions: chip id → float32 [H, W], Mg/ha.

    Raises:
        BadInputError: The folder is missing or was never finished.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            manifest = json.loads((self.path / _MANIFEST).read_text())
        except (OSError, ValueError):
            raise BadInputError(
                f"{self.path} holds no finished predictions; run the inference pipeline first."
            ) from None
        self.weights: str = manifest["weights"]
        self.weights_fingerprint: str | None = manifest.get("weights_fingerprint")
        self.provenance = Provenance.from_dict(manifest.get("provenance"))
        self._chip_ids: dict[str, None] = dict.fromkeys(manifest["chip_ids"])  # an ordered set

    def file(self, chip_id: str) -> Path:
        """Path of one chip's GeoTIFF."""
        return self.path / label_name(chip_id)

    def check_files(self) -> None:
        """Compare the folder with its manifest.

        Raises:
            BadInputError: A map is missing, or a TIFF is there that was not predicted with the
                others.
        """
        names = {label_name(chip_id) for chip_id in self}
        there = {file.name for file in self.path.glob("*.tif")}
        faults = (
            (names - there, "lacks", "predict again"),
            (there - names, "holds the foreign file", "remove it"),
        )
        for files, what, remedy in faults:
            if files:
                raise BadInputError(
                    f"{self.path} {what} {min(files)} ({len(files)} such); {remedy}."
                )

    def read(self, chip_id: str) -> Prediction:
        """One chip's map, where it lies, and its bounds if they were written."""
        image, georeference = read_raster(self.file(chip_id))
        bounds = (image[1], image[2]) if len(image) == 3 else None
        return Prediction(chip_id, image[0], georeference, bounds)

    def __getitem__(self, chip_id: str) -> NDArray[np.float32]:
        if chip_id not in self:
            raise KeyError(chip_id)
        return self.read(chip_id).agb_mg_per_ha

    def __contains__(self, chip_id: object) -> bool:
        return chip_id in self._chip_ids  # Mapping's own way would read the map

    def __iter__(self) -> Iterator[str]:
        return iter(self._chip_ids)

    def __len__(self) -> int:
        return len(self._chip_ids)


def write_predictions(
    path: Path,
    predictions: Iterable[Prediction],
    weights: str,
    weights_fingerprint: str | None = None,
    provenance: Provenance | None = None,
    intervals: str | None = None,
) -> PredictionFolder:
    """Write one ``{chip_id}_agbm.tif`` a chip into a folder that appears when complete.

    Earlier predictions at the same place stay until the new ones are whole. The maps are taken one
    at a time; which weights made them and how, and what is to be known of their bounds
    (``intervals``), stands in the files' tags and in the folder's manifest.
    """
    growing = path.with_name(f"{path.name}.partial")
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(parents=True)
    provenance = provenance or UNKNOWN
    tags = map_tags(weights, weights_fingerprint, provenance.trained_on)
    if intervals is not None:
        tags["intervals"] = intervals
    chip_ids = []
    for one in predictions:
        bands = np.stack([one.agb_mg_per_ha, *(one.bounds_mg_per_ha or ())])
        names = _BAND_NAMES[: len(bands)]
        file = growing / label_name(one.chip_id)
        write_raster(file, bands, one.georeference, names, tuple(tags.items()))
        chip_ids.append(one.chip_id)
    manifest = {
        "weights": weights,
        "weights_fingerprint": weights_fingerprint,
        "provenance": provenance.to_dict(),
        "chip_ids": chip_ids,
    }
    (growing / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    publish_folder(growing, path)
    return PredictionFolder(path)


class MapFolder(Mapping[str, NDArray[np.float32]]):
    """``{chip_id}_agbm.tif`` anywhere below a folder, whoever wrote them.

    A map of one band is float32 [H, W]; others come as they are, [bands, H, W], to be refused.

    Raises:
        BadInputError: A chip has two files.
    """

    def __init__(self, folder: Path) -> None:
        suffix = label_name("")
        self._files: dict[str, Path] = {}
        for file in sorted(folder.rglob(f"*{suffix}")):
            chip_id = file.name.removesuffix(suffix)
            if chip_id in self._files:
                raise BadInputError(
                    f"{folder} holds chip {chip_id} twice: {self._files[chip_id]} and {file}; "
                    "remove one."
                )
            self._files[chip_id] = file

    def __getitem__(self, chip_id: str) -> NDArray[np.float32]:
        image, _ = read_raster(self._files[chip_id])
        return image[0] if len(image) == 1 else image

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
