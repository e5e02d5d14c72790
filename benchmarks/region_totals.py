"""Do the intervals of regions' totals hold? Many simulated regions, several networks.

    uv run python benchmarks/region_totals.py --work DIR --json

Two sets, each of its own networks and regions: the totals of one set share its calibrations, so a
second says more than more regions would.

Every network is one default training on a simulated archive of its own (its chips, its held-out
chips and its weights share nothing with the others'), and calibrated as ``kedro run`` calibrates
it. Every region has a landscape, a year's weather and gaps of its own, and is mapped by every
network through the code that maps real regions. z is (total - truth) / standard error.

Archives, weights, held-out predictions and maps are kept in ``--work`` and not made again;
calibration and totals are computed in every run. Seeds follow from ``--seeds``: develop on others
than those that are reported.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).parents[1]
LEVEL = 0.9
TRUTH = "agb.tif"


def main() -> None:
    """Prepare what isn't there yet, then count."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=REPOSITORY / "data/region_totals")
    parser.add_argument("--regions", type=int, default=40, help="of a set")
    parser.add_argument("--networks", type=int, default=4, help="of a set")
    parser.add_argument("--size", type=int, default=512, help="pixels of a region's side")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[7_000_000, 9_000_000],
        help="of the first region of each set",
    )  # fmt: skip
    parser.add_argument("--params", default="", help="more parameters of the networks' runs")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    arguments = parser.parse_args()
    tables = []
    for seed in arguments.seeds:
        tables.append(totals_of_set(arguments.work / str(seed), seed, arguments))
        print(json.dumps({"seed": seed, **summarise(tables[-1])}), flush=True)
    table = pd.concat(tables)
    found = summarise(table)
    print(by_network(table).round(3).to_string())
    print(json.dumps(found, indent=1))
    if arguments.json:
        print(json.dumps(found))


def totals_of_set(work: Path, seed: int, arguments: argparse.Namespace) -> pd.DataFrame:
    """A row for each total of a set: every one of its networks maps every one of its regions."""
    networks = [
        make_network(work, seed + number, arguments.params) for number in range(arguments.networks)
    ]
    regions = []
    for number in range(arguments.regions):
        regions.append(simulate_region(work, seed + number, arguments.size))
        for network in networks:
            map_region(regions[-1], network)
    table = pd.DataFrame(
        total_of_region(region, network) for network in networks for region in regions
    )
    table.to_csv(work / "totals.csv", index=False)
    return table


def make_network(work: Path, seed: int, params: str) -> Path:
    """A project folder in which a network was trained and calibrated; returns it.

    Everything before the calibration is kept from an earlier run; the calibration is not.
    """
    folder = work / f"network_{seed}"
    done = folder / "done"
    folder.mkdir(parents=True, exist_ok=True)
    copy_project(folder)
    given = f"simulation.seed={seed},training.seed={seed},simulation.test_chips=0,{params}"
    part = ["--nodes", "uncertainty.calibrate_uncertainty"]
    if not done.exists():
        part = ["--to-nodes", "uncertainty.calibrate_uncertainty"]
    environment = {**os.environ, "COLUMNS": "200"}
    subprocess.run(
        [sys.executable, "-m", "kedro", "run", *part, "--params", given.rstrip(",")],
        cwd=folder, env=environment, check=True,
    )  # fmt: skip
    done.touch()
    shutil.rmtree(folder / "data/01_raw", ignore_errors=True)
    return folder


def copy_project(folder: Path) -> None:
    """The configuration of this repository, so that a run's data stay in the folder."""
    shutil.copytree(REPOSITORY / "conf", folder / "conf", dirs_exist_ok=True)
    shutil.copy(REPOSITORY / ".telemetry", folder)
    settings = (REPOSITORY / "pyproject.toml").read_text()
    settings = settings.replace('source_dir = "src"', 'source_dir = "."')
    (folder / "pyproject.toml").write_text(settings)


def simulate_region(work: Path, seed: int, size: int) -> Path:
    """Images and truth of one region."""
    from biomassters.simulation.options import RegionSimulationOptions
    from biomassters.simulation.simulated_region import SimulatedRegion, write_region

    folder = work / f"region_{seed}"
    if not (folder / "maps").exists():
        options = RegionSimulationOptions(seed=seed, width=size, height=size)
        write_region(SimulatedRegion(options), folder)
        (folder / "maps").mkdir()
    return folder


