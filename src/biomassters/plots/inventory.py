"""From plots and a map, or covariates in tables, to totals. Begin to read ``plots`` here.

``take_inventory`` brings plots, areas and map together, ``estimate_totals`` and ``estimate_areas``
give the numbers.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biomassters.errors import BadInputError
from biomassters.io.files import read_json
from biomassters.messages import counted, listed
from biomassters.plots.map_validation import class_labels, jitter_sensitivity, validate
from biomassters.plots.map_values import (
    Floats,
    agb_and_classes,
    footprints,
    moved_polygons,
    opened_map,
    zonal_sums,
)
from biomassters.plots.options import PlotsOptions
from biomassters.plots.plot_table import AreaTable, PlotTable
from biomassters.plots.regression import (
    Means,
    difference_estimate,
    post_stratified_estimate,
    regression_estimate,
    with_intercept,
)
from biomassters.plots.sampling_design import (
    Estimate,
    SamplingDesign,
    check_inclusion,
    plots_only,
)
from biomassters.plots.small_areas import estimate_small_areas

log = logging.getLogger(__name__)
MAP = "map"  # the covariate that a map is
WHOLE = "all"
_SAME_AREA = 1e-3
_M2_PER_HA = 10_000


@dataclass(frozen=True, eq=False)
class Inventory:
    """Plots with what is known everywhere.

    Attributes:
        plots: Measured plots, as ``PlotTable.table``, with the covariates, ``map`` among them.
        first_phase: All plots with covariates, where their means come from these; else None.
        covariates: Names.
        whole: Means of the covariates in the population; None: of the first phase.
        areas: A row an area: area_ha and means of covariates (NaN: of the first phase).
        area_ha: Of the population; None where nobody said.
        class_shares: Of the map's classes, share of the population; None without a map.
        strata: Area by stratum, ha.
        validation: Of the map, ready for JSON; None without one.
        map_interval: The map's own total, as its summary has it; None if it has none.
        warnings: What isn't wrong but should be known.
    """

    plots: pd.DataFrame
    first_phase: pd.DataFrame | None
    covariates: tuple[str, ...]
    whole: pd.Series | None
    areas: pd.DataFrame
    area_ha: float | None
    class_shares: Floats | None
    strata: dict[str, float] | None
    validation: dict[str, Any] | None
    map_interval: dict[str, Any] | None
    warnings: tuple[str, ...]


def take_inventory(
    plots: PlotTable,
    map_path: Path,
    areas: AreaTable | None,
    strata: dict[str, float] | None,
    options: PlotsOptions,
) -> Inventory:
    """Bring plots, areas and map, or tables of covariates, together.

    Raises:
        BadInputError: Plots lie outside, areas or means are missing, or they contradict each other.
    """
    if options.columns.stratum is not None and strata is None:
        raise BadInputError(
            "plots.columns.stratum is named, but the strata's areas are not known: give a table "
            "of them with plots.strata."
        )
    if options.covariates:
        found = _from_tables(plots, areas, strata, options)
    else:
        found = _from_map(plots, map_path, areas, strata, options)
    if found.area_ha is not None and "inclusion_probability" in found.plots:
        if "plot_area_m2" not in found.plots:
            raise BadInputError(
                "Inclusion probabilities need the plots' areas: name plots.columns.plot_area_m2."
            )
        check_inclusion(
            found.plots["inclusion_probability"].to_numpy(),
            found.plots["plot_area_m2"].to_numpy() / _M2_PER_HA, found.area_ha,
        )  # fmt: skip
    return found


def _from_tables(
    plots: PlotTable,
    areas: AreaTable | None,
    strata: dict[str, float] | None,
    options: PlotsOptions,
) -> Inventory:
    names = list(options.covariates)
    if both := set(names) & set(plots.table):
        raise BadInputError(
            f"plots.covariates: {listed(sorted(both))} means something else here: rename the "
            "column."
        )
    everything = plots.table.join(plots.covariates)
    table = pd.DataFrame(columns=["area_ha", *names]) if areas is None else areas.table
    two_phase = "phase" in plots.table
    for name in names:
        if name not in table and not two_phase:
            raise BadInputError(
                f"The mean of {name} is known nowhere: give a table of areas with a column {name} "
                "(plots.areas), or a first phase of plots (plots.columns.phase)."
            )
        if name not in table:
            table = table.assign(**{name: np.nan})
    inside = table["area_ha"].to_numpy(float)
    whole: Any = None
    area_ha = options.area_ha or (sum(strata.values()) if strata else None)
    if WHOLE in table.index:
        whole = table.loc[WHOLE]
        if area_ha is None and np.isfinite(whole["area_ha"]):
            area_ha = float(whole["area_ha"])
        table = table.drop(index=WHOLE)
    elif len(table) == 1 and options.columns.area is None:
        whole = table.iloc[0]
        area_ha = area_ha or (float(inside[0]) if np.isfinite(inside[0]) else None)
        table = table.iloc[:0]
    elif len(table) and np.isfinite(inside).all():
        weights = inside / inside.sum()
        whole = pd.Series(weights @ table[names].to_numpy(float), names)
        area_ha = area_ha or float(inside.sum())
    unknown = whole is None or not np.isfinite(whole[names].to_numpy(float)).all()
    if unknown and not two_phase:
        raise BadInputError(
            "Means of the whole area are not known: give areas their area_ha, or add a row named "
            f"'{WHOLE}' to the table of areas."
        )
    return Inventory(
        everything[plots.measured].reset_index(drop=True),
        everything if two_phase else None,
        options.covariates, None if unknown else whole[names], table, area_ha, None, strata,
        None, None, plots.warnings,
    )  # fmt: skip


def _from_map(
    plots: PlotTable,
    map_path: Path,
    areas: AreaTable | None,
    strata: dict[str, float] | None,
    options: PlotsOptions,
) -> Inventory:
    import shapely

    table, crs = plots.table, plots.crs
    assert crs is not None
    if "plot_area_m2" not in table:
        raise BadInputError(
            "The plots' areas are not known: name their column (plots.columns.plot_area_m2), or "
            "state the area of all of them (plots.plot_area_m2)."
        )
    warnings = list(plots.warnings)
    with opened_map(map_path) as file:
        if options.map_band > file.count:
            raise BadInputError(f"plots.map_band: {map_path} has {counted(file.count, 'band')}.")
        layers = agb_and_classes(options.map_band, options.map_classes)
        x, y = table["x"].to_numpy(), table["y"].to_numpy()
        shapes = footprints(x, y, table["plot_area_m2"].to_numpy(), crs, file.crs)
        at_plots = zonal_sums(file, layers, shapes, "reading the map at plots")
        table = table.assign(**{MAP: at_plots.means[:, 0], "cover": at_plots.cover})
        seen = at_plots.cover >= options.least_cover
        if not seen.any():
            raise BadInputError(
                f"No plot lies on {map_path}: its places are in {file.crs}, the plots' said to be "
                f"in {crs}; check plots.crs and the map."
            )
        whole_map = areas is None or areas.polygons is None
        if whole_map:
            polygons = np.array([shapely.box(*file.bounds)])
            names, named = pd.Index([WHOLE]), np.full(len(table), WHOLE)
        else:
            assert areas is not None
            assert areas.polygons is not None
            assert areas.crs is not None
            polygons = moved_polygons(areas.polygons, areas.crs, file.crs, "The file of areas")
            names = areas.table.index
            named = _area_of(shapely.centroid(shapes), polygons, names)
            seen &= named != ""
        _refuse_outside(seen, x, y, options.outside, "map" if whole_map else "map and its areas")
        if not seen.all():
            warnings.append(
                f"{counted(int((~seen).sum()), 'plot')} without a value of the map left out."
            )
        table = table.assign(area=named)[seen].reset_index(drop=True)
        of_areas = zonal_sums(file, layers, polygons, "adding up areas")
        validation = validate(table, options.map_classes)
        validation["jitter"] = jitter_sensitivity(file, table, crs, options)
    if (lacking := names[of_areas.hectares == 0]).size:
        raise BadInputError(
            f"The map has no value in area {lacking[0]}: leave it out, or give a map that has."
        )
    partly = names[of_areas.cover < 0.99]
    if not whole_map and len(partly):
        shown = listed([*partly[:3], *([f"{len(partly) - 3} more"] if len(partly) > 3 else [])])
        warnings.append(f"The map shows less than 99 % of {shown}: totals are of what it shows.")
    known = pd.DataFrame({"area_ha": of_areas.hectares, MAP: of_areas.means[:, 0]}, index=names)
    weights = of_areas.hectares / of_areas.hectares.sum()
    whole = pd.Series({MAP: float(weights @ of_areas.means[:, 0])})
    area_ha = options.area_ha or float(of_areas.hectares.sum())
    if strata and abs(sum(strata.values()) / area_ha - 1) > 0.02:
        warnings.append(
            f"The strata have {sum(strata.values()):,.0f} ha, the mapped area {area_ha:,.0f} ha."
        )
    return Inventory(
        table, None, (MAP,), whole, known.iloc[:0] if whole_map else known, area_ha,
        weights @ of_areas.means[:, 1:], strata, validation,
        _own_interval(map_path, area_ha), tuple(warnings),
    )  # fmt: skip


def _area_of(points: Any, polygons: Any, names: pd.Index) -> np.ndarray:
    """Name of the area that each point lies in, '' in none; the first one of several."""
    import shapely

    found = np.full(len(points), "", object)
    point, polygon = shapely.STRtree(polygons).query(points, predicate="intersects")
    found[point[::-1]] = np.asarray(names, object)[polygon[::-1]]
    return found.astype(str)


def _refuse_outside(seen: np.ndarray, x: Floats, y: Floats, rule: str, what: str) -> None:
    outside = np.flatnonzero(~seen)
    if not outside.size or (rule == "drop" and seen.any()):
        return
    first = outside[0]
    raise BadInputError(
        f"{counted(outside.size, 'plot')} of {len(seen)} lie outside the {what}, the first in row "
        f"{first + 1} at {x[first]:g}, {y[first]:g}: check plots.crs, or set plots.outside to drop "
        "to estimate the mapped land alone."
    )


def _own_interval(map_path: Path, area_ha: float) -> dict[str, Any] | None:
    """What a map of ours says of its own total, if that is the total of this area."""
    summary = map_path.with_name(map_path.name + ".summary.json")
    if not summary.is_file():
        return None
    found = read_json(summary, "delete it, or make the map again")
    needed = {"area_ha", "mean_agb_mg_per_ha", "mean_agb_standard_error_mg_per_ha"}
    known = needed <= set(found) and abs(found["area_ha"] / area_ha - 1) < _SAME_AREA
    return found if known else None


def design_of(plots: pd.DataFrame, strata: dict[str, float] | None) -> SamplingDesign:
    """The sampling design that a table's columns state."""

    def column(name: str) -> Any:
        return plots[name].to_numpy() if name in plots else None

    return SamplingDesign.of(
        len(plots), column("stratum"), strata, column("cluster"), column("inclusion_probability")
    )


