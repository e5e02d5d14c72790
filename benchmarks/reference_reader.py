"""A reader written the way of the challenge's first place, as a yardstick.

One process per worker; a chip is 24 TIFFs read by tifffile, stacked as float32, scaled to
0-1, with zeros for months that don't exist, and augmented on the processor: a flip, a
quarter turn, and a rotation by an arbitrary angle.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from biomassters.chips.archive.archive import Archive
from biomassters.chips.bands import MONTH_COUNT, S1, S1_NODATA_DB, S2
from biomassters.chips.scaling import BandScaling

FLIP_PROBABILITY = 0.5
ROTATION_PROBABILITY = 0.7
ROTATION_DEG = (-45, 44)
CENTRE_SHARE = 0.1  # the centre of a rotation lies within this share of the middle


class ReferenceChips(Dataset):
    """Chips as float32 [12, 15, H, W], scaled, with their labels [H, W]."""

    def __init__(self, archive: Archive, chip_ids: Sequence[str], augment: bool) -> None:
        self._images = [
            [
                archive.feature_path(chip_id, sensor, month)
                for month, sensor in itertools.product(range(MONTH_COUNT), (S1.name, S2.name))
            ]
            for chip_id in chip_ids
        ]
        self._labels = [archive.label_path(chip_id) for chip_id in chip_ids]
        self._size = archive.shape
        self._augment = augment
        offset, extent = BandScaling.reference().offset_and_range()
        cuts = [len(S1.bands)]
        self._scaling = list(zip(np.split(offset, cuts), np.split(extent, cuts), strict=True))

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        scalings = itertools.cycle(self._scaling)
        images = [self._image(*both) for both in zip(self._images[index], scalings)]  # noqa: B905
        x_HWC = np.concatenate(images, axis=-1)
        y_HW = tifffile.imread(self._labels[index])
        if self._augment:
            x_HWC, y_HW = augment(x_HWC, y_HW)
        x_TCHW = x_HWC.transpose(2, 0, 1).reshape(MONTH_COUNT, -1, *self._size)
        return torch.from_numpy(np.ascontiguousarray(x_TCHW)), torch.from_numpy(y_HW.copy())

    def _image(self, path: Path | None, scaling: tuple[NDArray, NDArray]) -> NDArray[np.float32]:
        offset, extent = scaling
        if path is None:
            return np.zeros((*self._size, len(offset)), np.float32)
        image = tifffile.imread(path).astype(np.float32)
        scaled = (image - offset) / extent
        scaled[image == S1_NODATA_DB] = 0
        return scaled


def augment(
    x_HWC: NDArray[np.float32], y_HW: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vary a chip as the first place does; random numbers come from torch's worker seed."""
    random = np.random.default_rng(int(torch.randint(2**31, ())))
    if random.random() < FLIP_PROBABILITY:
        x_HWC, y_HW = x_HWC[:, ::-1], y_HW[:, ::-1]
    turns = int(random.integers(4))
    x_HWC, y_HW = np.rot90(x_HWC, turns), np.rot90(y_HW, turns)
    if random.random() < ROTATION_PROBABILITY:
        height, width = y_HW.shape
        share = 0.5 + random.uniform(-CENTRE_SHARE, CENTRE_SHARE, 2)
        centre = (share[0] * width, share[1] * height)
        matrix = cv2.getRotationMatrix2D(centre, float(random.integers(*ROTATION_DEG)), 1.0)
        x_HWC, y_HW = (_rotate(np.ascontiguousarray(image), matrix) for image in (x_HWC, y_HW))
    return x_HWC, y_HW


def _rotate(image: NDArray, matrix: NDArray) -> NDArray:
    size = image.shape[1::-1]
    return cv2.warpAffine(
        image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def reference_loader(
    archive: Archive,
    chip_ids: Sequence[str],
    augment: bool = True,
    workers: int = 2,
    batch_size: int = 8,
) -> DataLoader:
    """The first place's way of feeding: worker processes, batches of 8."""
    return DataLoader(
        ReferenceChips(archive, chip_ids, augment),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
        worker_init_fn=_one_thread,
    )


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # the workers fill the processors already
