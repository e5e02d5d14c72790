"""A region's images and labels of a part of it → georeferenced chips in the archive's layout.

Chips lie edge to edge on the region's 10 m grid. One that the label covers by too little is left
out; in the others a pixel without label is NaN, which losses and scores leave out.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from biomassters.chips.archive.writer import write_archive
from biomassters.chips.bands import MONTH_COUNT, SENSORS
from biomassters.chips.chip import Chip
from biomassters.chips.provenance import REGION_NOTE, SIMULATION_NOTE
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.imagery.pixel_grid import WORLD, Grid, bounds_between
from biomassters.io.files import write_durably
from biomassters.io.raster_spec import Georeference
from biomassters.regions.inputs.source import RegionSource, WindowImages
from biomassters.regions.labels import Label
from biomassters.regions.options import RegionChipsOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RegionChips:
    """Chips of a region, made while they are written.

    Attributes:
        source: The region's images.
        label: Of a part of it.
        windows: Where the chips lie, by name.
        threads: That read images.
        options: As stated.
    """

    source: RegionSource
    label: Label
    windows: dict[str, Window]
    threads: int
    options: RegionChipsOptions

    def __len__(self) -> int:
        return len(self.windows)

    def __iter__(self) -> Iterator[Chip]:
        """Every chip with enough labelled pixels that an image shows.

        Raises:
            BadInputError: None is left.
            DamagedFileError: A file can't be read.
        """
        unseen = 0
        with ThreadPoolExecutor(self.threads) as pool:
            for name, window in self.windows.items():
                images = self.source.read(window, pool)
                agb = self.label.read(self.source.grid, window)
                # No image shows it, or it lies outside mapping.area: nothing to learn from.
                agb[~images.seen().any(axis=0)] = np.nan
                if np.isfinite(agb).mean() < self.options.minimum_labelled:
                    unseen += 1
                    continue
                yield _chip(name, images, agb, self.source.grid.part(window))
        if unseen == len(self.windows):
            raise BadInputError(
                f"No image of {self.source.name} shows what {self.label.path} labels: check both, "
                "and mapping.area."
            )
        if unseen:
            log.warning("%d labelled chips are left out: too few of their pixels have an image "
                        "or lie in mapping.area.", unseen)  # fmt: skip

    @property
    def fingerprint(self) -> str:
        """What the chips depend on, hashed: files with their sizes and times, and options."""
        area, grid = self.source.area, self.source.grid
        facts = [
            self.source.identity(),
            self.source.file_facts(),
            [grid.crs.to_wkt(), tuple(grid.transform), grid.shape],
            None if area is None else area.identity(),
            self.label.identity(),
            self.options.model_dump(),
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def plan_chips(
    source: RegionSource, label: Label, options: RegionChipsOptions, threads: int = 4
) -> RegionChips:
    """Find the chips that the label covers enough; no image is read yet.

    Raises:
        BadInputError: Label and images don't overlap, no chip is labelled enough, or a label is
            none (``Label.read``).
    """
    grid, side = source.grid, options.chip
    here = bounds_between(label.crs, grid.crs, label.bounds)
    west, south, east, north = grid.bounds
    if here[0] >= east or here[2] <= west or here[1] >= north or here[3] <= south:
        labelled, shown = (
            ", ".join(f"{value:.4f}" for value in bounds_between(crs, WORLD, bounds))
            for crs, bounds in ((label.crs, label.bounds), (grid.crs, grid.bounds))
        )
        raise BadInputError(
            f"{label.path} and the images in {source.name} do not overlap: they cover {labelled} "
            f"and {shown} (west, south, east, north in degrees); check both coordinate systems "
            "and mapping.area."
        )
    starts = [(row, column) for row in range(grid.height // side)
              for column in range(grid.width // side)]  # fmt: skip
    if not starts:
        raise BadInputError(
            f"chips_from_region.chip is {side} pixels, and {source.name} has {grid.width} x "
            f"{grid.height}: lower it."
        )
    windows, best = {}, 0.0
    for row, column in tracked(starts, "looking for labels"):
        window = Window(column * side, row * side, side, side)
        share = float(np.isfinite(label.read(grid, window)).mean())
        best = max(best, share)
        if share >= options.minimum_labelled:
            windows[f"r{row:03d}c{column:03d}"] = window
    if not windows:
        raise BadInputError(
            f"No chip of {side} x {side} pixels has a label on {options.minimum_labelled:.0%} of "
            f"its pixels, the best one on {best:.0%}: lower chips_from_region.minimum_labelled, "
            "chips_from_region.chip or chips_from_region.label.minimum_valid."
        )
    log.info("%d of %d chips are labelled enough.", len(windows), len(starts))
    return RegionChips(source, label, windows, threads, options)


def _chip(name: str, images: WindowImages, agb: NDArray[np.float32], part: Grid) -> Chip:
    """An image without any data in the chip is none, as in the official archive."""
    year, present = {}, np.zeros((MONTH_COUNT, len(SENSORS)), bool)
    for sensor in SENSORS:
        shape = (MONTH_COUNT, len(sensor.bands), *part.shape)
        year[sensor.name] = np.full(shape, sensor.nodata, sensor.archive_dtype)
        for month, packed in zip(images.months, images.images[sensor.name], strict=True):
            image = sensor.unpack(packed)
            if sensor.seen(image).any():
                year[sensor.name][month], present[month, sensor.column] = image, True
    place = Georeference(part.crs.to_string(), tuple(part.transform)[:6])
    return Chip(name, "train", year, present, agb, place)


def write_region_chips(chips: RegionChips, root: Path, *, progress: bool = True) -> bool:
    """Write chips as a raw archive, unless the same are there already.

    Args:
        chips: The chips.
        root: Folder of the archive; takes its name when every chip is written.
        progress: Whether to show a progress bar.

    Returns:
        Whether anything was written.

    Raises:
        BadInputError: The folder holds something else, or nothing is left to write.
    """
    note, simulation = root / REGION_NOTE, root / SIMULATION_NOTE
    try:
        if json.loads(note.read_text())["fingerprint"] == chips.fingerprint:
            return False
    except (OSError, ValueError, KeyError, TypeError):
        if simulation.exists():
            raise BadInputError(
                f"{root} holds the simulated archive: name another folder with '--params "
                "raw_root=FOLDER', or an environment of your own, as 'own_forest' is."
            ) from None
    write_archive(root, chips, total=len(chips), progress=progress)
    facts = {
        "fingerprint": chips.fingerprint,
        "images": chips.source.name,
        "label": str(chips.label.path),
        "options": chips.options.model_dump(),
    }
    if chips.source.simulated:
        write_durably(simulation, [json.dumps({"region": chips.source.name}).encode()])
    write_durably(note, [json.dumps(facts, indent=2).encode()])  # last: it says that all is there
    return True
