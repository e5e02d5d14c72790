"""Whether the spread of the test-time views makes intervals narrower at the same coverage.

    python benchmarks/intervals.py --data data --dataset simulated

Reads the weights, the chip store and the folds of a finished run, predicts the held-out chips once
for each view, and calibrates intervals with and without the spread; coverage and widths are
measured on parts of the chips with intervals calibrated on the others.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from biomassters.chips.store.reader import ChipStore
from biomassters.inference.options import InferenceOptions
from biomassters.metrics import CLASS_EDGES_MG_PER_HA
from biomassters.uncertainty.calibration import ChipMeans, constant_width, fit_intervals
from biomassters.uncertainty.cross_calibration import assign_parts
from biomassters.uncertainty.options import UncertaintyOptions
from biomassters.uncertainty.residual_counts import ResidualCounts

FLOORS = (None, 5.0, 20.0)


def predict_views(data: Path, dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """Every view's prediction [chips, views, H, W] and the targets [chips, H, W]."""
    from biomassters.inference.chips import whole_chips
    from biomassters.inference.predict import predict_batch
    from biomassters.network.weights import load_network

    network = load_network(data / f"06_models/{dataset}/weights.safetensors")
    split = ChipStore(data / f"05_model_input/{dataset}/chips.zarr").split("train")
    folds = pd.read_parquet(data / f"03_primary/{dataset}/folds.parquet")
    held_out = [split.chip_ids.index(name) for name in folds[folds["fold"] == 0]["chip_id"]]
    options, views, targets = InferenceOptions(), [], []
    for batch in whole_chips(split, held_out, options, pin_memory=False):
        images = (batch.s1, batch.s2, batch.chip_of_month, len(batch))
        views.append(
            np.stack([predict_batch(network, *images, (v,), False) for v in options.views], 1)
        )
        targets.append(batch.agb.numpy().copy())
    return np.concatenate(views), np.concatenate(targets)


def measure(
    prediction: np.ndarray, target: np.ndarray, spread: np.ndarray, floor: float | None
) -> dict[str, float]:
    """Coverage and mean width on parts that were left out, Mg/ha."""
    options = UncertaintyOptions()
    part_of = assign_parts(len(target), options)
    covered, width = np.zeros(target.shape, bool), np.zeros(target.shape)
    everything = ResidualCounts(CLASS_EDGES_MG_PER_HA)
    everything.update(prediction, target)
    for part in range(part_of.max() + 1):
        counts, means, here = (
            ResidualCounts(CLASS_EDGES_MG_PER_HA, floor),
            ChipMeans(),
            part_of == part,
        )
        for chip in np.flatnonzero(~here):
            counts.update(prediction[chip], target[chip], spread[chip])
            means.update(prediction[chip], target[chip])
        model = fit_intervals(counts, means, options)
        lower, upper = model.bounds(prediction[here], spread[here])
        covered[here] = (target[here] >= lower) & (target[here] <= upper)
        width[here] = upper - lower
    coverage = float(covered.mean())
    return {
        "coverage": round(coverage, 4),
        "mean_width": round(float(width.mean()), 2),
        "constant_width_of_that_coverage": round(constant_width(everything, coverage), 2),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--dataset", default="simulated")
    arguments = parser.parse_args()
    views, target = predict_views(arguments.data, arguments.dataset)
    prediction, spread = np.maximum(views.mean(axis=1), 0), views.std(axis=1)
    result = {f"floor {floor}": measure(prediction, target, spread, floor) for floor in FLOORS}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
