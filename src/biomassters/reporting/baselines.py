"""What simple methods reach on the same held-out chips: the network must beat these."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.chip import Chip, LabelledChips, positions, read_label
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.metrics import ScoreAccumulator
from biomassters.reporting.options import ReportingOptions
from biomassters.reporting.yearly_medians import yearly_medians


@dataclass(frozen=True)
class Baselines:
    """Scores of the two simple methods on the held-out chips.

    Attributes:
        training_mean_mg_per_ha: What the first answers everywhere; the mean over folds.
        mean: Its scores.
        ridge: Scores of the ridge regression.
        ridge_pixels: Pixels that the regression was fitted on; with several folds, the most that
            one was.
    """

    training_mean_mg_per_ha: float
    mean: ScoreAccumulator
    ridge: ScoreAccumulator
    ridge_pixels: int

    def metrics(self) -> dict[str, Any]:
        """The challenge's score of each, Mg/ha, ready for JSON."""
        return {
            "baseline_mean_rmse": self.mean.summary()["rmse_per_chip_mean"],
            "baseline_ridge_rmse": self.ridge.summary()["rmse_per_chip_mean"],
            "training_mean_agb": self.training_mean_mg_per_ha,
            "ridge_pixels": self.ridge_pixels,
        }


def out_of_fold(
    folds: pd.DataFrame, held_out_ids: Collection[str]
) -> list[tuple[list[str], list[str]]]:
    """For each fold with held-out chips, what its network learnt from, and these chips.

    Args:
        folds: Columns ``chip_id`` and ``fold``, every chip once.
        held_out_ids: Chips to score.

    Returns:
        Pairs of all chips of the other folds, scored ones too, and the fold's scored chips.

    Raises:
        BadInputError: There are none to score.
    """
    scored = folds["chip_id"].isin(list(held_out_ids))
    if not scored.any():
        raise BadInputError("No chips are named to score; check training.folds.")
    return [
        (
            folds.loc[folds["fold"] != fold, "chip_id"].tolist(),
            folds.loc[scored & (folds["fold"] == fold), "chip_id"].tolist(),
        )
        for fold in sorted(folds.loc[scored, "fold"].unique())
    ]


def joint_baselines(folds: Sequence[Baselines]) -> Baselines:
    """The baselines of several folds as one, every chip counted once."""
    joint = Baselines(
        float(np.mean([fold.training_mean_mg_per_ha for fold in folds])),
        ScoreAccumulator(),
        ScoreAccumulator(),
        max(fold.ridge_pixels for fold in folds),
    )
    for fold in folds:
        joint.mean.merge(fold.mean)
        joint.ridge.merge(fold.ridge)
    return joint


def score_baselines(
    chips: LabelledChips,
    train_ids: Sequence[str],
    held_out_ids: Sequence[str],
    options: ReportingOptions,
    *,
    progress: bool = True,
) -> Baselines:
    """Fit both baselines on training chips and score them on held-out ones.

    The first answers the mean AGB of all training pixels. The second is a ridge regression per
    pixel on the yearly medians of the 15 bands; like the network's, its negative answers are
    set to 0.

    Args:
        chips: Images and labels.
        train_ids: Chips to fit on: those that the network was trained on.
        held_out_ids: Chips to score: those that the network is scored on.
        options: Size of the regression's sample, its penalty, seed.
        progress: Show bars on stderr.

    Returns:
        The scores.

    Raises:
        BadInputError: A chip is unknown, in both lists, or there are none.
    """
    both = sorted(set(train_ids) & set(held_out_ids))
    if both:
        raise BadInputError(
            f"Chip {both[0]} is both trained on and held out ({len(both)} such chips); "
            "make the folds again."
        )
    train, held_out = positions(chips, train_ids), positions(chips, held_out_ids)
    training_mean = _mean_label(chips, train)
    features_PC, target_P = _sample(chips, train, options, progress)
    model = _ridge(options.ridge_alpha).fit(features_PC, target_P)
    baselines = Baselines(training_mean, ScoreAccumulator(), ScoreAccumulator(), len(target_P))
    for index in tracked(held_out, "scoring baselines", shown=progress):
        chip = chips.read_chip(index)
        target_HW = _label_of(chip)
        constant_HW = np.full(target_HW.shape, training_mean)
        baselines.mean.update(chip.chip_id, constant_HW, target_HW)
        baselines.ridge.update(chip.chip_id, _regress(model, chip), target_HW)
    return baselines


def _mean_label(chips: LabelledChips, indices: Sequence[int]) -> float:
    return float(np.mean([read_label(chips, i).mean(dtype=np.float64) for i in indices]))


def _sample(
    chips: LabelledChips, indices: Sequence[int], options: ReportingOptions, progress: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features [P, 15] and targets [P] of random pixels of random chips."""
    generator = np.random.default_rng(np.random.SeedSequence([options.seed]))
    count = min(len(indices), options.ridge_chips)
    chosen = np.sort(generator.choice(indices, count, replace=False))
    features, targets = [], []
    for index in tracked(chosen, "fitting baselines", shown=progress):
        chip = chips.read_chip(int(index))
        label_P = _label_of(chip).ravel()
        size = min(label_P.size, options.ridge_pixels_per_chip)
        pixels = generator.choice(label_P.size, size, replace=False)
        features.append(yearly_medians(chip, pixels).T)
        targets.append(label_P[pixels])
    return np.concatenate(features), np.concatenate(targets)


def _ridge(alpha: float) -> Any:
    """A scikit-learn pipeline, not yet fitted."""
    # Imported where it is used: scikit-learn would slow every start of the command line.
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        # A band without data in any sampled pixel stays, as a constant.
        SimpleImputer(strategy="mean", keep_empty_features=True),
        StandardScaler(),
        Ridge(alpha=alpha),
    )


def _regress(model: Any, chip: Chip) -> NDArray[np.float32]:
    predicted = model.predict(yearly_medians(chip).T).reshape(chip.shape)
    return np.maximum(predicted, 0.0)


def _label_of(chip: Chip) -> NDArray[np.float32]:
    if chip.agb_mg_per_ha is None:
        raise BadInputError(
            f"Chip {chip.chip_id} has no label to compare with; name labelled chips only."
        )
    return chip.agb_mg_per_ha
