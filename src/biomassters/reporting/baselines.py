"""What simple methods reach on the same held-out chips: the network must beat these.

The first predicts the mean AGB of all training pixels everywhere. The second is a ridge regression
per pixel on the yearly medians of the 15 bands. ``scoring`` sets the network beside them.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.bands import BANDS, MONTH_COUNT, SENSORS, channels
from biomassters.chips.chip import Chip, LabelledChips, positions, read_label
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.metrics import LABEL_LIMIT_MG_PER_HA, ScoreAccumulator, labelled_pixels
from biomassters.reporting.options import ReportingOptions

_BLOCK = 2048  # pixels whose year of 15 bands stays in a processor's cache


@dataclass(frozen=True)
class Baselines:
    """Scores of the two simple methods on the held-out chips.

    Attributes:
        training_mean_mg_per_ha: What the first predicts everywhere; the mean over folds.
        ridge_pixels: Pixels that the regression was fitted on; with several folds, the most that
            one was.
        mean: Scores of the first.
        ridge: Scores of the ridge regression.
    """

    training_mean_mg_per_ha: float
    ridge_pixels: int
    mean: ScoreAccumulator = field(default_factory=ScoreAccumulator)
    ridge: ScoreAccumulator = field(default_factory=ScoreAccumulator)

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

    Args:
        chips: Images and labels.
        train_ids: Chips to fit on: those that the network was trained on.
        held_out_ids: Chips to score: those that the network is scored on.
        options: Size of the regression's sample, its penalty, seed.
        progress: Show bars on stderr.

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
    labels = (read_label(chips, index) for index in train)
    means = [agb[~np.isnan(agb)].mean(dtype=np.float64) for agb in labels]
    training_mean = float(np.mean(means))
    features_PC, target_P = _sample(chips, train, options, progress)
    model = _ridge(options.ridge_alpha).fit(features_PC, target_P)
    baselines = Baselines(training_mean, len(target_P))
    for index in tracked(held_out, "scoring baselines", shown=progress):
        chip = chips.read_chip(index)
        target_HW = _label_of(chip)
        mean_HW = np.full(target_HW.shape, training_mean)
        baselines.mean.update(chip.chip_id, *labelled_pixels(mean_HW, target_HW))
        predicted = model.predict(yearly_medians(chip).T).reshape(chip.shape)
        # As the network's, negative predictions are set to 0.
        ridge_HW = np.maximum(predicted, 0.0)
        baselines.ridge.update(chip.chip_id, *labelled_pixels(ridge_HW, target_HW))
    return baselines


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
        labelled = np.flatnonzero(~np.isnan(label_P))
        size = min(labelled.size, options.ridge_pixels_per_chip)
        pixels = labelled[generator.choice(labelled.size, size, replace=False)]
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


def in_chip_regression(chip: Chip) -> NDArray[np.float32]:
    """Biomass [H, W] by a regression on yearly medians that is fitted to the chip's own label.

    What a straight line can read from these images at most: a yardstick for maps by weights that
    never saw the chip, no method. Labels are cut at 400 Mg/ha for the fit, as in the loss; negative
    predictions are set to 0.
    """
    label_P, features_PC = _label_of(chip).ravel(), yearly_medians(chip).T
    known = ~np.isnan(label_P)
    fit = _ridge(1.0).fit(features_PC[known], label_P[known].clip(max=LABEL_LIMIT_MG_PER_HA))
    predicted: NDArray[np.float32] = fit.predict(features_PC).reshape(chip.shape)
    return predicted.clip(min=0)


def _label_of(chip: Chip) -> NDArray[np.float32]:
    if chip.agb_mg_per_ha is None:
        raise BadInputError(
            f"Chip {chip.chip_id} has no label to compare with; name labelled chips only."
        )
    return chip.agb_mg_per_ha


def yearly_medians(chip: Chip, pixels: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """Median over the months that hold data, per band.

    Pixels without data are left out, as their sensor says it, and cloud probabilities of 255.

    Args:
        chip: The chip.
        pixels: Which of the chip's H·W pixels, row by row; None for all.

    Returns:
        float32 [15, P] in the order of ``bands.BANDS``; NaN where no month holds data.
    """
    count = math.prod(chip.shape) if pixels is None else len(pixels)
    medians_CP = np.empty((len(BANDS), count), np.float32)
    for sensor in SENSORS:
        images_TCP = chip.images[sensor.name].reshape(MONTH_COUNT, len(sensor.bands), -1)
        if pixels is not None:
            images_TCP = images_TCP[..., pixels]
        for start in range(0, count, _BLOCK):
            block = slice(start, start + _BLOCK)
            x_TCP = images_TCP[..., block]
            has_data = sensor.has_data(x_TCP[..., None])[..., 0]
            values = np.where(has_data, x_TCP, np.float32(np.nan))
            medians_CP[channels(sensor.bands), block] = _median(values)
    return medians_CP


def _median(x_TCP: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the first axis, NaN left out: what ``np.nanmedian`` gives, much faster."""
    holds_data = ~np.isnan(x_TCP)
    count = holds_data.sum(axis=0)
    ordered = np.where(holds_data, x_TCP, np.float32(np.inf))
    _sort_first_axis(ordered)
    lower, upper = (
        np.take_along_axis(ordered, np.clip(rank, 0, len(x_TCP) - 1)[None], axis=0)[0]
        for rank in ((count - 1) // 2, count // 2)
    )
    return np.where(count > 0, (lower + upper) / 2, np.float32(np.nan))


def _sort_first_axis(x: NDArray[np.float32]) -> None:
    """In place, by comparing whole neighbouring slices: a year is short enough for that."""
    larger = np.empty_like(x[0])
    for end in range(len(x) - 1, 0, -1):
        for i in range(end):
            np.maximum(x[i], x[i + 1], out=larger)
            np.minimum(x[i], x[i + 1], out=x[i])
            x[i + 1] = larger
