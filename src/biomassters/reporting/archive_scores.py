"""Maps of a labelled archive against its labels, beside two answers that need no network.

For weights that come from elsewhere, such as a simulation: nothing is trained or calibrated here.
``LabelledArchive`` chooses the chips, ``score_archive`` scores, ``render_archive_page`` shows them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from biomassters.chips.archive.archive import Archive
from biomassters.chips.chip import Chip
from biomassters.chips.quality.chip_table import InspectionOptions
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.metrics import AGB_UNIT, DensityHistogram, ScoreAccumulator, labelled_pixels
from biomassters.reporting.baselines import in_chip_regression
from biomassters.reporting.chip_maps import ChipPicture, example_maps
from biomassters.reporting.figure_style import to_svg
from biomassters.reporting.report import page_templates
from biomassters.uncertainty.cross_calibration import CoverageCounts
from biomassters.uncertainty.intervals import IntervalModel

ANSWERS = ("rmse", "linear_rmse", "mean_rmse")


class LabelledArchive:
    """The complete labelled chips of an archive, by index: see ``chips.chip.LabelledChips``.

    Complete is a chip with images of at least two months (the least that ``data_engineering``
    takes), of which none is listed and missing.

    Args:
        archive: The archive.

    Raises:
        BadInputError: It has no such chip.
    """

    def __init__(self, archive: Archive) -> None:
        labelled = [name for name in archive.chip_ids() if archive.label_path(name) is not None]
        least = InspectionOptions().minimum_months
        self.chip_ids = tuple(
            name
            for name in labelled
            if archive.month_count(name) >= least and not archive.undelivered_images(name)
        )
        self._archive = archive
        if not self.chip_ids:
            why = "none of them has all its images" if labelled else "none of them has a label"
            raise BadInputError(
                f"{archive.root} lists {len(archive.chip_ids())} chips, and {why}: name an archive "
                "with labels and images with '--params prediction_root=FOLDER', or map this one "
                "with '--pipelines prediction'."
            )
        self.height, self.width = archive.shape

    def read_chip(self, index: int) -> Chip:
        """Images and label of a chip."""
        return self._archive.read_chip(self.chip_ids[index])

    def read_agb_into(self, index: int, out: NDArray[np.float32]) -> None:
        """A chip's label, Mg/ha."""
        out[:] = self.read_chip(index).agb_mg_per_ha


@dataclass(eq=False)
class ArchiveScores:
    """Scores of an archive's chips.

    Attributes:
        intervals: Of the weights; None counts no coverage.
        known_mean: What the simplest answer predicts everywhere, Mg/ha.
        accumulator: The network's scores.
        density: Pixels by target and prediction.
        coverage: How often the intervals held.
    """

    intervals: IntervalModel | None
    known_mean: float
    accumulator: ScoreAccumulator = field(default_factory=ScoreAccumulator)
    density: DensityHistogram = field(default_factory=DensityHistogram)
    coverage: CoverageCounts = field(default_factory=CoverageCounts)
    _others: list[dict[str, float]] = field(default_factory=list)

    def add(self, chip: Chip, predicted_HW: NDArray[np.float32]) -> None:
        """Score a chip's map, Mg/ha, with negative biomass set to 0."""
        assert chip.agb_mg_per_ha is not None, "chosen for its label"
        predicted, target = labelled_pixels(predicted_HW.clip(min=0), chip.agb_mg_per_ha)
        linear, _ = labelled_pixels(in_chip_regression(chip), chip.agb_mg_per_ha)
        self.accumulator.update(chip.chip_id, predicted, target)
        self.density.update(chip.chip_id, predicted, target)
        if self.intervals is not None:
            mean = float(predicted.mean(dtype=np.float64))
            self.coverage.update(chip.chip_id, predicted, target, self.intervals, mean)
        self._others.append(
            {
                "correlation": correlation(predicted, target),
                "linear_rmse": rmse(linear, target),
                "mean_rmse": rmse(np.full_like(target, self.known_mean), target),
            }
        )

    def per_chip(self) -> pd.DataFrame:
        """One row a chip.

        Returns:
            chip_id; rmse, bias, target_mean, linear_rmse, mean_rmse in Mg/ha; correlation, NaN
            where map or label is constant.
        """
        own = self.accumulator.per_chip()[["chip_id", "rmse", "bias", "target_mean"]]
        return own.join(pd.DataFrame(self._others))

    def summary(self, no_intervals: str) -> dict[str, Any]:
        """Ready for JSON: means over the chips, by biomass class, and ``chips``, a row each.

        Args:
            no_intervals: Why no coverage was counted.
        """
        table, by_class = self.per_chip(), self.accumulator.by_class()
        covered: dict[str, Any] = {"note": no_intervals}
        if self.intervals is not None:
            covered = {"level": self.intervals.level, **self.coverage.summary()}
        means = {f"{name}_per_chip_mean": float(table[name].mean()) for name in ANSWERS}
        return {
            **means,
            "bias_per_chip_mean": float(table["bias"].mean()),
            "absolute_bias_per_chip_mean": float(table["bias"].abs().mean()),
            "correlation_per_chip_mean": none_if_nan(table["correlation"].mean()),
            "known_mean": self.known_mean,
            "by_class": _records(by_class),
            "intervals": covered,
            "chips": _records(table),
        }


def _records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


def none_if_nan(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)


def rmse(predicted: NDArray[Any], target: NDArray[Any]) -> float:
    """Root mean squared error over all values, in their unit."""
    return float(np.sqrt(np.mean(np.square(predicted - target, dtype=np.float64))))


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Pearson's, over all values; NaN where one of the two is constant."""
    if not one.std() or not other.std():
        return float("nan")
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def score_archive(
    chips: LabelledArchive,
    predictions: Mapping[str, NDArray[np.float32]],
    known_mean: float,
    intervals: IntervalModel | None = None,
    *,
    progress: bool = True,
) -> ArchiveScores:
    """Score every chip, one in memory at a time."""
    scores = ArchiveScores(intervals, known_mean)
    for index in tracked(range(len(chips.chip_ids)), "comparing with labels", shown=progress):
        chip = chips.read_chip(index)
        scores.add(chip, predictions[chip.chip_id])
    return scores


def render_archive_page(
    scores: ArchiveScores,
    summary: Mapping[str, Any],
    pictures: list[ChipPicture],
    archive: str,
    made_with: Iterable[tuple[str, str]],
) -> str:
    """One HTML page that needs nothing but itself.

    Args:
        scores: What is drawn.
        summary: What is written: as ``ArchiveScores.summary`` gives it.
        pictures: Chips from the best to the worst.
        archive: Its name.
        made_with: What is to be known of the maps, by name.
    """
    from biomassters.reporting import plots  # matplotlib takes a second to import

    drawn = {
        "maps": (example_maps(pictures), "Images, labels, maps and their differences"),
        "density": (plots.density_plot(scores.density), "Predicted against target biomass"),
    }
    return (
        page_templates()
        .get_template("archive_scores.html.j2")
        .render(
            summary=summary,
            archive=archive,
            made_with=list(made_with),
            unit=AGB_UNIT,
            figures={
                name: Markup(to_svg(figure, name, text)) for name, (figure, text) in drawn.items()
            },
        )
    )
