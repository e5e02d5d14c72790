"""Whether estimators from plots hold what they promise, and how long a large inventory takes.

A simulated forest is the population, so its mean is known; a map of it has errors that neighbours
share and is pulled towards its mean. Thousands of samples of 60 plots are drawn by each design, and
each sample gives an estimate with a 90 % interval.

    python benchmarks/plot_estimators.py --json
    python benchmarks/plot_estimators.py --large plots      # 100,000 plots, a map of 20,000²
    python benchmarks/plot_estimators.py --large polygons   # 10,000 polygons

``se_ratio`` is the mean standard error over that of the design's own plots-only estimator;
``expected_se_ratio`` what the population says of it: the square root of the share of the design's
variance that the map leaves, √(1 − R²) for plots drawn at random. For plots alone it is 1, and
``se_to_sd``, the mean standard error over the standard deviation of the estimates, says more.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.windows
from scipy.ndimage import gaussian_filter

from biomassters.plots.map_values import agb_and_classes, footprints, opened_map, zonal_sums
from biomassters.plots.regression import (
    Means,
    difference_estimate,
    post_stratified_estimate,
    regression_estimate,
)
from biomassters.plots.sampling_design import Estimate, SamplingDesign, plots_only
from biomassters.simulation.landscape import make_landscape, without_margin
from biomassters.simulation.random_fields import Window

SIDE = 768
CLUSTER = 4  # plots, at the corners of a square
APART = 30  # pixels, 300 m
LEVEL = 0.9
Draw = Callable[[np.random.Generator], tuple[np.ndarray, SamplingDesign]]


class Population:
    """A forest whose mean is known, and a map of it.

    Attributes:
        truth, map: float64 [N], Mg/ha.
        strata: int64 [N]; areas_ha by name.
    """

    def __init__(self, seed: int) -> None:
        landscape = make_landscape(Window(0, 0, SIDE, SIDE), seed)
        truth = landscape.forest.label_mg_per_ha[without_margin(landscape.window)]
        self.truth = truth.astype(np.float64).ravel()
        generator = np.random.default_rng([seed, 1])
        error = gaussian_filter(generator.standard_normal((SIDE, SIDE)), 4)
        error = 20 * error / error.std() + generator.normal(0, 25, (SIDE, SIDE))
        self.map = (
            0.8 * self.truth + 20 + (error * (0.6 + self.truth.reshape(error.shape) / 150)).ravel()
        )
        # Strata are land, as forest districts are: four quarters of unequal size.
        row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
        self.strata = 2 * (row > SIDE * 0.4) + (column > SIDE * 0.6)
        self.areas_ha = {str(s): float((self.strata == s).sum()) / 100 for s in range(4)}
        edges = np.quantile(self.map, [0.25, 0.5, 0.75])
        self.classes = np.searchsorted(edges, self.map)
        self.class_shares = np.bincount(self.classes) / self.classes.size

    def corners(self, first: np.ndarray) -> np.ndarray:
        """Pixels of clusters that begin at pixels [m]; the region has no edge, [m, 4]."""
        row, column = np.divmod(first, SIDE)
        rows = (row[:, None] + np.array([0, 0, APART, APART])) % SIDE
        columns = (column[:, None] + np.array([0, APART, 0, APART])) % SIDE
        return rows * SIDE + columns


def draws(population: Population, plots: int) -> dict[str, Draw]:
    """How samples are drawn, by design."""
    size = population.truth.size
    inclusion = np.sqrt(np.maximum(population.map, 10.0))
    inclusion /= inclusion.sum()
    members = [np.flatnonzero(population.strata == s) for s in range(4)]
    shares = np.array([len(one) for one in members]) / size
    per_stratum = np.maximum(6, np.rint(plots * shares)).astype(int)
    per_stratum[-1] += plots - per_stratum.sum()

    def simple(generator: np.random.Generator) -> Any:
        return generator.integers(size, size=plots), SamplingDesign.of(plots)

    def stratified(generator: np.random.Generator) -> Any:
        chosen = np.concatenate(
            [generator.choice(one, n) for one, n in zip(members, per_stratum, strict=True)]
        )
        strata = population.strata[chosen]
        return chosen, SamplingDesign.of(plots, strata, population.areas_ha)

    def cluster(generator: np.random.Generator) -> Any:
        chosen = population.corners(generator.integers(size, size=plots // CLUSTER)).ravel()
        return chosen, SamplingDesign.of(
            plots, clusters=np.repeat(np.arange(plots // CLUSTER), CLUSTER)
        )

    def unequal(generator: np.random.Generator) -> Any:
        chosen = generator.choice(size, plots, p=inclusion)
        return chosen, SamplingDesign.of(plots, inclusion=inclusion[chosen])

    return {
        "simple_random": simple,
        "stratified": stratified,
        "cluster": cluster,
        "unequal_probability": unequal,
    }


def estimates(
    population: Population, chosen: np.ndarray, design: SamplingDesign
) -> Iterator[Estimate]:
    """What one sample gives."""
    values, predicted = population.truth[chosen], population.map[chosen]
    covariates = np.column_stack([np.ones(len(values)), predicted])
    mean = float(population.map.mean())
    yield plots_only(design, values)
    yield difference_estimate(design, values, predicted, mean)
    yield regression_estimate("greg", design, values, covariates, Means.true([1, mean]))
    yield post_stratified_estimate(
        design, values, population.classes[chosen], population.class_shares, list("abcd")
    )


def expected_variances(population: Population, name: str) -> dict[str, float]:
    """Of one primary unit's value, by estimator, over the whole population."""
    y, x = population.truth, population.map
    slope = np.cov(x, y)[0, 1] / x.var(ddof=1)
    class_means = np.bincount(population.classes, y) / np.bincount(population.classes)
    values = {
        "plots_only": y,
        "difference": y - x,
        "greg": y - slope * x,
        "post_stratified": y - class_means[population.classes],
    }
    if name == "cluster":
        all_corners = population.corners(np.arange(y.size))
        return {key: float(one[all_corners].mean(axis=1).var()) for key, one in values.items()}
    if name == "stratified":
        # The samples are nearly proportional.
        means = {
            k: np.bincount(population.strata, v) / np.bincount(population.strata)
            for k, v in values.items()
        }
        return {k: float((v - means[k][population.strata]).var()) for k, v in values.items()}
    if name == "unequal_probability":
        p = np.sqrt(np.maximum(x, 10.0))
        p /= p.sum()
        return {k: float(((v - v.mean()) ** 2 / p).sum()) for k, v in values.items()}
    return {key: float(one.var()) for key, one in values.items()}


