"""Many maps at a glance: small pictures on one colour scale."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biomassters.metrics import AGB_UNIT
from biomassters.reporting.figure_style import AGB_COLOURS, INK, MUTED

_COLUMNS, _MOST = 8, 48
_SCALE_PERCENTILE = 99.5


def preview_sheet(maps: Mapping[str, NDArray[np.float32]]) -> Figure:
    """Evenly chosen maps, at most 48, each under its chip's name and mean.

    Args:
        maps: AGB by chip id, float32 [H, W], Mg/ha; read one at a time.
    """
    names = list(maps)
    step = max(1, -(-len(names) // _MOST))
    shown = {name: maps[name] for name in names[::step]}
    rows = max(1, -(-len(shown) // _COLUMNS))
    figure = Figure(figsize=(1.5 * _COLUMNS, 1.75 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    if not shown:
        return figure
    top = max(50.0, float(np.percentile([agb.max() for agb in shown.values()], _SCALE_PERCENTILE)))
    for axes, (name, agb_HW) in zip(grid.flat, shown.items(), strict=False):
        image = axes.imshow(agb_HW, cmap=AGB_COLOURS, vmin=0, vmax=top, interpolation="none")
        axes.set_title(f"{name}\nmean {agb_HW.mean():.0f}", fontsize=7, color=INK)
    bar = figure.colorbar(image, ax=grid, orientation="horizontal", fraction=0.04, aspect=50)
    bar.set_label(f"Predicted AGB, {AGB_UNIT} ({len(shown)} of {len(names)} maps)", fontsize=9)
    bar.ax.tick_params(colors=MUTED, labelsize=8)
    return figure
