"""Every scored chip as a dot whose name shows under the mouse: no script needed."""

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from biomassters.metrics import AGB_UNIT

_SIZE, _MARGIN = 420, 48


def chip_scatter(chips: pd.DataFrame) -> Markup:
    """Mean prediction against mean target of each chip, with the interval of the mean.

    Args:
        chips: chip_id, target_mean, prediction_mean; mean_lower and mean_upper where there are
            intervals. Mg/ha.

    Returns:
        An ``<svg>`` element; each dot's ``<title>`` names the chip.
    """
    top = float(np.ceil(max(50.0, chips[["target_mean", "prediction_mean"]].max().max()) / 50) * 50)
    parts = [*_axes(top), *(_dot(row, top) for row in chips.to_dict("records"))]
    label = "Mean predicted against mean target biomass of each held-out chip"
    head = f'<svg viewBox="0 0 {_SIZE} {_SIZE}" role="img" aria-label="{label}" class="dots">'
    return Markup(head + "".join(parts) + "</svg>")


def _place(value: float, top: float) -> float:
    return round(_MARGIN + (_SIZE - _MARGIN - 12) * min(value, top) / top, 1)


def _axes(top: float) -> list[str]:
    parts = []
    start, end = _place(0, top), _place(top, top)
    for value in np.linspace(0, top, 6):
        here = _place(float(value), top)
        text = f"{value:.0f}"
        parts.append(f'<path d="M{here} {_SIZE - start}V{_SIZE - end}" class="grid"/>')
        parts.append(f'<path d="M{start} {_SIZE - here}H{end}" class="grid"/>')
        parts.append(f'<text x="{here}" y="{_SIZE - start + 16}" class="mid">{text}</text>')
        parts.append(f'<text x="{start - 6}" y="{_SIZE - here + 4}" class="end">{text}</text>')
    parts.append(f'<path d="M{start} {_SIZE - start}L{end} {_SIZE - end}" class="one"/>')
    middle = (start + end) / 2
    parts.append(
        f'<text x="{middle}" y="{_SIZE - 10}" class="mid">Mean target, {AGB_UNIT}</text>'
        f'<text transform="translate(13 {_SIZE - middle}) rotate(-90)" class="mid">'
        f"Mean prediction, {AGB_UNIT}</text>"
    )
    return parts


def _dot(row: dict[Any, Any], top: float) -> str:
    x, y = _place(row["target_mean"], top), _SIZE - _place(row["prediction_mean"], top)
    words = (
        f"{row['chip_id']}: target {row['target_mean']:.1f}, "
        f"prediction {row['prediction_mean']:.1f} {AGB_UNIT}"
    )
    bar = ""
    if "mean_lower" in row and not pd.isna(row["mean_lower"]):
        low, high = (_SIZE - _place(row[end], top) for end in ("mean_lower", "mean_upper"))
        bar = f'<path d="M{x} {low}V{high}" class="bar-{"in" if row["mean_covered"] else "out"}"/>'
        words += f", interval {row['mean_lower']:.1f} to {row['mean_upper']:.1f}"
    return f'<g>{bar}<circle cx="{x}" cy="{y}" r="3"/><title>{escape(words)}</title></g>'
