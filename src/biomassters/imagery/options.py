"""What a user may choose of areas, scenes and composites; checked before anything runs."""

from datetime import date
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from biomassters.options import Options


class AreaOptions(Options):
    """A part of the Earth: polygons of a file, or a rectangle."""

    file: str | None = Field(
        None,
        description="File with the polygons (GeoJSON, GeoPackage, shapefile, KML); null: no limit",
    )
    bounds: tuple[float, float, float, float] | None = Field(
        None, description="Rectangle instead: west, south, east, north"
    )
    bounds_crs: str = Field("EPSG:4326", description="Coordinate system of these bounds")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.file is not None and self.bounds is not None:
            raise ValueError("give a file or bounds, not both")
        return self


class ImageryOptions(Options):
    """From an area and a year to twelve months of images."""

    area: str | None = Field(
        None, description="File with the area's polygons: GeoJSON, GeoPackage, shapefile or KML"
    )
    bounds: tuple[float, float, float, float] | None = Field(
        None, description="Rectangle instead: west, south, east, north"
    )
    bounds_crs: str = Field("EPSG:4326", description="Coordinate system of these bounds")
    year: int | None = Field(
        None, ge=2014, description="Year of the September that the twelve months begin with"
    )
    catalogue: str = Field(
        "planetary-computer",
        description="Where Sentinel-2 comes from: planetary-computer, earth-search, or a YAML file "
        "of the same form for another one",
    )
    s1_catalogue: str | None = Field(
        None, description="Where Sentinel-1 comes from; null: the same; none: do without"
    )
    catalogue_url: str | None = Field(
        None,
        description="Another address of the same catalogue: a STAC API, or a static catalogue or "
        "item collection (JSON)",
    )
    retries: int = Field(
        5,
        ge=0,
        le=10,
        description="Further tries of a question that the catalogue doesn't answer, the first at "
        "once, the second after a second, each later one after twice the wait",
    )
    largest_km2: float = Field(
        2500.0, gt=0, description="Area above which a run is refused, for it may take hours"
    )
    crs: str | None = Field(
        None,
        description="Coordinate system of the cube, in metres; null: that of most scenes",
    )
    on_contradiction: Literal["correct", "leave_out"] = Field(
        "correct",
        description="What becomes of a scene whose pixels contradict its metadata",
    )
    incidence_angle_deg: float | None = Field(
        38.5,
        gt=0,
        lt=80,
        description="Turns gamma0 into sigma0 (times its cosine) where an item doesn't state its "
        "own; the middle of the IW swath. null: leave gamma0, about 1 dB too bright",
    )
    reader_threads: int = Field(
        4, ge=1, le=16, description="Threads that read scenes side by side; more for slow networks"
    )
    overwrite: bool = Field(False, description="Replace a cube that exists")

    @field_validator("year")
    @classmethod
    def _has_begun(cls, year: int | None) -> int | None:
        if year is not None and date(year, 9, 1) > date.today():
            raise ValueError(
                f"September {year} lies in the future; choose {date.today().year - 1} or earlier"
            )
        return year

    @property
    def stated_area(self) -> AreaOptions:
        """The area as ``area.state_area`` takes it."""
        return AreaOptions(file=self.area, bounds=self.bounds, bounds_crs=self.bounds_crs)
