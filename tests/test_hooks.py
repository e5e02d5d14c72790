import logging
import sys
from itertools import chain
from pathlib import Path

import pytest
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner
from kedro.validation.exceptions import ParameterValidationError
from pluggy import PluginManager

from biomassters.console import at_work, set_place
from biomassters.errors import BadInputError
from biomassters.hooks import (
    NodeLines,
    _scores_in_words,
    install_plain_errors,
    plain_message,
    plain_name,
)

REPOSITORY = Path(__file__).parents[1]


def test_every_node_of_every_pipeline_has_a_name_of_its_own():
    """By the name that a person reads; a node of several pipelines counts once.

    ``from_area`` takes mapping's nodes with another input: they have the same name and function.
    """
    bootstrap_project(REPOSITORY)
    from biomassters.pipeline_registry import register_pipelines

    nodes = chain.from_iterable(one.nodes for one in register_pipelines().values())
    names = [plain_name(name) for name, _ in {(node.name, node.func) for node in nodes}]
    assert sorted(names) == sorted(set(names))
    assert all(name.replace(" ", "").isalpha() for name in names)


def run(pipeline, catalog):
    from kedro.framework.hooks.manager import _create_hook_manager

    lines, manager = NodeLines(), _create_hook_manager()
    assert isinstance(manager, PluginManager)
    manager.register(lines)
    manager.hook.before_pipeline_run(run_params={}, pipeline=pipeline, catalog=catalog)
    SequentialRunner().run(pipeline, catalog, manager)


def test_one_line_a_node_when_all_of_it_is_saved(caplog):
    caplog.set_level(logging.INFO, logger="biomassters")
    pipeline = Pipeline(
        [
            Node(lambda: (1, 2), None, ["a", "b"], name="make_both"),
            Node(lambda a: None, "a", None, name="look_at_it"),
        ],
        namespace="stage",
    )
    run(pipeline, DataCatalog())
    said = [r.getMessage() for r in caplog.records if r.name == "biomassters.hooks"]
    assert said == ["1 of 2  make both  0.0 s", "2 of 2  look at it  0.0 s"]
    assert at_work() == ""


def test_the_node_at_work_is_known_when_it_fails():
    def fail():
        raise RuntimeError("no")

    lines = NodeLines()
    node = Node(fail, None, "a", name="make_it")
    lines.before_pipeline_run(Pipeline([node]))
    lines.before_node_run(node)
    assert at_work() == "make it"
    set_place("")


def test_the_score_in_words():
    metrics = {
        "rmse_per_chip_mean": 41.324, "baseline_mean_rmse": 66.2, "baseline_ridge_rmse": 50.1,
        "interval_pixel_coverage": 0.893, "interval_level": 0.9,
    }  # fmt: skip
    assert list(_scores_in_words(metrics)) == [
        (
            "Score: RMSE 41.32 Mg/ha, mean over held-out chips "
            "(predicting the training mean 66.20, ridge regression 50.10)."
        ),
        "The 90% intervals hold 89.3% of the held-out pixels.",
    ]
    del metrics["interval_pixel_coverage"]
    assert len(list(_scores_in_words(metrics))) == 1


@pytest.mark.parametrize("name", ["training.fit.train_network", "train_network"])
def test_plain_names(name):
    assert plain_name(name) == "train network"


def test_bad_input_is_a_sentence_also_when_wrapped():
    wrapped = RuntimeError("saving failed")
    wrapped.__cause__ = BadInputError("The file x is empty; copy it again.")
    assert plain_message(wrapped) == "The file x is empty; copy it again."


def test_a_dataset_that_no_pipeline_has_made_yet_is_named():
    missing = DatasetError("weights: Failed while loading data.")
    missing.__cause__ = DatasetError("Failed while loading data.")
    missing.__cause__.__cause__ = FileNotFoundError(2, "No such file", "/x/weights.json")
    message = plain_message(missing)
    assert message is not None
    assert message.startswith("weights is not there (/x/weights.json): run the pipelines before")
    assert plain_message(DatasetError("weights: of another format.")) is None


def test_a_file_that_cannot_be_written_is_named():
    refused = DatasetError("weights: Failed while saving data.")
    refused.__cause__ = PermissionError(13, "Permission denied", "/x/weights.json")
    message = plain_message(refused)
    assert message is not None
    assert message.startswith("/x/weights.json can't be read or written (Permission denied): check")


def test_other_errors_keep_their_traceback():
    assert plain_message(ValueError("a bug")) is None


def test_kedros_prefix_is_cut_from_parameter_errors():
    error = ParameterValidationError(
        "Parameter validation failed:\n- Parameter 'training': Failed to instantiate "
        "TrainingOptions for parameter 'training': epochs: must be positive (got 0)"
    )
    assert plain_message(error) == "Parameter training.epochs: must be positive (got 0)"
    whole = ParameterValidationError(str(error).replace("epochs: must", "options: these must"))
    assert plain_message(whole) == "Parameter training: these must be positive (got 0)"


def test_plain_errors_reach_stderr_without_traceback(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    install_plain_errors()
    install_plain_errors()
    error = BadInputError("No such folder; set raw_root.")
    sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err == "Error: No such folder; set raw_root.\n"


def test_a_fault_of_the_program_shows_its_lines_and_ends_in_one_sentence(capsys, monkeypatch):
    from biomassters.chips.folds import make_folds

    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    install_plain_errors()
    with pytest.raises(TypeError) as caught:
        make_folds(None, None)  # type: ignore[arg-type, call-arg]
    sys.excepthook(caught.type, caught.value, caught.value.__traceback__)
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.count(str(caught.value)) == 1
    assert said.splitlines()[-1].startswith(f"Error: TypeError: {caught.value} (see")
