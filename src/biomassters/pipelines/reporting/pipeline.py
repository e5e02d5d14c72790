"""Held-out predictions → scores, pictures, report."""

from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import namespaced
from biomassters.reporting.charts import learning_curve, score_chart
from biomassters.reporting.report import UncertaintyContent

from .nodes import (
    choose_pictures,
    collect_metrics,
    draw_density,
    draw_example_maps,
    fit_baselines,
    gather_recipe,
    read_attention,
    score_held_out,
    write_model_card,
    write_report,
)

_OPTIONS = "params:reporting"


def create_pipeline() -> Pipeline:
    """Scores first, then what is drawn and written of them."""
    return namespaced(
        "reporting",
        Node(
            score_held_out,
            ["held_out_predictions", "chip_store", "fit_weights", "uncertainty@json"],
            ["scores", "scores_per_chip", "scores_by_class"],
            name="score_held_out",
        ),
        Node(
            fit_baselines,
            ["held_out_predictions", "chip_store", "folds", _OPTIONS],
            "baselines",
            name="fit_baselines",
        ),
        Node(
            collect_metrics,
            ["scores", "baselines", "uncertainty@json", "folds"],
            "metrics",
            name="collect_metrics",
        ),
        Node(
            choose_pictures,
            ["held_out_predictions", "chip_store", "scores", "uncertainty@json", _OPTIONS],
            "pictures",
            name="choose_pictures",
        ),
        Node(draw_example_maps, "pictures", "example_maps", name="draw_example_maps"),
        Node(draw_density, "scores", "density_plot", name="draw_density"),
        Node(learning_curve, "training_history", "learning_curve", name="draw_learning_curve"),
        Node(score_chart, "metrics", "score_chart", name="draw_scores"),
        Node(gather_recipe, ["fit_weights", "params:inference"], "recipe", name="gather_recipe"),
        Node(
            read_attention,
            [
                "held_out_predictions",
                "chip_store",
                "folds",
                "fit_weights",
                "params:inference",
                _OPTIONS,
            ],
            "attention",
            name="read_attention",
        ),
        Node(
            UncertaintyContent,
            [
                "uncertainty@json",
                "coverage_by_level",
                "coverage_by_class",
                "coverage_per_chip",
                "carbon",
                "attention",
            ],
            "uncertainty_content",
            name="gather_uncertainty",
        ),
        Node(
            write_report,
            [
                "scores",
                "metrics",
                "pictures",
                "training_history",
                "chip_table",
                "folds",
                "uncertainty_content",
                "other_metrics",
                _OPTIONS,
                "recipe",
            ],
            "report",
            name="write_report",
        ),
        Node(
            write_model_card,
            ["scores", "metrics", "recipe", "training_history", _OPTIONS],
            "model_card",
            name="write_model_card",
        ),
    )
