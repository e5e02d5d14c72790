"""The way in from Python: weights, the map of a chip, the map of a region.

``biomassters`` itself has these names. Whatever is wrong with what is given is a ``BadInputError``,
a ``ValueError`` of one sentence; docs/how_to/python.md shows them at work.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biomassters.chips.bands import MONTH_COUNT, PIXEL_SIZE_M, SENSOR, SENSORS, Sensor
from biomassters.chips.chip import Chip
from biomassters.chips.pixel_checks import check_chip
from biomassters.datasets.network_weights import NetworkWeights, load_weights
from biomassters.errors import BadInputError
from biomassters.inference.chips import batch_of_chip
from biomassters.inference.device import choose_device
from biomassters.inference.options import InferenceOptions
from biomassters.inference.predict import MonthNetwork, predict_batches, ready_network
from biomassters.io.raster import read_raster
from biomassters.io.raster_spec import Georeference
from biomassters.messages import hint
from biomassters.network.starter import calibration_file, weights_file
from biomassters.pipelines.mapping.nodes import map_blocks, plan_map, write_map
from biomassters.regions.mapping import read_calibration
from biomassters.regions.options import MappingOptions
from biomassters.uncertainty.options import UncertaintyOptions
from biomassters.workers.options import DaskOptions

if TYPE_CHECKING:
    import torch

    from biomassters.uncertainty.intervals import IntervalModel

Place = str | PathLike[str]
Images = ArrayLike | Mapping[int, Place | ArrayLike]
"""A sensor's year: an array [12, bands, height, width], or by month (0: September) GeoTIFFs or
arrays [bands, height, width]."""


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network that maps; made by ``load_network``.

    Attributes:
        weights: The network and what its JSON says: data, held-out fold, recipe.
        inference: How it is used.
        uncertainty: File of its calibrated intervals; may be missing.
    """

    weights: NetworkWeights
    inference: InferenceOptions
    uncertainty: Path
    _intervals: "dict[int, IntervalModel | None]" = field(default_factory=dict, repr=False)

    @cached_property
    def device(self) -> "torch.device":
        """Where it runs."""
        return choose_device(self.inference.device)

    @cached_property
    def ready(self) -> MonthNetwork:
        """The network on its device, with BatchNorm folded: to predict, not to train."""
        return ready_network(self.weights.network, self.inference, self.device)

    def intervals(self, chip_pixels: int) -> "IntervalModel | None":
        """Calibrated intervals of maps of chips with this side; None where there are none.

        The log says why there are none, and where the calibration was made on other chips.
        """
        if chip_pixels not in self._intervals:
            made_with = self.weights.provenance(self.inference, chip_pixels)
            found = read_calibration(self.uncertainty, self.weights.fingerprint, made_with)
            self._intervals[chip_pixels] = None if found is None else found.intervals
        return self._intervals[chip_pixels]


class ChipMap(NamedTuple):
    """The map of a chip.

    Attributes:
        agb: float32 [height, width], Mg/ha.
        lower: Lower end of the interval of each pixel, the same; None without a calibration.
        upper: Upper end likewise.
        georeference: Where the chip lies, if its files say so.
    """

    agb: NDArray[np.float32]
    lower: NDArray[np.float32] | None
    upper: NDArray[np.float32] | None
    georeference: Georeference | None


