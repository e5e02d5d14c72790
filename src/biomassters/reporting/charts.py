"""Interactive charts, as plotly figures that Kedro-Viz shows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from biomassters.metrics import AGB_UNIT, DensityHistogram
from biomassters.reporting.comparison import compared_scores
from biomassters.reporting.figure_style import BASELINE, INK, NETWORK
from biomassters.reporting.history import curves_of


def learning_curve(history: pd.DataFrame) -> go.Figure:
    """Losses and RMSEs over the epochs."""
    figure = go.Figure(
        [
            go.Scatter(
                x=curve.epochs.tolist(),
                y=curve.values.tolist(),
                name=curve.name,
                mode="lines+markers",
                line={
                    "color": NETWORK if curve.held_out else BASELINE,
                    "dash": curve.dash,
                },
            )
            for curve in curves_of(history)
        ]
    )
    return _laid_out(figure, "Learning curve", "Epoch", AGB_UNIT)


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


def density_chart(density: DensityHistogram) -> go.Figure:
    """Pixels by target and prediction, with the 1:1 line; colours by powers of ten."""
    edges = density.edges
    centres = ((edges[:-1] + edges[1:]) / 2).tolist()
    percent = 100 * density.counts.T / max(1, density.counts.sum())
    logarithm = np.log10(np.where(percent > 0, percent, np.nan))
    heat = go.Heatmap(
        x=centres,
        y=centres,
        z=[[None if np.isnan(value) else float(value) for value in row] for row in logarithm],
        colorscale="Cividis",
        colorbar={"title": "log10 of % of pixels"},
    )
    ends = [0.0, density.top_mg_per_ha]
    dashes = {"dash": "dash", "color": INK}
    line = go.Scatter(x=ends, y=ends, name="prediction = target", mode="lines", line=dashes)
    return _laid_out(
        go.Figure([heat, line]),
        "Predicted against target",
        f"Target AGB, {AGB_UNIT}",
        f"Predicted AGB, {AGB_UNIT}",
    ).update_layout(showlegend=False)


def _laid_out(figure: go.Figure, title: str, x_title: str, y_title: str) -> go.Figure:
    return figure.update_layout(
        title=title,
        xaxis_title=x_title,
        yaxis_title=y_title,
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
    )
