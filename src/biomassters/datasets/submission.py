"""The submission archive as a Kedro dataset."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from biomassters.chips.predicted_maps import PredictionFolder
from biomassters.submission.build import write_submission


@dataclass(frozen=True)
class Submission:
    """What is to be handed in.

    Attributes:
        predictions: Maps of the test chips.
        chip_ids: Every chip that must be in it, and no other.
        chip_size: Height and width of a map in pixels.
    """

    predictions: PredictionFolder
    chip_ids: tuple[str, ...]
    chip_size: tuple[int, int]


class SubmissionDataset(AbstractDataset[Submission, Path]):
    """One archive of ``{chip_id}_agbm.tif`` files, checked before it takes its name.

    Example:
        >>> path = "data/07_model_output/simulated/submission.tar.gz"
        >>> SubmissionDataset(filepath=path).load()  # doctest: +SKIP
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Point at a submission.

        Args:
            filepath: The archive; its suffix chooses the format.
            metadata: For other tools, ignored here.
        """
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """The path of the finished archive."""
        return self._filepath

    def save(self, data: Submission) -> None:
        """Check and write; an earlier submission stays if this one fails."""
        write_submission(self._filepath, data.predictions, data.chip_ids, data.chip_size)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
