"""What a run says of itself: a line for every node, and at the end the score and the places.

Kedro's own lines (a dozen a node) are silenced in ``conf/logging.yml``.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from biomassters.progress_bar import readable_seconds, set_place

log = logging.getLogger(__name__)


def plain_name(node_name: str) -> str:
    """A node's name as people read it: without namespace and underscores."""
    return node_name.rpartition(".")[2].replace("_", " ")


class NodeLines:
    """Logs one line a node, when it ends: ``7 of 33  pack chips  12 s``.

    Attributes:
        at_work: Plain name of the node at work; empty between nodes.
    """

    def __init__(self) -> None:
        self.at_work = ""
        self._places: dict[str, str] = {}
        self._started: dict[str, float] = {}
        self._unsaved: dict[str, set[str]] = {}

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Number the nodes in the order in which they run one by one."""
        self.at_work, self._started, self._unsaved = "", {}, {}
        set_place("")
        names = [node.name for node in pipeline.nodes]
        width = len(str(len(names)))
        self._places = {
            name: f"{number:{width}} of {len(names)}" for number, name in enumerate(names, 1)
        }

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """A node's time begins with its first input."""
        self._begin(node)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """A node without inputs begins here."""
        self._begin(node)

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """A node without outputs ends here."""
        if not node.outputs:
            self._end(node)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """A node ends with its last output: much is made only while it is saved."""
        unsaved = self._unsaved.get(node.name, set())
        if dataset_name in unsaved:
            unsaved.remove(dataset_name)
            if not unsaved:
                self._end(node)

    def _begin(self, node: Node) -> None:
        if node.name not in self._started:
            self._started[node.name] = time.monotonic()
            self._unsaved[node.name] = set(node.outputs)
            self.at_work = plain_name(node.name)
            set_place(self._places.get(node.name, "").strip(), self.at_work)

    def _end(self, node: Node) -> None:
        seconds = time.monotonic() - self._started.pop(node.name)
        place, name = self._places.get(node.name, ""), plain_name(node.name)
        self.at_work = ""
        set_place("")
        log.info("%s", "  ".join(filter(None, (place, name, readable_seconds(seconds)))))


class ClosingSummary:
    """Says at the end of a run what came out of it and where it lies."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Begin."""
        self._started = time.monotonic()

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Log the scores and the paths of what people open first."""
        made = pipeline.all_outputs()
        nodes = len(pipeline.nodes)
        took = readable_seconds(time.monotonic() - self._started)
        log.info("Done: %d %s in %s.", nodes, "node" if nodes == 1 else "nodes", took)
        if "metrics" in made:
            for sentence in _scores_in_words(catalog.load("metrics")):
                log.info("%s", sentence)
        for made_by, name, label in _PEOPLE_OPEN:
            if made_by in made and name in catalog:
                path = getattr(catalog[name], "_filepath", None)
                log.info("%s", f"{label + ':':<22} {shown_path(path)}")


# What a node makes, the dataset that lies where it is to be found, and what that is.
_PEOPLE_OPEN = (
    ("report", "report", "Report"),
    ("metrics", "metrics", "All scores"),
    ("held_out_bounds", "held_out_bounds", "Maps, held-out chips"),
    ("test_bounds", "test_bounds", "Maps, test chips"),
    ("archive_predictions", "archive_predictions", "Maps"),
    ("archive_bounds", "archive_bounds", "Maps with intervals"),
    ("submission", "submission", "Submission"),
    ("fit_weights", "fit_weights", "Weights"),
    ("final_weights", "final_weights", "Final weights"),
    ("chip_table", "chip_table", "Table of chips"),
    ("simulated_region", "simulated_region", "Simulated region"),
    ("region_summary", "region_map", "Map"),
    ("region_summary", "region_summary", "Numbers of the map"),
    ("region_quicklook", "region_quicklook", "Picture of the map"),
    ("region_page", "region_page", "Page of the map"),
)


def shown_path(path: Any) -> str:
    """A path as short as it can be said from here."""
    absolute = Path(str(path))
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def _scores_in_words(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The score beside the baselines, and how far the intervals hold."""
    score = metrics["rmse_per_chip_mean"]
    mean, ridge = metrics["baseline_mean_rmse"], metrics["baseline_ridge_rmse"]
    yield (
        f"Score: RMSE {score:.2f} Mg/ha, mean over held-out chips "
        f"(predicting the training mean {mean:.2f}, ridge regression {ridge:.2f})."
    )
    if metrics.get("interval_pixel_coverage") is not None:
        yield (
            f"The {metrics['interval_level']:.0%} intervals hold "
            f"{metrics['interval_pixel_coverage']:.1%} of the held-out pixels."
        )
