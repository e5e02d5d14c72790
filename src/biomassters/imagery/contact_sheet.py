"""A year of images to look at: a contact sheet, and a page with what every month was made of.

All months share one stretch: a month of its own would hide an offset of 1,000 counts.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biomassters.chips.bands import MONTH_COUNT, MONTH_NAMES, S1, S2
from biomassters.messages import counted
from biomassters.reporting.figure_style import INK, MUTED, new_figure
from biomassters.reporting.pages import png_of, render

_SIDE = 240  # pixels of a picture at most
_COLUMNS = 6
_RGB = ("B4", "B3", "B2")
_WHITE_COUNTS = 5000.0
_GAMMA = 0.5  # forests and snow in one stretch
# Red VV, green VH, blue their difference.
_RADAR_DB = ((-20.0, -3.0), (-27.0, -9.0), (2.0, 12.0))
_NOTHING = 0.91  # grey


def draw_sheet(record: dict[str, Any], cube: str) -> Figure:
    """Twelve months, Sentinel-2 in natural colours above Sentinel-1."""
    import zarr  # takes long to import

    group = zarr.open_group(cube, mode="r")
    months = {month["month"]: month for month in record["months"]}
    height, width = record["pixels"]
    rows = 2 * -(-MONTH_COUNT // _COLUMNS)
    side = 1.9
    figure = new_figure(side * _COLUMNS, min(14.0, rows * (side * height / width + 0.28) + 0.6))
    axes = figure.subplots(rows, _COLUMNS)
    for month in range(MONTH_COUNT):
        row, column = divmod(month, _COLUMNS)
        about = months.get(month, {})
        optical, radar = about.get("s2"), about.get("s1")
        pictures = (
            (optical, _picture(group["s2"], month, optical, _natural), _optical_title),
            (radar, _picture(group["s1"], month, radar, _radar), _radar_title),
        )
        for below, (facts, picture, title) in enumerate(pictures):
            _show(axes[2 * row + below, column], picture, title(month, facts), (height, width))
    figure.suptitle(
        f"{record['year']}: Sentinel-2 (B4, B3, B2; 0 to {_WHITE_COUNTS:,.0f} counts) above "
        "Sentinel-1 (VV, VH, VV − VH); grey: no data",
        color=INK, fontsize=9, x=0.01, ha="left",
    )  # fmt: skip
    return figure


def _show(
    axes: Axes, picture: NDArray[np.float32] | None, title: str, shape: tuple[int, int]
) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(
        title, fontsize=7, color=INK if picture is not None else MUTED, loc="left", pad=2
    )
    # One of the same shape keeps its place among the others.
    nothing = np.full((max(1, shape[0] // 16), max(1, shape[1] // 16), 3), _NOTHING)
    axes.imshow(nothing if picture is None else picture, interpolation="antialiased")


def _picture(array: Any, month: int, about: Any, colours: Any) -> NDArray[np.float32] | None:
    if not about or not about["share_with_data"]:
        return None
    rows, columns = (slice(None, None, max(1, -(-size // _SIDE))) for size in array.shape[-2:])
    return np.asarray(colours(np.asarray(array[month, :, rows, columns])), np.float32)


def _natural(counts: NDArray[np.uint16]) -> NDArray[np.float32]:
    rgb = np.stack([counts[S2.bands.index(band)] for band in _RGB], axis=-1).astype(np.float32)
    shown = np.clip(rgb / _WHITE_COUNTS, 0, 1) ** np.float32(_GAMMA)
    shown[(counts[:-1] == 0).all(axis=0)] = _NOTHING
    return shown


def _radar(steps: NDArray[np.int16]) -> NDArray[np.float32]:
    """Of the orbit that shows more."""
    db = steps.astype(np.float32) * np.float32(S1.scale)
    db[steps == S1.fill] = np.nan
    orbits = [
        db[[S1.bands.index(f"{p}_{orbit}") for p in ("VV", "VH")]] for orbit in ("asc", "desc")
    ]
    vv, vh = max(orbits, key=lambda one: int(np.isfinite(one).sum()))
    layers = [
        np.clip((values - low) / (high - low), 0, 1)
        for values, (low, high) in zip((vv, vh, vv - vh), _RADAR_DB, strict=True)
    ]
    return np.nan_to_num(np.stack(layers, axis=-1), nan=_NOTHING)


def _optical_title(month: int, about: Any) -> str:
    name = MONTH_NAMES[month][:3]
    if not about:
        return f"{name}: no scene"
    return f"{name}: {counted(len(about['scenes']), 'scene')}, {about['share_clear']:.0%} clear"


def _radar_title(month: int, about: Any) -> str:
    if not about:
        return "no scene"
    return f"{counted(len(about['scenes']), 'scene')}, {' and '.join(about['orbits'])}"


def render_page(
    record: dict[str, Any], scenes: pd.DataFrame, check: dict[str, Any], cube: str
) -> str:
    """A page of HTML that fetches nothing, with the contact sheet."""
    shown = scenes.drop(columns=["month"]).astype(object)
    return render(
        "imagery", "imagery.html.j2", record=record, check=check,
        sheet=png_of(draw_sheet(record, cube), dpi=110),
        columns=[name.replace("_", " ") for name in shown.columns],
        rows=shown.where(shown.notna(), "").to_numpy().tolist(),
    )  # fmt: skip
