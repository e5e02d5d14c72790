"""The report: one HTML page that needs nothing but itself."""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from biomassters import __version__
from biomassters.chips.quality.summary import summarise_data
from biomassters.console import tracked
from biomassters.metrics import AGB_UNIT, DensityHistogram
from biomassters.reporting.chip_scatter import chip_scatter
from biomassters.reporting.comparison import compared_scores, verdict
from biomassters.reporting.figure_style import to_svg
from biomassters.reporting.flat_options import flatten
from biomassters.reporting.limits import standing_limits
from biomassters.reporting.maps import PANELS, MapScale, panel_figure
from biomassters.reporting.options import ReportingOptions
from biomassters.reporting.pictures import ChipPicture
from biomassters.reporting.plots import class_plot, density_plot, learning_plot
from biomassters.reporting.score_groups import bootstrap_score, s2_months_of, scores_by
from biomassters.reporting.uncertainty_plots import attention_plot, coverage_plot, residual_plot
from biomassters.reporting.uncertainty_section import UncertaintyContent


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything that a report shows.

    Attributes:
        dataset: Name of the data, in the title.
        simulated: Whether the data come from this project's simulation.
        metrics: As ``comparison.all_metrics`` gives them.
        per_chip: As ``ScoreAccumulator.per_chip`` gives it.
        by_class: As ``ScoreAccumulator.by_class`` gives it.
        density: Pixels by target and prediction.
        pictures: Chips to show, in order.
        history: The training history, one row an epoch; may be empty.
        chip_table: As ``chips.chip_table.inspect_archive`` gives it.
        recipe: Options and facts that the result depends on, nested as one likes.
        best_and_last: Where the held-out chips also decided which weights were kept: their RMSE
            with these and with the last ones, Mg/ha.
        further_limits: What else was not verified in this run.
        options: How much is listed.
        uncertainty: Intervals, carbon, attention.
        fold_of_chip: Fold by chip id.
        facts: Versions and cost, as names and texts.
        run_file: Name of the run's own record beside the page, or "".
        date: Of the report, as in 2026-11-25, or "".
    """

    dataset: str
    simulated: bool
    metrics: Mapping[str, Any]
    per_chip: pd.DataFrame
    by_class: pd.DataFrame
    density: DensityHistogram
    pictures: Sequence[ChipPicture]
    history: pd.DataFrame
    chip_table: pd.DataFrame
    recipe: Mapping[str, Any] = field(default_factory=dict)
    best_and_last: tuple[float, float] | None = None
    further_limits: Sequence[str] = ()
    options: ReportingOptions = field(default_factory=ReportingOptions)
    uncertainty: UncertaintyContent = field(default_factory=UncertaintyContent)
    fold_of_chip: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    run_file: str = ""
    date: str = ""


def render_report(content: ReportContent, *, progress: bool = True) -> str:
    """Build the page.

    Args:
        content: What it shows.
        progress: Show a bar over the pictures on stderr.

    Returns:
        HTML without any reference to another file or host; the same for the same content.
    """
    environment = Environment(
        loader=PackageLoader("biomassters.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["percent"] = _percent
    environment.filters["breakable"] = _breakable
    scores = compared_scores(content.metrics)
    return environment.get_template("report.html.j2").render(
        content=content,
        metrics=content.metrics,
        unit=AGB_UNIT,
        version=__version__,
        verdict=verdict(content.metrics, content.by_class),
        relative=_relative(content.metrics),
        scores=scores,
        top_score=max((score.rmse for score in scores), default=1.0),
        classes=content.by_class.to_dict("records"),
        worst=_worst(content),
        score_interval=bootstrap_score(
            content.per_chip["rmse"].tolist(), seed=content.options.seed
        ),
        by_months=scores_by(content.per_chip, s2_months_of(content.chip_table)),
        by_fold=scores_by(content.per_chip, dict(content.fold_of_chip)),
        uncertainty=content.uncertainty,
        measured=content.uncertainty.measured,
        figures=_figures(content),
        scatter=_scatter(content),
        chips=_drawn_chips(content, progress),
        data=summarise_data(content.chip_table),
        recipe=list(flatten(content.recipe)),
        limits=[
            *standing_limits(content.simulated, content.best_and_last),
            *content.further_limits,
        ],
    )


def _relative(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """RMSE, mean absolute error and bias as shares of the mean target."""
    mean = metrics.get("target_mean")
    return {
        name: metrics[name] / mean if mean and metrics.get(name) is not None else None
        for name in ("rmse_per_chip_mean", "rmse_pooled", "mae", "bias")
    }


def _worst(content: ReportContent) -> list[dict[Hashable, Any]]:
    ranked = content.per_chip.sort_values(["rmse", "chip_id"], ascending=[False, True])
    return ranked.head(content.options.listed_chips).to_dict("records")


def _figures(content: ReportContent) -> dict[str, Markup]:
    figures = {
        "density": (density_plot(content.density), "Predicted against target biomass, by pixel"),
        "classes": (class_plot(content.by_class), "RMSE and bias by biomass class"),
    }
    known = content.uncertainty
    residuals = residual_plot(content.density, known.intervals)
    figures["residuals"] = (residuals, "Residuals by predicted biomass")
    if not known.by_level.empty:
        text = "Measured against nominal coverage of the intervals"
        figures["coverage"] = (coverage_plot(known.by_level), text)
    if not known.attention.empty:
        text = "Mean attention weight of each month at each level"
        figures["attention"] = (attention_plot(known.attention), text)
    if not content.history.empty:
        figures["learning"] = (learning_plot(content.history), "Error over the training epochs")
    # Drawn by us from numbers and checked ids: safe to put in as it is.
    return {name: Markup(to_svg(figure, name, text)) for name, (figure, text) in figures.items()}


def _scatter(content: ReportContent) -> Markup | None:
    chips = content.uncertainty.per_chip
    chips = content.per_chip if chips.empty else chips
    return None if chips.empty else chip_scatter(chips)


def _drawn_chips(content: ReportContent, progress: bool) -> list[dict[str, Any]]:
    scale = MapScale.of(content.pictures)
    drawn = []
    bar = tracked(content.pictures, "drawing maps", shown=progress)
    for number, picture in enumerate(bar):
        panels = [
            Markup(to_svg(panel_figure(picture, panel, scale), f"chip{number}-{panel}", text))
            for panel, text in _described(picture).items()
        ]
        attention = content.uncertainty.attention_of(picture.chip_id)
        drawn.append({"picture": picture, "panels": panels, "attention": attention})
    return drawn


def _described(picture: ChipPicture) -> dict[str, str]:
    """Each panel in words, for those who can't see it."""
    texts: tuple[str, ...] = (
        f"natural-colour image of {picture.rgb_month}" if picture.rgb_month else "no clear image",
        f"target biomass, {picture.target.mean():.0f} {AGB_UNIT} on average",
        f"predicted biomass, {picture.prediction.mean():.0f} {AGB_UNIT} on average",
        f"prediction minus target, RMSE {picture.rmse:.0f} {AGB_UNIT}",
    )
    if picture.interval_width is not None:
        width = picture.interval_width.mean()
        texts = (*texts, f"width of the interval, {width:.0f} {AGB_UNIT} on average")
    return {
        panel: f"Chip {picture.chip_id}: {text}" for panel, text in zip(PANELS, texts, strict=False)
    }


def _number(value: float | None, digits: int = 1) -> str:
    """A number with thousands separated and a true minus sign, none at 0; a dash if undefined."""
    if value is None or pd.isna(value):
        return "–"
    return f"{value:z,.{digits}f}".replace("-", "−")


def _percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage; a dash if undefined."""
    return "–" if value is None or pd.isna(value) else f"{_number(100 * value, digits)} %"


def _breakable(name: str) -> Markup:
    """A dotted name that may go on in the next line after each dot and underscore."""
    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(name))))
