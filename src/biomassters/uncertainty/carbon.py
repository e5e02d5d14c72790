"""Biomass and carbon of chips and of whole sets of chips, in Mg, with honest intervals.

Chips are what was sampled, so the bootstrap resamples chips, or the blocks of land that they come
in: nothing here takes pixels for independent. Each pixel of a chip has the area that
``chips.bands`` states, 100 m²; the area of a region's pixels is measured on the ground
(``totals``, ``regions.summary``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.bands import PIXEL_HA, PIXEL_SIZE_M
from biomassters.chips.chip import LabelledChips, positions, read_label
from biomassters.console import tracked
from biomassters.metrics import labelled_pixels
from biomassters.uncertainty.cross_calibration import unit_numbers
from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.intervals import IntervalModel
from biomassters.uncertainty.options import UncertaintyOptions
from biomassters.uncertainty.totals import in_mg

_HALF_WIDTH_LEVEL = 0.9
# ART (2021), The REDD+ Environmental Excellence Standard (TREES) 2.0, section 8: the deduction
# is 0.524417 x half-width of the 90 % interval / 1.645006, half-width as a share of the total.
_DEDUCTION = 0.524417 / 1.645006
# ESA's Climate Change Initiative asks for a relative error below 20 % at hectares above this
# (Biomass CCI, User Requirements Document).
_CCI_FROM_MG_PER_HA = 50.0
_HECTARE_PIXELS = round(100 / PIXEL_SIZE_M)  # of a side

Maps = Mapping[str, NDArray[np.float32]]


def account_for_carbon(
    chips: LabelledChips,
    held_out: Maps,
    test: Maps,
    models: Mapping[str, Any],
    measured: pd.DataFrame,
    options: UncertaintyOptions,
    blocks: Mapping[str, int] | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Add up both splits, one chip in memory at a time.

    Args:
        chips: Labels of the held-out chips.
        held_out: Their maps, AGB by chip id, Mg/ha.
        test: Maps of the test chips; may be empty.
        models: ``intervals`` and ``errors`` as dicts.
        measured: ``corrected_mean`` of each held-out chip (``chip_id``), whose bias was
            estimated on other chips, Mg/ha: so their total does not meet the labels' by
            construction. May be empty.
        options: Level, carbon fraction, times and seed of the resampling.
        blocks: Block of land by chip id of the held-out chips, where they come in blocks.

    Returns:
        ``held_out``, ``test`` (None if empty) and ``hectares``, ready for JSON; and a row per
        chip with its split.
    """
    intervals = IntervalModel.from_dict(models["intervals"])
    errors = ErrorModel.from_dict(models["errors"])
    cross_fitted = dict(zip(measured["chip_id"], measured["corrected_mean"], strict=True))
    # Where a label has gaps, map and label are compared on the same pixels and the same area.
    labelled = _LabelledMaps(held_out, chips)
    known = chip_totals(labelled, intervals, errors, options.carbon_fraction, cross_fitted)
    hectares, targets = _labels(chips, held_out, known["chip_id"].tolist())
    chip_errors = known["mean_agb_mg_per_ha"].to_numpy() - targets

    def total(table: pd.DataFrame, targets: NDArray[np.float64] | None = None) -> dict[str, Any]:
        means, areas = table["mean_agb_mg_per_ha"].to_numpy(), table["area_ha"].to_numpy()
        target_mean = None if targets is None else float(np.average(targets, weights=areas))
        if targets is None or not blocks:
            return total_of_set(means, areas, chip_errors, options, target_mean)
        # Chips of a block err alike: the block is what is drawn, here and among what is known.
        units = unit_numbers(table["chip_id"], blocks)
        of_block = np.bincount(units, areas).astype(np.float64)
        of_blocks, errors = (
            np.bincount(units, values * areas) / of_block for values in (means, chip_errors)
        )
        figures = total_of_set(of_blocks, of_block, errors, options, target_mean)
        return figures | {"chips": len(table), "blocks": len(of_block)}

    account = {
        "level": options.level,
        "hectares": hectares.summary(),
        "held_out": total(known, targets),
        "test": None,
    }
    tables = [known.assign(split="held_out")]
    if test:
        predicted = chip_totals(test, intervals, errors, options.carbon_fraction)
        account["test"] = total(predicted)
        tables.append(predicted.assign(split="test"))
    return account, pd.concat(tables, ignore_index=True)


class _LabelledMaps(Mapping[str, NDArray[np.float32]]):
    """Maps of held-out chips, only where there is a label; read one at a time."""

    def __init__(self, maps: Maps, chips: LabelledChips) -> None:
        self._maps, self._chips = maps, chips
        self._index = dict(zip(maps, positions(chips, list(maps)), strict=True))

    def __getitem__(self, chip_id: str) -> NDArray[np.float32]:
        label = read_label(self._chips, self._index[chip_id])
        return labelled_pixels(self._maps[chip_id], label)[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)


def _labels(
    chips: LabelledChips, maps: Maps, chip_ids: list[str]
) -> tuple["HectareErrors", NDArray[np.float64]]:
    """Errors of hectares, and the mean label of each chip, Mg/ha."""
    hectares, means = HectareErrors(), []
    for chip_id, index in zip(chip_ids, positions(chips, chip_ids), strict=True):
        label = read_label(chips, index)
        hectares.update(maps[chip_id], label)
        means.append(float(label[~np.isnan(label)].mean(dtype=np.float64)))
    return hectares, np.array(means)


