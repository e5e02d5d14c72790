"""How long the report of a whole test split takes, how much memory, how large it is.

Labels and predictions of chips of 256 x 256 pixels are made up and written before the clock
starts. What is measured is scoring, calibration, carbon, pictures and the page, all of which read
them from the disk one at a time. Baselines, which read all images, are no part of it.

    python benchmarks/report.py --chips 2773
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import zoom

from biomassters.chips.chip import Chip
from biomassters.chips.predicted_maps import Prediction, PredictionFolder, write_predictions
from biomassters.reporting.chip_maps import choose_pictures
from biomassters.reporting.model_card import peak_memory_mib
from biomassters.reporting.options import ReportingOptions
from biomassters.reporting.report import ReportContent, UncertaintyContent, render_report
from biomassters.reporting.scoring import score_predictions
from biomassters.uncertainty.carbon import account_for_carbon
from biomassters.uncertainty.cross_calibration import calibrate
from biomassters.uncertainty.options import UncertaintyOptions

SIZE = 256


def make_label(index: int) -> np.ndarray:
    """Forest in patches, Mg/ha; a pure function of the index."""
    generator = np.random.default_rng([1, index])
    coarse = generator.gamma(1.2, 55, (17, 17)).astype(np.float32)
    agb = zoom(coarse, SIZE / 17, order=1)[:SIZE, :SIZE] - generator.uniform(0, 60)
    return np.maximum(agb, 0).astype(np.float32)


def make_prediction(index: int, target: np.ndarray) -> np.ndarray:
    """Pulled towards the mean, with errors that grow with biomass and are partly the chip's."""
    generator = np.random.default_rng([3, index])
    error = generator.normal(0, 1, target.shape).astype(np.float32) * (4 + 0.2 * target)
    return np.maximum(0.85 * target + 9 + error + generator.normal(0, 4), 0).astype(np.float32)


class StoredLabels:
    """Labels in one file, read one at a time."""

    height = width = SIZE

    def __init__(self, folder: Path, count: int) -> None:
        self.chip_ids = tuple(f"{number:08x}" for number in range(count))
        self._file = folder / "labels.f4"

    def write(self, folder: Path) -> PredictionFolder:
        """Make labels and predictions up and write both."""

        def maps() -> Iterator[Prediction]:
            with self._file.open("wb") as file:
                for index, chip_id in enumerate(self.chip_ids):
                    label = make_label(index)
                    file.write(label.tobytes())
                    yield Prediction(chip_id, make_prediction(index, label))

        return write_predictions(folder, maps(), "made up")

    def read_agb_into(self, index: int, out: np.ndarray) -> None:
        """As a chip store's split does."""
        offset = index * SIZE * SIZE * 4
        out[:] = np.fromfile(self._file, np.float32, SIZE * SIZE, offset=offset).reshape(out.shape)

    def read_chip(self, index: int) -> Chip:
        """Images that show nothing, for the pictures."""
        s2 = np.random.default_rng(index).integers(0, 3000, (12, 11, SIZE, SIZE), np.uint16)
        s2[:, -1] = 0
        s1 = np.full((12, 4, SIZE, SIZE), -12, np.float32)
        agb = np.empty((SIZE, SIZE), np.float32)
        self.read_agb_into(index, agb)
        images = {"s1": s1, "s2": s2}
        return Chip(self.chip_ids[index], "train", images, np.ones((12, 2), bool), agb)


def made_up_attention(chip_ids: tuple[str, ...]) -> pd.DataFrame:
    """Equal weights, for the table's size."""
    rows = [
        (chip, stride, month, 1 / 12, month != 3)
        for chip in chip_ids[:100]
        for stride in (2, 4, 8, 16, 32)
        for month in range(12)
    ]
    return pd.DataFrame(rows, columns=["chip_id", "stride", "month", "weight", "has_s2"])


def made_up_table(chips: StoredLabels) -> pd.DataFrame:
    """What is read of a chip table."""
    return pd.DataFrame(
        {
            "chip_id": chips.chip_ids,
            "split": "train",
            "height": SIZE,
            "width": SIZE,
            "s1_months": [list(range(12))] * len(chips.chip_ids),
            "s2_months": [list(range(5 + i % 8)) for i in range(len(chips.chip_ids))],
            "agb_mean_mg_per_ha": 60.0,
            "missing_files": [[]] * len(chips.chip_ids),
            "damaged_files": [[]] * len(chips.chip_ids),
            "problem": "",
            "usable": True,
        }
    )


def build(folder: Path, count: int) -> tuple[str, dict[str, float]]:
    """The page, and seconds of each part."""
    chips = StoredLabels(folder, count)
    maps = chips.write(folder / "maps")
    ids, options = chips.chip_ids, UncertaintyOptions()
    seconds: dict[str, float] = {}

    def timed(name, function, *arguments, **options_of):
        start = time.perf_counter()
        result = function(*arguments, **options_of)
        seconds[name] = time.perf_counter() - start
        return result

    scores = timed("scoring", score_predictions, chips, maps, ids)
    found = timed("calibration", calibrate, chips, maps, ids, options)
    models = {
        "level": options.level,
        "intervals": found.intervals.to_dict(),
        "errors": found.errors.to_dict(),
        "measured": found.metrics(),
    }
    measured = found.coverage.per_chip()
    carbon, _ = timed("carbon", account_for_carbon, chips, maps, {}, models, measured, options)
    per_chip = scores.accumulator.per_chip()
    pictures = timed("pictures", choose_pictures, chips, maps, per_chip, 8, found.intervals)
    content = ReportContent(
        options=ReportingOptions(dataset="made up"),
        scores=scores,
        metrics=scores.accumulator.summary(),
        pictures=pictures,
        history=pd.DataFrame(),
        chip_table=made_up_table(chips),
        uncertainty=UncertaintyContent(
            models,
            found.levels,
            found.coverage.by_class(),
            measured,
            carbon,
            made_up_attention(ids),
        ),
    )
    return timed("page", render_report, content), seconds


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", type=int, default=2773)
    parser.add_argument("--page", type=Path, help="where to keep the page")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page, seconds = build(Path(folder), arguments.chips)
    if arguments.page:
        arguments.page.write_text(page)
    result = {
        "chips": arguments.chips,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "seconds_in_all": round(sum(seconds.values()), 1),
        "processor_seconds_of_all_with_making_chips_up": round(time.process_time(), 1),
        "peak_memory_mib": round(peak_memory_mib()),
        "page_mib": round(len(page.encode()) / 2**20, 2),
        "machine": platform.platform(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
