"""Verbs of the imagery pipeline."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from biomassters.errors import BadInputError
from biomassters.imagery.contact_sheet import draw_sheet, render_page
from biomassters.imagery.cube_plan import plan_cube
from biomassters.imagery.cube_writer import check_place, write_cube
from biomassters.imagery.options import ImageryOptions
from biomassters.imagery.scene_choice import Choice
from biomassters.imagery.search import SceneSearch, plan_search
from biomassters.imagery.training_check import compare_with_training, report_unlike
from biomassters.messages import listed


def find_scenes(imagery: ImageryOptions, cube: str, simulated_scenes: str) -> SceneSearch:
    """Area, year and catalogue looked at; the dataset asks the catalogue.

    ``imagery.catalogue`` may name the simulated scenes, which come first where one run makes both.
    """
    check_place(Path(cube), imagery)
    return plan_search(imagery)


def choose_scenes(
    items: dict[str, Any], imagery: ImageryOptions, scratch: Path
) -> tuple[Choice, pd.DataFrame]:
    """Duplicates removed, each scene looked at inside the area, the clearest first."""
    choice = plan_cube(items, imagery, scratch)
    return choice, choice.table()


def compose_months(
    choice: Choice, imagery: ImageryOptions, cube: str, scratch: Path
) -> tuple[dict[str, Any], str]:
    """Every month composed and written; what it was made of, and the cube."""
    return write_cube(choice, Path(cube), scratch, imagery), cube


def compare_months(record: dict[str, Any], cube: str, chip_store: str) -> dict[str, Any]:
    """The cube's medians beside those of the training chips."""
    table = compare_with_training(cube, chip_store)
    said = report_unlike(table, Path(cube))
    rows = [] if table is None else table.to_dict("records")
    return {"findings": said, "compared": len(rows), "rows": rows}


def draw_months(record: dict[str, Any], cube: str) -> Figure:
    """The contact sheet."""
    return draw_sheet(cube, record)


def render_imagery_page(
    record: dict[str, Any], scenes: pd.DataFrame, check: dict[str, Any], cube: str
) -> str:
    """A page with the contact sheet and what the months were made of."""
    return render_page(record, scenes, check, draw_sheet(cube, record))


def require_whole_scenes(record: dict[str, Any], page: str) -> None:
    """Last of all, say by the exit status that scenes were damaged and others stand in."""
    damaged = [name for name, lost in record["lost"].items() if lost["kind"] == "damaged"]
    if damaged:
        reasons = "; ".join(record["lost"][name]["reason"] for name in damaged)
        raise BadInputError(
            f"The cube is complete, but {listed(damaged)} could not be read and the next scenes "
            f"stand in ({reasons}): use it as it is, or run again with imagery.overwrite=true once "
            "the catalogue has mended them."
        )
