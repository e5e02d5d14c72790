"""What a run says: a line for every node, at the end the score and the places, errors as sentences.

Kedro's own lines (a dozen a node) are silenced in ``conf/logging.yml``. ``settings`` lists these
hooks with those of ``conf_files``, ``preflight`` and ``lineage``.
"""

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from traceback import TracebackException
from types import TracebackType
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.validation.exceptions import ParameterValidationError

from biomassters.console import close_open, set_place, stream
from biomassters.errors import BadInputError
from biomassters.messages import counted, readable_seconds, redact, shown_path

_KEDRO_PREFIX = re.compile(
    r"^- Parameter '([\w.]+)': Failed to instantiate .*?'\1': ", re.MULTILINE
)
# Datasets that people open, and what they are.
_PEOPLE_OPEN = {
    "report": "Report",
    "metrics": "All scores",
    "held_out_bounds": "Maps, held-out chips",
    "test_bounds": "Maps, test chips",
    "archive_predictions": "Maps",
    "archive_bounds": "Maps with intervals",
    "submission": "Submission",
    "test_scores": "Scores, test chips",
    "test_page": "Their page",
    "check_scores": "Scores, labelled chips",
    "check_page": "Their page",
    "fit_weights": "Weights",
    "final_weights": "Final weights",
    "chip_table": "Table of chips",
    "region_images": "Simulated region",
    "simulated_scenes@made": "Simulated scenes",
    "sweep_page": "Page of the sweep",
    "sweep_best": "Best parameters",
    "imagery_scenes": "Table of scenes",
    "imagery_place": "Images",
    "imagery_sheet": "Contact sheet",
    "imagery_page": "Page of the images",
    "region_map_place": "Map",
    "region_summary": "Numbers of the map",
    "region_quicklook": "Picture of the map",
    "region_page": "Page of the map",
}
# Places that a node fills besides what it makes.
_MADE_WITH = {
    "imagery_place": "imagery_record",
    "region_map_place": "region_summary",
}

log = logging.getLogger(__name__)


class NodeLines:
    """Logs one line a node, when it ends: ``7 of 33  pack chips  12 s``."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}
        self._started: dict[str, float] = {}
        self._unsaved: dict[str, set[str]] = {}

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Number the nodes in the order in which they run one by one."""
        self._started, self._unsaved = {}, {}
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
            set_place(self._places.get(node.name, "").strip(), plain_name(node.name))

    def _end(self, node: Node) -> None:
        seconds = time.monotonic() - self._started.pop(node.name)
        place, name = self._places.get(node.name, ""), plain_name(node.name)
        set_place("")
        log.info("%s", "  ".join(filter(None, (place, name, readable_seconds(seconds)))))


class ClosingSummary:
    """Says at the end of a run what came out of it and where it lies."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Log the scores and the paths of what people open first."""
        made = pipeline.all_outputs()
        nodes = len(pipeline.nodes)
        took = readable_seconds(time.monotonic() - self._started)
        log.info("Done: %s in %s.", counted(nodes, "node"), took)
        if "metrics" in made:
            for sentence in _scores_in_words(catalog.load("metrics")):
                log.info("%s", sentence)
        for name, label in _PEOPLE_OPEN.items():
            if _MADE_WITH.get(name, name) in made and name in catalog:
                path = getattr(catalog[name], "_filepath", None)
                log.info("%s", f"{label + ':':<22} {shown_path(path)}")


def plain_name(node_name: str) -> str:
    """A node's name as people read it: without namespace and underscores."""
    return node_name.rpartition(".")[2].replace("_", " ")


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


class PlainErrors:
    """Prints an error as one sentence, without a traceback if the user can mend it."""

    @hook_impl(tryfirst=True)
    def after_context_created(self) -> None:
        """Also where the run is not started by ``biomassters.cli``."""
        install_plain_errors()


def plain_message(error: BaseException) -> str | None:
    """The sentence to print instead of a traceback, or None when it is no user's error."""
    if isinstance(error, ParameterValidationError):
        lines = (_KEDRO_PREFIX.sub(r"Parameter \1.", line) for line in str(error).splitlines()[1:])
        return "\n".join(line.replace(".options: ", ": ", 1) for line in lines)
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BadInputError):
            return str(seen)
        seen = seen.__cause__
    return _file_trouble(error)


def _file_trouble(error: BaseException) -> str | None:
    """What to say of a dataset that the file system doesn't give or take."""
    cause = _root_cause(error)
    if not (isinstance(error, DatasetError) and isinstance(cause, OSError)):
        return None
    name, where = str(error).partition(":")[0], cause.filename
    if isinstance(cause, FileNotFoundError):
        return (
            f"{name} is not there ({shown_path(where) if where else cause}): run the pipelines "
            "before this one first, in the same environment; without --pipelines, kedro runs them "
            "all."
        )
    place = shown_path(where) if where else name
    return (
        f"{place} can't be read or written ({cause.strerror or cause}): check the path, its "
        "permissions and the space on the disk, and run again."
    )


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def install_plain_errors() -> None:
    """Make every error that ends a program end in one sentence. Idempotent."""
    previous = sys.excepthook
    if getattr(previous, "prints_plain_errors", False):
        return

    def print_plainly(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        close_open()
        message = plain_message(error)
        if message is None and previous is not sys.__excepthook__:
            previous(kind, error, trace)  # of KEDRO_LOGGING_CONFIG's handler, such as rich
        else:
            if message is None:
                error = _root_cause(error)
                # Past the stream: code is not broken into lines of words.
                sys.stderr.write(redact(_way_there(error)))
                said = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
                message = f"{said} (see the lines of code above)."
            stream.write(f"Error: {message}\n")

    print_plainly.prints_plain_errors = True  # type: ignore[attr-defined]
    sys.excepthook = print_plainly


def _way_there(error: BaseException) -> str:
    """The traceback without its last line, and without the frames of Kedro that lead to ours."""
    trace = error.__traceback__
    while trace is not None and not _is_ours(trace):
        trace = trace.tb_next
    written = TracebackException(type(error), error, trace or error.__traceback__)
    lines, last = list(written.format(chain=False)), list(written.format_exception_only())
    return "".join(lines[: -len(last)])


def _is_ours(trace: TracebackType) -> bool:
    path = Path(trace.tb_frame.f_code.co_filename)
    return path.is_relative_to(Path(__file__).parent) and path.stem not in ("cli", "__main__")
