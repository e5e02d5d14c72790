"""Names of an archive's files, and of its chips."""

from biomassters.chips.bands import SENSORS

# They become names of files and cells of tables: no formula, markup or line break is one.
CHIP_ID = r"[A-Za-z0-9_.][A-Za-z0-9_.-]*"
_TAG_OF_SENSOR = {sensor.name: sensor.file_tag for sensor in SENSORS}


def image_name(chip_id: str, sensor: str, month: int) -> str:
    """Name of a month's image, as in ``0003d2eb_S1_00.tif``."""
    return f"{chip_id}_{_TAG_OF_SENSOR[sensor]}_{month:02d}.tif"


def label_name(chip_id: str) -> str:
    """Name of a label or a prediction, as in ``0003d2eb_agbm.tif``."""
    return f"{chip_id}_agbm.tif"
