"""The network's score beside the baselines', in figures and in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from biomassters.metrics import AGB_UNIT, ScoreAccumulator
from biomassters.reporting.baselines import Baselines


@dataclass(frozen=True)
class ComparedScore:
    """One method's challenge score.

    Attributes:
        name: The method, for people.
        rmse: Mean RMSE per chip, Mg/ha.
        is_network: Whether it is the network's.
    """

    name: str
    rmse: float
    is_network: bool


_METHODS = (
    ("rmse_per_chip_mean", "Network"),
    ("baseline_ridge_rmse", "Ridge regression on yearly medians"),
    ("baseline_mean_rmse", "Mean of the training labels"),
)


def all_metrics(
    scores: ScoreAccumulator, baselines: Baselines, coverage: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Everything that was measured, ready for JSON.

    Args:
        scores: The network's.
        baselines: Scored on the same chips.
        coverage: Of the intervals, as ``Calibration.metrics`` gives it.

    Returns:
        The network's summary, the baselines' scores, the intervals' coverage, and
        ``gain_over_mean`` and ``gain_over_ridge``: the share of the baseline's error that the
        network takes away.
    """
    metrics = scores.summary() | baselines.metrics()
    network = metrics["rmse_per_chip_mean"]
    for name in ("mean", "ridge"):
        baseline = metrics[f"baseline_{name}_rmse"]
        defined = network is not None and baseline
        metrics[f"gain_over_{name}"] = 1.0 - network / baseline if defined else None
    return metrics | dict(coverage or {})


def compared_scores(metrics: Mapping[str, Any]) -> list[ComparedScore]:
    """The scores that ``metrics`` holds, the network's first."""
    return [
        ComparedScore(name, metrics[key], key == "rmse_per_chip_mean")
        for key, name in _METHODS
        if metrics.get(key) is not None
    ]


_TALLEST = ">200"
_WORTH_SAYING = 0.05  # of the class's mean target


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


def _bias_in_words(by_class: pd.DataFrame | None) -> str:
    """A sentence on the tallest forest where its bias is worth one, or nothing."""
    if by_class is None:
        return ""
    for row in by_class[by_class["biomass_class"] == _TALLEST].to_dict("records"):
        if row["pixels"] and abs(row["bias"]) >= _WORTH_SAYING * row["target_mean"]:
            way = "low" if row["bias"] < 0 else "high"
            return (
                f" Where the target is above 200 {AGB_UNIT}, the map is biased {way} by "
                f"{abs(row['bias']):.1f} {AGB_UNIT}, "
                f"{100 * abs(row['bias']) / row['target_mean']:.0f} % of the biomass there."
            )
    return ""


def _gain_in_words(gain: float) -> str:
    if abs(gain) < 0.005:
        return "no better than"
    return f"{100 * abs(gain):.0f} % {'less' if gain > 0 else 'more'} than"
