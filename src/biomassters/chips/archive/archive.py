"""Find and read the raw archive, as DrivenData publishes it and as others re-host it.

The metadata say what should exist, the disk what does (``layout``, ``metadata``): an ``Archive``
knows both and reads a chip at a time. ``UsableChips`` are those that the chip table
(``chips.quality.chip_table``) calls usable, as the chip store is packed from.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.archive.layout import ArchiveFiles, file_state, image_name, label_name
from biomassters.chips.archive.metadata import read_features, read_labels
from biomassters.chips.bands import MONTH_COUNT, SENSOR, SENSORS, Sensor
from biomassters.chips.chip import Chip
from biomassters.chips.pixel_checks import image_unit_fault
from biomassters.chips.provenance import SIMULATION_NOTE
from biomassters.errors import BadInputError
from biomassters.io.raster import (
    nan_is_nodata,
    read_georeference,
    read_raster,
    read_raster_into,
    read_size,
)
from biomassters.io.raster_spec import DamagedFileError, image_fault, label_fault
from biomassters.io.storage import Place, State, fetch, is_url, place_of, state
from biomassters.messages import HIDDEN, redact

_SIZE_SAMPLE = 33  # files whose headers decide what size the archive's chips have


@dataclass(frozen=True)
class _ChipFiles:
    """Files of one chip: paths or URLs, ``""`` for an image that is listed and missing."""

    split: str
    images: dict[tuple[str, int], str]  # by sensor and month
    label: str

    def existing(self, skip: Collection[str] = ()) -> tuple[dict[tuple[str, int], str], str]:
        """The images and the label (or ``""``) that exist and have other names than these."""
        images = {
            key: path for key, path in self.images.items() if path and _name(path) not in skip
        }
        return images, "" if _name(self.label) in skip else self.label


@dataclass(frozen=True, eq=False)
class Archive:
    """A read-only handle on an archive; picklable, and safe to share between threads.

    Attributes:
        root: Absolute path of the archive, or its URL.
        features: One row a listed image: chip_id, split, sensor (its name), month (0 is
            September), filename, path (``""`` where the file is missing).
        labels: One row a listed label of these chips: chip_id, filename, path.
        states: State of every object when the archive was opened; empty for a folder.
    """

    root: Place
    features: pd.DataFrame = field(repr=False)
    labels: pd.DataFrame = field(repr=False)
    states: Mapping[str, State] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, root: Place, parameter: str = "raw_root") -> "Archive":
        """Finds an archive's metadata and files, at any depth below its folder or URL.

        ``parameter`` names the parameter that names it, for messages.

        Raises:
            BadInputError: If there is no archive, or its metadata are missing or wrong.
        """
        files = ArchiveFiles.find(root, parameter)
        features = read_features(files)
        train = features.loc[features["split"] == "train", "chip_id"].unique()
        labels = pd.DataFrame(columns=["chip_id", "filename", "path"], dtype=str)
        if len(train):
            labels = read_labels(files)
            labels = labels[labels["chip_id"].isin(train)].reset_index(drop=True)
        if not features["path"].any():
            raise BadInputError(
                f"{files.root} holds none of the TIFFs that its metadata list: copy the folders "
                "train_features, test_features and train_agbm there."
            )
        return cls(files.root, features, labels, files.states)

    @property
    def origin(self) -> dict[str, Any]:
        """Where the chips come from: ``dataset`` (the folder's name), ``simulated``.

        A simulated archive says so in a note beside its metadata; any other is taken for real.
        """
        note = f"{self.root}/{SIMULATION_NOTE}"
        there = state(note) if is_url(note) else file_state(note)
        return {"dataset": data_name(self.root), "simulated": there is not None}

    def chip_ids(self, split: str | None = None) -> list[str]:
        """Sorted names of the chips, of one split or of all."""
        return [name for name, chip in self._chips.items() if split in (None, chip.split)]

    def feature_path(self, chip_id: str, sensor: str, month: int) -> Place | None:
        """An image's file, or None where it is missing or not listed."""
        path = self._chip(chip_id).images.get((sensor, month))
        return place_of(path) if path else None

    def label_path(self, chip_id: str) -> Place | None:
        """A label's file, or None where it is missing or not listed."""
        path = self._chip(chip_id).label
        return place_of(path) if path else None

    def missing_files(self, chip_id: str) -> list[str]:
        """Names of files that a chip should have and hasn't.

        It should have all images that the metadata list, twelve months of a sensor that sees
        every month, and a label if it is for training.
        """
        chip = self._chip(chip_id)
        always = [sensor.name for sensor in SENSORS if sensor.every_month]
        expected = {*chip.images, *itertools.product(always, range(MONTH_COUNT))}
        names = [image_name(chip_id, *key) for key in expected if not chip.images.get(key)]
        if chip.split == "train" and not chip.label:
            names.append(label_name(chip_id))
        return sorted(names)

    def listed_images(self, chip_id: str) -> int:
        """How many images the metadata list for a chip."""
        return len(self._chip(chip_id).images)

    def month_count(self, chip_id: str) -> int:
        """How many months of a chip have an image."""
        images = self._chip(chip_id).images
        return len({month for (_, month), path in images.items() if path})

    def undelivered_images(self, chip_id: str) -> list[str]:
        """Names of images that the metadata list and the archive lacks.

        They are not months that never existed: the download is incomplete, or the files were lost.
        """
        images = self._chip(chip_id).images
        return sorted(image_name(chip_id, *key) for key, path in images.items() if not path)

    def read_chip(
        self,
        chip_id: str,
        skip: Collection[str] = (),
        on_damage: Callable[[DamagedFileError], None] | None = None,
    ) -> Chip:
        """Reads one chip and checks its values.

        Args:
            chip_id: Name of the chip.
            skip: Names of files to leave out as if they were missing.
            on_damage: Called with each damaged file, which then counts as absent; None raises.

        Raises:
            DamagedFileError: At the first damaged file, without ``on_damage``.
        """
        chip = self._chip(chip_id)
        images, label_path = chip.existing(skip)
        year: dict[str, NDArray[Any]] = {
            sensor.name: np.empty(
                (MONTH_COUNT, len(sensor.bands), *self.shape), sensor.archive_dtype
            )
            for sensor in SENSORS
        }
        present = np.zeros((MONTH_COUNT, len(SENSORS)), bool)
        label = np.empty((1, *self.shape), np.float32)
        fetched = fetch([*images.values(), label_path])
        # Of the images and of the label, the last one that may say where it lies.
        located: dict[bool, str] = {}

        def read(path: str, out: NDArray, sensor: Sensor | None = None) -> bool:
            """Whether the file, an image or a label, is whole; if not, it may be half read."""
            try:
                if _read_checked(path, out, sensor, fetched.get(path)):
                    located[sensor is None] = path
            except DamagedFileError as error:
                if on_damage is None:
                    raise
                on_damage(error)
                return False
            return True

        for (name, month), path in images.items():
            sensor = SENSOR[name]
            present[month, sensor.column] = read(path, year[name][month], sensor)
        for sensor in SENSORS:
            year[sensor.name][~present[:, sensor.column]] = sensor.nodata
        agb = label[0] if label_path and read(label_path, label) else None
        places = map(read_georeference, located.values())
        georeference = next((place for place in places if place is not None), None)
        return Chip(chip_id, chip.split, year, present, agb, georeference)

    def signature(self, chip_id: str, skip: Collection[str] = ()) -> str:
        """A text that changes when a file of the chip changes, by name, size and time or tag.

        Raises:
            DamagedFileError: If a file has vanished since the archive was opened.
        """
        chip = self._chip(chip_id)
        digest = hashlib.blake2b(f"{chip_id} {chip.split} {self.shape}".encode(), digest_size=16)
        images, label = chip.existing(skip)
        for path in filter(None, (*images.values(), label)):
            found = self.states.get(path) or file_state(path)
            if found is None:
                raise DamagedFileError(path, "has vanished")
            size, mark = found
            digest.update(f"\n{_name(path)} {size} {mark}".encode())
        return digest.hexdigest()

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels that most of the archive's files have.

        Raises:
            BadInputError: If no file is readable.
        """
        paths = [path for path in [*self.features["path"], *self.labels["path"]] if path]
        sizes: Counter[tuple[int, int]] = Counter()
        for path in paths[:: max(1, len(paths) // _SIZE_SAMPLE)]:
            try:
                sizes[read_size(path)] += 1
            except DamagedFileError:
                continue
        if not sizes:
            raise BadInputError(f"{self.root} holds no readable TIFF: fetch the archive again.")
        return sizes.most_common(1)[0][0]

    def _chip(self, chip_id: str) -> _ChipFiles:
        if chip_id not in self._chips:
            raise BadInputError(
                f"{self.root} has no chip {chip_id!r}: choose one that its metadata list."
            )
        return self._chips[chip_id]

    @cached_property
    def _chips(self) -> dict[str, _ChipFiles]:
        """By sorted name."""
        labels = dict(zip(self.labels["chip_id"], self.labels["path"], strict=True))
        chips: dict[str, _ChipFiles] = {}
        columns = (self.features[name] for name in ("chip_id", "split", "sensor", "month", "path"))
        for chip_id, split, sensor, month, path in zip(*columns, strict=True):
            if chip_id not in chips:
                chips[chip_id] = _ChipFiles(split, {}, labels.get(chip_id, ""))
            chips[chip_id].images[sensor, month] = path
        return chips

    def __getstate__(self) -> dict[str, Any]:
        kept = ("root", "features", "labels", "states", "shape")  # the rest is quickly made again
        return {name: value for name, value in self.__dict__.items() if name in kept}


class UsableChips:
    """Chips that an archive's chip table calls usable, without their damaged images."""

    def __init__(self, archive: Archive, table: pd.DataFrame) -> None:
        usable = table[table["usable"]].sort_values("chip_id")
        self._archive = archive
        self._splits = {str(split): list(ids) for split, ids in usable.groupby("split")["chip_id"]}
        damaged = usable.set_index("chip_id")["damaged_files"]
        self._damaged = {chip_id: frozenset(names) for chip_id, names in damaged.items()}

    @property
    def origin(self) -> dict[str, Any]:
        """Where the chips come from, as the archive says."""
        return self._archive.origin

    def splits(self) -> dict[str, list[str]]:
        """Sorted names of the chips by split; a split without chips is left out."""
        return self._splits

    def read_chip(self, chip_id: str) -> Chip:
        """Reads one chip; raises DamagedFileError if a file was damaged after the inspection."""
        return self._archive.read_chip(chip_id, self._damaged[chip_id])

    def signature(self, chip_id: str) -> str:
        """A text that changes when a file of the chip changes."""
        return self._archive.signature(chip_id, self._damaged[chip_id])


def data_name(root: Place) -> str:
    """Name of an archive's folder; stores, weights and reports repeat it, so it holds no secret.

    Login and signature of an address are left out.
    """
    shown = redact(str(root)).removesuffix(f"?{HIDDEN}")
    return shown.rstrip("/").rpartition("/")[2]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _read_checked(path: str, out: NDArray, sensor: Sensor | None, data: bytes | None) -> bool:
    """Reads an image, or without a sensor a label; whether the file may say where it lies."""
    try:
        located = read_raster_into(path, out, data)
    except DamagedFileError as error:
        other = None if sensor is None else _in_another_unit(path, out, sensor)
        raise other or error from None
    partly = sensor is None and bool(np.isnan(out).any()) and nan_is_nodata(path, data)
    if fault := label_fault(out, partly=partly) if sensor is None else image_fault(out):
        raise DamagedFileError(path, fault)
    return located


def _in_another_unit(path: str, out: NDArray, sensor: Sensor) -> DamagedFileError | None:
    """Why a file that can be read is of another type: to fetch it again wouldn't help."""
    try:
        values, _ = read_raster(path)
    except DamagedFileError:
        return None
    if values.shape != out.shape or values.dtype == out.dtype:
        return None
    pixels = values.reshape(len(values), -1).astype(np.float32)
    fault = image_unit_fault(sensor.name, dict(zip(sensor.bands, pixels, strict=True)))
    if fault is None:
        return None
    dtype = sensor.archive_dtype.name
    return DamagedFileError(
        path, f"{fault.reason} as {dtype}", f"{fault.remedy} and save it as {dtype}"
    )
