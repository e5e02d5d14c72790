"""The report: one HTML page that needs nothing but itself."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from tqdm import tqdm

from biomassters import __version__
from biomassters.metrics import AGB_UNIT, DensityHistogram
from biomassters.reporting.comparison import compared_scores, verdict
from biomassters.reporting.data_summary import summarise_data
from biomassters.reporting.figure_style import to_svg
from biomassters.reporting.limits import standing_limits
from biomassters.reporting.maps import PANELS, MapScale, panel_figure
from biomassters.reporting.options import ReportingOptions
from biomassters.reporting.pictures import ChipPicture
from biomassters.reporting.plots import class_plot, density_plot, learning_plot


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
        chosen_on_held_out: Whether the held-out chips also decided which weights were kept.
        further_limits: What else was not verified in this run.
        options: How much is listed.
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
    chosen_on_held_out: bool = True
    further_limits: Sequence[str] = ()
    options: ReportingOptions = field(default_factory=ReportingOptions)


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
    scores = compared_scores(content.metrics)
    return environment.get_template("report.html.j2").render(
        content=content,
        metrics=content.metrics,
        unit=AGB_UNIT,
        version=__version__,
        verdict=verdict(content.metrics),
        scores=scores,
        top_score=max((score.rmse for score in scores), default=1.0),
        classes=content.by_class.to_dict("records"),
        worst=_worst(content),
        figures=_figures(content),
        chips=_drawn_chips(content, progress),
        data=summarise_data(content.chip_table),
        recipe=list(flatten(content.recipe)),
        limits=[
            *standing_limits(content.simulated, content.chosen_on_held_out),
            *content.further_limits,
        ],
    )


def _worst(content: ReportContent) -> list[dict[Hashable, Any]]:
    ranked = content.per_chip.sort_values(["rmse", "chip_id"], ascending=[False, True])
    return ranked.head(content.options.listed_chips).to_dict("records")


def _figures(content: ReportContent) -> dict[str, Markup]:
    figures = {
        "density": (density_plot(content.density), "Predicted against target biomass, by pixel"),
        "classes": (class_plot(content.by_class), "RMSE and bias by biomass class"),
    }
    if not content.history.empty:
        figures["learning"] = (learning_plot(content.history), "Error over the training epochs")
    # Drawn by us from numbers and checked ids: safe to put in as it is.
    return {name: Markup(to_svg(figure, name, text)) for name, (figure, text) in figures.items()}


def _drawn_chips(content: ReportContent, progress: bool) -> list[dict[str, Any]]:
    scale = MapScale.of(content.pictures)
    drawn = []
    bar = tqdm(content.pictures, desc="Drawing maps", unit="chip", disable=not progress)
    for number, picture in enumerate(bar):
        panels = [
            Markup(to_svg(panel_figure(picture, panel, scale), f"chip{number}-{panel}", text))
            for panel, text in _described(picture).items()
        ]
        drawn.append({"picture": picture, "panels": panels})
    return drawn


def _described(picture: ChipPicture) -> dict[str, str]:
    """Each panel in words, for those who can't see it."""
    texts = (
        f"natural-colour image of {picture.rgb_month}" if picture.rgb_month else "no clear image",
        f"target biomass, {picture.target.mean():.0f} {AGB_UNIT} on average",
        f"predicted biomass, {picture.prediction.mean():.0f} {AGB_UNIT} on average",
        f"prediction minus target, RMSE {picture.rmse:.0f} {AGB_UNIT}",
    )
    return {
        panel: f"Chip {picture.chip_id}: {text}" for panel, text in zip(PANELS, texts, strict=True)
    }


def _number(value: float | None, digits: int = 1) -> str:
    """A number with thousands separated and a true minus sign; a dash if undefined."""
    if value is None or pd.isna(value):
        return "–"
    return f"{value:,.{digits}f}".replace("-", "−")


def flatten(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested options as dotted names and texts, in their order."""
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield (
                f"{prefix}{name}",
                ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value),
            )
