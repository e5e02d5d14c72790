"""Files beside a map: its STAC item, and styles by which QGIS shows it.

QGIS takes ``agb.qml`` for ``agb.tif`` by itself when the file is opened. The intervals' width is a
virtual raster, upper minus lower end, computed by GDAL while it is shown, so that nothing is stored
twice. Colours and their upper end are those of the page (``visuals``).
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from biomassters import __version__
from biomassters.imagery.pixel_grid import Grid
from biomassters.io.gdal import open_raster
from biomassters.messages import redacted
from biomassters.metrics import AGB_UNIT
from biomassters.regions.map_writer import AGB, DESCRIPTIONS, LOWER, UPPER
from biomassters.regions.options import TITLE
from biomassters.reporting.figure_style import AGB_COLOURS, WIDTH_COLOURS

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_POINTS_A_SIDE = 5
_SHOWN = (
    "area_ha", "biomass_mg", "biomass_mg_lower", "biomass_mg_upper", "biomass_of_map_mg",
    "carbon_mg", "carbon_mg_lower", "carbon_mg_upper", "carbon_fraction", "level",
    "mean_agb_mg_per_ha", "mean_of_map_mg_per_ha", "images_simulated", "weights_fingerprint",
    "weights_trained_on",
)  # fmt: skip
WIDTH = "_interval_width"
"""What the virtual raster's name adds to the map's."""
_STOPS = 11


def describe_map(
    path: Path, grid: Grid, summary: dict[str, Any], first_year: int | None
) -> dict[str, Any]:
    """A STAC item of a map, core fields alone, so that it is checked without fetching anything.

    Args:
        path: The map; the item is meant to lie beside it.
        grid: Of the map.
        summary: Its numbers.
        first_year: Of the September that the images begin with; None: unknown, the item then has
            the time of its making.
    """
    import pystac  # few commands need it

    now = datetime.now(UTC).replace(microsecond=0)
    dates: dict[str, Any] = {"datetime": now}
    if first_year is not None:
        start = datetime(first_year, 9, 1, tzinfo=UTC)
        end = datetime(first_year + 1, 8, 31, 23, 59, 59, tzinfo=UTC)
        dates = {"datetime": None, "start_datetime": start, "end_datetime": end}
    properties = {
        "title": TITLE,
        "description": summary.get("caveat", ""),
        "created": now.isoformat().replace("+00:00", "Z"),
        "processing:software": {"biomassters": __version__},
    }
    for name in _SHOWN:
        if summary.get(name) is not None:
            properties[f"biomassters:{name}"] = redacted(summary[name])
    ring = _outline(grid)
    item = pystac.Item(
        id=path.stem, geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=[*np.min(ring, axis=0).tolist(), *np.max(ring, axis=0).tolist()],
        properties=properties, **dates,
    )  # fmt: skip
    bands = [
        {"name": name, "description": text, "unit": unit, "data_type": "float32", "nodata": "nan"}
        for name, (text, unit) in DESCRIPTIONS.items()
    ]
    item.add_asset(
        "agb",
        pystac.Asset(
            path.name, title="Aboveground biomass density", media_type=_COG, roles=["data"],
            extra_fields={"bands": bands, "gsd": grid.pixel_size},
        ),
    )  # fmt: skip
    return dict(item.to_dict(include_self_link=False, transform_hrefs=False))


def _outline(grid: Grid) -> list[list[float]]:
    """The map's border in degrees, counterclockwise; its sides bend, so they have points."""
    steps = np.linspace(0, 1, _POINTS_A_SIDE)[:-1]
    ring = [
        *((step, 0) for step in steps), *((1, step) for step in steps),
        *((1 - step, 1) for step in steps), *((0, 1 - step) for step in steps),
    ]  # fmt: skip
    places = grid.degrees((x * grid.width, y * grid.height) for x, y in ring)
    points = [[round(x, 7), round(y, 7)] for x, y in reversed(places)]
    return [*points, points[0]]


def map_styles(path: Path, agb_top: float, width_top: float | None) -> dict[str, str]:
    """Files to lie beside a map, by what their names add to the map's without its suffix.

    Args:
        path: The finished map.
        agb_top: Biomass that gets the last colour, Mg/ha.
        width_top: The same of the interval's width; None: the map has no intervals.
    """
    files = {".qml": style(AGB + 1, AGB_COLOURS, 0.0, agb_top)}
    if width_top is not None:
        files[f"{WIDTH}.vrt"] = _width_raster(path)
        files[f"{WIDTH}.qml"] = style(1, WIDTH_COLOURS, 0.0, width_top)
    return files


def style(band: int, colours: str, low: float, high: float) -> str:
    """A band in the colours of a matplotlib map, as QGIS 3 saves it; no data stays clear."""
    ramp = colormaps[colours]
    items = "\n".join(
        f'          <item value="{value:g}" label="{value:g}" alpha="255" '
        f'color="{to_hex(ramp(share))}"/>'
        for share in np.linspace(0, 1, _STOPS)
        for value in [low + share * (high - low)]
    )
    return f"""\
<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.28.0" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="singlebandpseudocolor" band="{band}" opacity="1" alphaBand="-1" \
classificationMin="{low:g}" classificationMax="{high:g}">
      <rastershader>
        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" \
minimumValue="{low:g}" maximumValue="{high:g}">
{items}
        </colorrampshader>
      </rastershader>
    </rasterrenderer>
  </pipe>
</qgis>
"""


def _width_raster(path: Path) -> str:
    with open_raster(path) as file:
        height, width, crs, transform = file.height, file.width, file.crs, file.transform
    sources = "".join(
        f"""
    <SimpleSource>
      <SourceFilename relativeToVRT="1">{escape(path.name)}</SourceFilename>
      <SourceBand>{band + 1}</SourceBand>
    </SimpleSource>"""
        for band in (UPPER, LOWER)
    )
    return f"""\
<VRTDataset rasterXSize="{width}" rasterYSize="{height}">
  <SRS>{escape(crs.to_wkt())}</SRS>
  <GeoTransform>{", ".join(map(repr, transform.to_gdal()))}</GeoTransform>
  <VRTRasterBand dataType="Float32" band="1" subClass="VRTDerivedRasterBand">
    <Description>Width of the interval of AGB</Description>
    <UnitType>{AGB_UNIT}</UnitType>
    <NoDataValue>nan</NoDataValue>
    <PixelFunctionType>diff</PixelFunctionType>{sources}
  </VRTRasterBand>
</VRTDataset>
"""
