"""Is a network right at every window size? Errors on real chips, window by window.

Each chip is mapped in square windows that overlap by half and are averaged, once for each size. A
network some of whose kernels reach further than the crops it learnt from gives other maps in other
windows; a sound one errs by about as much in all.

Usage:
    uv run python benchmarks/window_errors.py WEIGHTS.safetensors … [--windows 64 96 128 256]
        [--chips FOLDER/CHIP …] [--json]

FOLDER is an archive in the official layout; without --chips, the chips that BIOMASSTERS_SAMPLE and
BIOMASSTERS_REAL_CHIPS hold.
"""

import argparse
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from biomassters.chips.archive.archive import Archive
from biomassters.chips.chip import Chip
from biomassters.inference.chips import batch_of_chip
from biomassters.inference.predict import predict_batch
from biomassters.network.agb_net import AgbNet
from biomassters.network.folding import fold_batch_norm
from biomassters.network.weights import load_network

SHARED = Path(__file__).parents[2] / "shared"
REAL_CHIPS = (
    ("BIOMASSTERS_SAMPLE", "biomassters/000aa810"),
    (
        "BIOMASSTERS_REAL_CHIPS",
        "real_chips/288afc34/288afc34",
    ),
)
WINDOWS = (64, 96, 128, 256)


def real_chips() -> list[Path]:
    """Archive and name of the complete real chips on this machine; none where there are none."""
    found = []
    for variable, place in REAL_CHIPS:
        folder, _, inside = place.partition("/")
        path = Path(os.environ.get(variable, SHARED / folder)) / inside
        if path.parent.is_dir():
            found.append(path)
    return found


def read_chip(path: Path) -> Chip:
    """A labelled chip of an archive: its folder and its name."""
    return Archive.open(path.parent).read_chip(path.name)


def starts(size: int, window: int) -> list[int]:
    """First pixels of windows that overlap by at least half and cover a side of ``size``."""
    count = 1 + -(-(size - window) // (window // 2)) if size > window else 1
    return np.linspace(0, size - window, count).astype(int).tolist()


def map_in_windows(network: AgbNet, chip: Chip, window: int) -> NDArray[np.float32]:
    """Biomass [H, W] of a chip, Mg/ha: the mean over overlapping windows."""
    whole, (height, width) = batch_of_chip(chip), chip.shape
    total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for top, left in itertools.product(starts(height, window), starts(width, window)):
        part = (..., slice(top, top + window), slice(left, left + window))
        cut = {name: image[part] for name, image in whole.images.items()}
        agb_1HW = predict_batch(network, cut, whole.chip_of_month, 1, clip_negative=False)
        total[part] += agb_1HW[0].numpy()
        count[part] += 1
    return (total / count).clip(min=0)


def errors(network: AgbNet, chip: Chip, windows: Sequence[int]) -> dict[int, float]:
    """RMSE in Mg/ha over all pixels of a labelled chip, by window."""
    assert chip.agb_mg_per_ha is not None
    folded = fold_batch_norm(network.cpu())
    with torch.inference_mode():
        return {
            window: float(
                np.sqrt(np.mean((map_in_windows(folded, chip, window) - chip.agb_mg_per_ha) ** 2))
            )
            for window in windows
        }


def tables(weights: Sequence[Path], chips: Sequence[Path], windows: Sequence[int]) -> Iterator:
    """A row for each weights file and chip."""
    for path in weights:
        for chip in chips:
            found = errors(load_network(path), read_chip(chip), windows)
            yield {"weights": str(path), "chip": chip.name, "rmse_by_window": found}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="+", type=Path)
    parser.add_argument("--windows", nargs="+", type=int, default=list(WINDOWS))
    parser.add_argument("--chips", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = list(tables(arguments.weights, arguments.chips or real_chips(), arguments.windows))
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print("weights, chip, RMSE in Mg/ha in windows of", *arguments.windows)
    for row in rows:
        figures = "  ".join(f"{value:6.1f}" for value in row["rmse_by_window"].values())
        print(f"{row['weights']}  {row['chip']}  {figures}")


if __name__ == "__main__":
    main()
