"""The model card: what weights are for, on what they learnt, how right they are, in Markdown.

Sections after Mitchell et al. (2019), "Model cards for model reporting", FAT*.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from biomassters.metrics import AGB_UNIT
from biomassters.reporting.comparison import compared_scores, verdict
from biomassters.reporting.flat_options import flatten
from biomassters.reporting.limits import standing_limits
from biomassters.reporting.markdown import as_code, as_text


def model_card(
    dataset: str,
    simulated: bool,
    recipe: Mapping[str, Any],
    metrics: Mapping[str, Any],
    by_class: pd.DataFrame,
    best_and_last: tuple[float, float] | None = None,
) -> str:
    """Write the card.

    Args:
        dataset: Name of the data.
        simulated: Whether they come from this project's simulation.
        recipe: Options and facts that the weights depend on, nested.
        metrics: Scores of the held-out chips and the coverage of the intervals.
        by_class: As ``ScoreAccumulator.by_class`` gives it.
        best_and_last: As ``standing_limits`` takes it.

    Returns:
        Markdown.
    """
    forest = "a simulated forest" if simulated else "the forests of its training data"
    scored = [verdict(metrics, by_class), _scores(metrics), _classes(by_class)]
    limits = [f"- {text}" for text in standing_limits(simulated, best_and_last)]
    sections = {
        f"Weights for forest biomass: {as_text(dataset)}": (
            "Aboveground biomass density (AGB, tonnes of dry matter per hectare, Mg/ha) at every "
            f"10 m pixel from a year of Sentinel-1 and Sentinel-2 images, learnt from {forest}."
        ),
        "Use": _use(simulated),
        "Accuracy": "\n\n".join(scored),
        "Intervals": _intervals(metrics),
        "What is not verified": "\n".join(limits),
        "Recipe": "\n".join(
            f"- {as_code(name)}: {as_text(value)}" for name, value in flatten(recipe)
        ),
    }
    (title, intro), *rest = sections.items()
    return (
        "\n\n".join([f"# {title}", intro, *(f"## {name}\n\n{text}" for name, text in rest)]) + "\n"
    )


def _use(simulated: bool) -> str:
    if simulated:
        return "For trying the software. It knows no real forest: do not map one with it."
    return (
        "For maps of forests like those it learnt from, with images prepared in the same way. Not "
        "for other forests, other sensors or changes between years without labels to check against."
    )


def _scores(metrics: Mapping[str, Any]) -> str:
    rows = [f"| {score.name} | {score.rmse:.2f} |" for score in compared_scores(metrics)]
    return "\n".join([f"| method | mean RMSE per chip, {AGB_UNIT} |", "|---|---|", *rows])


def _classes(by_class: pd.DataFrame) -> str:
    rows = [
        f"| {row['biomass_class']} | {row['pixels']:,} | {row['rmse']:.1f} | {row['bias']:+.1f} |"
        for row in by_class[by_class["pixels"] > 0].to_dict("records")
    ]
    head = f"| target, {AGB_UNIT} | pixels | RMSE | bias |"
    return "\n".join([head, "|---|---|---|---|", *rows])


def _intervals(metrics: Mapping[str, Any]) -> str:
    if "interval_pixel_coverage" not in metrics:
        return str(metrics.get("interval_note", "None were calibrated."))
    level, of_pixels, of_chips = (
        100 * metrics[f"interval_{name}"]
        for name in ("level", "pixel_coverage", "chip_mean_coverage")
    )
    return (
        f"Intervals of {level:.0f} % calibrated on {metrics['interval_chips']} held-out chips; on "
        f"chips left out they held {of_pixels:.1f} % of the pixels and {of_chips:.1f} % of the "
        "chip means. They belong to these weights alone: weights that go on learning from every "
        "label have no held-out chips and can only borrow them."
    )