def load_network(
    weights: Place, *, uncertainty: Place | None = None, **inference: Any
) -> LoadedNetwork:
    """Load weights, to map chips and regions with them.

    Args:
        weights: A ``.safetensors`` file with its JSON beside it, or ``"starter"``. The other
            networks that the JSON names predict with it, and are averaged.
        uncertainty: ``uncertainty.json`` of these weights; without it the one beside them, if
            there is one.
        **inference: Options of ``inference``, such as ``device="cpu"`` or ``views=["identity"]``.

    Raises:
        BadInputError: A file is missing or damaged, or an option is wrong.

    Example:
        >>> from biomassters import load_network
        >>> network = load_network("data/06_models/simulated/weights.safetensors", device="cpu")
        >>> network.weights.trained_on["dataset"]
        'simulated'
    """
    options, path = InferenceOptions.model_validate(inference), weights_file(Path(weights))
    if uncertainty is not None and not Path(uncertainty).is_file():
        raise BadInputError(
            f"There is no file {uncertainty}: the pipeline uncertainty writes it; leave it out to "
            "map without intervals."
        )
    beside = calibration_file(path, path.with_name("uncertainty.json"))
    calibrated = beside if uncertainty is None else Path(uncertainty)
    return LoadedNetwork(load_weights(path), options, calibrated)


def predict_chip(
    network: LoadedNetwork, images: Mapping[str, Images], *, name: str = "chip"
) -> ChipMap:
    """Map one chip.

    Args:
        network: From ``load_network``.
        images: By sensor: ``"s1"`` backscatter in dB (VV and VH ascending, VV and VH descending),
            ``"s2"`` reflectance × 10,000 (B2 … B8, B8A, B11, B12) and cloud probability in percent
            (255: unknown). Each a year: an array [12, bands, height, width], or GeoTIFFs or arrays
            [bands, height, width] by month (0: September). NaN is no data, in backscatter also
            what lies below −100, in reflectance pixels that are 0 in every band. Months and
            sensors may be missing. Pixels are 10 m, sides multiples of 32 pixels.
        name: Of the chip, for messages.

    Raises:
        BadInputError: Images of another shape or unit, none at all, or a file that can't be read.

    Example:
        >>> import numpy as np
        >>> from biomassters import load_network, predict_chip
        >>> network = load_network("data/06_models/simulated/weights.safetensors", device="cpu")
        >>> backscatter = np.full((12, 4, 96, 96), [[[-9.0]], [[-16.0]], [[-9.0]], [[-16.0]]])
        >>> chip = predict_chip(network, {"s1": backscatter})
        >>> chip.agb.shape
        (96, 96)
    """
    chip = _chip(name, images)
    if network.inference.check_ranges:
        check_chip(chip, PIXEL_SIZE_M)
    network.weights.check_window(*chip.shape)
    batch = batch_of_chip(replace(chip, images={
        sensor.name: _as_in_an_archive(sensor, chip.images[sensor.name]) for sensor in SENSORS
    }))  # fmt: skip
    ready, options = network.ready, network.inference
    ((_, agb),) = predict_batches(ready, [batch], options, network.device, progress=False)
    intervals = network.intervals(max(chip.shape))
    lower, upper = intervals.bounds(agb) if intervals else (None, None)
    return ChipMap(agb, lower, upper, chip.georeference)


def map_region(
    network: LoadedNetwork, images: Place, map_file: Place, **mapping: Any
) -> dict[str, Any]:
    """Map a region, in memory that does not grow with it; the same call goes on after a stop.

    Args:
        network: From ``load_network``.
        images: A folder of ``S1_00.tif`` (September) … ``S2_11.tif``, a STAC item collection or a
            Zarr cube; a year, or some months of it.
        map_file: The Cloud-optimised GeoTIFF to be written: AGB, lower and upper end of its
            interval (Mg/ha; no data without a calibration), months used. Beside it, a folder keeps
            what is finished of an unfinished map.
        **mapping: Options of ``mapping``, such as ``area={"file": "forest.geojson"}``,
            ``overwrite=True`` or ``processes=4``.

    Returns:
        The map's numbers: area, biomass and carbon with intervals, what it was made from.

    Raises:
        BadInputError: The map exists, images or options are wrong, or the disk is too small.

    Example:
        >>> from biomassters import load_network, map_region
        >>> network = load_network("data/06_models/simulated/weights.safetensors", device="cpu")
        >>> numbers = map_region(network, "data/01_raw/simulated_region", "forest.tif")
        >>> numbers["images_simulated"]
        True
    """
    options, path = MappingOptions.model_validate(mapping), Path(map_file)
    if path.is_file() and not options.overwrite:
        raise BadInputError(
            f"{path} exists: give overwrite=True to replace it, or another name to keep it."
        )
    plan = plan_map(str(images), network.weights, str(path), options, network.inference)
    scratch = path.with_name(f"{path.name}.scratch")
    scratch.mkdir(exist_ok=True)
    map_blocks(plan, scratch, DaskOptions())
    numbers, _ = write_map(plan, scratch, str(network.uncertainty), UncertaintyOptions())
    shutil.rmtree(scratch)
    return numbers


