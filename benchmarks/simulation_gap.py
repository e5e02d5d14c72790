"""How far are simulated chips from real ones? Labels and bands, side by side.

Labels: share of zeros, tail and correlation by distance, against every real label at hand. Bands:
median and spread (half the distance between the 16th and the 84th percentile) by class of biomass
and season, and the part of the label's variance that a linear regression on yearly medians
explains inside a chip, against the complete real chips at hand.

Usage:
    uv run python benchmarks/simulation_gap.py [--chips 80] [--set variety.structure=1 …] [--json]
        [--picture FILE]
"""

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml
from numpy.typing import NDArray
from window_errors import SHARED, read_chip, real_chips

from biomassters.chips.bands import BAND_NAMES, S2, SENSOR_OF_BAND
from biomassters.chips.chip import Chip
from biomassters.simulation.options import SimulationOptions
from biomassters.simulation.simulated_chips import simulate_chip

CUT_MG_PER_HA = 400.0
LAGS = (1, 2, 4, 8, 16, 32)
CLASSES = {"0-1": (-1, 1), "1-40": (1, 40), "40-100": (40, 100), "100+": (100, 400)}  # Mg/ha
SEASONS = {"winter": (4, 5), "summer": (8, 9, 10, 11)}
BANDS = tuple(band for band in BAND_NAMES if band != "CLP")


def label_statistics(labels: Iterable[NDArray[np.float32]]) -> dict[str, float]:
    """Marginal and correlation by distance of chips' labels.

    The correlation is that of labels cut at 400 Mg/ha with the chip's mean taken off, over both
    axes, pooled over chips.
    """
    chips = [label.astype(np.float64) for label in labels]
    pixels = np.concatenate([chip.ravel() for chip in chips])
    found = {
        "mean": pixels.mean(),
        "sd": pixels.std(),
        "zeros": (pixels == 0).mean(),
        "above_200": (pixels > 200).mean(),
        "above_400": (pixels > 400).mean(),
        "sd_of_chip_means": np.std([chip.mean() for chip in chips]),
    }
    cut = [np.minimum(chip, CUT_MG_PER_HA) for chip in chips]
    centred = [chip - chip.mean() for chip in cut]
    variance = np.mean([np.mean(chip**2) for chip in centred])
    for lag in LAGS:
        pairs = [
            0.5 * (np.mean(c[lag:] * c[:-lag]) + np.mean(c[:, lag:] * c[:, :-lag])) for c in centred
        ]
        found[f"correlation_{lag}"] = np.mean(pairs) / variance
    return {name: float(value) for name, value in found.items()}


def yearly_medians(chip: Chip, months: Iterable[int] = range(12)) -> NDArray[np.float32]:
    """Median of each band over the months in which a pixel has data, [bands, H, W]; NaN: none."""
    sensors = {SENSOR_OF_BAND[band] for band in BANDS}
    valid = {one.name: [chip.valid(one.name, month) for month in months] for one in sensors}
    clear = S2.bands.index("CLP")
    medians = []
    for band in BANDS:
        sensor = SENSOR_OF_BAND[band]
        number = sensor.bands.index(band)
        stack = []
        for place, month in enumerate(months):
            image = chip.images[sensor.name][month, number].astype(np.float32)
            there = valid[sensor.name][place][number]
            if sensor is S2:
                there = there & (chip.images["s2"][month, clear] < 30)
            stack.append(np.where(there, image, np.nan))
        medians.append(_median(np.stack(stack)))
    return np.stack(medians)


