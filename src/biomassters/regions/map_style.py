"""How QGIS shows a map: styles that it finds by their names, and the width of intervals as a layer.

QGIS takes ``agb.qml`` for ``agb.tif`` by itself when the file is opened. The width is a virtual
raster, upper minus lower end, computed by GDAL while it is shown, so that nothing is stored twice.
Colours and their upper end are those of the page (``visuals``).
"""

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from biomassters.io.gdal import open_raster
from biomassters.metrics import AGB_UNIT
from biomassters.regions.map_writer import AGB, LOWER, UPPER
from biomassters.reporting.figure_style import AGB_COLOURS, WIDTH_COLOURS

WIDTH = "_interval_width"
"""What the virtual raster's name adds to the map's."""
_STOPS = 11


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
