"""Field plots of a simulated region, drawn by three designs, and the areas that totals are for.

A plot's biomass is the mean of the true biomass under its circle of 254 m² (radius 9 m, as national
inventories in northern Europe have), without an error of measurement, so the totals that plots must
meet are those of ``agb.tif``.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rasterio.windows import Window

from biomassters.io.gdal import gdal_environment, open_raster
from biomassters.simulation.simulated_region import TRUTH

RADIUS_M = 9.0
_PLACES = 61  # in a plot's circle; sunflower spiral (Vogel 1979, Mathematical Biosciences 44)
_APART_M = 300.0  # between the plots of a cluster
_CLUSTER = 4
_FEWEST = 2
_DISTRICTS = ("North-west", "North-east", "South-west", "South-east")
_SHARES = (0.4, 0.6)  # of the height and width, where districts meet
_SIDE = 4  # municipalities along each side of the region


def simulate_plots(
    region: Path, plots: int, seed: int
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Draw so many plots in each design in a region that was written, with ``agb.tif``.

    Returns:
        Tables ``simple_random``, ``stratified`` (by four districts of unequal size, with a column
        ``stratum``), ``cluster`` (squares of four plots) and ``strata`` (their area_ha); and 16
        municipalities as GeoJSON, each with its true mean and total.
    """
    generator = np.random.default_rng([seed, plots])
    with gdal_environment(), open_raster(region / TRUTH) as file:
        truth: NDArray[np.float32] = file.read(1)
        transform, crs = file.transform, file.crs
    height, width = truth.shape
    pixel = transform.a
    margin = RADIUS_M / pixel

    def table(columns: NDArray[np.float64], rows: NDArray[np.float64]) -> pd.DataFrame:
        """Plots at places in pixels; inside, so that no circle reaches beyond the region."""
        columns = np.clip(columns, margin, width - margin)
        rows = np.clip(rows, margin, height - margin)
        x, y = transform @ (columns, rows)
        return pd.DataFrame(
            {
                "plot": np.arange(1, len(columns) + 1),
                "x": np.round(x, 1),
                "y": np.round(y, 1),
                "plot_area_m2": round(np.pi * RADIUS_M**2, 1),
                "agb_mg_per_ha": np.round(_under_circles(truth, columns, rows, margin), 3),
                "date": "2021-08-01",
            }
        )

    random = table(generator.uniform(0, width, plots), generator.uniform(0, height, plots))
    border_y, border_x = np.rint(np.array(_SHARES) * (height, width))
    districts = [
        (west, east, north, south)
        for north, south in ((0, border_y), (border_y, height))
        for west, east in ((0, border_x), (border_x, width))
    ]
    parts, areas = [], []
    for name, (west, east, north, south) in zip(_DISTRICTS, districts, strict=True):
        # As many in each: the small ones are sampled more densely.
        count = max(_FEWEST, plots // len(districts))
        drawn = table(generator.uniform(west, east, count), generator.uniform(north, south, count))
        parts.append(drawn.assign(stratum=name))
        areas.append((east - west) * (south - north) * pixel**2 / 10_000)
    stratified = pd.concat(parts, ignore_index=True).assign(plot=lambda t: np.arange(1, len(t) + 1))
    apart = min(_APART_M / pixel, width / 4, height / 4)
    count = max(_FEWEST, plots // _CLUSTER)
    # Clusters that would reach beyond the region begin again at its other side.
    x = (generator.uniform(0, width, count)[:, None] + apart * np.array([0, 1, 0, 1])) % width
    y = (generator.uniform(0, height, count)[:, None] + apart * np.array([0, 0, 1, 1])) % height
    clusters = table(x.ravel(), y.ravel()).assign(cluster=np.repeat(np.arange(1, count + 1), 4))
    tables = {
        "simple_random": random,
        "stratified": stratified,
        "cluster": clusters,
        "strata": pd.DataFrame({"stratum": _DISTRICTS, "area_ha": np.round(areas, 4)}),
    }
    return tables, _municipalities(truth, transform, crs)


def _under_circles(
    truth: NDArray[np.float32],
    columns: NDArray[np.float64],
    rows: NDArray[np.float64],
    radius: float,
) -> NDArray[np.float64]:
    """Mean truth at places spread evenly in each circle, [n]; all in pixels."""
    number = np.arange(_PLACES)
    away = radius * np.sqrt((number + 0.5) / _PLACES)
    angle = number * np.pi * (3 - np.sqrt(5))
    row = np.minimum(rows[:, None] + away * np.sin(angle), truth.shape[0] - 1e-6).astype(int)
    column = np.minimum(columns[:, None] + away * np.cos(angle), truth.shape[1] - 1e-6).astype(int)
    found: NDArray[np.float64] = truth[row, column].mean(axis=1, dtype=np.float64)
    return found


def _municipalities(truth: NDArray[np.float32], transform: Any, crs: Any) -> dict[str, Any]:
    rows, columns = (np.rint(np.linspace(0, size, _SIDE + 1)).astype(int) for size in truth.shape)
    features = []
    for i in range(_SIDE):
        for j in range(_SIDE):
            window = Window(columns[j], rows[i], columns[j + 1] - columns[j], rows[i + 1] - rows[i])
            corners = [(0, 0), (0, 1), (1, 1), (1, 0), (0, 0)]
            ring = [transform @ (columns[j + x], rows[i + y]) for x, y in corners]
            part = truth[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
            area_ha = window.width * window.height * transform.a**2 / 10_000
            mean = float(part.mean(dtype=np.float64))
            features.append(
                {
                    "type": "Feature",
                    "properties": {
                        "name": f"{'ABCD'[i]}{j + 1}",
                        "true_mean_mg_per_ha": round(mean, 4),
                        "true_total_mg": round(mean * area_ha, 1),
                    },
                    "geometry": {
                        "type": "Polygon",
                        "coordinates": [[[float(x), float(y)] for x, y in ring]],
                    },
                }
            )
    return {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{crs.to_epsg()}"}},
        "features": features,
    }