def _median(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median over the first axis without NaN, ten times as fast as numpy's."""
    ordered, count = np.sort(stack, axis=0), np.isfinite(stack).sum(axis=0)
    pair = [
        np.take_along_axis(ordered, np.maximum(place, 0)[None], axis=0)[0]
        for place in ((count - 1) // 2, count // 2)
    ]
    return np.float32(0.5 * (pair[0] + pair[1]))


def linear_r2(chip: Chip) -> float:
    """Variance of the cut label that a regression on yearly medians explains inside a chip."""
    features = yearly_medians(chip).reshape(len(BANDS), -1)
    label = np.minimum(chip.agb_mg_per_ha, CUT_MG_PER_HA).ravel().astype(np.float64)
    usable = np.isfinite(features).all(axis=0)
    design = np.column_stack([features[:, usable].T, np.ones(usable.sum())]).astype(np.float64)
    label = label[usable]
    if label.var() < 1:
        return float("nan")
    fitted = design @ np.linalg.lstsq(design, label, rcond=None)[0]
    return float(1 - np.mean((label - fitted) ** 2) / label.var())


def band_statistics(chips: Iterable[Chip]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Season and class → band → median, spread inside a chip, sd between chips (of medians)."""
    found: dict[tuple[str, str], list[NDArray]] = {}
    for chip in chips:
        for season, months in SEASONS.items():
            medians = yearly_medians(chip, months)
            for name, (low, high) in CLASSES.items():
                inside = (chip.agb_mg_per_ha > low) & (chip.agb_mg_per_ha <= high)
                if inside.sum() > 200:
                    percentiles = np.nanpercentile(medians[:, inside], [50, 16, 84], axis=1)
                    found.setdefault((season, name), []).append(percentiles)
    table = {}
    for (season, name), parts in found.items():
        middle, low, high = np.moveaxis(np.stack(parts), 1, 0)
        columns = (
            np.nanmedian(middle, 0), np.nanmedian((high - low) / 2, 0), np.nanstd(middle, 0),
        )  # fmt: skip
        table[f"{season} {name}"] = {
            band: tuple(float(column[number]) for column in columns)
            for number, band in enumerate(BANDS)
        }
    return table


def real_labels(size: int) -> list[NDArray[np.float32]]:
    """Every real label beside the real chips, cut to windows of the simulated chips' size.

    In a small window more of the variance lies between chips, and less of it is correlated.
    """
    root = Path(os.environ.get("BIOMASSTERS_REAL_CHIPS", SHARED / "real_chips")) / "labels"
    labels = []
    for path in sorted(root.glob("*.tif")):
        with rasterio.open(path) as file:
            label = file.read(1)
        starts = range(0, label.shape[0] - size + 1, size)
        labels += [label[y : y + size, x : x + size] for y in starts for x in starts]
    return labels


def options_of(changes: Iterable[str], base: SimulationOptions) -> SimulationOptions:
    """Options as ``--set name=value`` changes them; ``variety.name`` for one of its own."""
    content: dict[str, Any] = base.model_dump()
    for change in changes:
        name, _, value = change.partition("=")
        *above, last = name.split(".")
        group = content
        for one in above:
            group = group[one]
        group[last] = yaml.safe_load(value)
    return SimulationOptions.model_validate(content)


def picture(path: Path, changes: Iterable[str], chips: int = 6) -> None:
    """The same simulated chips without and with variety: June, January, radar in June."""
    import matplotlib.pyplot as plt

    base = SimulationOptions(
        train_chips=chips, test_chips=0, chip_size=96, missing_images=False, cloudiness=0
    )
    bands = [S2.bands.index(band) for band in ("B4", "B3", "B2")]
    figure, axes = plt.subplots(6, chips, figsize=(1.5 * chips, 9.4), layout="constrained")
    for block, (name, options) in enumerate(
        {"without variety": base, "with variety": options_of(changes, base)}.items()
    ):
        for number in range(chips):
            chip = simulate_chip(options, number)
            s2, vh = chip.images["s2"], chip.images["s1"][9, 1]
            shown = [
                np.clip(s2[month, bands].transpose(1, 2, 0) / white, 0, 1) ** 0.7
                for month, white in ((9, 1500), (4, 6000))
            ]
            column = axes[3 * block : 3 * block + 3, number]
            for axis, image in zip(column, [*shown, vh], strict=True):
                axis.imshow(image, cmap="gray", vmin=-24, vmax=-10)
                axis.set(xticks=[], yticks=[])
        for row, what in enumerate(("June", "January", "VH, June")):
            axes[3 * block + row, 0].set_ylabel(f"{what}\n{name}", fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chips", type=int, default=80)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--picture", type=Path, help="draw chips with these options, and stop")
    arguments = parser.parse_args()
    if arguments.picture:
        picture(arguments.picture, arguments.set)
        return
    base = SimulationOptions(train_chips=arguments.chips, test_chips=0, chip_size=arguments.size)
    options = options_of(arguments.set, base)
    simulated = [simulate_chip(options, index) for index in range(arguments.chips)]
    real = {path.name: read_chip(path) for path in real_chips()}
    found = {
        "labels": {
            "simulated": label_statistics([chip.agb_mg_per_ha for chip in simulated]),
            "real": label_statistics(real_labels(arguments.size)),
        },
        "linear_r2": {
            "simulated": float(np.nanmedian([linear_r2(chip) for chip in simulated[:40]])),
            **{name: linear_r2(chip) for name, chip in real.items()},
        },
        "bands": {
            "simulated": band_statistics(simulated),
            **{name: band_statistics([chip]) for name, chip in real.items()},
        },
    }
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found["labels"]["simulated"].items():
        print(f"{name:18} {value:8.3f} real {found['labels']['real'][name]:8.3f}")
    print("linear R²", found["linear_r2"])
    for group, bands in found["bands"]["simulated"].items():
        print(f"\n{group} Mg/ha: median ± spread (sd between chips)")
        for band, (middle, spread, between) in bands.items():
            others = [
                found["bands"][name].get(group, {}).get(band, (np.nan, np.nan, 0)) for name in real
            ]
            text = "   ".join(f"{one[0]:8.1f} ± {one[1]:6.1f}" for one in others)
            print(f"{band:8} {middle:8.1f} ± {spread:6.1f} ({between:6.1f})   {text}")


if __name__ == "__main__":
    main()
