"""Interactive charts: plotly figures that Kedro-Viz shows, and the report's scatter of chips.

``curves_of`` tells what a training history holds, for the charts here and for ``plots``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup, escape
from numpy.typing import NDArray

from biomassters.metrics import AGB_UNIT
from biomassters.reporting.figure_style import BASELINE, NETWORK
from biomassters.reporting.scoring import compared_scores

_VALIDATION = "validation_rmse_per_chip_mean"
_SERIES = (  # column, name, whether on held-out chips, dash
    ("train_loss", "training loss", False, "dash"),
    (_VALIDATION, "held-out RMSE", True, "solid"),
    ("validation_rmse_masked_per_chip_mean", "held-out RMSE, target < 400", True, "dot"),
)
_SIZE, _MARGIN = 420, 48  # of the scatter


@dataclass(frozen=True, eq=False)
class Curve:
    """One quantity over the epochs.

    Attributes:
        name: For people.
        held_out: Whether it was measured on held-out chips.
        dash: ``"solid"``, ``"dash"`` or ``"dot"``.
        epochs: float64 [E], counted from 1.
        values: float64 [E], Mg/ha.
    """

    name: str
    held_out: bool
    dash: str
    epochs: NDArray[np.float64]
    values: NDArray[np.float64]


def curves_of(history: pd.DataFrame) -> list[Curve]:
    """Losses and RMSEs of a training history.

    Args:
        history: One row an epoch: ``epoch``, counted from 1, ``train_loss``,
            ``validation_rmse_per_chip_mean`` and ``validation_rmse_masked_per_chip_mean`` in
            Mg/ha, NaN where they were not measured. Other columns are left alone.

    Returns:
        The training loss first; only what was measured at least once.
    """
    curves = []
    for column, name, held_out, dash in _SERIES:
        if column not in history:
            continue
        # With a network for each of several folds, the mean of those that got so far.
        measured = history.groupby("epoch")[column].mean().dropna()
        if len(measured):
            epochs = measured.index.to_numpy(np.float64)
            curves.append(Curve(name, held_out, dash, epochs, measured.to_numpy(np.float64)))
    return curves


def best_and_last(history: pd.DataFrame) -> tuple[float, float] | None:
    """RMSE of the best and of the last validation, Mg/ha, as means over the held-out folds.

    None where nothing was validated. The history has a row an epoch and network, with its
    ``held_out_fold``.
    """
    if _VALIDATION not in history:  # weights that were trained elsewhere
        return None
    validated = history.dropna(subset=[_VALIDATION])
    if validated.empty:
        return None
    if "stage" in validated:  # each stage's own best: the next may start from the last
        validated = validated[validated["stage"] == validated["stage"].iloc[-1]]
    by_fold = validated.groupby("held_out_fold")[_VALIDATION]
    return float(by_fold.min().mean()), float(by_fold.last().mean())


def learning_curve(history: pd.DataFrame) -> go.Figure:
    """Losses and RMSEs over the epochs."""
    lines = [
        go.Scatter(
            x=curve.epochs.tolist(),
            y=curve.values.tolist(),
            name=curve.name,
            mode="lines+markers",
            line={"color": NETWORK if curve.held_out else BASELINE, "dash": curve.dash},
        )
        for curve in curves_of(history)
    ]
    return _laid_out(go.Figure(lines), "Learning curve", "Epoch", AGB_UNIT)


def score_chart(metrics: Mapping[str, Any]) -> go.Figure:
    """The challenge's score of the network beside both baselines; lower is better."""
    scores = compared_scores(metrics)
    bars = go.Bar(
        x=[score.rmse for score in scores],
        y=[score.name for score in scores],
        orientation="h",
        marker_color=[NETWORK if score.is_network else BASELINE for score in scores],
        text=[f"{score.rmse:.1f}" for score in scores],
    )
    figure = _laid_out(go.Figure([bars]), "Mean RMSE per chip", f"{AGB_UNIT}, lower is better", "")
    return figure.update_yaxes(autorange="reversed")


def _laid_out(figure: go.Figure, title: str, x_title: str, y_title: str) -> go.Figure:
    return figure.update_layout(
        title=title,
        xaxis_title=x_title,
        yaxis_title=y_title,
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
    )


def chip_scatter(chips: pd.DataFrame) -> Markup:
    """Mean prediction against mean target of each chip, with the interval of the mean.

    Args:
        chips: chip_id, target_mean, prediction_mean; mean_lower and mean_upper where there are
            intervals. Mg/ha.

    Returns:
        An ``<svg>`` element that needs no script: each dot's ``<title>`` names the chip.
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