def _means(inventory: Inventory, area: str | None = None) -> Means:
    """Of ones and covariates, in the population or an area."""
    names = list(inventory.covariates)
    known = inventory.whole if area is None else inventory.areas.loc[area, names]
    if known is not None and np.isfinite(known.to_numpy(float)).all():
        return Means.true([1.0, *known[names].to_numpy(float)])
    first = inventory.first_phase
    assert first is not None
    if area is not None:
        first = first[first["area"] == area]
    if len(first) < 2:
        raise BadInputError(
            f"Means of covariates in area {area} are not known, and fewer than 2 plots of the "
            "first phase lie there: give its means, or join it to another area."
        )
    weights = first["boundary_weight"].to_numpy() if "boundary_weight" in first else None
    design = design_of(first, inventory.strata if area is None else None)
    if area is not None:  # its strata's shares are unknown
        design = SamplingDesign.of(
            len(first), clusters=first["cluster"].to_numpy() if "cluster" in first else None
        )
    return Means.of_sample(design, with_intercept(first, names), weights)


def estimate_totals(inventory: Inventory, options: PlotsOptions) -> dict[str, Any]:
    """Every estimator of the whole, side by side, ready for JSON.

    ``chosen`` names the one to report: the generalised regression estimator of a probability
    sample, the model-based one of other plots. It is fixed beforehand, not the one of the smallest
    error, which would be too small.
    """
    plots = inventory.plots
    design = design_of(plots, inventory.strata)
    values = plots["agb"].to_numpy()
    covariates = with_intercept(plots, inventory.covariates)
    means = _means(inventory)
    alone = plots_only(design, values)
    estimates = [alone]
    if options.probability_sample:
        if inventory.class_shares is not None:
            assert inventory.whole is not None
            predicted, mean = plots[MAP].to_numpy(), float(inventory.whole[MAP])
            estimates.append(difference_estimate(design, values, predicted, mean))
            classes = np.searchsorted(options.map_classes, predicted)
            labels = class_labels(options.map_classes)
            estimates.append(
                post_stratified_estimate(design, values, classes, inventory.class_shares, labels)
            )
        estimates.append(regression_estimate("greg", design, values, covariates, means))
    else:
        name = "hybrid" if means.design is not None else "model_based"
        estimates.append(
            regression_estimate(name, design, values, covariates, means, probability_sample=False)
        )
    chosen = estimates[-1].estimator
    if inventory.class_shares is not None:
        estimates.insert(0, _map_only(inventory))
    found = {}
    for one in estimates:
        row = one.to_dict(options.level, inventory.area_ha, options.carbon_fraction)
        error, base = one.standard_error, alone.standard_error
        row["relative_efficiency"] = (base / error) ** 2 if error and base else None
        found[one.estimator] = row
    return {
        "plots": len(plots),
        "design": design.name if options.probability_sample else "no probability sample",
        "probability_sample": options.probability_sample,
        "two_phase": means.design is not None,
        "area_ha": inventory.area_ha,
        "level": options.level,
        "carbon_fraction": options.carbon_fraction,
        "covariates": list(inventory.covariates),
        "chosen": chosen,
        "estimates": found,
        "validation": inventory.validation,
        "warnings": list(inventory.warnings),
    }