def purposive(population: Population, plots: int) -> Draw:
    """Plots where the map is high, as along roads into old forest: no probability sample."""
    weights = np.clip(population.map, 5, None) ** 1.0
    weights /= weights.sum()

    def draw(generator: np.random.Generator) -> Any:
        return generator.choice(population.map.size, plots, p=weights), SamplingDesign.of(plots)

    return draw


def run_samples(samples: int, plots: int, seed: int) -> dict[str, Any]:
    """All designs, by name; plots alone and the model-assisted estimators of each."""
    population = Population(seed)
    truth = float(population.truth.mean())
    generator = np.random.default_rng([seed, 2])
    rows: dict[str, dict[str, list[tuple[float, ...]]]] = defaultdict(lambda: defaultdict(list))

    def note(name: str, found: Estimate) -> None:
        half, error = found.half_width(LEVEL), found.mean - truth
        rows[name][found.estimator].append(
            (abs(error) <= half, error / found.standard_error, found.standard_error, found.mean)
        )

    for name, draw in draws(population, plots).items():
        for _ in range(samples):
            for found in estimates(population, *draw(generator)):
                note(name, found)
    draw = purposive(population, plots)
    for _ in range(samples):
        chosen, design = draw(generator)
        values = population.truth[chosen]
        covariates = np.column_stack([np.ones(plots), population.map[chosen]])
        means = Means.true([1, float(population.map.mean())])
        note("purposive", plots_only(design, values))
        note(
            "purposive",
            regression_estimate(
                "model_based", design, values, covariates, means, probability_sample=False
            ),
        )
    designs = {}
    for name, by_estimator in rows.items():
        base = np.mean([row[2] for row in by_estimator["plots_only"]])
        expected = {} if name == "purposive" else expected_variances(population, name)
        for estimator, found in by_estimator.items():
            held, z, error, mean = np.array(found, float).T
            ratio = None
            if expected:
                ratio = float(np.sqrt(expected[estimator] / expected["plots_only"]))
            key = name if estimator == "plots_only" else f"{name}, {estimator}"
            designs[key] = {
                "coverage_90": float(held.mean()),
                "mean_z": float(z.mean()),
                "se_ratio": float(error.mean() / base),
                "expected_se_ratio": ratio,
                "se_to_sd": float(error.mean() / mean.std(ddof=1)),
            }
    r_squared = float(np.corrcoef(population.truth, population.map)[0, 1] ** 2)
    # Apart: no design promises anything of plots that chance didn't choose.
    purposive_ones = {key: designs.pop(key) for key in [*designs] if key.startswith("purposive")}
    return {
        "designs": designs,
        "no_probability_sample": purposive_ones,
        "samples": samples,
        "plots": plots,
        "r_squared": r_squared,
    }


