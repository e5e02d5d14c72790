"""Raw archive → store → weights → predictions → submission and report."""

from kedro.pipeline import Pipeline

from biomassters.pipelines import (
    data_engineering,
    inference,
    reporting,
    submission,
    training,
    uncertainty,
)

_STAGES = (data_engineering, training, inference, uncertainty, submission, reporting)


def create_pipeline() -> Pipeline:
    """The six stages joined; the lineage that real data takes."""
    return sum((stage.create_pipeline() for stage in _STAGES), start=Pipeline([]))
