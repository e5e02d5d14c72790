"""The project's pipelines: one a folder under ``pipelines``."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

DEFAULT = "__default__"
JOINED = (DEFAULT, "from_archive", "from_area", "adapt")  # they take others' nodes


def register_pipelines() -> dict[str, Pipeline]:
    """Find the pipelines and name the one that plain ``kedro run`` runs.

    Returns:
        Pipelines by name; ``__default__`` simulates an archive and then does everything
        that ``from_archive`` does. Kedro loads only those that were asked for.
    """
    found = find_pipelines(raise_errors=True)
    if DEFAULT in found:
        found[DEFAULT] = found["simulation"] + found["from_archive"]
    return found
