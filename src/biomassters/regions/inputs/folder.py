"""A folder of monthly rasters: ``S1_00.tif`` … ``S2_11.tif``."""

import re
from pathlib import Path

from biomassters.chips.bands import MONTH_COUNT, SENSORS
from biomassters.errors import BadInputError
from biomassters.regions.inputs.band_names import require_bands
from biomassters.regions.inputs.layers import RasterLayer
from biomassters.regions.inputs.month_image import MonthLayers
from biomassters.regions.options import ImageOptions

_NAME = re.compile(r"S([12])_(\d\d)\.tiff?", re.IGNORECASE)


def read_folder(folder: Path, options: ImageOptions) -> list[MonthLayers]:
    """What a folder holds, any subset of months; nothing but headers is read.

    Raises:
        BadInputError: There is no month, a month is no month or there twice, or a file can't be
            read or lacks bands.
    """
    stated = {"s1": options.s1_bands, "s2": options.s2_bands}
    found: dict[tuple[int, str], RasterLayer] = {}
    for path in sorted(folder.iterdir()):
        name = _NAME.fullmatch(path.name)
        if name is None:
            continue
        sensor, month = SENSORS[int(name[1]) - 1].name, int(name[2])
        if month >= MONTH_COUNT:
            raise BadInputError(f"{path}: months are 00 (September) to 11 (August); rename it.")
        if (month, sensor) in found:
            raise BadInputError(f"{path}: {found[month, sensor].name} is the same month; keep one.")
        layer = RasterLayer.open(str(path), sensor, stated[sensor])
        require_bands(str(path), sensor, set(layer.bands))
        found[month, sensor] = layer
    if not found:
        raise BadInputError(
            f"{folder} holds no month: expected files such as S1_00.tif (September) and S2_11.tif "
            "(August)."
        )
    return [
        MonthLayers(
            month,
            *(
                tuple(found[key] for key in [(month, sensor.name)] if key in found)
                for sensor in SENSORS
            ),
        )
        for month in sorted({month for month, _ in found})
    ]
