"""Predicted maps against labels: scores, beside the baselines', in figures and in words.

``score_predictions`` counts chip by chip, ``all_metrics`` gathers what was measured, and
``verdict`` says what it means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.chip import LabelledChips, positions, read_label
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.metrics import AGB_UNIT, DensityHistogram, ScoreAccumulator, labelled_pixels
from biomassters.reporting.baselines import Baselines
from biomassters.uncertainty.cross_calibration import CoverageCounts
from biomassters.uncertainty.intervals import IntervalModel

_METHODS = (
    ("rmse_per_chip_mean", "Network"),
    ("baseline_ridge_rmse", "Ridge regression on yearly medians"),
    ("baseline_mean_rmse", "Mean of the training labels"),
)
_TALLEST = ">200"
_WORTH_SAYING = 0.05  # bias of the tallest forest, as a share of its mean target


@dataclass(eq=False)
class Scores:
    """What comparing predictions with labels gives.

    Attributes:
        intervals: Of pixels and chip means; None counts no coverage.
        accumulator: Scores pooled, per chip and by class.
        density: Pixels by target and prediction.
        coverage: How often the intervals held.
    """

    intervals: IntervalModel | None = None
    accumulator: ScoreAccumulator = field(default_factory=ScoreAccumulator)
    density: DensityHistogram = field(default_factory=DensityHistogram)
    coverage: CoverageCounts = field(default_factory=CoverageCounts)

    def add(
        self, chip_id: str, predicted: NDArray[np.float32], target: NDArray[np.float32]
    ) -> None:
        """Count a chip's pixels, once; both of one shape, Mg/ha.

        Raises:
            BadInputError: They can't be compared.
        """
        self.accumulator.update(chip_id, predicted, target)
        self.density.update(chip_id, predicted, target)
        if self.intervals is not None:
            mean = float(predicted.mean(dtype=np.float64))
            self.coverage.update(chip_id, predicted, target, self.intervals, mean)

    def covered(self, why_none: str) -> dict[str, Any]:
        """Coverage of the intervals, ready for JSON, or a note that says why there is none."""
        if self.intervals is None or not self.coverage.chips:
            return {"note": why_none}
        return {"level": self.intervals.level, **self.coverage.summary()}


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
    for chip_id, index in zip(tracked(chip_ids, "scoring", shown=progress), indices, strict=True):
        predicted, target = labelled_pixels(predictions[chip_id], read_label(chips, index))
        scores.add(chip_id, predicted, target)
    return scores


class ScoreInterval(NamedTuple):
    """Where the score would likely lie with other chips of the same kind, Mg/ha."""

    lower: float
    upper: float
    level: float


def bootstrap_score(
    rmse: Sequence[float],
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    blocks: Sequence[int] | None = None,
) -> ScoreInterval | None:
    """Percentile interval of the mean RMSE per chip (bootstrap over chips); None of one chip.

    Efron & Tibshirani (1993), "An introduction to the bootstrap", chapter 13. Chips that come in
    ``blocks`` of land, a number each, are drawn a whole block at a time.
    """
    values = np.asarray(rmse, np.float64)
    unit = np.arange(len(values)) if blocks is None else np.unique(blocks, return_inverse=True)[1]
    sums, sizes = np.bincount(unit, values), np.bincount(unit)
    if len(sums) < 2:
        return None
    generator = np.random.default_rng([seed, len(sums)])
    draws = (generator.choice(len(sums), len(sums)) for _ in range(resamples))
    means = [sums[drawn].sum() / sizes[drawn].sum() for drawn in draws]
    lower, upper = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return ScoreInterval(float(lower), float(upper), level)


def scores_by(per_chip: pd.DataFrame, group_of_chip: Mapping[Any, Any]) -> list[dict[Any, Any]]:
    """Scores by any property of chips, groups in order.

    Args:
        per_chip: As ``ScoreAccumulator.per_chip`` gives it.
        group_of_chip: Group by chip id; chips without one are left out.

    Returns:
        A row a group: group, chips, rmse (mean per chip), bias and target_mean in Mg/ha.
    """
    means = {name: (name, "mean") for name in ("rmse", "bias", "target_mean")}
    group = per_chip["chip_id"].map(dict(group_of_chip)).rename("group")
    table = per_chip.groupby(group).agg(chips=("chip_id", "size"), **means)
    return table.reset_index().to_dict("records")


def all_metrics(
    scores: ScoreAccumulator,
    baselines: Baselines,
    coverage: Mapping[str, Any] | None = None,
    blocks: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Everything that was measured, ready for JSON.

    Args:
        scores: The network's.
        baselines: Scored on the same chips.
        coverage: Of the intervals, as ``Calibration.metrics`` gives it.
        blocks: Block of land by chip id, where whole blocks were held out.

    Returns:
        The network's summary, the baselines' scores, the intervals' coverage, ``held_out``
        (``"chips"`` at random, or ``"blocks"`` of land with their number, ``held_out_blocks``),
        and ``gain_over_mean`` and ``gain_over_ridge``: the share by which the network's RMSE is
        below the baseline's.
    """
    metrics = scores.summary() | baselines.metrics() | {"held_out": "chips"}
    if blocks:
        held_out = {blocks[chip_id] for chip_id in scores.per_chip()["chip_id"]}
        metrics |= {"held_out": "blocks", "held_out_blocks": len(held_out)}
    network = metrics["rmse_per_chip_mean"]
    for name in ("mean", "ridge"):
        baseline = metrics[f"baseline_{name}_rmse"]
        defined = network is not None and baseline
        metrics[f"gain_over_{name}"] = 1.0 - network / baseline if defined else None
    return metrics | dict(coverage or {})


