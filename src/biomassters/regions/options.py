"""Options of maps of regions; checked before anything runs, without torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from biomassters.chips.bands import S1, S2, SENSOR
from biomassters.imagery.options import AreaOptions
from biomassters.options import Options, Places

CHIP_STEP_PIXELS = 32
TITLE = "Aboveground biomass"  # of every map's summary, page and STAC item


class ImageOptions(Options):
    """What the files hold, where they don't say so themselves."""

    s1_bands: tuple[str, ...] = Field(
        S1.bands, description="Bands of Sentinel-1 files without band descriptions, in order"
    )
    s2_bands: tuple[str, ...] = Field(
        S2.bands, description="Bands of Sentinel-2 files without band descriptions, in order"
    )
    check_ranges: bool = Field(
        True, description="Refuse images whose values look like another unit or order of bands"
    )
    crs: str | None = Field(
        None,
        description="Coordinate system of the map, in metres; null: the first image's, or the UTM "
        "zone's where its pixels have another size on the ground",
    )
    pixel_size_m: float = Field(
        10.0, gt=0, description="Pixel of the map on the ground; the network knows pixels of 10 m"
    )

    def bands_of(self, sensor: str) -> tuple[str, ...]:
        """Bands of a sensor's files without band descriptions, in order."""
        return getattr(self, f"{sensor}_bands", SENSOR[sensor].bands)


class MappingOptions(Options):
    """How a region becomes a map."""

    area: AreaOptions = Field(AreaOptions(), description="Which part of the images is mapped")
    images: ImageOptions = Field(ImageOptions(), description="What the files hold")
    chip: int | None = Field(
        None,
        gt=0,
        multiple_of=CHIP_STEP_PIXELS,
        description="Side in pixels of what the network sees at once; null: of the chips that its "
        "weights were trained on, for a network answers otherwise to other sizes",
    )
    overlap: float = Field(
        0.3, ge=0, le=0.9, description="Share of a chip's side that it shares with the next one"
    )
    window: int = Field(
        512, gt=0, description="Side in pixels of the windows that are read and predicted at a time"
    )
    ensemble: Places = Field(
        (), description="Further weights files, whose maps are averaged with the first one's"
    )
    processes: int = Field(
        0,
        ge=0,
        description="Processes of this machine that predict, with one thread each; 0: this "
        "process alone. dask.scheduler_address takes those of a cluster",
    )
    memory_per_process_gb: float = Field(
        4.0, gt=0, description="Memory at which such a process is ended and started again"
    )
    reader_threads: int = Field(4, gt=0, description="Threads that read images ahead")
    overwrite: bool = Field(False, description="Replace a map that exists")
    first_year: int | None = Field(
        None,
        ge=1972,
        description="Year of the September that the images begin with, for the STAC item",
    )


class LabelOptions(Options):
    """What a label raster or label polygons hold."""

    unit: Literal["Mg/ha", "t C/ha", "m3/ha"] = Field(
        "Mg/ha",
        description="Mg/ha of aboveground biomass; t C/ha with carbon_fraction; m3/ha (stem "
        "volume) with expansion_factor",
    )
    carbon_fraction: float | None = Field(
        None, gt=0, le=1, description="Mg of carbon in a Mg of biomass that labels in t C/ha assume"
    )
    expansion_factor: float | None = Field(
        None,
        gt=0,
        le=10,
        description="Mg of aboveground biomass for a m³ of stem volume: your inventory's own, or "
        "BCEF of the IPCC 2006 Guidelines, volume 4, table 4.5",
    )
    nodata: float | None = Field(
        None, description="Value that means no label, where the raster doesn't say"
    )
    band: int = Field(1, ge=1, description="Band of a label raster")
    attribute: str = Field("agb", description="Attribute of label polygons that holds the value")
    minimum_valid: float = Field(
        0.5, gt=0, le=1, description="Share of a 10 m pixel's area that must be labelled"
    )

    @model_validator(mode="after")
    def _unit_has_its_factor(self) -> Self:
        factors = {"t C/ha": "carbon_fraction", "m3/ha": "expansion_factor"}
        for unit, name in factors.items():
            stated = getattr(self, name) is not None
            if stated != (unit == self.unit):
                raise ValueError(
                    f"labels in {unit} need {name}; state the one that they were made with"
                    if not stated
                    else f"{name} is for labels in {unit}, and unit is {self.unit}; leave one out"
                )
        return self

    @property
    def mg_per_ha(self) -> float:
        """What a label is multiplied by."""
        return (self.expansion_factor or 1.0) / (self.carbon_fraction or 1.0)


class RegionChipsOptions(Options):
    """How a region and labels of a part of it become chips."""

    chip: int = Field(
        96,
        gt=0,
        multiple_of=CHIP_STEP_PIXELS,
        description="Side of a chip in 10 m pixels; BioMassters has 256",
    )
    minimum_labelled: float = Field(
        0.5, gt=0, le=1, description="Share of a chip's pixels that must be labelled"
    )
    label: LabelOptions = Field(LabelOptions(), description="What the labels hold")
