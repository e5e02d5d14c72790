"""Write chips in the layout of the official archive: names, folders, TIFF structure, metadata."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.archive.layout import S3_COLUMNS, image_name, label_name
from biomassters.chips.bands import MONTH_NAMES, SENSORS
from biomassters.chips.chip import Chip
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.io.checksum import posix_cksum
from biomassters.io.files import full_disk_explained, publish_folder
from biomassters.io.raster import encode_raster

_FEATURE_COLUMNS = (
    *("filename", "chip_id", "satellite", "split", "month", "size", "cksum"),
    *(*S3_COLUMNS, "corresponding_agbm"),
)
_LABEL_COLUMNS = ("filename", "chip_id", "size", "cksum", *S3_COLUMNS)
_MARK = ".generated-archive"
_MARK_TEXT = "Written by biomassters, which replaces this folder when it writes again.\n"

Row = dict[str, str | int]


def write_archive(
    root: Path, chips: Iterable[Chip], *, total: int | None = None, progress: bool = True
) -> None:
    """Writes an archive, one chip in memory at a time; it takes its name when it is complete.

    Labels are written for training chips only, as in the official archive; months that are not
    present get no file, and the columns of download addresses stay empty. A folder that this
    function wrote before is replaced, any other refused.

    Raises:
        BadInputError: If the folder holds anything else, or the disk is full.
    """
    root = Path(root).absolute()
    _refuse_foreign(root)
    partial = root.with_name(f".{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    full = (
        f"The disk is full while writing the archive {root}, of which nothing is kept: free some "
        "space and run again."
    )
    try:
        with full_disk_explained(full):
            _write(partial, tracked(chips, "writing the archive", total, shown=progress))
    except BadInputError:
        shutil.rmtree(partial, ignore_errors=True)  # the next run begins anew
        raise
    publish_folder(partial, root)


def is_generated(root: Path) -> bool:
    """Whether a folder holds an archive that ``write_archive`` wrote."""
    return (root / _MARK).exists()


def _refuse_foreign(root: Path) -> None:
    if not root.exists() or is_generated(root):
        return
    # Folders alone, as are left where somebody deleted the files, hold nothing to lose.
    if not root.is_dir() or any(
        not entry.is_dir() and entry.name != ".gitkeep" for entry in root.rglob("*")
    ):
        raise BadInputError(
            f"{root} holds files that were not generated here: choose another folder for the "
            "generated archive, or move them away."
        )


def _write(root: Path, chips: Iterable[Chip]) -> None:
    root.mkdir(parents=True)
    (root / _MARK).write_text(_MARK_TEXT)
    features: list[Row] = []
    labels: list[Row] = []
    for chip in chips:
        train = chip.split == "train"
        label = label_name(chip.chip_id)
        for sensor in SENSORS:
            for month in chip.present[:, sensor.column].nonzero()[0].tolist():
                name = image_name(chip.chip_id, sensor.name, month)
                row: Row = {"satellite": sensor.tag, "split": chip.split}
                row |= {"month": MONTH_NAMES[month], "corresponding_agbm": label if train else ""}
                path = root / f"{chip.split}_features" / name
                features.append(row | _write_file(path, chip.images[sensor.name][month], chip))
        if train and chip.agb_mg_per_ha is not None:
            labels.append(_write_file(root / "train_agbm" / label, chip.agb_mg_per_ha, chip))
    for name, rows, columns in (
        ("features_metadata.csv", features, _FEATURE_COLUMNS),
        ("train_agbm_metadata.csv", labels, _LABEL_COLUMNS),
    ):
        table = pd.DataFrame(rows, columns=list(columns)).sort_values("filename")
        table.to_csv(root / name, index=False)


def _write_file(path: Path, array: NDArray, chip: Chip) -> Row:
    # NaN in a label means no label; the file says so, or it would be taken for damage.
    partly = array.dtype.kind == "f" and array.ndim == 2 and bool(np.isnan(array).any())
    tags = (("units", "Mg/ha"),) if partly else ()
    data = encode_raster(array, chip.georeference, tags=tags)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    facts = {"size": len(data), "cksum": posix_cksum(data)}
    return {"filename": path.name, "chip_id": chip.chip_id, **facts}
