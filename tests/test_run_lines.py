import logging
from itertools import chain
from pathlib import Path

import pytest
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner
from pluggy import PluginManager

from biomassters.run_lines import NodeLines, _scores_in_words, plain_name

REPOSITORY = Path(__file__).parents[1]


def test_every_node_of_every_pipeline_has_a_name_of_its_own():
    """By the name that a person reads; a node of several pipelines counts once."""
    bootstrap_project(REPOSITORY)
    from biomassters.pipeline_registry import register_pipelines

    nodes = set(chain.from_iterable(one.nodes for one in register_pipelines().values()))
    names = [plain_name(node.name) for node in nodes]
    assert sorted(names) == sorted(set(names))
    assert all(name.replace(" ", "").isalpha() for name in names)


def run(pipeline, catalog):
    from kedro.framework.hooks.manager import _create_hook_manager

    lines, manager = NodeLines(), _create_hook_manager()
    assert isinstance(manager, PluginManager)
    manager.register(lines)
    manager.hook.before_pipeline_run(run_params={}, pipeline=pipeline, catalog=catalog)
    SequentialRunner().run(pipeline, catalog, manager)
    return lines


def test_one_line_a_node_when_all_of_it_is_saved(caplog):
    caplog.set_level(logging.INFO, logger="biomassters")
    pipeline = Pipeline(
        [
            Node(lambda: (1, 2), None, ["a", "b"], name="make_both"),
            Node(lambda a: None, "a", None, name="look_at_it"),
        ],
        namespace="stage",
    )
    lines = run(pipeline, DataCatalog())
    said = [r.getMessage() for r in caplog.records if r.name == "biomassters.run_lines"]
    assert said == ["1 of 2  make both  0.0 s", "2 of 2  look at it  0.0 s"]
    assert lines.at_work == ""


def test_the_node_at_work_is_known_when_it_fails():
    def fail():
        raise RuntimeError("no")

    lines = NodeLines()
    node = Node(fail, None, "a", name="make_it")
    lines.before_pipeline_run(Pipeline([node]))
    lines.before_node_run(node)
    assert lines.at_work == "make it"


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