class ComparedScore(NamedTuple):
    """The challenge's score of one method: its name for people, mean RMSE per chip in Mg/ha."""

    name: str
    rmse: float
    is_network: bool


def compared_scores(metrics: Mapping[str, Any]) -> list[ComparedScore]:
    """The scores that ``metrics`` holds, the network's first."""
    return [
        ComparedScore(name, metrics[key], key == "rmse_per_chip_mean")
        for key, name in _METHODS
        if metrics.get(key) is not None
    ]


def verdict(metrics: Mapping[str, Any], by_class: pd.DataFrame | None = None) -> str:
    """What the score means, in words.

    Args:
        metrics: As :func:`all_metrics` gives them.
        by_class: As ``ScoreAccumulator.by_class`` gives it; the bias of the tallest forest, which
            an average over all pixels hides, is then part of the verdict.
    """
    score = metrics.get("rmse_per_chip_mean")
    if score is None:
        return "Nothing was scored: no held-out chip has both a label and a prediction."
    chips = metrics["chips"]
    sentence = (
        f"On {chips:,} held-out {'chip' if chips == 1 else 'chips'} that the network never "
        f"trained on, the RMSE is {score:.1f} {AGB_UNIT} (of a chip, averaged over chips)"
    )
    if metrics.get("mae") is not None:
        sentence += f" and the mean absolute error {metrics['mae']:.1f}"
    gains = [
        f"{_gain_in_words(metrics[key])} {what}"
        for key, what in (
            ("gain_over_mean", "predicting the training mean everywhere"),
            ("gain_over_ridge", "a ridge regression on each pixel's yearly medians"),
        )
        if metrics.get(key) is not None
    ]
    gained = f"; the RMSE is {' and '.join(gains)}." if gains else "."
    return sentence + gained + _bias_in_words(by_class)


def _gain_in_words(gain: float) -> str:
    if abs(gain) < 0.005:
        return "no better than"
    return f"{100 * abs(gain):.0f} % {'less' if gain > 0 else 'more'} than"


def _bias_in_words(by_class: pd.DataFrame | None) -> str:
    """A sentence on the tallest forest where its bias is worth one, or nothing."""
    if by_class is None:
        return ""
    for row in by_class[by_class["biomass_class"] == _TALLEST].to_dict("records"):
        if row["pixels"] and abs(row["bias"]) >= _WORTH_SAYING * row["target_mean"]:
            return (
                f" Where the target is above 200 {AGB_UNIT}, the map is biased "
                f"{'low' if row['bias'] < 0 else 'high'} by {abs(row['bias']):.1f} {AGB_UNIT}, "
                f"{100 * abs(row['bias']) / row['target_mean']:.0f} % of the biomass there."
            )
    return ""