def _chip(name: str, images: Mapping[str, Images]) -> Chip:
    """A chip of float32 images in the archive's units."""
    georeference: Georeference | None = None
    read: dict[str, dict[int, NDArray[Any]]] = {key: {} for key in SENSOR}
    for key, given in images.items():
        if key not in SENSOR:
            raise BadInputError(f"There is no sensor '{key}'; {hint(key, SENSOR)}")
        for month, image, place in _months(SENSOR[key], given):
            read[key][month] = image
            georeference = georeference or place
    sizes = sorted({image.shape[1:] for year in read.values() for image in year.values()})
    if len(sizes) != 1:
        found = " and ".join(f"{height} x {width}" for height, width in sizes) or "no"
        raise BadInputError(
            f"The images of {name} have {found} pixels: give at least one, all of one size."
        )
    present = np.zeros((MONTH_COUNT, len(SENSORS)), bool)
    filled = {}
    for sensor in SENSORS:
        shape = (MONTH_COUNT, len(sensor.bands), *sizes[0])
        filled[sensor.name] = year = np.full(shape, sensor.nodata, np.float32)
        for month, image in read[sensor.name].items():
            year[month] = np.where(np.isfinite(image), image, _without_data(sensor))
        present[:, sensor.column] = exists = sensor.seen(year).any(axis=(1, 2))
        year[~exists] = sensor.nodata  # also the cloud probability, as where there is no image
    return Chip(name, "test", filled, present, georeference=georeference)


def _months(
    sensor: Sensor, given: Images
) -> Iterator[tuple[int, NDArray[Any], Georeference | None]]:
    """Each month's image [bands, height, width], and where its file says that it lies."""
    months: dict[int, Any]
    months = dict(given) if isinstance(given, Mapping) else dict(enumerate(np.asarray(given)))
    if not isinstance(given, Mapping) and len(months) != MONTH_COUNT:
        raise BadInputError(
            f"The array of {sensor.title} has {len(months)} months instead of {MONTH_COUNT}, "
            "September to August: give those that there are by number, as in {9: june, 10: july}."
        )
    for month, image in months.items():
        if month not in range(MONTH_COUNT):
            raise BadInputError(
                f"There is no month {month!r} of {sensor.title}: months are numbered from 0, "
                "September, to 11, August."
            )
        place = None
        if isinstance(image, str | PathLike):
            image, place = read_raster(Path(image))
        values = np.asarray(image)
        if values.ndim != 3 or len(values) != len(sensor.bands):
            raise BadInputError(
                f"Month {month} of {sensor.title} has the shape {list(values.shape)}: give "
                f"[{len(sensor.bands)}, height, width], the bands {', '.join(sensor.bands)}."
            )
        yield month, values, place


def _without_data(sensor: Sensor) -> NDArray[np.float32]:
    """What stands for no data in each band, [bands, 1, 1]."""
    fills = [sensor.nodata if band.none is None else band.none for band in sensor.table]
    return np.array(fills, np.float32)[:, None, None]


def _as_in_an_archive(sensor: Sensor, images: NDArray[Any]) -> NDArray[Any]:
    if sensor.floor is not None:
        return images
    most = np.iinfo(sensor.archive_dtype).max
    return np.clip(np.rint(images), 0, most).astype(sensor.archive_dtype)
