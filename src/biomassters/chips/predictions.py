"""A folder of predicted maps, one GeoTIFF a chip, finished when its manifest stands."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.chip import Georeference
from biomassters.chips.durable_files import publish_folder
from biomassters.chips.names import label_name
from biomassters.chips.raster import read_raster, write_raster
from biomassters.errors import BadInputError

_MANIFEST = "predictions.json"


@dataclass(frozen=True, eq=False)
class Prediction:
    """One predicted map.

    Attributes:
        chip_id: Name of the chip.
        agb_mg_per_ha: float32 [H, W].
        georeference: Where the chip lies, or None.
    """

    chip_id: str
    agb_mg_per_ha: NDArray[np.float32]
    georeference: Georeference | None = None


class PredictionFolder(Mapping[str, NDArray[np.float32]]):
    """Predicted maps on disk, read one at a time: chip id → float32 [H, W], Mg/ha.

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
        self._chip_ids: tuple[str, ...] = tuple(manifest["chip_ids"])
        self._members = frozenset(self._chip_ids)

    def file(self, chip_id: str) -> Path:
        """Path of one chip's GeoTIFF."""
        return self.path / label_name(chip_id)

    def __getitem__(self, chip_id: str) -> NDArray[np.float32]:
        if chip_id not in self._members:
            raise KeyError(chip_id)
        image, _ = read_raster(self.file(chip_id))
        return image[0]

    def __contains__(self, chip_id: object) -> bool:
        return chip_id in self._members  # Mapping's own way would read the map

    def __iter__(self) -> Iterator[str]:
        return iter(self._chip_ids)

    def __len__(self) -> int:
        return len(self._chip_ids)


def write_predictions(
    path: Path, predictions: Iterable[Prediction], weights: str
) -> PredictionFolder:
    """Write one ``{chip_id}_agbm.tif`` a chip into a folder that appears when complete.

    Earlier predictions at the same place stay until the new ones are whole.

    Args:
        path: The folder.
        predictions: The maps; taken one at a time.
        weights: Which weights they come from, for whoever reads the folder later.

    Returns:
        The folder, readable.
    """
    growing = path.with_name(f"{path.name}.partial")
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(parents=True)
    chip_ids = []
    for one in predictions:
        write_raster(growing / label_name(one.chip_id), one.agb_mg_per_ha, one.georeference)
        chip_ids.append(one.chip_id)
    manifest = {"weights": weights, "chip_ids": chip_ids}
    (growing / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    publish_folder(growing, path)
    return PredictionFolder(path)