def run_large(what: str, side: int) -> dict[str, Any]:
    """Time and memory of 100,000 plots, or 10,000 polygons, on a map of so many pixels a side."""
    import shapely
    from rasterio.crs import CRS

    generator = np.random.default_rng(1)
    west, north, pixel = 300_000.0, 7_000_000.0, 10.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "map.tif")
        write_large_map(path, side, west, north, pixel)
        started = time.monotonic()
        with opened_map(path) as file:
            if what == "plots":
                x = west + generator.uniform(20, side * pixel - 20, 100_000)
                y = north - generator.uniform(20, side * pixel - 20, 100_000)
                crs = CRS.from_epsg(3067)
                polygons = footprints(x, y, np.full(len(x), 254.5), crs, file.crs)
            else:
                step = side * pixel / 100
                column, row = np.meshgrid(np.arange(100), np.arange(100))
                left, top = west + column.ravel() * step, north - row.ravel() * step
                polygons = shapely.box(left, top - step, left + step, top)
            found = zonal_sums(
                file, agb_and_classes(1, (50.0, 100.0, 150.0, 200.0)), polygons, what
            )
        seconds = time.monotonic() - started
    assert np.isfinite(found.means).all()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        what: len(polygons),
        "side": side,
        "seconds": round(seconds, 1),
        "peak_gb": round(peak * 1024 / 1e9, 2),
        "load": [round(one, 1) for one in os.getloadavg()],
        "machine": platform.processor() or platform.machine(),
    }


def write_large_map(path: Path, side: int, west: float, north: float, pixel: float) -> None:
    """One tile over and over, so that making it takes no time."""
    tile = np.round(np.abs(np.random.default_rng(0).normal(100, 60, (512, 512))), 1)
    with rasterio.open(
        path, "w", driver="GTiff", count=1, dtype="float32", width=side, height=side,
        crs="EPSG:3067", transform=rasterio.transform.from_origin(west, north, pixel, pixel),
        tiled=True, blockxsize=512, blockysize=512, compress="zstd", zstd_level=1,
        nodata=float("nan"), bigtiff="yes",
    ) as file:  # fmt: skip
        for top in range(0, side, 512):
            for left in range(0, side, 512):
                height, width = min(512, side - top), min(512, side - left)
                window = rasterio.windows.Window(left, top, width, height)
                file.write(tile[:height, :width].astype(np.float32), 1, window=window)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--plots", type=int, default=60)
    parser.add_argument("--seed", type=int, default=20230131)
    parser.add_argument("--json", action="store_true", help="the last line is JSON")
    parser.add_argument("--large", choices=["plots", "polygons"], help="time and memory instead")
    parser.add_argument("--side", type=int, default=20_000, help="of the large map, pixels")
    arguments = parser.parse_args()
    started = time.monotonic()
    if arguments.large:
        found = run_large(arguments.large, arguments.side)
    else:
        found = run_samples(arguments.samples, arguments.plots, arguments.seed)
        for name, one in (found["designs"] | found["no_probability_sample"]).items():
            numbers = (f"{k} {'-' if v is None else round(v, 3)}" for k, v in one.items())
            print(f"{name:40s}", *numbers)
        found["seconds"] = round(time.monotonic() - started, 1)
    if arguments.json or arguments.large:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
