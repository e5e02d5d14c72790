"""Two maps with intervals on one grid: gain and loss, with the standard error of the difference.

The errors of two maps of one place are alike (the same network, the same hillside), so a
difference is known better than both maps' intervals would have it: var = s1² + s2² − 2 r s1 s2. The
correlation r is stated, or comes from plots measured at both dates. For totals, errors of
neighbouring pixels are alike, too, and fall off with distance as exp(−d / range).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from biomassters.chips.ground import GroundPixels
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.io.gdal import open_raster
from biomassters.messages import counted
from biomassters.metrics import AGB_UNIT
from biomassters.plots.inventory import WHOLE
from biomassters.plots.map_values import (
    Floats,
    Layers,
    agb_and_classes,
    footprints,
    map_windows,
    moved_polygons,
    opened_map,
    read_band,
    zonal_sums,
)
from biomassters.plots.options import ChangeOptions
from biomassters.plots.plot_table import AreaTable, PlotTable
from biomassters.plots.regression import difference_estimate
from biomassters.plots.sampling_design import SamplingDesign
from biomassters.reporting.figure_style import map_figure, round_top

log = logging.getLogger(__name__)
BANDS = ("change", "standard_error")
_FEWEST_PLOTS = 10  # for a correlation
_POINTS = 300  # whose pairs tell how alike the errors within an area are
_LONGEST_SIDE = 1024


@dataclass(frozen=True)
class ErrorCorrelation:
    """How alike the errors of the two maps are, and who says so."""

    value: float
    source: str


@contextmanager
def opened_pair(before: Path, after: Path) -> Iterator[tuple[Any, Any]]:
    """Two maps of one grid, each with AGB and the ends of its interval.

    Raises:
        BadInputError: They differ in their grids, or one has no interval.
    """
    with opened_map(before) as first, opened_map(after) as second:
        for path, file in ((before, first), (after, second)):
            if file.count < 3:
                raise BadInputError(
                    f"{path} has {counted(file.count, 'band')}: change needs AGB and the lower and "
                    "upper end of its interval, as the pipeline mapping writes them."
                )
        same = first.crs == second.crs and first.shape == second.shape
        if not (same and first.transform.almost_equals(second.transform, 1e-6)):
            raise BadInputError(
                f"{before} and {after} have different grids: map both years with the same "
                "mapping.area and mapping.images.crs, or warp one (gdalwarp)."
            )
        yield first, second


def settle_correlation(
    before: Path, after: Path, plots: PlotTable | None, options: ChangeOptions
) -> tuple[ErrorCorrelation, pd.DataFrame | None]:
    """The correlation of the maps' errors, and the plots with both maps' values, if there are any.

    Raises:
        BadInputError: It is neither stated nor told by plots.
    """
    table = None
    if plots is not None:
        if not {"agb_before", "plot_area_m2"} <= set(plots.table):
            raise BadInputError(
                "Change needs plots measured at both dates: name plots.columns.agb_before and "
                "plots.columns.plot_area_m2."
            )
        assert plots.crs is not None
        rows = plots.table[plots.table["agb_before"].notna()]
        with opened_pair(before, after) as files:
            shapes = footprints(
                rows["x"].to_numpy(), rows["y"].to_numpy(), rows["plot_area_m2"].to_numpy(),
                plots.crs, files[0].crs,
            )  # fmt: skip
            values = [
                zonal_sums(file, agb_and_classes(1, ()), shapes, "reading maps at plots")
                for file in files
            ]
        table = rows.assign(
            map_before=values[0].means[:, 0], map_after=values[1].means[:, 0]
        ).dropna(subset=["map_before", "map_after"])
    if options.error_correlation is not None:
        return ErrorCorrelation(options.error_correlation, "stated"), table
    if table is None or len(table) < _FEWEST_PLOTS:
        raise BadInputError(
            "The correlation of the two maps' errors is not known: state it "
            f"(change.error_correlation), or give {_FEWEST_PLOTS} plots or more that were measured "
            "at both dates (change.plots)."
        )
    errors = table["map_before"] - table["agb_before"], table["map_after"] - table["agb"]
    value = float(np.corrcoef(*errors)[0, 1])
    return ErrorCorrelation(value, counted(len(table), "plot")), table


def _difference(
    files: tuple[Any, Any], window: Window, correlation: float, level: float
) -> NDArray[np.float32]:
    """Change and its standard error of a window's pixels, [2, h, w]; NaN where either map is."""
    reach = 2 * NormalDist().inv_cdf(0.5 + level / 2)
    agb, errors = [], []
    for file in files:
        agb.append(read_band(file, 1, window))
        errors.append((read_band(file, 3, window) - read_band(file, 2, window)) / reach)
    variance = errors[0] ** 2 + errors[1] ** 2 - 2 * correlation * errors[0] * errors[1]
    found: NDArray[np.float32] = np.stack([agb[1] - agb[0], np.sqrt(np.maximum(variance, 0))])
    found[:, np.isnan(found).any(axis=0)] = np.nan
    return found


