"""Verbs of the imagery pipeline."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from biomassters.errors import BadInputError
from biomassters.imagery.cube_plan import plan_cube
from biomassters.imagery.cube_writer import check_place, write_cube
from biomassters.imagery.options import ImageryOptions
from biomassters.imagery.scene_choice import Choice
from biomassters.imagery.search import SceneSearch, plan_search
from biomassters.imagery.training_check import compare_with_training, findings
from biomassters.messages import listed

logger = logging.getLogger(__name__)


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
    said, rows = ([], []) if table is None else (findings(table), table.to_dict("records"))
    for sentence in said:
        logger.warning("%s: %s", Path(cube).name, sentence)
    return {"findings": said, "compared": len(rows), "rows": rows}


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