def _map_only(inventory: Inventory) -> Estimate:
    """The map's mean; with its own standard error where it is a map of ours, taken as a whole."""
    own = inventory.map_interval
    if own is None:
        assert inventory.whole is not None
        return Estimate("map_only", float(inventory.whole[MAP]), None, 0.0, 0, {})
    return Estimate(
        "map_only", own["mean_agb_mg_per_ha"], own["mean_agb_standard_error_mg_per_ha"], np.inf, 0,
        {"of_pixels_mg_per_ha": own.get("mean_of_map_mg_per_ha")},
    )  # fmt: skip


def estimate_areas(inventory: Inventory, options: PlotsOptions) -> pd.DataFrame:
    """Every estimator of every area, a row each; ``chosen`` marks the one to report.

    Which one is chosen depends on the number of plots in the area alone
    (``plots.small_areas.extended_from``). Without areas the table is empty.
    """
    if inventory.areas.empty:
        return pd.DataFrame(columns=["area", "plots_in_area", "chosen", "estimator"])
    if "area" not in inventory.plots:
        raise BadInputError(
            "The plots' areas are not known: name their column with plots.columns.area, or give "
            "areas as polygons."
        )
    plots = inventory.plots
    found = estimate_small_areas(
        design_of(plots, inventory.strata), plots["agb"].to_numpy(),
        with_intercept(plots, inventory.covariates), plots["area"].to_numpy(),
        {str(name): _means(inventory, str(name)) for name in inventory.areas.index},
        options.small_areas,
    )  # fmt: skip
    rows = []
    inside = plots["area"].value_counts().reindex(inventory.areas.index, fill_value=0)
    known: dict[str, dict[str, float]] = inventory.areas.to_dict("index")  # type: ignore[assignment]
    for name, estimates in found.items():
        area_ha = known[name]["area_ha"] if np.isfinite(known[name]["area_ha"]) else None
        chosen = estimates.pop("chosen")
        if MAP in inventory.areas:
            estimates["map_only"] = Estimate("map_only", known[name][MAP], None, 0.0, 0, {})
        for one in estimates.values():
            row = one.to_dict(options.level, area_ha, options.carbon_fraction)
            kept = {key: value for key, value in row.items() if not isinstance(value, list | dict)}
            marked = one.estimator == chosen.estimator
            rows.append(
                {"area": name, "area_ha": area_ha, "plots_in_area": inside[name], "chosen": marked}
                | kept
            )
    return pd.DataFrame(rows)
