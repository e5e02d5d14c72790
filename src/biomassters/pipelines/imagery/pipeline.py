"""Area + year + catalogue → cube of twelve months, contact sheet, page, record."""

from kedro.pipeline import Node, Pipeline

from biomassters.imagery.contact_sheet import draw_sheet, render_page
from biomassters.pipelines import namespaced

from .nodes import choose_scenes, compare_months, compose_months, find_scenes, require_whole_scenes


def create_pipeline() -> Pipeline:
    """Search, choice, composition; then what people look at."""
    return namespaced(
        "imagery",
        Node(
            find_scenes,
            ["params:imagery", "imagery_place", "simulated_scenes@place"],
            "imagery_items",
            name="find_scenes",
        ),
        Node(
            choose_scenes,
            ["imagery_items", "params:imagery", "imagery_scratch"],
            ["imagery_choice", "imagery_scenes"],
            name="choose_scenes",
        ),
        Node(
            compose_months,
            ["imagery_choice", "params:imagery", "imagery_place", "imagery_scratch"],
            ["imagery_record", "imagery_cube"],
            name="compose_months",
        ),
        Node(
            compare_months,
            ["imagery_record", "imagery_cube", "training_chips"],
            "imagery_check",
            name="compare_months",
        ),
        Node(draw_sheet, ["imagery_record", "imagery_cube"], "imagery_sheet", name="draw_months"),
        Node(
            render_page,
            ["imagery_record", "imagery_scenes", "imagery_check", "imagery_cube"],
            "imagery_page",
            name="render_imagery_page",
        ),
        Node(
            require_whole_scenes,
            ["imagery_record", "imagery_page"],
            None,
            name="require_whole_scenes",
        ),
    )
