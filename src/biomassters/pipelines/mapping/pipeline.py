"""Images of a region + weights → map, numbers, pictures, STAC item."""

from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import namespaced

from .nodes import (
    describe_region,
    draw_map,
    map_blocks,
    picture_map,
    plan_map,
    render_map_page,
    style_map,
    write_map,
)


def create_pipeline() -> Pipeline:
    """The map first, then what is made of it."""
    return namespaced(
        "mapping",
        Node(
            plan_map,
            [
                "region_images",
                "fit_weights",
                "region_map_place",
                "params:mapping",
                "params:inference",
            ],
            "region_plan",
            name="plan_map",
        ),
        Node(
            map_blocks,
            ["region_plan", "mapping_scratch", "params:dask"],
            "predicted_region",
            name="map_blocks",
        ),
        Node(
            write_map,
            ["predicted_region", "mapping_scratch", "uncertainty@place", "params:uncertainty"],
            ["region_summary", "region_map@made"],
            name="write_map",
        ),
        Node(picture_map, ["region_plan", "region_summary"], "region_picture", name="picture_map"),
        Node(draw_map, "region_picture", "region_quicklook", name="draw_map"),
        Node(
            render_map_page,
            ["region_picture", "region_plan", "region_summary"],
            "region_page",
            name="render_map_page",
        ),
        Node(style_map, ["region_picture", "region_map@made"], "region_styles", name="style_map"),
        Node(
            describe_region,
            ["region_plan", "region_summary"],
            "region_item",
            name="describe_region",
        ),
    )