def write_change(
    before: Path, after: Path, place: Path, correlation: ErrorCorrelation, options: ChangeOptions
) -> None:
    """Write change and its standard error, Mg/ha; the file takes its name when it is whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(place.name + ".tmp")
    with opened_pair(before, after) as files:
        profile = {
            "count": len(BANDS), "dtype": "float32", "nodata": float("nan"), "crs": files[0].crs,
            "width": files[0].width, "height": files[0].height, "transform": files[0].transform,
            "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate",
            "predictor": 3, "bigtiff": "if_safer",
        }  # fmt: skip
        windows = list(map_windows(files[0]))
        with open_raster(temporary, "w", **profile) as out:
            out.descriptions = BANDS
            out.units = (AGB_UNIT,) * len(BANDS)
            for window in tracked(windows, "mapping change"):
                out.write(
                    _difference(files, window, correlation.value, options.level), window=window
                )
    temporary.replace(place)


def total_change(change_map: Path, areas: AreaTable | None, options: ChangeOptions) -> pd.DataFrame:
    """Net change, gain and loss of each area and, first, of all of the map, a row each.

    Gain and loss count only pixels whose interval lies on one side of 0: the noise of both maps
    would otherwise count as gain here and loss there. Their sum is therefore not the net change.
    The standard error of a total is Σ s_i times √(mean correlation of two places in the area).
    """
    import shapely

    reach = NormalDist().inv_cdf(0.5 + options.level / 2)

    def of(values: NDArray[np.float32]) -> NDArray[np.float32]:
        change, error = values
        gain, loss = change > reach * error, change < -reach * error
        return np.stack(
            [change, error, change * gain, error * gain, gain, change * loss, error * loss, loss]
        ).astype(np.float32)

    with opened_map(change_map) as file:
        polygons, names = np.array([shapely.box(*file.bounds)]), [WHOLE]
        if areas is not None:
            if areas.polygons is None or areas.crs is None:
                raise BadInputError("change.areas must be polygons: give a GeoPackage or GeoJSON.")
            moved = moved_polygons(areas.polygons, areas.crs, file.crs, "change.areas")
            polygons, names = np.concatenate([polygons, moved]), [WHOLE, *areas.table.index]
        found = zonal_sums(file, Layers((1, 2), of), polygons, "adding up change")
        ground = GroundPixels(file.crs.to_wkt(), tuple(file.transform)[:6], file.height, file.width)
        scale = ground.sides_m()[-1] / (file.transform.a, -file.transform.e)
    alike = np.array(
        [mean_correlation(one, scale, options.correlation_range_m) for one in polygons]
    )
    rows = []
    for name, hectares, sums, share in zip(names, found.hectares, found.sums, alike, strict=True):
        net, error, gain, gain_error, gain_ha, loss, loss_error, loss_ha = sums
        shrunk = np.sqrt(share)
        row = {"area": name, "area_ha": hectares, "gain_ha": gain_ha, "loss_ha": loss_ha}
        for kind, total, spread in (
            ("net", net, error), ("gain", gain, gain_error), ("loss", loss, loss_error),
        ):  # fmt: skip
            row |= {
                f"{kind}_mg": total,
                f"{kind}_standard_error_mg": spread * shrunk,
                f"{kind}_mg_lower": total - reach * spread * shrunk,
                f"{kind}_mg_upper": total + reach * spread * shrunk,
                f"{kind}_carbon_mg": total * options.carbon_fraction,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def mean_correlation(polygon: Any, metres: Floats, range_m: float) -> float:
    """Of the errors at two places of a polygon drawn by chance, by Monte Carlo.

    Args:
        polygon: shapely's.
        metres: Of a unit east and north.
        range_m: Where the correlation has fallen to 1 / e; 0: none between pixels.
    """
    import shapely

    if range_m == 0:
        return 0.0
    generator = np.random.default_rng(0)
    west, south, east, north = polygon.bounds
    shapely.prepare(polygon)
    kept: list[Floats] = []
    while sum(map(len, kept)) < _POINTS:
        places = generator.uniform((west, south), (east, north), (4 * _POINTS, 2))
        kept.append(places[shapely.contains_xy(polygon, places)])
    places = np.concatenate(kept)[:_POINTS] * metres
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    pairs = ~np.eye(_POINTS, dtype=bool)
    return float(np.exp(-distance[pairs] / range_m).mean())


def summarize_change(
    totals: pd.DataFrame,
    correlation: ErrorCorrelation,
    plots: pd.DataFrame | None,
    options: ChangeOptions,
) -> dict[str, Any]:
    """The whole map's totals, ready for JSON; corrected by plots where there are any.

    The corrected net change is the difference estimator (Särndal et al. 1992) of the plots' own
    changes, a simple random sample: it holds whatever the maps' errors are like.
    """
    whole = {str(name): float(value) for name, value in totals.iloc[0].drop("area").items()}
    corrected = None
    if plots is not None and len(plots) >= 2:
        estimate = difference_estimate(
            SamplingDesign.of(len(plots)),
            (plots["agb"] - plots["agb_before"]).to_numpy(),
            (plots["map_after"] - plots["map_before"]).to_numpy(),
            whole["net_mg"] / whole["area_ha"],
        )
        half = estimate.half_width(options.level)
        corrected = {
            "plots": estimate.plots,
            "net_mg_per_ha": estimate.mean,
            "standard_error_mg_per_ha": estimate.standard_error,
            "net_mg": estimate.mean * whole["area_ha"],
            "net_mg_lower": (estimate.mean - half) * whole["area_ha"],
            "net_mg_upper": (estimate.mean + half) * whole["area_ha"],
        }
    return {
        "level": options.level,
        "error_correlation": correlation.value,
        "error_correlation_from": correlation.source,
        "correlation_range_m": options.correlation_range_m,
        "carbon_fraction": options.carbon_fraction,
        **whole,
        "corrected_by_plots": corrected,
    }


def draw_change(change_map: Path) -> Figure:
    """The map of change, from brown (loss) to green (gain)."""
    with opened_map(change_map) as file:
        factor = max(1.0, max(file.shape) / _LONGEST_SIDE)
        height, width = (max(1, round(side / factor)) for side in file.shape)
        change = file.read(
            1, out_shape=(height, width), resampling=Resampling.average, masked=True
        ).filled(np.nan)
    top = round_top(np.abs(change), step=10.0) or 10.0
    return map_figure(
        change, "Change of aboveground biomass", f"Change, {AGB_UNIT}",
        cmap="BrBG", vmin=-top, vmax=top,
    )  # fmt: skip
