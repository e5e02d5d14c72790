"""Carbon of the held-out and the test chips, beside the thresholds that the field uses."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.chip import LabelledChips, positions, read_label
from biomassters.reporting.hectares import HectareErrors
from biomassters.uncertainty.carbon import chip_totals, total_of_set
from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.intervals import IntervalModel
from biomassters.uncertainty.options import UncertaintyOptions

Maps = Mapping[str, NDArray[np.float32]]


def account_for_carbon(
    chips: LabelledChips,
    held_out: Maps,
    test: Maps,
    models: Mapping[str, Any],
    measured: pd.DataFrame,
    options: UncertaintyOptions,
    *,
    progress: bool = True,
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
        progress: Show bars on stderr.

    Returns:
        ``held_out``, ``test`` (None if empty) and ``hectares``, ready for JSON; and a row per
        chip with its split.
    """
    intervals = IntervalModel.from_dict(models["intervals"])
    errors = ErrorModel.from_dict(models["errors"])
    fraction = options.carbon_fraction
    cross_fitted = dict(zip(measured["chip_id"], measured["corrected_mean"], strict=True))
    known = chip_totals(held_out, intervals, errors, fraction, cross_fitted, progress=progress)
    hectares, targets = _labels(chips, held_out, known["chip_id"].tolist())
    chip_errors = known["mean_agb_mg_per_ha"].to_numpy() - targets
    tables, account = [], {"level": options.level, "hectares": hectares.summary()}
    for split, maps in (("held_out", held_out), ("test", test)):
        if not maps:
            account[split] = None
            continue
        table = known
        if split == "test":
            table = chip_totals(maps, intervals, errors, fraction, progress=progress)
        total = total_of_set(
            table["mean_agb_mg_per_ha"].to_numpy(),
            float(table["area_ha"].sum()),
            chip_errors,
            options,
            float(targets.mean()) if split == "held_out" else None,
        )
        account[split] = total.to_dict(fraction)
        tables.append(table.assign(split=split))
    return account, pd.concat(tables, ignore_index=True)


def _labels(
    chips: LabelledChips, maps: Maps, chip_ids: list[str]
) -> tuple[HectareErrors, NDArray[np.float64]]:
    """Errors of hectares, and the mean label of each chip, Mg/ha."""
    hectares, means = HectareErrors(), []
    for chip_id, index in zip(chip_ids, positions(chips, chip_ids), strict=True):
        label = read_label(chips, index)
        hectares.update(maps[chip_id], label)
        means.append(float(label.mean(dtype=np.float64)))
    return hectares, np.array(means)
