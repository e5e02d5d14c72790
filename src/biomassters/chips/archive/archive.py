"""The raw layout, as DrivenData publishes it and as others re-host it: find and read.

An archive is ``features_metadata.csv``, ``train_agbm_metadata.csv`` and GeoTIFFs in
``train_features/``, ``test_features/`` and ``train_agbm/``. The metadata say what should
exist, the disk what does.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from biomassters.chips.archive.chip_files import ChipFiles, OnDamage, read_chip_files
from biomassters.chips.archive.files import ArchiveFiles, file_state
from biomassters.chips.archive.layout import image_name, label_name
from biomassters.chips.archive.metadata import read_features, read_labels
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.bands import MONTH_COUNT, S1
from biomassters.chips.chip import Chip
from biomassters.chips.provenance import SIMULATION_NOTE
from biomassters.errors import BadInputError
from biomassters.io.raster import read_raster, read_size, write_raster
from biomassters.io.raster_spec import DamagedFileError, RasterSpec
from biomassters.io.storage import Place, State, is_url, place_of, state
from biomassters.messages import HIDDEN, redact

__all__ = [
    "Archive",
    "DamagedFileError",
    "RasterSpec",
    "read_raster",
    "write_archive",
    "write_raster",
]

_SIZE_SAMPLE = 33  # files whose headers decide what size the archive's chips have


def data_name(root: Place) -> str:
    """Name of an archive's folder; stores, weights and reports repeat it, so it holds no secret.

    Args:
        root: The folder or its address, whose login and signature are left out.
    """
    shown = redact(str(root)).removesuffix(f"?{HIDDEN}")
    return shown.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True, eq=False)
class Archive:
    """A read-only handle on an archive; picklable, and safe to share between threads.

    Attributes:
        root: Absolute path of the archive, or its URL.
        features: One row a listed image: chip_id, split, sensor (``"s1"`` or ``"s2"``), month
            (0 is September), filename, path (``""`` where the file is missing).
        labels: One row a listed label of these chips: chip_id, filename, path.
        states: State of every object when the archive was opened; empty for a folder.
    """

    root: Place
    features: pd.DataFrame = field(repr=False)
    labels: pd.DataFrame = field(repr=False)
    states: Mapping[str, State] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, root: Place, parameter: str = "raw_root") -> "Archive":
        """Finds an archive's metadata and files.

        Args:
            root: Its folder or URL; metadata and images may lie deeper.
            parameter: The parameter that names it, for messages.

        Raises:
            BadInputError: If there is no archive, or its metadata are missing or wrong.
        """
        files = ArchiveFiles.find(root, parameter)
        features = read_features(files)
        train = features.loc[features["split"] == "train", "chip_id"].unique()
        labels = pd.DataFrame(columns=["chip_id", "filename", "path"], dtype=str)
        if len(train):
            # These metadata list all training chips, even beside the images of a few.
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

    def split_of(self, chip_id: str) -> str:
        """``"train"`` or ``"test"``."""
        return self._chip(chip_id).split

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

        It should have all images that the metadata list, twelve months of Sentinel-1, and a
        label if it is for training.
        """
        chip = self._chip(chip_id)
        expected = set(self._listed[chip_id])
        expected |= {(S1.name, month) for month in range(MONTH_COUNT)}
        names = [image_name(chip_id, *key) for key in expected - set(chip.images)]
        if chip.split == "train" and chip.label is None:
            names.append(label_name(chip_id))
        return sorted(names)

    def listed_images(self, chip_id: str) -> int:
        """How many images the metadata list for a chip."""
        return len(self._listed[self._chip(chip_id).chip_id])

    def undelivered_images(self, chip_id: str) -> list[str]:
        """Names of images that the metadata list and the archive lacks.

        They are not months that never existed: the download is incomplete, or the files were lost.
        """
        chip = self._chip(chip_id)
        listed = set(self._listed[chip_id]) - set(chip.images)
        return sorted(image_name(chip_id, *key) for key in listed)

    def read_chip(
        self, chip_id: str, skip: Collection[str] = (), on_damage: OnDamage | None = None
    ) -> Chip:
        """Reads one chip and checks its values.

        Args:
            chip_id: Name of the chip.
            skip: Names of files to leave out as if they were missing.
            on_damage: Called with each damaged file, which then counts as absent; None raises.

        Raises:
            DamagedFileError: At the first damaged file, without ``on_damage``.
        """
        return read_chip_files(self._chip(chip_id, skip), self.shape, on_damage)

    def signature(self, chip_id: str, skip: Collection[str] = ()) -> str:
        """A text that changes when a file of the chip changes, by name, size and time or tag.

        Raises:
            DamagedFileError: If a file has vanished since the archive was opened.
        """
        chip = self._chip(chip_id, skip)
        digest = hashlib.blake2b(f"{chip_id} {chip.split} {self.shape}".encode(), digest_size=16)
        for path in (*chip.images.values(), chip.label):
            if path is not None:
                size, mark = self._state(path)
                digest.update(f"\n{path.rpartition('/')[2]} {size} {mark}".encode())
        return digest.hexdigest()

    def _state(self, path: str) -> State:
        state = self.states.get(path) or file_state(path)
        if state is None:
            raise DamagedFileError(path, "has vanished")
        return state

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

    def _chip(self, chip_id: str, skip: Collection[str] = ()) -> ChipFiles:
        chip = self._chips.get(chip_id)
        if chip is None:
            raise BadInputError(
                f"{self.root} has no chip {chip_id!r}: choose one that its metadata list."
            )
        return chip.without(skip) if skip else chip

    @cached_property
    def _listed(self) -> dict[str, list[tuple[str, int]]]:
        """Sensor and month of each listed image, by chip."""
        listed: dict[str, list[tuple[str, int]]] = {}
        columns = (self.features[name] for name in ("chip_id", "sensor", "month"))
        for chip_id, sensor, month in zip(*columns, strict=True):
            listed.setdefault(chip_id, []).append((sensor, month))
        return listed

    @cached_property
    def _chips(self) -> dict[str, ChipFiles]:
        """The files of every chip that exist, by sorted name."""
        labels = dict(zip(self.labels["chip_id"], self.labels["path"], strict=True))
        chips: dict[str, ChipFiles] = {}
        columns = (self.features[name] for name in ("chip_id", "split", "sensor", "month", "path"))
        for chip_id, split, sensor, month, path in zip(*columns, strict=True):
            if chip_id not in chips:
                chips[chip_id] = ChipFiles(chip_id, split, {}, labels.get(chip_id) or None)
            if path:
                chips[chip_id].images[sensor, month] = path
        return chips

    def __getstate__(self) -> dict[str, Any]:
        kept = ("root", "features", "labels", "states", "shape")  # the rest is quickly made again
        return {name: value for name, value in self.__dict__.items() if name in kept}
