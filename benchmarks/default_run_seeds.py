"""How good are the default run's weights, and how much of it is the seed's luck?

Trains the default run's network once for each seed on the default run's chips (which are simulated
and packed first, where they are not yet), everything else as ``conf/base`` has it or as ``--set``
changes it. Scores are means over held-out chips of the chip's RMSE, with the mirrored views that
the default run averages.

Usage:
    uv run python benchmarks/default_run_seeds.py [--seeds 20230126 1 2 3 4] [--json]
        [--set crop=64 epochs=20 …] [--weights FOLDER]
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from window_errors import errors, read_chip, real_chips

from biomassters.chips.scaling import BandScaling
from biomassters.network.weights import save_network
from biomassters.pipelines.training.stages import described
from biomassters.training.options import TrainingOptions
from biomassters.training.train import new_network, train
from biomassters.training.validation import chips_of_folds

PROJECT = Path(__file__).parents[1]
SEEDS = (20230126, 1, 2, 3, 4)
WINDOWS = (64, 96, 128, 256)


def default_run() -> dict[str, Any]:
    """What the default run trains on and with."""
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT) as session:
        if not session.load_context().catalog.exists("chip_store"):
            session.run(pipeline_names=["simulation", "data_engineering"])
    with KedroSession.create(PROJECT) as session:
        context = session.load_context()
        names = ("chip_store", "folds", "band_scaling", "params:network", "params:training",
                 "params:inference")  # fmt: skip
        return {name: context.catalog.load(name) for name in names}


def train_seed(run: dict[str, Any], options: TrainingOptions, weights: Path | None) -> dict:
    """One network: scores, seconds, and its errors on real chips by window."""
    store, scaling = run["chip_store"], BandScaling.from_dict(run["band_scaling"])
    split, fold = store.split("train"), options.folds[0]
    network = new_network(run["params:network"], scaling, options.seed)
    chips = chips_of_folds(split, run["folds"], fold)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            network,
            split,
            *chips,
            options,
            Path(folder),
            fingerprint=store.fingerprint,
        )
    seconds = time.perf_counter() - start
    validated = result.history["validation_rmse_per_chip_mean"].dropna()
    states = {"last": result.last_state, "best": result.best_state}
    windows = {}
    for kept, state in states.items():
        network.load_state_dict(state)
        windows[kept] = {
            chip.name: errors(network, read_chip(chip), WINDOWS) for chip in real_chips()
        }
        if weights is not None:
            path = weights / f"seed_{options.seed}_{kept}.safetensors"
            save_network(network, path, described(store, fold, options))
    return {
        "seed": options.seed,
        "last": float(validated.iloc[-1]),
        "best": float(validated.min()),
        "best_epoch": result.best_epoch,
        "last_three": validated.iloc[-3:].tolist(),
        "train_loss": float(result.history["train_loss"].iloc[-1]),
        "seconds": seconds,
        "real_chips": windows,
    }


def summary(rows: list[dict], keep: str) -> dict[str, Any]:
    """All seeds put together; ``rmse`` is of the weights that the run keeps."""
    scores = {kept: [row[kept] for row in rows] for kept in ("last", "best")}
    spreads = [max(row["last_three"]) - min(row["last_three"]) for row in rows]
    sd = {kept: statistics.stdev(values) if len(rows) > 1 else 0.0
          for kept, values in scores.items()}  # fmt: skip
    return {
        "rmse": scores[keep],
        "mean": statistics.mean(scores[keep]),
        "sd": sd[keep],
        "seconds": [row["seconds"] for row in rows],
        "keep": keep,
        **{f"{kept}_mean": statistics.mean(values) for kept, values in scores.items()},
        **{f"{kept}_sd": value for kept, value in sd.items()},
        "last_three_spread": spreads,
        "seeds": rows,
    }


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--weights", type=Path, help="folder that keeps the weights")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    run = default_run()
    changes = {
        name: yaml.safe_load(value)
        for name, _, value in (one.partition("=") for one in arguments.set)
    }
    logging.getLogger("biomassters").setLevel(logging.WARNING)
    base, rows = run["params:training"].model_dump(), []
    base["validation_views"] = run["params:inference"].views
    for seed in arguments.seeds:
        options = TrainingOptions.model_validate({**base, **changes, "seed": seed})
        rows.append(train_seed(run, options, arguments.weights))
        if not arguments.json:
            print(json.dumps(rows[-1]), flush=True)
    found = summary(rows, getattr(options, "keep", "best"))
    found |= {"options": changes, "threads": torch.get_num_threads()}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
