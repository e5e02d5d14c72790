"""Predicted maps against labels, chip by chip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.chip import LabelledChips, positions, read_label
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.metrics import DensityHistogram, ScoreAccumulator


@dataclass(frozen=True)
class Scores:
    """What comparing predictions with labels gives.

    Attributes:
        accumulator: Scores pooled, per chip and by class.
        density: Pixels by target and prediction.
    """

    accumulator: ScoreAccumulator = field(default_factory=ScoreAccumulator)
    density: DensityHistogram = field(default_factory=DensityHistogram)


def score_predictions(
    chips: LabelledChips,
    predictions: Mapping[str, NDArray[np.float32]],
    chip_ids: Sequence[str],
    *,
    progress: bool = True,
) -> Scores:
    """Score held-out chips.

    Args:
        chips: Where the labels are.
        predictions: AGB by chip id, float32 [H, W], Mg/ha; read one at a time.
        chip_ids: The chips to score, each once.
        progress: Show a bar on stderr.

    Returns:
        The scores.

    Raises:
        BadInputError: A chip is unknown, without prediction, or its prediction can't be scored.
    """
    known = set(predictions)
    missing = [chip_id for chip_id in chip_ids if chip_id not in known]
    if missing:
        raise BadInputError(
            f"The predictions hold no map of chip {missing[0]} ({len(missing)} of {len(chip_ids)} "
            "chips to score are missing); run the inference pipeline again."
        )
    scores = Scores()
    indices = positions(chips, chip_ids)
    bar = tracked(chip_ids, "scoring", shown=progress)
    for chip_id, index in zip(bar, indices, strict=True):
        predicted, target = predictions[chip_id], read_label(chips, index)
        scores.accumulator.update(chip_id, predicted, target)
        scores.density.update(chip_id, predicted, target)
    return scores
