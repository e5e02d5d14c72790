"""Tables of plots, areas and strata: read from what agencies have, and checked before any work.

CSV and Parquet hold coordinates in columns, GeoPackage, GeoJSON and GeoParquet a geometry. Columns
are found by the names in ``plots.columns`` and get our own; covariates keep theirs.
"""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rasterio.crs import CRS

from biomassters.errors import BadInputError
from biomassters.io.files import read_json, read_regular
from biomassters.io.gdal import parse_crs
from biomassters.messages import counted, hint, listed
from biomassters.plots.options import PlotColumns, PlotsOptions

log = logging.getLogger(__name__)
_MOST_BYTES = 2**31
_SQLITE = b"SQLite format 3\0"
_SUFFIXES = (".csv", ".parquet", ".gpkg", ".geojson", ".json")
_LARGEST_AGB = 2000.0  # Mg/ha; the tallest forests on Earth have about 1,900
_BY_PLACE = "EPSG:4326"  # of GeoJSON (RFC 7946)


@dataclass(frozen=True, eq=False)
class PlotTable:
    """Plots as the estimators take them.

    Attributes:
        table: A row a plot; agb (Mg/ha, NaN in a first phase), and where there are such columns
            agb_before, x, y, plot_area_m2, year, stratum, cluster, inclusion_probability, area,
            phase and boundary_weight.
        covariates: By their own names, a row a plot.
        crs: Of x and y; None where there are none.
        warnings: What isn't wrong but should be known.
    """

    table: pd.DataFrame
    covariates: pd.DataFrame
    crs: CRS | None
    warnings: tuple[str, ...] = ()

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Plots with biomass; the others are of a first phase, [n]."""
        return np.isfinite(self.table["agb"].to_numpy())


@dataclass(frozen=True, eq=False)
class AreaTable:
    """Areas that get totals of their own.

    Attributes:
        table: A row an area, by name; area_ha (NaN: unknown) and means of covariates.
        polygons: Of each, object [n] of shapely's; None in a plain table.
        crs: Of the polygons.
    """

    table: pd.DataFrame
    polygons: NDArray[Any] | None = None
    crs: CRS | None = None


def read_plots(path: Path, options: PlotsOptions) -> PlotTable:
    """Every plot of a file.

    Raises:
        BadInputError: The file can't be read, lacks a column, names no coordinate system where a
            map needs one, or holds values that can't be: negative biomass, two plots in a place.
    """
    columns, covariates = options.columns, list(options.covariates)
    raw, geometry, crs = _read(path)
    if raw.empty:
        raise BadInputError(f"{path} holds no plot: give a table with a row a plot.")
    table = _renamed(raw, columns, path)
    if missing := [name for name in covariates if name not in raw]:
        raise BadInputError(
            f"plots.covariates: {path} has no column {missing[0]}; "
            f"{hint(missing[0], list(map(str, raw.columns)))}"
        )
    numbers = {name: _numbers(raw[name], name, path) for name in covariates}
    if geometry is not None:
        table = table.assign(x=geometry[:, 0], y=geometry[:, 1])
    elif not covariates:
        if crs is None and options.crs is None:
            raise BadInputError(
                f"{path} doesn't say which coordinate system its places are in: state it with "
                "plots.crs, such as EPSG:3067."
            )
        if lacking := {"x", "y"} - set(table):
            wanted = [str(getattr(columns, name)) for name in sorted(lacking)]
            raise BadInputError(
                f"{path} has no column {listed(wanted)}: name the coordinates' columns with "
                "plots.columns.x and plots.columns.y."
            )
    if crs is None and options.crs is not None:
        crs = parse_crs(options.crs, "plots.crs")
    for name in set(table) & {
        "agb", "agb_before", "x", "y", "plot_area_m2", "inclusion_probability", "boundary_weight",
    }:  # fmt: skip
        table[name] = _numbers(table[name], str(getattr(columns, str(name))), path)
    if "date" in table:
        table["year"] = _years(table.pop("date"), str(columns.date), path)
    if "plot_area_m2" not in table and options.plot_area_m2 is not None:
        table["plot_area_m2"] = options.plot_area_m2
    _mark_first_phase(table)
    warnings = tuple(_checked(table, path, options))
    for sentence in warnings:
        log.warning("%s", sentence)
    return PlotTable(table, pd.DataFrame(numbers, index=table.index), crs, warnings)


def read_areas(path: Path, options: PlotsOptions) -> AreaTable:
    """Areas as polygons, or as a plain table of area_ha and means of covariates.

    Raises:
        BadInputError: It can't be read, lacks names, means or polygons, or has two of one name.
    """
    raw, _, crs = _read(path, places=False)
    column = options.columns.area
    polygons = None
    if "geometry" in raw:
        polygons = raw.pop("geometry").to_numpy()
        if crs is None:
            raise BadInputError(f"{path} names no coordinate system: save it with one.")
    if column is None:
        column = next((name for name in ("name", "area", "id") if name in raw), None)
    if column is None or column not in raw:
        raise BadInputError(
            f"{path} has no column {column or 'name'} with the areas' names: name it with "
            "plots.columns.area."
        )
    names = raw[column].astype(str)
    if names.duplicated().any():
        raise BadInputError(
            f"{path} has two areas {names[names.duplicated()].iloc[0]}: merge them, or rename one."
        )
    known = {"area_ha": np.full(len(raw), np.nan)}
    if "area_ha" in raw:
        known["area_ha"] = _positive(_numbers(raw["area_ha"], "area_ha", path), "area_ha", path)
    for name in options.covariates:
        if name in raw:
            known[name] = _numbers(raw[name], name, path)
    return AreaTable(pd.DataFrame(known, index=pd.Index(names, name="area")), polygons, crs)


def read_strata(path: Path, options: PlotsOptions) -> dict[str, float]:
    """Area of each stratum by name, ha.

    Raises:
        BadInputError: It can't be read, or lacks the columns.
    """
    raw, _, _ = _read(path, places=False)
    column = options.columns.stratum
    if column is None or column not in raw or "area_ha" not in raw:
        raise BadInputError(
            f"{path} needs a column area_ha and one of the strata's names, which "
            "plots.columns.stratum names."
        )
    areas = _positive(_numbers(raw["area_ha"], "area_ha", path), "area_ha", path)
    return dict(zip(raw[column].astype(str), areas, strict=True))


def _read(path: Path, *, places: bool = True) -> tuple[pd.DataFrame, Any, CRS | None]:
    """A table, the points in it [n, 2] where it has a geometry, and their coordinate system."""
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise BadInputError(
            f"{path} is none of {listed(_SUFFIXES)}: save the table in one of these formats."
        )
    try:
        table, crs = _opened(path, suffix)
    except BadInputError:
        raise
    except OSError as error:
        raise BadInputError(f"{path} can't be read ({error.strerror}): check the path.") from None
    except Exception as error:  # each library has errors of its own for a damaged file
        raise BadInputError(f"{path} can't be read ({error}): save it again.") from None
    if not places or "geometry" not in table:
        return table, None, crs
    import shapely

    shapes = np.asarray(table.pop("geometry"))
    if not (shapely.get_type_id(shapes) == shapely.GeometryType.POINT).all():
        raise BadInputError(f"{path} holds other geometries than points: give plots as points.")
    return table, np.stack([shapely.get_x(shapes), shapely.get_y(shapes)], axis=1), crs


def _opened(path: Path, suffix: str) -> tuple[pd.DataFrame, CRS | None]:
    if suffix == ".csv":
        return pd.read_csv(io.BytesIO(read_regular(path, _MOST_BYTES))), None
    if suffix in (".geojson", ".json"):
        # Not through GDAL, which crashes at some GeoJSON (see ``imagery.polygon_files``).
        import geopandas

        content = read_json(path, "give GeoJSON, or a GeoPackage")
        frame = geopandas.GeoDataFrame.from_features(content["features"])
        stated = (content.get("crs") or {}).get("properties", {}).get("name", _BY_PLACE)
        return pd.DataFrame(frame), parse_crs(stated, str(path))
    head = read_regular(path, _MOST_BYTES)
    if suffix == ".parquet":
        import pyarrow.parquet

        if b"geo" not in (pyarrow.parquet.read_schema(io.BytesIO(head)).metadata or {}):
            return pd.read_parquet(io.BytesIO(head)), None
        import geopandas

        return _split(geopandas.read_parquet(io.BytesIO(head)))
    # GDAL opens whatever a file holds, a text that names other files among it.
    if not head.startswith(_SQLITE):
        raise BadInputError(f"{path} is no GeoPackage: save it as one.")
    import geopandas

    return _split(geopandas.read_file(path, engine="pyogrio"))


def _split(frame: Any) -> tuple[pd.DataFrame, CRS | None]:
    crs = None
    if frame.crs is not None:
        code = frame.crs.to_epsg()
        crs = CRS.from_wkt(frame.crs.to_wkt()) if code is None else CRS.from_epsg(code)
    frame = frame.rename_geometry("geometry") if frame.geometry.name != "geometry" else frame
    return pd.DataFrame(frame), crs


def _renamed(raw: pd.DataFrame, columns: PlotColumns, path: Path) -> pd.DataFrame:
    """Columns by our names; one that was asked for by name has to be there."""
    found: dict[str, Any] = {}
    for name, field in PlotColumns.model_fields.items():
        column = getattr(columns, name)
        if column is None:
            continue
        if column in raw:
            found[name] = raw[column].to_numpy()
        elif name == "agb" or column != field.default:
            raise BadInputError(
                f"{path} has no column {column} (plots.columns.{name}); "
                f"{hint(column, list(map(str, raw.columns)))}"
            )
    return pd.DataFrame(found)


def _numbers(values: pd.Series, name: str, path: Path) -> NDArray[np.float64]:
    found = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
    wrong = np.isnan(found) & values.notna().to_numpy() | np.isinf(found)
    if wrong.any():
        row = int(wrong.argmax())
        raise BadInputError(
            f"{path}: {name} of row {row + 1} is {values.iloc[row]!r}: give a number."
        )
    return found


def _positive(values: NDArray[np.float64], name: str, path: Path) -> NDArray[np.float64]:
    wrong = ~(values > 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise BadInputError(
            f"{path}: {name} of row {row + 1} is {values[row]:g}: give one above 0."
        )
    return values


def _years(dates: pd.Series, name: str, path: Path) -> NDArray[np.float64]:
    """Years of dates or of years themselves; NaN where there is none."""
    numbers = pd.to_numeric(dates, errors="coerce").to_numpy(np.float64)
    if np.isfinite(numbers).all() and len(numbers):
        return np.floor(numbers)
    parsed = pd.to_datetime(dates, errors="coerce", utc=True, format="mixed")
    wrong = parsed.isna().to_numpy() & dates.notna().to_numpy()
    if wrong.any():
        raise BadInputError(
            f"{path}: {name} of row {int(wrong.argmax()) + 1} is {dates[wrong].iloc[0]!r}: give "
            "dates as 2021-07-15, or years."
        )
    return parsed.dt.year.to_numpy().astype(np.float64)


def _mark_first_phase(table: pd.DataFrame) -> None:
    """Only plots of the last phase have biomass, whatever their column holds."""
    if "phase" in table:
        phases = pd.to_numeric(table["phase"], errors="coerce")
        table.loc[(phases < phases.max()).to_numpy(), "agb"] = np.nan


def _checked(table: pd.DataFrame, path: Path, options: PlotsOptions) -> Any:
    """Warnings; what can't be is refused."""

    def refuse(wrong: Any, what: str, remedy: str) -> None:
        rows = np.flatnonzero(np.asarray(wrong))
        if rows.size:
            others = f" and {counted(rows.size - 1, 'other')}" if rows.size > 1 else ""
            raise BadInputError(f"{path}: row {rows[0] + 1}{others} {what}: {remedy}.")

    agb = table["agb"]
    refuse(agb < 0, "has negative biomass", "mend it, or leave the plot out")
    if "phase" not in table:
        refuse(agb.isna(), "has no biomass", "fill it in, or name plots.columns.phase")
    if not agb.notna().any():
        raise BadInputError(f"{path} has no plot with biomass: fill in {options.columns.agb}.")
    if {"x", "y"} <= set(table):
        refuse(table[["x", "y"]].isna().any(axis=1), "has no place", "fill in its coordinates")
        twice = table.duplicated(["x", "y"], keep=False)
        refuse(twice, "share a place", "keep one plot a place, or mend the coordinates")
    if "plot_area_m2" in table:
        refuse(~(table["plot_area_m2"] > 0), "has no plot area", "give m² above 0")
    for name in ("stratum", "cluster", "area"):
        if name in table:
            refuse(table[name].isna(), f"has no {name}", "fill it in")
            table[name] = _names(table[name])
    if "inclusion_probability" in table:
        share = table["inclusion_probability"]
        refuse(
            ~((share > 0) & (share <= 1)), "has an impossible inclusion probability",
            "give one above 0 and at most 1",
        )  # fmt: skip
    if "boundary_weight" in table:
        weight = table["boundary_weight"]
        refuse(~((weight >= 0) & (weight <= 1)), "has no boundary weight", "give 0 to 1")
    high = agb > _LARGEST_AGB
    if high.any():
        yield (
            f"{counted(int(high.sum()), 'plot')} above {_LARGEST_AGB:,.0f} Mg/ha, more than any "
            "forest has: is the unit right?"
        )
    if options.map_year is not None and "year" in table:
        away = (table["year"] - options.map_year).abs()
        if (away > 0).any():
            yield (
                f"{counted(int((away > 0).sum()), 'plot')} of {len(table)} were measured in "
                f"another year than the map's {options.map_year}, up to {away.max():.0f} years "
                f"away ({away.mean():.1f} on average): what grew or was cut since counts as the "
                "map's error."
            )


def _names(values: Sequence[Any] | pd.Series) -> NDArray[np.str_]:
    """Names as text; whole numbers that a spreadsheet made 3.0 are 3."""
    return np.array(
        [
            str(int(one)) if isinstance(one, float) and float(one).is_integer() else str(one)
            for one in values
        ]
    )
