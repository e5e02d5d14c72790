"""Random or block validation: which is right about a far region? Fields with correlated errors.

    uv run python benchmarks/block_validation.py --json

Each region is 20 × 20 km of chips of 960 m, cut into folds by ``chips.folds`` as training does.
Biomass is what one covariate tells plus an error that is correlated over 2 km (a Gaussian filter's
standard deviation) and that no covariate knows. Three covariates are smooth and say nothing of it,
as climate or relief may: but they tell where a pixel lies, and a random forest learns the error of
its neighbourhood by them. It is validated on random chips and on blocks; and then on another region
of the same kind, which is what a map of land without labels meets. The ratio is a validation's
RMSE over the far region's: below 1 it is too good.
"""

import argparse
import json

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.ensemble import RandomForestRegressor

from biomassters.chips.folds import FoldOptions, make_folds

SIDE = 20  # chips
PIXELS = 8  # of 120 m, along a chip's side
FOREST = {"n_estimators": 60, "min_samples_leaf": 3, "max_features": 2, "n_jobs": 1}
METHODS = {
    "random": FoldOptions(count=5),
    "blocks": FoldOptions(count=5, method="blocks", side_km=4, buffer_km=0),
    "blocks_with_buffer": FoldOptions(count=5, method="blocks", side_km=4, buffer_km=1.5),
}
Region = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


def field(random: np.random.Generator, reach_km: float) -> NDArray[np.float64]:
    """Mean 0, standard deviation 1, correlated over about so much."""
    size, margin = SIDE * PIXELS, 100
    wide = random.normal(size=(size + 2 * margin,) * 2)
    smooth = gaussian_filter(wide, reach_km / 0.12)[margin:-margin, margin:-margin]
    return (smooth - smooth.mean()) / smooth.std()


def simulate(random: np.random.Generator, error_sd: float) -> Region:
    """Covariates [P, 4], biomass [P] in Mg/ha, and each pixel's chip [P]."""
    told = field(random, 1.0)
    agb = 100 + 40 * told + error_sd * field(random, 2.0) + random.normal(0, 10, told.shape)
    noisy = told + random.normal(0, 0.3, told.shape)
    covariates = [noisy, *(field(random, 5.0) for _ in range(3))]
    number = np.arange(SIDE * PIXELS) // PIXELS
    chip = number[:, None] * SIDE + number
    return np.stack([one.ravel() for one in covariates], axis=1), agb.ravel(), chip.ravel()


def chip_table() -> pd.DataFrame:
    """The chips of a region, with where they lie."""
    places = [(row, column) for row in range(SIDE) for column in range(SIDE)]
    return pd.DataFrame(
        {
            "chip_id": [f"{number:04d}" for number in range(len(places))],
            "split": "train", "usable": True, "height": 96, "width": 96, "crs": "EPSG:3067",
            "transform": [[10.0, 0.0, 4e5 + 960 * c, 0.0, -10.0, 6.9e6 - 960 * r]
                          for r, c in places],
        }
    )  # fmt: skip


def forest(covariates: NDArray[np.float64], agb: NDArray[np.float64]) -> RandomForestRegressor:
    """Fitted on every third pixel."""
    return RandomForestRegressor(**FOREST, random_state=0).fit(covariates[::3], agb[::3])


def validated(region: Region, folds: pd.DataFrame) -> float:
    """RMSE of all held-out pixels, Mg/ha."""
    covariates, agb, chip = region
    fold_of_chip = np.full(SIDE**2, -1)
    fold_of_chip[folds["chip_id"].astype(int)] = folds["fold"]
    fold, squares = fold_of_chip[chip], []
    for held_out in sorted(folds["fold"].unique()):
        train, test = (fold >= 0) & (fold != held_out), fold == held_out
        predicted = forest(covariates[train], agb[train]).predict(covariates[test])
        squares.append((predicted - agb[test]) ** 2)
    return float(np.sqrt(np.concatenate(squares).mean()))


def main() -> None:
    """Validate in every way, on every region."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--regions", type=int, default=10)
    parser.add_argument("--error-sd", type=float, default=25.0, help="of the correlated error")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    arguments = parser.parse_args()
    table, rows = chip_table(), []
    folds = {name: make_folds(table, options) for name, options in METHODS.items()}
    for number in range(arguments.regions):
        random = np.random.default_rng([arguments.seed, number])
        here, far = (simulate(random, arguments.error_sd) for _ in range(2))
        found = {name: validated(here, one) for name, one in folds.items()}
        predicted = forest(here[0], here[1]).predict(far[0])
        rows.append(found | {"far": float(np.sqrt(((predicted - far[1]) ** 2).mean()))})
    rmse = pd.DataFrame(rows)
    ratios = rmse[list(METHODS)].div(rmse["far"], axis=0)
    print(rmse.round(1).to_string())
    result = {
        "regions": len(rmse),
        "rmse_mg_per_ha": rmse.mean().round(2).to_dict(),
        "ratio_to_far": ratios.mean().round(3).to_dict(),
        "ratio_standard_error": (ratios.std() / len(ratios) ** 0.5).round(3).to_dict(),
    }
    print(json.dumps(result, indent=1))
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
