"""A map against plots: bias, RMSE and R², by class of biomass and by stratum.

As the CEOS Land Product Validation protocol for aboveground biomass asks (Duncanson et al. 2021,
version 1.0, sections 6-7): footprint against footprint, by class of the *plots'* biomass, with what
the plots' own places may be wrong by. Differences are map − plot: above 0 the map is too high.
"""

from typing import Any

import numpy as np
import pandas as pd
from rasterio.crs import CRS

from biomassters.plots.map_values import (
    Floats,
    agb_and_classes,
    footprints,
    jittered,
    zonal_sums,
)
from biomassters.plots.options import JitterOptions, PlotsOptions


def scores(plots: Floats, predicted: Floats) -> dict[str, Any]:
    """Of map values at plots, both [n], Mg/ha, ready for JSON; None where too few say it.

    ``r_squared`` is that of a line through them, ``efficiency`` 1 − squared differences over the
    plots' own (Nash & Sutcliffe 1970): a biased map lowers only the second.
    """
    n = len(plots)
    if n == 0:
        return {"plots": 0}
    difference = predicted - plots
    spread = float(((plots - plots.mean()) ** 2).sum())
    line = spread > 0 and predicted.std() > 0
    return {
        "plots": n,
        "mean_of_plots_mg_per_ha": float(plots.mean()),
        "mean_of_map_mg_per_ha": float(predicted.mean()),
        "bias_mg_per_ha": float(difference.mean()),
        "bias_standard_error_mg_per_ha": float(difference.std(ddof=1) / n**0.5) if n > 1 else None,
        "rmse_mg_per_ha": float(np.sqrt((difference**2).mean())),
        "r_squared": float(np.corrcoef(plots, predicted)[0, 1] ** 2) if line else None,
        "efficiency": 1 - float((difference**2).sum()) / spread if spread else None,
    }


def validate(plots: pd.DataFrame, edges: tuple[float, ...]) -> dict[str, Any]:
    """Scores of all plots, by class of their own biomass and by stratum.

    Args:
        plots: ``agb`` and ``map``, Mg/ha; ``stratum`` if there is one.
        edges: Borders of the classes, Mg/ha.
    """

    def of(rows: pd.DataFrame) -> dict[str, Any]:
        return scores(rows["agb"].to_numpy(), rows["map"].to_numpy())

    classes = np.searchsorted(edges, plots["agb"].to_numpy())
    found: dict[str, Any] = {
        "all": of(plots),
        "by_class": {
            label: of(plots[classes == number]) for number, label in enumerate(class_labels(edges))
        },
    }
    if "stratum" in plots:
        found["by_stratum"] = {str(name): of(rows) for name, rows in plots.groupby("stratum")}
    return found


def class_labels(edges: tuple[float, ...]) -> list[str]:
    """What classes between edges are called.

    >>> class_labels((50.0, 100.0))
    ['0-50', '50-100', '> 100']
    """
    if not edges:
        return ["all"]
    lower = ("0", *(f"{edge:g}" for edge in edges))
    between = [f"{low}-{edge:g}" for low, edge in zip(lower, edges, strict=False)]
    return [*between, f"> {edges[-1]:g}"]


def jitter_sensitivity(
    file: Any, plots: pd.DataFrame, crs: CRS, options: PlotsOptions
) -> dict[str, Any] | None:
    """What errors of the plots' places do to the scores: range over draws; None where not tried.

    Args:
        file: The open map.
        plots: x, y, agb, plot_area_m2; their first ``jitter.plots`` by chance are moved.
        crs: Of x and y.
        options: Standard deviation, draws, seed.
    """
    jitter: JitterOptions = options.jitter
    if not jitter.draws or not jitter.standard_deviation_m:
        return None
    generator = np.random.default_rng(jitter.seed)
    if len(plots) > jitter.plots:
        plots = plots.iloc[np.sort(generator.choice(len(plots), jitter.plots, replace=False))]
    x, y = plots["x"].to_numpy(), plots["y"].to_numpy()
    places = [
        jittered(x, y, crs, jitter.standard_deviation_m, generator) for _ in range(jitter.draws)
    ]
    moved_x, moved_y = (np.concatenate(axis) for axis in zip(*places, strict=True))
    areas = np.tile(plots["plot_area_m2"].to_numpy(), jitter.draws)
    shapes = footprints(moved_x, moved_y, areas, crs, file.crs)
    values = zonal_sums(file, agb_and_classes(options.map_band, ()), shapes, "moving plots")
    by_draw = []
    for drawn in values.means[:, 0].reshape(jitter.draws, -1):
        known = np.isfinite(drawn)
        by_draw.append(scores(plots["agb"].to_numpy()[known], drawn[known]))
    found: dict[str, Any] = {
        "standard_deviation_m": jitter.standard_deviation_m,
        "draws": jitter.draws,
        "plots": len(plots),
    }
    for name in ("bias_mg_per_ha", "rmse_mg_per_ha", "r_squared"):
        known_ones = [one[name] for one in by_draw if one.get(name) is not None]
        found[name] = [min(known_ones), max(known_ones)] if known_ones else None
    return found
