"""A folder of predicted maps as a Kedro dataset."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from biomassters.chips.predicted_maps import Prediction, PredictionFolder, write_predictions
from biomassters.chips.provenance import Provenance


@dataclass(frozen=True)
class Predictions:
    """Maps to be written.

    Attributes:
        maps: One prediction a chip, made while they are written.
        weights: Which weights make them.
        weights_fingerprint: Of these weights.
        provenance: How they make the maps.
        intervals: What is to be known of the bounds, if there are any.
    """

    maps: Iterable[Prediction]
    weights: str
    weights_fingerprint: str | None = None
    provenance: Provenance | None = None
    intervals: str | None = None


class PredictionsDataset(AbstractDataset[Predictions, PredictionFolder]):
    """GeoTIFFs named ``{chip_id}_agbm.tif``, of one band, or of three with lower and upper bounds.

    The folder is complete or not there.

    Example:
        >>> path = "data/07_model_output/simulated/test"
        >>> PredictionsDataset(filepath=path).load()  # doctest: +SKIP
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Point at a folder of predictions.

        Args:
            filepath: The folder.
            metadata: For other tools, ignored here.
        """
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> PredictionFolder:
        """Open the folder; raises BadInputError when it is missing or unfinished."""
        return PredictionFolder(self._filepath)

    def save(self, data: Predictions) -> None:
        """Predict and write; the folder appears when it is complete."""
        write_predictions(
            self._filepath,
            data.maps,
            data.weights,
            data.weights_fingerprint,
            data.provenance,
            data.intervals,
        )

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
