"""Options of maps of regions; checked before anything runs, without torch."""

from pydantic import Field

from biomassters.chips.bands import S1, S2
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
