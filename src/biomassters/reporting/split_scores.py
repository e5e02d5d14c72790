"""The test split's score as the challenge counted it, of maps of ours or of anybody's.

``SplitScores`` takes a chip at a time, ``summary`` is its JSON, ``render_split_page`` its page. The
labels are ``chips.split_labels``'; whether maps and intervals belong together is asked before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from biomassters.chips.provenance import Provenance, training_words
from biomassters.chips.split_labels import SplitLabels, check_unit
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.metrics import AGB_UNIT, DensityHistogram, ScoreAccumulator
from biomassters.reporting.figure_style import to_svg
from biomassters.reporting.report import page_templates
from biomassters.reporting.scoring import bootstrap_score, scores_by
from biomassters.uncertainty.cross_calibration import CoverageCounts
from biomassters.uncertainty.intervals import IntervalModel


@dataclass(eq=False)
class SplitScores:
    """Scores of any number of test chips.

    Attributes:
        labels: Of all chips of the split.
        intervals: Of pixels and chip means; None counts no coverage.
        accumulator: Scores per chip and by class.
        density: Pixels by target and prediction.
        coverage: How often the intervals held.
    """

    labels: SplitLabels
    intervals: IntervalModel | None = None
    accumulator: ScoreAccumulator = field(default_factory=ScoreAccumulator)
    density: DensityHistogram = field(default_factory=DensityHistogram)
    coverage: CoverageCounts = field(default_factory=CoverageCounts)

    def add(self, chip_id: str, predicted: NDArray[np.float32]) -> None:
        """Score a chip.

        Args:
            chip_id: Its name; each counts once.
            predicted: float32 [H, W], Mg/ha, scored as it is, negative values too.

        Raises:
            BadInputError: The label is none, or the map can't be compared with it.
        """
        target = self.labels[chip_id]
        self.accumulator.update(chip_id, predicted, target)
        self.density.update(chip_id, predicted, target)
        if self.intervals is not None:
            mean = float(predicted.mean(dtype=np.float64))
            self.coverage.update(chip_id, predicted, target, self.intervals, mean)

    def summary(self, chip_table: pd.DataFrame, no_intervals: str = "") -> dict[str, Any]:
        """Ready for JSON.

        Args:
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
        per_chip = self.accumulator.per_chip()
        train_means = chip_table.loc[chip_table["split"] == "train", "agb_mean_mg_per_ha"]
        check_unit(per_chip["target_mean"].tolist(), float(train_means.mean()))
        months = chip_table.set_index("chip_id")["s2_months"].map(len).to_dict()
        interval = bootstrap_score(per_chip["rmse"].tolist())
        covered: dict[str, Any] = {"note": no_intervals or "No intervals were given."}
        if self.intervals is not None and self.coverage.chips:
            covered = {"level": self.intervals.level, **self.coverage.summary()}
        by_class = self.accumulator.by_class()
        return {
            **self.accumulator.summary(),
            "chips_listed": len(self.labels),
            "score_interval_95": None if interval is None else [interval.lower, interval.upper],
            "by_class": by_class.astype(object).where(by_class.notna(), None).to_dict("records"),
            "by_s2_months": scores_by(per_chip, months),
            "intervals": covered,
        }


def score_split(
    labels: SplitLabels,
    predictions: Mapping[str, NDArray[np.float32]],
    intervals: IntervalModel | None = None,
    *,
    progress: bool = True,
) -> SplitScores:
    """Score maps of a whole split, one chip in memory at a time.

    Raises:
        BadInputError: A chip has no map, or see ``SplitScores.add``.
    """
    missing = sorted(set(labels) - set(predictions))
    if missing:
        raise BadInputError(
            f"The maps lack test chip {missing[0]} ({len(missing)} of {len(labels)}), but the "
            "score is a mean over all: predict the test split again, with no chip left out of the "
            "chip store."
        )
    scores = SplitScores(labels, intervals)
    for chip_id in tracked(sorted(labels), "scoring the test split", shown=progress):
        scores.add(chip_id, predictions[chip_id])
    return scores


def render_split_page(
    scores: SplitScores,
    summary: Mapping[str, Any],
    dataset: str,
    simulated: bool,
    made_with: Iterable[tuple[str, str]] = (),
) -> str:
    """One HTML page that needs nothing but itself.

    Args:
        scores: What is drawn.
        summary: What is written: as ``SplitScores.summary`` gives it.
        dataset: Name of the data.
        simulated: Whether they come from this project's simulation.
        made_with: What is to be known of the maps, by name.
    """
    from biomassters.reporting import plots  # matplotlib takes a second to import

    drawn = {
        "classes": (plots.class_plot(scores.accumulator.by_class()), "RMSE and bias by class"),
        "density": (plots.density_plot(scores.density), "Predicted against target biomass"),
    }
    return (
        page_templates()
        .get_template("test_split.html.j2")
        .render(
            summary=summary,
            dataset=dataset,
            simulated=simulated,
            made_with=list(made_with),
            unit=AGB_UNIT,
            figures={
                name: Markup(to_svg(figure, name, text)) for name, (figure, text) in drawn.items()
            },
        )
    )


def told_of_maps(weights: str, made_with: Provenance) -> list[tuple[str, str]]:
    """What a page says of how maps were made."""
    told = [("weights", weights), ("trained on", training_words(made_with.trained_on))]
    told.append(("views", ", ".join(made_with.views or ("unknown",))))
    told.append(("arithmetic", made_with.precision or "unknown"))
    told.append(("negative biomass set to 0", "yes" if made_with.clip_negative else "no"))
    return told
