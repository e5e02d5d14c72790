"""The report: one HTML page that needs nothing but itself.

``ReportContent`` and ``UncertaintyContent`` hold all that it shows; the page's text stands in
``templates/report.html.j2``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from biomassters.chips.bands import MONTH_NAMES
from biomassters.chips.folds import chip_places
from biomassters.chips.quality.chip_table import summarise_data
from biomassters.console import tracked
from biomassters.io.files import read_json
from biomassters.metrics import AGB_UNIT
from biomassters.reporting.charts import chip_scatter
from biomassters.reporting.chip_maps import PANELS, ChipPicture, MapScale, panel_figure
from biomassters.reporting.model_card import flatten, standing_limits
from biomassters.reporting.options import ReportingOptions
from biomassters.reporting.pages import embedded, render
from biomassters.reporting.scoring import (
    Scores,
    bootstrap_score,
    compared_scores,
    scores_by,
    verdict,
)
from biomassters.uncertainty.intervals import IntervalModel


@dataclass(frozen=True, eq=False)
class UncertaintyContent:
    """What was found about errors; everything may be empty.

    Attributes:
        models: ``intervals``, ``errors``, ``level`` and ``measured``, as the calibration wrote
            them.
        by_level: level, pixel_coverage, chip_mean_coverage.
        by_class: biomass_class, pixels, coverage, mean_width.
        per_chip: chip_id, coverage, means and the interval of the mean.
        carbon: ``held_out``, ``test``, ``hectares``, ``level``.
        attention: chip_id, stride, month, weight, has_s2.
    """

    models: Mapping[str, Any] = field(default_factory=dict)
    by_level: pd.DataFrame = field(default_factory=pd.DataFrame)
    by_class: pd.DataFrame = field(default_factory=pd.DataFrame)
    per_chip: pd.DataFrame = field(default_factory=pd.DataFrame)
    carbon: Mapping[str, Any] = field(default_factory=dict)
    attention: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def intervals(self) -> IntervalModel | None:
        """The interval model, if there is one."""
        found = self.models.get("intervals")
        return IntervalModel.from_dict(found) if found else None

    @property
    def measured(self) -> Mapping[str, Any]:
        """Coverage and widths."""
        return self.models.get("measured", {})

    def carbon_rows(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Each split that was added up, with its name for people."""
        names = (("held_out", "Held-out chips"), ("test", "Test chips"))
        return [(name, self.carbon[key]) for key, name in names if self.carbon.get(key)]

    def attention_by_availability(self) -> list[dict[str, Any]]:
        """A row a month: chips and mean weight (%, all levels) with and without Sentinel-2."""
        if self.attention.empty:
            return []
        rows = []
        for month, name in enumerate(MONTH_NAMES):
            here = self.attention[self.attention["month"] == month]
            row: dict[str, Any] = {"month": name}
            for key, chosen in (("with", here[here["has_s2"]]), ("without", here[~here["has_s2"]])):
                row[f"{key}_chips"] = int(chosen["chip_id"].nunique())
                row[f"{key}_weight"] = 100 * chosen["weight"].mean() if len(chosen) else None
            rows.append(row)
        return rows

    def strides(self) -> list[int]:
        """The levels that attention was read at, in pixels, finest first."""
        return [] if self.attention.empty else sorted(set(self.attention["stride"].tolist()))

    def attention_of(self, chip_id: str) -> list[dict[str, Any]]:
        """A row a month that the chip has: weight (%) at each level, and whether S2 is there."""
        if self.attention.empty:
            return []
        here = self.attention[self.attention["chip_id"] == chip_id].sort_values("stride")
        return [
            {
                "month": MONTH_NAMES[int(str(month))],
                "has_s2": bool(values["has_s2"].iloc[0]),
                "weights": (100 * values["weight"]).tolist(),
            }
            for month, values in here.groupby("month")
        ]


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything that a report shows.

    Attributes:
        options: Name of the data, whether they are simulated, how much is listed.
        scores: Of the held-out chips.
        metrics: As ``scoring.all_metrics`` gives them.
        pictures: Chips to show, in order.
        history: The training history, one row an epoch; may be empty.
        chip_table: As ``chips.quality.chip_table.inspect_archive`` gives it.
        recipe: Options and facts that the result depends on, nested as one likes.
        best_and_last: Where the held-out chips also decided which weights were kept: their RMSE
            with these and with the last ones, Mg/ha.
        uncertainty: Intervals, carbon, attention.
        fold_of_chip: Fold by chip id.
        blocks: Block of land by chip id, where folds are made of blocks.
        other_metrics: Of a run on the same chips that held them out in the other way, or empty.
        facts: Versions and cost, as names and texts.
        run_file: Name of the run's own record beside the page, or "".
        date: Of the report, as in 2026-11-25, or "".
    """

    options: ReportingOptions
    scores: Scores
    metrics: Mapping[str, Any]
    pictures: Sequence[ChipPicture]
    history: pd.DataFrame
    chip_table: pd.DataFrame
    recipe: Mapping[str, Any] = field(default_factory=dict)
    best_and_last: tuple[float, float] | None = None
    uncertainty: UncertaintyContent = field(default_factory=UncertaintyContent)
    fold_of_chip: Mapping[str, int] = field(default_factory=dict)
    blocks: Mapping[str, int] = field(default_factory=dict)
    other_metrics: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    run_file: str = ""
    date: str = ""


def render_report(content: ReportContent, *, progress: bool = True) -> str:
    """HTML without any reference to another file or host; the same for the same content."""
    scores, known = compared_scores(content.metrics), content.uncertainty
    accumulator = content.scores.accumulator
    per_chip, by_class = accumulator.per_chip(), accumulator.by_class()
    blocks = [content.blocks[chip] for chip in per_chip["chip_id"]] if content.blocks else None
    worst = per_chip.sort_values(["rmse", "chip_id"], ascending=[False, True])
    s2_months = content.chip_table.set_index("chip_id")["s2_months"].map(len).to_dict()
    dots = per_chip if known.per_chip.empty else known.per_chip
    return render(
        "reporting",
        "report.html.j2",
        content=content,
        metrics=content.metrics,
        verdict=verdict(content.metrics, by_class),
        relative=_relative(content.metrics),
        scores=scores,
        top_score=max((score.rmse for score in scores), default=1.0),
        classes=by_class.to_dict("records"),
        worst=worst.head(content.options.listed_chips).to_dict("records"),
        score_interval=bootstrap_score(
            per_chip["rmse"].tolist(), seed=content.options.seed, blocks=blocks
        ),
        validations=_validations(content),
        by_months=scores_by(per_chip, s2_months),
        by_fold=scores_by(per_chip, content.fold_of_chip),
        uncertainty=known,
        measured=known.measured,
        figures=_figures(content),
        scatter=None if dots.empty else chip_scatter(dots),
        chips=_drawn_chips(content, progress),
        data=summarise_data(content.chip_table),
        recipe=list(flatten(content.recipe)),
        limits=standing_limits(content.options.simulated, content.best_and_last),
    )


def read_other_metrics(path: Path) -> dict[str, Any]:
    """The scores of another run, to be shown beside this one's; empty where there are none."""
    return dict(read_json(path, "give a run's metrics.json")) if path.is_file() else {}