@dataclass
class HectareErrors:
    """Errors of squares of one hectare whose target is above 50 Mg/ha, for ESA CCI's threshold."""

    hectares: int = 0
    squared_error: float = 0.0
    target: float = 0.0

    def update(self, prediction: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        """Take in one chip, [H, W] each, Mg/ha; cut or partly labelled squares don't count."""
        predicted, truth = _hectares(prediction), _hectares(target)
        tall = truth > _CCI_FROM_MG_PER_HA
        self.hectares += int(tall.sum())
        self.squared_error += float(np.square(predicted - truth)[tall].sum())
        self.target += float(truth[tall].sum())

    def summary(self) -> dict[str, Any]:
        """hectares_above_50, and their relative_rmse or None, ready for JSON."""
        relative = None
        if self.hectares:
            relative = float(np.sqrt(self.squared_error * self.hectares) / self.target)
        return {"hectares_above_50": self.hectares, "relative_rmse_above_50": relative}


def _hectares(agb_HW: NDArray[np.float32]) -> NDArray[np.float64]:
    """Means of whole squares, float64 [H // 10, W // 10]."""
    side = _HECTARE_PIXELS
    height, width = (size // side for size in agb_HW.shape)
    whole = agb_HW[: height * side, : width * side].astype(np.float64)
    means: NDArray[np.float64] = whole.reshape(height, side, width, side).mean(axis=(1, 3))
    return means


def total_of_set(
    predicted: NDArray[np.float64],
    area_ha: float | NDArray[np.float64],
    chip_errors: NDArray[np.float64],
    options: UncertaintyOptions,
    target_mean: float | None = None,
) -> dict[str, Any]:
    """Total of a set of chips, with an interval by a bootstrap over chips, ready for JSON.

    Each resample draws twice: which chips there were to calibrate on (that bias is common to all
    chips of the set), then the error of each chip of the set (Efron & Tibshirani 1993, "An
    introduction to the bootstrap", chapters 8 and 13).

    Args:
        predicted: float64 [N], mean AGB of each chip of the set, corrected for the bias, Mg/ha.
        area_ha: Of the set, whose chips then are of one size, or of each chip, float64 [N].
        chip_errors: float64 [n], prediction − target of held-out chips' means, Mg/ha, corrected
            for the bias.
        options: Level, carbon fraction, times, seed.
        target_mean: Mean of the set's labels, Mg/ha, if there are any.

    Returns:
        Totals in Mg of biomass and of carbon, each with ``_lower`` and ``_upper``; the mean and
        its standard error in Mg/ha; and the half-width of the total's 90 % interval, as a share,
        with the deduction that ART-TREES draws from it.
    """
    generator = np.random.default_rng([options.seed, len(predicted), len(chip_errors)])
    areas = np.broadcast_to(np.asarray(area_ha, np.float64), len(predicted))
    total_ha, share = float(np.sum(area_ha)), areas / areas.sum()
    mean = float(predicted @ share)
    drawn = np.empty(options.resamples)
    for turn in range(options.resamples):
        known = generator.choice(chip_errors, len(chip_errors))
        drawn[turn] = mean - generator.choice(known, len(predicted)) @ share
    lower, upper = np.quantile(drawn, [(1 - options.level) / 2, (1 + options.level) / 2])
    ninety = np.quantile(drawn, [0.5 - _HALF_WIDTH_LEVEL / 2, 0.5 + _HALF_WIDTH_LEVEL / 2])
    standard_error = float(drawn.std(ddof=1)) if options.resamples > 1 else 0.0
    half = float(ninety[1] - ninety[0]) / 2 / mean if mean else None
    target_mg = None if target_mean is None else target_mean * total_ha
    fraction = options.carbon_fraction
    return {
        "chips": len(predicted),
        "area_ha": total_ha,
        **in_mg(mean, max(0.0, float(lower)), float(upper), total_ha, fraction),
        "label_biomass_mg": target_mg,
        "label_carbon_mg": None if target_mg is None else target_mg * fraction,
        "carbon_fraction": fraction,
        "mean_agb_mg_per_ha": mean,
        "standard_error_mg_per_ha": standard_error,
        "relative_standard_error": standard_error / mean if mean else None,
        "relative_half_width_90": half,
        "art_trees_deduction": None if half is None else art_trees_deduction(half),
    }


def art_trees_deduction(relative_half_width_90: float) -> float:
    """Share that ART-TREES takes off, from the 90 % interval's half-width as a share."""
    return _DEDUCTION * relative_half_width_90


def chip_totals(
    predictions: Maps,
    intervals: IntervalModel,
    errors: ErrorModel,
    carbon_fraction: float,
    known_means: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Biomass and carbon of each chip, one chip in memory at a time.

    The intervals' chip-mean interval is used, moved by the errors' correction for the bias;
    ``known_means`` are corrected mean AGB by chip id, Mg/ha, where they were worked out already.

    Returns:
        chip_id, area_ha, mean_agb_mg_per_ha, standard_error_mg_per_ha, and biomass_mg and
        carbon_mg with ``_lower`` and ``_upper``.
    """
    rows = []
    for chip_id in tracked(predictions, "adding up carbon"):
        agb_HW = predictions[chip_id]
        known = (known_means or {}).get(chip_id)
        mean = max(0.0, float(errors.corrected(agb_HW).mean()) if known is None else known)
        raw = agb_HW.mean(dtype=np.float64)
        half = float(intervals.mean_bounds(np.array(raw))[1] - raw)
        area_ha = agb_HW.size * PIXEL_HA
        rows.append(
            {
                "chip_id": chip_id,
                "area_ha": area_ha,
                "mean_agb_mg_per_ha": mean,
                "standard_error_mg_per_ha": half / NormalDist().inv_cdf(0.5 + intervals.level / 2),
                **in_mg(mean, max(0.0, mean - half), mean + half, area_ha, carbon_fraction),
            }
        )
    return pd.DataFrame(rows)
