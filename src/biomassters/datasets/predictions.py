"""A folder of predicted maps, and a submission made of one, as Kedro datasets."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from biomassters.chips.predicted_maps import Prediction, PredictionFolder, write_predictions
from biomassters.chips.provenance import Provenance
from biomassters.datasets.paths import LocalDataset
from biomassters.submission.build import write_submission


@dataclass(frozen=True)
class Predictions:
    """Maps to be written."""

    maps: Iterable[Prediction]  # one prediction a chip, made while they are written
    weights: str  # which weights make them
    weights_fingerprint: str | None = None  # of these weights
    provenance: Provenance | None = None  # how they make the maps
    intervals: str | None = None  # what is to be known of the bounds, if there are any


class PredictionsDataset(LocalDataset[Predictions, PredictionFolder]):
    """GeoTIFFs named ``{chip_id}_agbm.tif``, of one band, or of three with lower and upper bounds.

    The folder is complete or not there.

    Example:
        >>> path = "data/07_model_output/simulated/test"
        >>> PredictionsDataset(filepath=path).load()  # doctest: +SKIP
    """

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


@dataclass(frozen=True)
class Submission:
    """What is to be handed in."""

    predictions: PredictionFolder  # maps of the test chips
    chip_ids: tuple[str, ...]  # every chip that must be in it, and no other
    chip_size: tuple[int, int]  # height and width of a map in pixels


class SubmissionDataset(LocalDataset[Submission, Path]):
    """One archive of ``{chip_id}_agbm.tif`` files, checked before it takes its name.

    Example:
        >>> path = "data/07_model_output/simulated/submission.tar.gz"
        >>> SubmissionDataset(filepath=path).load()  # doctest: +SKIP
    """

    def load(self) -> Path:
        """The path of the finished archive."""
        return Path(self._filepath)

    def save(self, data: Submission) -> None:
        """Check and write; an earlier submission stays if this one fails."""
        write_submission(self._filepath, data.predictions, data.chip_ids, data.chip_size)
