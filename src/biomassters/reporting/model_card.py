"""The model card: what weights are for, on what they learnt, how right they are, in Markdown.

Sections after Mitchell et al. (2019), "Model cards for model reporting", FAT*. The report and the
run's record share what it says of limits, options and versions.
"""

import platform
import re
import resource
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pandas as pd

from biomassters.metrics import AGB_UNIT
from biomassters.reporting.scoring import compared_scores, verdict

RUN_FILE = "run.json"
PACKAGES = (
    "biomassters", "kedro", "torch", "timm", "numpy", "scipy", "scikit-learn", "rasterio", "zarr",
)  # fmt: skip
_SIMULATED = (
    (
        "The forest is simulated. That the network beats the baselines shows that the software "
        "learns; it says nothing about any real forest."
    ),
)
_REAL = (
    (
        "BioMassters chips carry no location, so chips were held out at random and may lie beside "
        "chips that were trained on. Validation by blocks of land, which would show it, is "
        "impossible on them. In an unseen region, errors may be larger and intervals too narrow."
    ),
    (
        "The labels are taken as the truth. They are estimates with errors of their own, which no "
        "score here contains."
    ),
)
_ALWAYS = (
    (
        "An RMSE is an average. At a single pixel the error may be several times as large, and it "
        "differs between classes of biomass (see the table)."
    ),
    (
        "Totals over an area larger than a chip were not verified: the correlation of errors over "
        "distances wider than a chip cannot be estimated from chips."
    ),
    (
        "Intervals belong to the weights that were scored here. Weights fine-tuned on every label "
        "have no held-out chips left: their maps can only borrow these intervals."
    ),
    "Other years, other sensors and other forests than those of the data were not tested.",
)
# Punctuation that begins Markdown or HTML inside a line; "." and "-" do only where a line begins.
_SPECIAL = re.compile(r"([\\`*_\[\]<>&|~$])")
_BLANKS = re.compile(r"\s+")


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
    intro = (
        "Aboveground biomass density (AGB, tonnes of dry matter per hectare, Mg/ha) at every "
        f"10 m pixel from a year of Sentinel-1 and Sentinel-2 images, learnt from {forest}."
    )
    use = (
        "For trying the software. It knows no real forest: do not map one with it."
        if simulated
        else "For maps of forests like those it learnt from, with images prepared in the same way. "
        "Not for other forests, other sensors or changes between years without labels to check "
        "against."
    )
    scores = [f"| {score.name} | {score.rmse:.2f} |" for score in compared_scores(metrics)]
    classes = [
        f"| {row['biomass_class']} | {row['pixels']:,} | {row['rmse']:.1f} | {row['bias']:+.1f} |"
        for row in by_class[by_class["pixels"] > 0].to_dict("records")
    ]
    options = [f"- {as_code(name)}: {as_text(value)}" for name, value in flatten(recipe)]
    return "\n".join(
        [
            f"# Weights for forest biomass: {as_text(dataset)}\n",
            intro,
            f"\n## Use\n\n{use}",
            f"\n## Accuracy\n\n{verdict(metrics, by_class)}\n",
            f"| method | mean RMSE per chip, {AGB_UNIT} |\n|---|---|",
            *scores,
            f"\n| target, {AGB_UNIT} | pixels | RMSE | bias |\n|---|---|---|---|",
            *classes,
            f"\n## Intervals\n\n{_intervals(metrics)}",
            "\n## What is not verified\n",
            *(f"- {text}" for text in standing_limits(simulated, best_and_last)),
            "\n## Recipe\n",
            *options,
            "",
        ]
    )


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
        "chip means. They belong to these weights alone: weights fine-tuned on every label have "
        "no held-out chips and can only borrow them."
    )


def standing_limits(
    simulated: bool, best_and_last: tuple[float, float] | None = None
) -> tuple[str, ...]:
    """What the scores do not show, one or two sentences a limit.

    Args:
        simulated: Whether the data come from this project's simulation.
        best_and_last: Where the held-out chips also decided which weights were kept: their RMSE
            with these weights and with those after the last epoch, Mg/ha.
    """
    chosen = () if best_and_last is None else (_chosen(*best_and_last),)
    return (_SIMULATED if simulated else _REAL) + chosen + _ALWAYS


def _chosen(best: float, last: float) -> str:
    return (
        "The weights are those of the epoch that did best on these same held-out chips: RMSE "
        f"{best:.1f} Mg/ha, {last:.1f} after the last epoch. The score may be optimistic by up to "
        f"{last - best:.1f} Mg/ha, and the intervals, calibrated on the same chips, may be too "
        "narrow."
    )


def flatten(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested options as dotted names and texts, in their order."""
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            several = isinstance(value, list | tuple)
            yield f"{prefix}{name}", ", ".join(map(str, value)) if several else str(value)


def as_text(name: str) -> str:
    r"""A text within a line of Markdown, whatever it holds: it formats and runs nothing.

    Examples:
        >>> print(as_text("forest_1 <script>"))
        forest\_1 \<script\>
    """
    # "://" makes links by itself in GitHub's Markdown.
    return _SPECIAL.sub(r"\\\1", _BLANKS.sub(" ", name)).replace("://", r"\://")


def as_code(name: str) -> str:
    """A text as code within a line: its fence is longer than any run of backticks inside."""
    name = _BLANKS.sub(" ", name)
    if "`" not in name:
        return f"`{name}`"
    fence = "`" * (1 + max(map(len, re.findall("`+", name))))
    return f"{fence} {name} {fence}"


def package_versions() -> dict[str, str]:
    """Versions of what the results depend on, by package; those that aren't there are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if platform.system() != "Darwin" else peak / 2**20


def versions_and_cost(history: pd.DataFrame) -> dict[str, str]:
    """Names and texts for the report.

    Args:
        history: The training history; ``seconds`` and ``validation_seconds`` of each epoch if
            they were measured.
    """
    packages = ", ".join(f"{name} {number}" for name, number in package_versions().items())
    facts = {
        "Software": f"Python {platform.python_version()}, {packages}",
        "Machine": f"{platform.system()} {platform.machine()}",
        "Largest memory of the process that wrote this": f"{peak_memory_mib():,.0f} MiB",
    }
    columns = [name for name in ("seconds", "validation_seconds") if name in history]
    if columns and len(history):
        seconds = float(history[columns].to_numpy().sum())
        facts["Training"] = f"{seconds / 60:,.1f} minutes over {len(history)} epochs"
    return facts
