"""Raw archive → verification → chip table → statistics, scaling, folds → chip store."""

from kedro.pipeline import Node, Pipeline

from biomassters.pipelines import namespaced

from .nodes import (
    assign_folds,
    choose_scaling,
    inspect_chips,
    pack_chips,
    summarise_chips,
    verify_files,
)

_OPTIONS = "params:data_engineering"
_DASK = "params:dask"


def create_pipeline() -> Pipeline:
    """Six nodes; only the first two and the last touch pixels."""
    return namespaced(
        "data_engineering",
        Node(
            verify_files,
            ["raw_archive", "verification_work", _OPTIONS, _DASK],
            "verification_table",
            name="verify_files",
        ),
        Node(
            inspect_chips,
            ["raw_archive", "verification_table", _OPTIONS, _DASK],
            ["chip_table", "band_statistics"],
            name="inspect_chips",
        ),
        Node(summarise_chips, "chip_table", "chip_summary", name="summarise_chips"),
        Node(choose_scaling, ["band_statistics", _OPTIONS], "band_scaling", name="choose_scaling"),
        Node(assign_folds, ["chip_table", _OPTIONS], "folds", name="assign_folds"),
        Node(
            pack_chips,
            ["raw_archive", "chip_table", _OPTIONS, _DASK],
            "chip_store",
            name="pack_chips",
        ),
    )
