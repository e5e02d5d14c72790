"""Maps of regions: memory at three sizes, speed, the network's share, two workers against one.

    uv run python benchmarks/region.py --json

Memory is the peak of a process of its own that maps constant images of one month, in windows of
256 pixels, at each size. Speed and shares are of a simulated region with twelve months and the
default network (random weights: its arithmetic is the same). The last line is JSON.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from process_ceiling import process_ceiling

CHIP = 256
MONTHS = tuple(range(12))


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--speed-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3, help="turns of one and of two workers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="region-") as folder:
        place = Path(folder)
        weights = write_weights(place)
        found: dict[str, Any] = {"peak_memory_mb": {}}
        for size in arguments.sizes:
            predicted, peak = alone(peak_of_size, place, weights, size)
            found["peak_memory_mb"][str(size)] = peak
            print(f"{size}: {predicted} MB until all is predicted, {peak} MB in all", flush=True)
        found |= alone(speed, place, weights, arguments.speed_size)
        print(found, flush=True)
        found |= worker_scaling(place, weights, arguments.rounds)
    if arguments.json:
        print(json.dumps(found))


def alone(function: Any, *arguments: Any) -> Any:
    """Call a function in a fresh process, so that its peak is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def write_weights(folder: Path) -> Path:
    """The default network with random weights whose chips have 256 pixels."""
    from biomassters.chips.scaling import BandScaling
    from biomassters.network.agb_net import AgbNet
    from biomassters.network.options import NetworkOptions
    from biomassters.network.weights import save_network

    path = folder / "weights.safetensors"
    network = AgbNet(NetworkOptions(), BandScaling.reference())
    save_network(network.eval(), path, {"chip_size": CHIP})
    return path


def peak_of_size(folder: Path, weights: Path, size: int) -> tuple[float, float]:
    """Peak memory in MB of a whole map of this size: until all is predicted, and in the end."""
    images = folder / f"constant{size}"
    write_constant(images, size)
    peaks = []
    map_region(
        images, folder / f"map{size}", weights, calibration=made_calibration(),
        predicted=lambda: peaks.append(_peak_mb()), window=256, overlap=0.0,
    )  # fmt: skip
    return peaks[0], _peak_mb()


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def made_calibration() -> Any:
    """Intervals and errors that cost what real ones cost; their values are no matter."""
    from biomassters.regions.mapping import Calibration
    from biomassters.uncertainty.error_model import ErrorModel
    from biomassters.uncertainty.intervals import IntervalModel

    distance_m = tuple(range(0, 1000, 50))
    correlation = tuple(1 - metres / 1000 for metres in distance_m)
    return Calibration(
        IntervalModel(0.9, (50.0,), (-10.0, -20.0), (15.0, 30.0), (100, 100), 10),
        ErrorModel(
            (50.0,), (0.0, 0.0), (9.0, 20.0), distance_m, correlation, 1.0, (0.25,) * 4, 0.9, 10
        ),
    )


def write_constant(folder: Path, size: int) -> None:
    """One month of both sensors, the same everywhere; compressed to almost nothing."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    from biomassters.chips.bands import S1, S2

    folder.mkdir()
    values = {
        S1: np.array([-10, -16, -10, -16], np.float32),
        S2: np.array([400, 600, 500, 900, 2000, 2300, 2400, 2500, 1500, 800, 3], np.uint16),
    }
    for sensor, row in values.items():
        tile = np.broadcast_to(row[:, None, None], (len(row), 512, 512)).copy()
        with rasterio.Env(GDAL_CACHEMAX=32 * 2**20), rasterio.open(
            folder / f"{sensor.tag}_09.tif", "w", driver="GTiff", width=size, height=size,
            count=len(row), dtype=row.dtype, crs="EPSG:3067", tiled=True, compress="zstd",
            transform=from_origin(400_000, 6_900_000, 10, 10), interleave="pixel",
        ) as file:  # fmt: skip
            for top in range(0, size, 512):
                for left in range(0, size, 512):
                    file.write(tile, window=Window(left, top, 512, 512))
            file.descriptions = sensor.bands


def map_region(
    images: Path,
    out: Path,
    weights: Path,
    address: str | None = None,
    calibration: Any = None,
    predicted: Callable[[], object] = lambda: None,
    **options: Any,
) -> Any:
    """Predict, assemble, write; where the prediction's time went."""
    from biomassters.inference.options import InferenceOptions
    from biomassters.regions.inputs.source import open_region
    from biomassters.regions.mapping import WeightsFiles, finish_map, plan_region, predict_blocks
    from biomassters.regions.options import AreaOptions, ImageOptions, MappingOptions
    from biomassters.workers.options import DaskOptions

    scratch = out / "scratch"
    scratch.mkdir(parents=True)
    source = open_region(str(images), ImageOptions(), AreaOptions())
    files = WeightsFiles.of((str(weights),), "benchmark")
    inference = InferenceOptions(views=("identity",), batch_size=4)
    plan = plan_region(source, files, out / "agb.tif", MappingOptions(**options), inference)
    dask = DaskOptions(scheduler_address=address, timeout_s=120)
    times = predict_blocks(plan, scratch, dask, progress=False)
    predicted()
    finish_map(plan, scratch, calibration)
    return times


def simulate(folder: Path, size: int) -> Path:
    """A simulated region with all months."""
    from biomassters.simulation.options import RegionSimulationOptions
    from biomassters.simulation.simulated_region import SimulatedRegion, write_region

    images = folder / f"simulated{size}"
    options = RegionSimulationOptions(width=size, height=size, months=MONTHS)
    write_region(SimulatedRegion(options), images)
    return images


def speed(folder: Path, weights: Path, size: int) -> dict[str, float]:
    """Square kilometres a second of the prediction, one view, and the network's share of it."""
    images = simulate(folder, size)
    times = map_region(images, folder / "speed", weights, window=256)
    km2 = (size * 10 / 1000) ** 2
    return {
        "km2_per_s": round(km2 / times.wall_s, 3),
        "network_share": round(times.network_share, 3),
    }


def worker_scaling(folder: Path, weights: Path, rounds: int) -> dict[str, float]:
    """Speed of two Dask workers over that of one, and of two independent processes over one.

    Everything takes turns, and the medians of the rounds count: other work on the machine then
    changes all of them alike. Workers read with one thread, too: one thread each.
    """
    from biomassters.workers.cluster import local_cluster

    images = next(folder.glob("simulated*"))
    with local_cluster(1, 4 * 10**9) as one, local_cluster(2, 4 * 10**9) as two:
        addresses = {1: one.scheduler_address, 2: two.scheduler_address}
        for count, address in addresses.items():  # the first time everything is imported
            _seconds(images, folder / f"{count}-warm", weights, address)
        ratios, ceilings = [], []
        for turn in range(rounds):
            seconds = {
                count: _seconds(images, folder / f"{count}-{turn}", weights, address)
                for count, address in addresses.items()
            }
            ratios.append(seconds[1] / seconds[2])
            ceilings.append(process_ceiling(images, weights))
            print(f"round {turn + 1}: {seconds} s, ceiling {ceilings[-1]:.3f}", flush=True)
    return {
        "two_worker_ratio": round(statistics.median(ratios), 3),
        "two_worker_ceiling": round(statistics.median(ceilings), 3),
    }


def _seconds(images: Path, out: Path, weights: Path, address: str) -> float:
    times = map_region(images, out, weights, address, window=256, reader_threads=1)
    return float(times.wall_s)


if __name__ == "__main__":
    main()
