"""Any folder of predicted maps, whoever wrote it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.archive.layout import label_name
from biomassters.errors import BadInputError
from biomassters.io.raster import read_raster

MAP_SUFFIX = label_name("")


class MapFolder(Mapping[str, NDArray[np.float32]]):
    """``{chip_id}_agbm.tif`` anywhere below a folder, read one at a time.

    Args:
        folder: The folder.

    Raises:
        BadInputError: A chip has two files.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        for file in sorted(folder.rglob(f"*{MAP_SUFFIX}")):
            chip_id = file.name.removesuffix(MAP_SUFFIX)
            if chip_id in self._files:
                raise BadInputError(
                    f"{folder} holds chip {chip_id} twice: {self._files[chip_id]} and {file}; "
                    "remove one."
                )
            self._files[chip_id] = file

    def __getitem__(self, chip_id: str) -> NDArray[np.float32]:
        image, _ = read_raster(self._files[chip_id])
        return image[0] if len(image) == 1 else image

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
