"""Chips as maps: which are shown, and their images, targets and predictions on common scales.

``choose_pictures`` reads the chips, ``example_maps`` draws them in one figure and ``panel_figure``
one panel for the report; ``preview_sheet`` shows many maps at a glance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biomassters.chips.bands import MONTH_NAMES, PIXEL_SIZE_M, S2
from biomassters.chips.chip import Chip, LabelledChips, positions
from biomassters.chips.pixel_checks import clear_fraction
from biomassters.metrics import AGB_UNIT
from biomassters.reporting.figure_style import (
    AGB_COLOURS,
    INK,
    MUTED,
    RESIDUAL_COLOURS,
    WIDTH_COLOURS,
    add_colour_bar,
    add_scale_bar,
    dress_map,
    new_figure,
    round_top,
)
from biomassters.uncertainty.intervals import IntervalModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = ("rgb", "target", "prediction", "residual", "width")
# Full leaf first: July, June, August, May, September; then whatever is clearest.
_LEAFY_MONTHS = tuple(
    MONTH_NAMES.index(name) for name in ("July", "June", "August", "May", "September")
)
_CLEAR_ENOUGH = 0.95
_STRETCH_PERCENTILES = (1.0, 99.0)
_RGB = tuple(S2.bands.index(name) for name in ("B4", "B3", "B2"))
_BAR_LABELS = {RESIDUAL_COLOURS: "Prediction − target", WIDTH_COLOURS: "Upper − lower"}
_SHEET_COLUMNS, _SHEET_MOST = 8, 48


@dataclass(frozen=True, eq=False)
class ChipPicture:
    """What is shown of one chip.

    Attributes:
        chip_id: Name of the chip.
        place: Where it stands among the scored chips, as in ``"best of 24"``.
        rmse: Mg/ha.
        rgb: float32 [H, W, 3] of 0 … 1, or None without an optical image.
        rgb_month: Name of the month that ``rgb`` shows, or "".
        target: float32 [H, W], Mg/ha; NaN where there is no label.
        prediction: float32 [H, W], Mg/ha.
        interval_width: Upper − lower bound, float32 [H, W], Mg/ha, or None.
    """

    chip_id: str
    place: str
    rmse: float
    rgb: NDArray[np.float32] | None
    rgb_month: str
    target: NDArray[np.float32]
    prediction: NDArray[np.float32]
    interval_width: NDArray[np.float32] | None = None

    @property
    def residual(self) -> NDArray[np.float32]:
        """Prediction − target, Mg/ha: above 0 where the map overestimates."""
        return self.prediction - self.target


def choose_pictures(
    chips: LabelledChips,
    predictions: Mapping[str, NDArray[np.float32]],
    per_chip: pd.DataFrame,
    count: int,
    intervals: IntervalModel | None = None,
) -> list[ChipPicture]:
    """Pictures of chips at even ranks from the best to the worst, best first.

    Args:
        chips: Images and labels.
        predictions: AGB by chip id, float32 [H, W], Mg/ha.
        per_chip: ``chip_id`` and ``rmse`` of the scored chips.
        count: Chips to show at most.
        intervals: For their width, or None.
    """
    # The name decides between equals, so that the choice doesn't depend on the order.
    ranked = per_chip.sort_values(["rmse", "chip_id"], ignore_index=True)
    ranks = _even_ranks(len(ranked), count)
    shown = ranked.iloc[ranks]
    indices = positions(chips, shown["chip_id"].tolist())
    pictures = []
    for rank, index, rmse in zip(ranks.tolist(), indices, shown["rmse"], strict=True):
        chip = chips.read_chip(index)
        assert chip.agb_mg_per_ha is not None, "a scored chip has a label"
        rgb, month = rgb_of(chip)
        prediction, width = np.asarray(predictions[chip.chip_id]), None
        if intervals is not None:
            lower, upper = intervals.bounds(prediction)
            width = upper - lower
        pictures.append(
            ChipPicture(
                chip_id=chip.chip_id,
                place=_place(rank, len(ranked)),
                rmse=float(rmse),
                rgb=rgb,
                rgb_month=month,
                target=chip.agb_mg_per_ha,
                prediction=prediction,
                interval_width=width,
            )
        )
    return pictures


def _even_ranks(available: int, wanted: int) -> NDArray[np.int64]:
    """Ranks from the first to the last, the median among them; it alone if one is wanted."""
    median = (available - 1) // 2
    if wanted == 1:
        return np.array([median])
    ranks = np.linspace(0, available - 1, wanted).round().astype(np.int64)
    if wanted > 2:
        ranks[1 + np.abs(ranks[1:-1] - median).argmin()] = median
    return np.unique(ranks)


def _place(rank: int, count: int) -> str:
    if count == 1:
        return "the only one"
    names = {(count - 1) // 2: "median", 0: f"best of {count}", count - 1: f"worst of {count}"}
    return names.get(rank, f"{rank + 1} of {count}")


def rgb_of(chip: Chip) -> tuple[NDArray[np.float32] | None, str]:
    """A natural-colour image of the growing season.

    Returns:
        float32 [H, W, 3] of 0 … 1, the three bands stretched alike, and its month's name;
        None and "" if no month shows the ground.
    """
    month = _clearest_month(chip)
    if month is None:
        return None, ""
    valid = chip.seen(S2.name, month)
    colours = np.moveaxis(chip.images[S2.name][month, _RGB, :, :], 0, -1).astype(np.float32)
    low, high = np.percentile(colours[valid], _STRETCH_PERCENTILES)
    stretched = np.clip((colours - low) / max(high - low, 1.0), 0.0, 1.0)
    return np.where(valid[..., None], stretched, 0.5).astype(np.float32), MONTH_NAMES[month]


def _clearest_month(chip: Chip) -> int | None:
    months: Sequence[int] = np.flatnonzero(chip.present[:, S2.column]).tolist()
    clear = {month: clear_fraction(chip, month) for month in months}
    for month in _LEAFY_MONTHS:
        if clear.get(month, 0.0) >= _CLEAR_ENOUGH:
            return month
    best = max(clear, key=clear.__getitem__, default=None)
    return best if best is not None and clear[best] > 0 else None


@dataclass(frozen=True)
class MapScale:
    """The ends of the colour scales, the same for every chip shown together.

    Attributes:
        agb_top: Colours span 0 … this, Mg/ha.
        residual_top: Colours span − this … this, Mg/ha.
        width_top: Of the interval's width; colours span 0 … this, Mg/ha.
    """

    agb_top: float
    residual_top: float
    width_top: float = 50.0

    @classmethod
    def of(cls, pictures: Sequence[ChipPicture]) -> "MapScale":
        """Scales that fit all of some pictures."""
        agb = [values for picture in pictures for values in (picture.target, picture.prediction)]
        residuals = [np.abs(picture.residual) for picture in pictures]
        widths = [one.interval_width for one in pictures if one.interval_width is not None]

        def top(arrays: Sequence[NDArray[np.float32]], step: float) -> float:
            return max((round_top(values, step) or step for values in arrays), default=step)

        return cls(top(agb, 50.0), top(residuals, 25.0), top(widths, 50.0))


def example_maps(pictures: Sequence[ChipPicture]) -> "Figure":
    """All pictures in one figure: a row a chip, a column each of ``PANELS``."""
    rows, panels = max(1, len(pictures)), panels_of(pictures)
    height_in = 3.3 * rows + 0.1
    figure = new_figure(2.75 * len(panels), height_in, layout=None)
    grid = figure.subplots(rows, len(panels), squeeze=False)
    bottom, top = 0.6 / height_in, 1 - 0.3 / height_in
    figure.subplots_adjust(0.05, bottom, 0.99, top, wspace=0.06, hspace=0.34)
    scale = MapScale.of(pictures)
    for axes_row, picture in zip(grid, pictures, strict=False):
        for axes, panel in zip(axes_row, panels, strict=True):
            _draw_panel(axes, picture, panel, scale)
        axes_row[0].set_ylabel(
            f"{picture.chip_id} ({picture.place})\nRMSE {picture.rmse:.1f} {AGB_UNIT}",
            color=INK,
            fontsize=9,
        )
    return figure


def panels_of(pictures: Sequence[ChipPicture]) -> tuple[str, ...]:
    """Those of ``PANELS`` that there is something to show in."""
    bounded = bool(pictures) and all(one.interval_width is not None for one in pictures)
    return PANELS if bounded else PANELS[:-1]


def panel_figure(picture: ChipPicture, panel: str, scale: MapScale) -> "Figure":
    """One panel of one chip, for pages that arrange panels themselves."""
    figure = new_figure(2.6, 3.15, layout=None)
    _draw_panel(figure.add_axes((0.02, 0.17, 0.96, 0.75)), picture, panel, scale)
    return figure


def _draw_panel(axes: "Axes", picture: ChipPicture, panel: str, scale: MapScale) -> None:
    """Draw one of ``PANELS`` with its title, scale bar and colour bar."""
    dress_map(axes)
    if panel == "rgb":
        _draw_rgb(axes, picture)
    elif panel == "width":
        assert picture.interval_width is not None, "only drawn where there is one"
        width, top = picture.interval_width, scale.width_top
        _draw_values(axes, width, "Interval width", 0.0, top, WIDTH_COLOURS)
    elif panel == "residual":
        top = scale.residual_top
        _draw_values(axes, picture.residual, "Residual", -top, top, RESIDUAL_COLOURS)
    else:
        values = picture.target if panel == "target" else picture.prediction
        _draw_values(axes, values, panel.capitalize(), 0.0, scale.agb_top, AGB_COLOURS)
    height, width = picture.target.shape
    add_scale_bar(axes, (height, width), PIXEL_SIZE_M, frame=0.145, fontsize=7)


def _draw_rgb(axes: "Axes", picture: ChipPicture) -> None:
    if picture.rgb is None:
        axes.set_title("No clear optical image", color=INK, fontsize=9)
        axes.set_facecolor(MUTED)
        height, width = picture.target.shape
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
        return
    axes.set_title(f"Sentinel-2, {picture.rgb_month}", color=INK, fontsize=9)
    axes.imshow(picture.rgb, interpolation="none")


def _draw_values(
    axes: "Axes",
    values: NDArray[np.float32],
    title: str,
    bottom: float,
    top: float,
    colours: str,
) -> None:
    axes.set_title(title, color=INK, fontsize=9)
    axes.set_facecolor("#8886")  # shows where there is no label
    image = axes.imshow(values, cmap=colours, vmin=bottom, vmax=top, interpolation="none")
    beneath = axes.inset_axes((0.06, -0.075, 0.88, 0.045))
    label = f"{_BAR_LABELS.get(colours, 'AGB')}, {AGB_UNIT}"
    extend = "both" if bottom < 0 else "max"
    bar = add_colour_bar(axes, image, label, cax=beneath, orientation="horizontal", extend=extend)
    bar.set_ticks([bottom, (bottom + top) / 2, top])
    bar.ax.xaxis.label.set_fontsize(8)
    bar.ax.xaxis.labelpad = 1
    bar.ax.tick_params(length=2, pad=1)


def preview_sheet(maps: Mapping[str, NDArray[np.float32]]) -> "Figure":
    """Evenly chosen maps, at most 48, each under its chip's name and mean.

    Args:
        maps: AGB by chip id, float32 [H, W], Mg/ha; read one at a time.
    """
    names = list(maps)
    step = max(1, -(-len(names) // _SHEET_MOST))
    shown = {name: maps[name] for name in names[::step]}
    rows = max(1, -(-len(shown) // _SHEET_COLUMNS))
    figure = new_figure(1.5 * _SHEET_COLUMNS, 1.75 * rows + 0.6)
    grid = figure.subplots(rows, _SHEET_COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    if not shown:
        return figure
    top = max(50.0, float(np.percentile([agb.max() for agb in shown.values()], 99.5)))
    for axes, (name, agb_HW) in zip(grid.flat, shown.items(), strict=False):
        image = axes.imshow(agb_HW, cmap=AGB_COLOURS, vmin=0, vmax=top, interpolation="none")
        axes.set_title(f"{name}\nmean {agb_HW.mean():.0f}", fontsize=7, color=INK)
    bar = figure.colorbar(image, ax=grid, orientation="horizontal", fraction=0.04, aspect=50)
    bar.set_label(f"Predicted AGB, {AGB_UNIT} ({len(shown)} of {len(names)} maps)", fontsize=9)
    bar.ax.tick_params(colors=MUTED, labelsize=8)
    return figure