def _validations(content: ReportContent) -> dict[str, Mapping[str, Any]]:
    """Scores by what was held out, ``chips`` and ``blocks``, as far as there are any."""
    runs = (content.metrics, content.other_metrics)
    found = {run["held_out"]: run for run in runs if run.get("rmse_per_chip_mean") is not None
             and run.get("held_out")}  # fmt: skip
    return {name: found[name] for name in ("chips", "blocks") if name in found}


def _relative(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """RMSE, mean absolute error and bias as shares of the mean target."""
    mean = metrics.get("target_mean")
    return {
        name: metrics[name] / mean if mean and metrics.get(name) is not None else None
        for name in ("rmse_per_chip_mean", "rmse_pooled", "mae", "bias")
    }


def _figures(content: ReportContent) -> dict[str, Markup]:
    # Imported here: matplotlib would slow every start of the command line by a second.
    from biomassters.reporting import plots

    scores, known, table = content.scores, content.uncertainty, content.chip_table
    residuals = plots.residual_plot(scores.density, known.intervals)
    figures = {
        "density": (
            plots.density_plot(scores.density), "Predicted against target biomass, by pixel",
        ),
        "classes": (
            plots.class_plot(scores.accumulator.by_class()), "RMSE and bias by biomass class",
        ),
        "residuals": (residuals, "Residuals by predicted biomass"),
    }  # fmt: skip
    if "crs" in table and content.fold_of_chip:
        train = table.loc[(table["split"] == "train") & (table["crs"] != "")]
        folds = [content.fold_of_chip.get(chip_id) for chip_id in train["chip_id"]]
        if len(train):
            text = "Where the chips of each fold lie"
            figures["folds"] = (plots.fold_map(chip_places(train), folds), text)
    if not known.by_level.empty:
        text = "Measured against nominal coverage of the intervals"
        figures["coverage"] = (plots.coverage_plot(known.by_level), text)
    if not known.attention.empty:
        text = "Mean attention weight of each month at each level"
        figures["attention"] = (plots.attention_plot(known.attention), text)
    if not content.history.empty:
        text = "Error over the training epochs"
        figures["learning"] = (plots.learning_plot(content.history), text)
    return embedded(figures)


def _drawn_chips(content: ReportContent, progress: bool) -> list[dict[str, Any]]:
    scale = MapScale.of(content.pictures)
    drawn = []
    bar = tracked(content.pictures, "drawing maps", shown=progress)
    for number, picture in enumerate(bar):
        panels = {
            f"chip{number}-{panel}": (panel_figure(picture, panel, scale), text)
            for panel, text in _described(picture).items()
        }
        drawn.append(
            {
                "picture": picture,
                "panels": list(embedded(panels).values()),
                "attention": content.uncertainty.attention_of(picture.chip_id),
                "target_mean": float(np.nanmean(picture.target)),
                "partly": bool(np.isnan(picture.target).any()),
            }
        )
    return drawn


def _described(picture: ChipPicture) -> dict[str, str]:
    """Each panel in words, for those who can't see it."""
    texts: tuple[str, ...] = (
        f"natural-colour image of {picture.rgb_month}" if picture.rgb_month else "no clear image",
        f"target biomass, {np.nanmean(picture.target):.0f} {AGB_UNIT} on average",
        f"predicted biomass, {picture.prediction.mean():.0f} {AGB_UNIT} on average",
        f"prediction minus target, RMSE {picture.rmse:.0f} {AGB_UNIT}",
    )
    if picture.interval_width is not None:
        width = picture.interval_width.mean()
        texts = (*texts, f"width of the interval, {width:.0f} {AGB_UNIT} on average")
    return {
        panel: f"Chip {picture.chip_id}: {text}" for panel, text in zip(PANELS, texts, strict=False)
    }
