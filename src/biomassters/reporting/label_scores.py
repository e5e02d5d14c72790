"""Maps scored against labels that nothing was fitted to: the test split's, or a whole archive's.

``score_split`` counts as the challenge does, whoever made the maps; ``score_archive`` is for
weights that come from elsewhere, such as a simulation, and sets their maps beside two answers that
need no network. Whether maps and intervals belong together is asked before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.archive.archive import Archive
from biomassters.chips.chip import Chip
from biomassters.chips.provenance import Provenance, training_words
from biomassters.chips.quality.chip_table import InspectionOptions
from biomassters.chips.split_labels import SplitLabels, check_unit
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.metrics import labelled_pixels
from biomassters.reporting.baselines import in_chip_regression
from biomassters.reporting.chip_maps import ChipPicture, example_maps
from biomassters.reporting.pages import embedded, records, render
from biomassters.reporting.scoring import Scores, bootstrap_score, scores_by
from biomassters.uncertainty.intervals import IntervalModel

ANSWERS = ("rmse", "linear_rmse", "mean_rmse")


def score_split(
    labels: SplitLabels,
    predictions: Mapping[str, NDArray[np.float32]],
    intervals: IntervalModel | None = None,
    *,
    progress: bool = True,
) -> Scores:
    """Score maps of a whole split, one chip in memory at a time, negative values as they are.

    Raises:
        BadInputError: A chip has no map, a label is none, or the map can't be compared with it.
    """
    missing = sorted(set(labels) - set(predictions))
    if missing:
        raise BadInputError(
            f"The maps lack test chip {missing[0]} ({len(missing)} of {len(labels)}), but the "
            "score is a mean over all: predict the test split again, with no chip left out of the "
            "chip store."
        )
    scores = Scores(intervals)
    for chip_id in tracked(sorted(labels), "scoring the test split", shown=progress):
        scores.add(chip_id, predictions[chip_id], labels[chip_id])
    return scores


def summarise_split(
    scores: Scores, labels: SplitLabels, chip_table: pd.DataFrame, no_intervals: str = ""
) -> dict[str, Any]:
    """Scores of test chips, ready for JSON.

    Args:
        scores: Of some of the labels' chips.
        labels: Of all chips of the split.
        chip_table: As ``chips.quality.chip_table.inspect_archive`` gives it: months of the
            test chips, and the training labels' means, which tell the unit.
        no_intervals: Why no coverage was counted.

    Returns:
        The scores as ``ScoreAccumulator.summary`` names them (``rmse_per_chip_mean`` is the
        challenge's), ``score_interval_95`` (bootstrap over chips), ``chips_listed``,
        ``by_class``, ``by_s2_months``, ``intervals``.

    Raises:
        BadInputError: The labels look like another unit.
    """
    per_chip = scores.accumulator.per_chip()
    train_means = chip_table.loc[chip_table["split"] == "train", "agb_mean_mg_per_ha"]
    check_unit(per_chip["target_mean"].tolist(), float(train_means.mean()))
    months = chip_table.set_index("chip_id")["s2_months"].map(len).to_dict()
    interval = bootstrap_score(per_chip["rmse"].tolist())
    return {
        **scores.accumulator.summary(),
        "chips_listed": len(labels),
        "score_interval_95": None if interval is None else [interval.lower, interval.upper],
        "by_class": records(scores.accumulator.by_class()),
        "by_s2_months": scores_by(per_chip, months),
        "intervals": scores.covered(no_intervals or "No intervals were given."),
    }


def render_split_page(
    scores: Scores,
    summary: Mapping[str, Any],
    dataset: str,
    simulated: bool,
    made_with: Iterable[tuple[str, str]] = (),
) -> str:
    """One HTML page that needs nothing but itself.

    Args:
        scores: What is drawn.
        summary: What is written: as ``summarise_split`` gives it.
        dataset: Name of the data.
        simulated: Whether they come from this project's simulation.
        made_with: What is to be known of the maps, by name.
    """
    from biomassters.reporting import plots  # matplotlib takes a second to import

    drawn = {
        "classes": (plots.class_plot(scores.accumulator.by_class()), "RMSE and bias by class"),
        "density": (plots.density_plot(scores.density), "Predicted against target biomass"),
    }
    return render(
        "reporting", "test_split.html.j2", summary=summary, dataset=dataset, simulated=simulated,
        made_with=list(made_with), figures=embedded(drawn),
    )  # fmt: skip


def told_of_maps(weights: str, made_with: Provenance) -> list[tuple[str, str]]:
    """What a page says of how maps were made."""
    return [
        ("weights", weights),
        ("trained on", training_words(made_with.trained_on)),
        ("views", ", ".join(made_with.views or ("unknown",))),
        ("arithmetic", made_with.precision or "unknown"),
        ("negative biomass set to 0", "yes" if made_with.clip_negative else "no"),
    ]


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


@dataclass(eq=False, kw_only=True)
class ArchiveScores(Scores):
    """Scores of an archive's chips, and those of the answers that they stand beside.

    Attributes:
        known_mean: What the simplest answer predicts everywhere, Mg/ha.
    """

    known_mean: float
    _others: list[dict[str, float]] = field(default_factory=list)

    def add_chip(self, chip: Chip, predicted_HW: NDArray[np.float32]) -> None:
        """Score a chip's map, Mg/ha, with negative biomass set to 0."""
        assert chip.agb_mg_per_ha is not None, "chosen for its label"
        predicted, target = labelled_pixels(predicted_HW.clip(min=0), chip.agb_mg_per_ha)
        linear, _ = labelled_pixels(in_chip_regression(chip), chip.agb_mg_per_ha)
        self.add(chip.chip_id, predicted, target)
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
        table = self.per_chip()
        alike = float(table["correlation"].mean())
        return {
            **{f"{name}_per_chip_mean": float(table[name].mean()) for name in ANSWERS},
            "bias_per_chip_mean": float(table["bias"].mean()),
            "absolute_bias_per_chip_mean": float(table["bias"].abs().mean()),
            "correlation_per_chip_mean": None if np.isnan(alike) else alike,
            "known_mean": self.known_mean,
            "by_class": records(self.accumulator.by_class()),
            "intervals": self.covered(no_intervals),
            "chips": records(table),
        }


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
    scores = ArchiveScores(intervals=intervals, known_mean=known_mean)
    for index in tracked(range(len(chips.chip_ids)), "comparing with labels", shown=progress):
        chip = chips.read_chip(index)
        scores.add_chip(chip, predictions[chip.chip_id])
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
    return render(
        "reporting", "archive_scores.html.j2", summary=summary, archive=archive,
        made_with=list(made_with), figures=embedded(drawn),
    )  # fmt: skip
