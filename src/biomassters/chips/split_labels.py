"""Labels of the test split, published after the challenge: for scoring, never for training.

They lie in a folder of their own, ``test_agbm``, from which no archive reads labels: those are of
training chips alone (``archive.archive``), and a chip store refuses a test chip with a label
(``store.shards``). The metadata list neither sizes nor checksums of them, so that what can be known
of one is what it decodes to.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.predicted_maps import MapFolder
from biomassters.errors import BadInputError
from biomassters.io.raster import decode_with_gdal
from biomassters.io.raster_spec import MOST_AGB, DamagedFileError, label_fault

TEST_LABELS_FOLDER = "test_agbm"
_MOST_BYTES = 2**26  # of a label's pixels: 4,096 x 4,096
# Half way, by ratio, between the same unit and the next one: kg/m² are a tenth of Mg/ha.
_OTHER_UNIT = 10**0.5
_FEWEST_CHIPS = 20  # whose mean says something about the unit


class SplitLabels(Mapping[str, NDArray[np.float32]]):
    """Labels of all chips of a split: chip id → float32 [H, W], Mg/ha, read one at a time.

    Args:
        folder: Where ``{chip_id}_agbm.tif`` lie, at any depth.
        chip_ids: The split's chips.
        shape: Height and width of a chip, pixels.

    Raises:
        BadInputError: The folder isn't there, or the labels are of other chips; when a label is
            read: it is of another size, or no label.
    """

    def __init__(self, folder: str, chip_ids: Sequence[str], shape: tuple[int, int]) -> None:
        self._shape = shape
        if not Path(folder).is_dir():
            raise BadInputError(no_labels(folder))
        self._maps = MapFolder(Path(folder))
        missing, foreign = set(chip_ids) - set(self._maps), set(self._maps) - set(chip_ids)
        if missing or foreign or not chip_ids:
            found = [f"lacks {min(missing)} ({len(missing)} such)"] if missing else []
            found += [f"holds {min(foreign)} ({len(foreign)} such)"] if foreign else []
            raise BadInputError(
                f"The labels in {folder} are not those of the archive's {len(chip_ids)} test "
                f"chips: it {' and '.join(found) or 'has none'}; name the folder of just these "
                "with '--params test_labels=FOLDER'."
            )

    def __getitem__(self, chip_id: str) -> NDArray[np.float32]:
        image = self._maps[chip_id]
        fault = _fault(image, self._shape)
        if fault:
            raise BadInputError(
                f"The label of test chip {chip_id} {fault}: fetch the test labels again, in Mg/ha."
            )
        return image

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)


def no_labels(folder: object) -> str:
    """What to say where there is no such folder."""
    return (
        f"There are no test labels in {folder}: fetch them with '--pipelines acquisition --params "
        "acquisition.subset.sensors=test_label,acquisition.tar_parts=TAR', or name their folder "
        "with '--params test_labels=FOLDER'."
    )


def check_unit(test_means: Sequence[float], train_mean: float) -> None:
    """Refuse test labels in another unit than the training labels, by their means.

    ``test_means`` has one a label; that of the training labels is in Mg/ha, NaN without any.

    Raises:
        BadInputError: Their mean is beyond 3.2 times the training labels', or below a 3.2nd.
    """
    mean = float(np.mean(test_means))
    ratio = mean / train_mean if train_mean > 0 else 1.0
    if len(test_means) >= _FEWEST_CHIPS and not 1 / _OTHER_UNIT < ratio < _OTHER_UNIT:
        raise BadInputError(
            f"The test labels have a mean of {mean:.4g}, the training labels {train_mean:.4g} "
            "Mg/ha: they look like another unit; convert them to Mg/ha (kg/m² times 10)."
        )


def label_file_fault(content: bytes, name: str) -> str:
    """What makes a file no label, as the end of a sentence, or ""."""
    try:
        image = decode_with_gdal(content, name, _MOST_BYTES)
    except DamagedFileError as error:
        return error.reason
    return _fault(image[0] if len(image) == 1 else image)


def _fault(image: NDArray, shape: tuple[int, int] | None = None) -> str:
    """Of [H, W], or of [bands, H, W] where it has several."""
    if image.ndim != 2:
        return f"has {len(image)} bands, not 1"
    if shape is not None and image.shape != shape:
        found, expected = ("{} x {}".format(*size) for size in (image.shape, shape))
        return f"has {found} pixels, the chips {expected}"
    if image.dtype != np.float32:
        return f"holds {image.dtype} instead of float32 values"
    fault = label_fault(image)
    if fault is None and image.max() > MOST_AGB:
        fault = f"holds {image.max():g} Mg/ha, more than any forest"
    return fault or ""
