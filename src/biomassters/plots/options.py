"""Options of plots and of change; checked before anything runs."""

from typing import Self

from pydantic import Field, model_validator

from biomassters.options import Options


class PlotColumns(Options):
    """Which column of the table of plots, or of areas, holds what; null: there is none."""

    agb: str = Field("agb_mg_per_ha", description="Biomass of the plot, Mg/ha")
    agb_before: str | None = Field(
        None, description="Biomass at the earlier of two dates, Mg/ha, for change"
    )
    x: str = Field("x", description="Easting or longitude; not read where there is a geometry")
    y: str = Field("y", description="Northing or latitude")
    plot_area_m2: str | None = Field("plot_area_m2", description="Area of the plot, m²")
    date: str | None = Field("date", description="Date of measurement, or year")
    stratum: str | None = Field(
        None, description="Stratum that plots were drawn in; its area_ha is in the table of strata"
    )
    cluster: str | None = Field(None, description="Cluster whose plots were drawn together")
    inclusion_probability: str | None = Field(
        None, description="Probability that a place of the plot's size was drawn"
    )
    area: str | None = Field(
        None, description="Small area of the plot and name of a row of areas; null: by polygons"
    )
    phase: str | None = Field(
        None, description="Phase of the plot in a two-phase sample; the highest has biomass"
    )
    boundary_weight: str | None = Field(
        None, description="Share of a plot's window inside the forest, for means of a first phase"
    )


class JitterOptions(Options):
    """How wrong the plots' places may be, and what that does to the comparison with the map."""

    standard_deviation_m: float = Field(
        5.0, ge=0, description="Of each coordinate of a plot, by its GNSS; 0: none is tried"
    )
    draws: int = Field(10, ge=0, le=1000, description="Times that all plots are moved")
    plots: int = Field(2000, gt=0, description="Plots that are moved, at most")
    seed: int = Field(20230131, ge=0, description="Of the moves")


class SmallAreaOptions(Options):
    """Which estimator an area gets, by its number of plots."""

    extended_from: int = Field(
        10,
        ge=2,
        description="Plots in an area from which the extended synthetic estimator is chosen; "
        "below it the EBLUP, without plots the synthetic part of its model",
    )


class PlotsOptions(Options):
    """What a table of plots holds and how totals are made of it."""

    columns: PlotColumns = Field(PlotColumns(), description="Which column holds what")
    areas: str | None = Field(
        None,
        description="File of the areas that get totals: polygons (GeoPackage, GeoJSON) or a table; "
        "null: the whole map",
    )
    strata: str | None = Field(
        None, description="File of the strata with their area_ha; null: not stratified"
    )
    crs: str | None = Field(
        None, description="Coordinate system of x and y, where the file doesn't say"
    )
    plot_area_m2: float | None = Field(
        None, gt=0, description="Area of every plot, where the table has no column of it"
    )
    probability_sample: bool = Field(
        True,
        description="Whether chance chose the plots; false: estimates rest on the model alone, "
        "which the page says",
    )
    covariates: tuple[str, ...] = Field(
        (),
        description="Columns that stand for a map: known at plots, with means by area in a table "
        "(or of the first phase's plots); empty: the map",
    )
    area_ha: float | None = Field(
        None, gt=0, description="Area of the population; null: of the areas, strata or map"
    )
    map_band: int = Field(1, ge=1, description="Band of the map that holds AGB, Mg/ha")
    map_year: int | None = Field(
        None, ge=1972, description="Year of the map; plots of other years are warned of"
    )
    map_classes: tuple[float, ...] = Field(
        (50.0, 100.0, 150.0, 200.0),
        description="Borders of the map's classes, Mg/ha, for post-stratification and scores",
    )
    outside: str = Field(
        "refuse",
        pattern="^(refuse|drop)$",
        description="What becomes of plots without a value of the map: refuse, or drop "
        "(the population is then the mapped land)",
    )
    least_cover: float = Field(
        0.5, gt=0, le=1, description="Share of a footprint that the map must show"
    )
    jitter: JitterOptions = Field(JitterOptions(), description="Errors of the plots' places")
    small_areas: SmallAreaOptions = Field(
        SmallAreaOptions(), description="Which estimator an area gets"
    )
    level: float = Field(0.9, gt=0, lt=1, description="Of the intervals")
    carbon_fraction: float = Field(
        0.47, gt=0, le=1, description="Carbon in dry biomass: IPCC 2006, volume 4, table 4.3"
    )

    @model_validator(mode="after")
    def _classes_rise(self) -> Self:
        if list(self.map_classes) != sorted(set(self.map_classes)):
            raise ValueError("map_classes must rise, as in 50/100/150")
        return self


class ChangeOptions(Options):
    """How two maps are compared."""

    areas: str | None = Field(
        None, description="Polygons that get totals of their own (GeoPackage, GeoJSON)"
    )
    plots: str | None = Field(
        None,
        description="Table of plots measured at both dates (plots.columns.agb and agb_before): "
        "their errors' correlation is the maps', and they correct the net change",
    )
    error_correlation: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Of the two maps' errors at a pixel; null: from the plots. 0 makes the "
        "difference look worse known than it is",
    )
    correlation_range_m: float = Field(
        1000.0,
        ge=0,
        description="Distance at which the correlation of neighbouring errors has fallen to 1 / e",
    )
    level: float = Field(
        0.9, gt=0, lt=1, description="Of the maps' intervals, and of those of the change"
    )
    carbon_fraction: float = Field(
        0.47, gt=0, le=1, description="Carbon in dry biomass: IPCC 2006, volume 4, table 4.3"
    )