def map_region(region: Path, network: Path) -> None:
    """The region's map by one network, as the pipeline ``mapping`` makes it."""
    from biomassters.inference.options import InferenceOptions
    from biomassters.regions.inputs.source import open_region
    from biomassters.regions.mapping import WeightsFiles, finish_map, plan_region, predict_blocks
    from biomassters.regions.options import AreaOptions, ImageOptions, MappingOptions
    from biomassters.workers.options import DaskOptions

    path = map_path(region, network)
    if path.exists():
        return
    scratch = path.with_suffix(".scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    source = open_region(str(region), ImageOptions(), AreaOptions())
    weights = str(network / "data/06_models/simulated/weights.safetensors")
    plan = plan_region(
        source,
        WeightsFiles.of((weights,), network.name),
        path,
        MappingOptions(),
        InferenceOptions(),
    )
    predict_blocks(plan, scratch, DaskOptions(), progress=False)
    finish_map(plan, scratch, None)
    shutil.rmtree(scratch)


def map_path(region: Path, network: Path) -> Path:
    """Where a region's map by a network lies."""
    return region / "maps" / f"{network.name}.tif"


def total_of_region(region: Path, network: Path) -> dict[str, Any]:
    """One region's total by one network beside the truth, from the finished map."""
    import rasterio

    from biomassters.uncertainty.error_model import ErrorModel
    from biomassters.uncertainty.totals import RegionTotals

    models = json.loads((network / "data/06_models/simulated/uncertainty.json").read_text())
    with rasterio.open(map_path(region, network)) as file, rasterio.open(region / TRUTH) as truth:
        agb, target = file.read(1), truth.read(1)
        pixel_size = file.transform.a
    valid = np.isfinite(agb)
    totals = RegionTotals(ErrorModel.from_dict(models["errors"]), pixel_size)
    totals.update(agb, valid, 0, 0)
    found = totals.result()
    true_mean = float(target[valid].mean(dtype=np.float64))
    lower, upper = (found[f"biomass_mg_{end}"] / found["area_ha"] for end in ("lower", "upper"))
    mean, error = found["mean_agb_mg_per_ha"], found["mean_agb_standard_error_mg_per_ha"]
    return {
        "network": network.name,
        "region": region.name,
        "true_mean": true_mean,
        "mean": mean,
        "map_mean": float(agb[valid].mean(dtype=np.float64)),
        "standard_error": error,
        "inside": lower <= true_mean <= upper,
        "z": (mean - true_mean) / error,
        "relative_half_width": (upper - lower) / 2 / mean,
    }


def by_network(table: pd.DataFrame) -> pd.DataFrame:
    """The same figures for each network, and how far its maps and totals were off (Mg/ha)."""
    table = table.assign(
        map_error=table["map_mean"] - table["true_mean"], error=table["mean"] - table["true_mean"]
    )
    return table.groupby("network").agg(
        coverage=("inside", "mean"),
        mean_z=("z", "mean"),
        sd_z=("z", "std"),
        map_bias=("map_error", "mean"),
        map_rms=("map_error", _rms),
        bias=("error", "mean"),
        rms=("error", _rms),
        standard_error=("standard_error", "mean"),
    )


def _rms(values: pd.Series) -> float:
    return float(np.sqrt((values**2).mean()))


def summarise(table: pd.DataFrame) -> dict[str, Any]:
    """Coverage of the 90 % intervals, z, and the factor that would make them cover 90 %."""
    size = np.sort(table["z"].abs())
    rank = min(len(size), int(np.ceil((len(size) + 1) * LEVEL))) - 1
    return {
        "coverage_90": round(float(table["inside"].mean()), 4),
        "mean_z": round(float(table["z"].mean()), 3),
        "sd_z": round(float(table["z"].std()), 3),
        "regions": int(table["region"].nunique()),
        "networks": int(table["network"].nunique()),
        "mean_relative_half_width": round(float(table["relative_half_width"].mean()), 4),
        "conformal_factor": round(float(size[rank] / NormalDist().inv_cdf(0.5 + LEVEL / 2)), 3),
    }


if __name__ == "__main__":
    main()
