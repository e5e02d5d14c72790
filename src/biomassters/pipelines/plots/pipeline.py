"""Field plots + a map, or covariates → scores of the map, totals, totals by area, page."""

from kedro.pipeline import Node, Pipeline

from .nodes import combine_plots, draw_inventory, estimate_by_area, estimate_whole, render_page


def create_pipeline() -> Pipeline:
    """Everything is read and checked by the first node."""
    return Pipeline(
        [
            Node(
                combine_plots,
                ["field_plots@file", "region_map@plots", "params:plots"],
                ["inventory", "plots_with_map"],
                name="combine_plots",
            ),
            Node(
                estimate_whole, ["inventory", "params:plots"], "plot_totals", name="estimate_whole"
            ),
            Node(
                estimate_by_area,
                ["inventory", "params:plots"],
                "plot_totals_by_area",
                name="estimate_by_area",
            ),
            Node(draw_inventory, "plot_totals", "plot_figure", name="draw_inventory"),
            Node(
                render_page,
                ["plot_totals", "plot_totals_by_area", "plots_with_map"],
                "plot_page",
                name="render_page",
            ),
        ],
        namespace="plots",
        prefix_datasets_with_namespace=False,
    )
