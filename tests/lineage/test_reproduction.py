"""What a record says against what is here."""

import copy
import subprocess

import pytest
from kedro.framework.project import configure_project, pipelines
from kedro.io import DataCatalog, MemoryDataset

from biomassters.errors import BadInputError
from biomassters.lineage.reproduction import (
    differences,
    parameters_of,
    pipelines_of,
    same_bits,
)

from .test_run_record import halve, run

PARAMETERS = {"a": {"b": 1}}


@pytest.fixture(autouse=True)
def _project():
    configure_project("biomassters")
    pipelines.set_requested(None)


@pytest.fixture
def record(tmp_path):
    """Of a run that just ended."""
    return run(tmp_path, halve)


@pytest.fixture
def found(record, tmp_path):
    """Differences of that record, with changes, from what is here."""

    def look(change=lambda record: None, parameters=PARAMETERS, **data):
        changed = copy.deepcopy(record)
        change(changed)
        catalog = DataCatalog(
            {name: MemoryDataset(one, copy_mode="assign") for name, one in data.items()}
        )
        return differences(changed, tmp_path, parameters, catalog)

    return look


def last(record):
    return record["runs"][-1]


def test_nothing_differs_right_after_a_run(found):
    assert found() == []


def test_one_changed_package_is_named_alone(found, record):
    now = last(record)["machine"]["packages"]["numpy"]
    lines = found(lambda one: last(one)["machine"]["packages"].update(numpy="1.0"))
    assert lines == [f"package numpy: was 1.0, is {now}"]


def test_a_package_that_came_or_went_is_named(found):
    lines = found(lambda one: last(one)["machine"]["packages"].update(gone="2.0"))
    assert lines == ["package gone: was 2.0, is not there"]


def test_code_python_and_parameters_are_named(found):
    def change(one):
        last(one)["code"]["version"] = "0.1.0"
        last(one)["machine"]["python"] = "3.9.1"

    lines = found(change, parameters={"a": {"b": 2, "c": 0}})
    assert lines[0].startswith("code version: was 0.1.0, is ")
    assert lines[1].startswith("Python: was 3.9.1, is ")
    assert lines[2:] == ["parameter a.b: was 1, is 2", "parameter a.c: was not there, is 0"]


def test_the_name_of_the_run_is_no_difference(found):
    assert found(lambda one: last(one)["parameters"].update(run="wide")) == []


def test_data_are_compared_by_fingerprint(found, store):
    def note(fingerprint):
        return lambda one: one["nodes"]["halve"].update(fingerprints={"chip_store": fingerprint})

    assert found(note(store.fingerprint), chip_store=store) == []
    assert found(note("0" * 64), chip_store=store) == [
        f"data chip_store: was 000000000000, is {store.fingerprint[:12]}"
    ]
    assert found(note("0" * 64)) == ["data chip_store: was 000000000000, is not there"]


def test_what_nobody_noted_is_said(found, tmp_path):
    """Uncommitted changes then and now, and parameters of a command before the last one."""
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *arguments], check=True)
    (tmp_path / "file").write_text("2")
    code = run(tmp_path, halve)["runs"][-1]["code"]

    def change(one):
        last(one)["code"] = code
        one["nodes"]["halve"]["run"] = "2026-01-01T00:00:00+00:00"

    lines = found(change)
    assert len(lines) == 2
    assert lines[0] == "code: had uncommitted changes, and has; nobody noted which"
    assert lines[1].startswith("parameters of nodes run at 2026-01-01T00:00:00+00:00: not in")


def test_no_password_is_shown(found):
    """The record hides it; what is here now is hidden alike."""
    address = {"raw_root": "https://me:word@host/archive"}
    (line,) = found(parameters=PARAMETERS | address)
    assert line == "parameter raw_root: was not there, is https://***@host/archive"


# ---- What is run


def of_training(record, **parameters):
    record["nodes"] = {
        "training.train_stages": record["nodes"]["halve"],
        "inference.predict_test_chips": record["nodes"]["halve"],
    }
    last(record)["parameters"] = parameters
    return record


def test_every_recorded_node_is_run_with_its_parameters(record):
    again = of_training(record, training={"epochs": 3, "seed": 1}, run="wide")
    assert sorted(pipelines_of(again)) == ["inference", "training"]
    assert parameters_of(again, {}) == {"training": {"epochs": 3, "seed": 1}, "run": "wide"}


@pytest.mark.parametrize("name", ["__default__", "adapt"])
def test_pipelines_that_join_others_are_named_only_for_nodes_of_their_own(record, name):
    record["nodes"] = {node.name: {} for node in pipelines[name].nodes}
    chosen = pipelines_of(record)
    assert ("data_engineering" in chosen, "from_archive" in chosen) == (True, False)
    assert (name in chosen) == (name == "adapt")
    found = [node.name for one in chosen for node in pipelines[one].nodes]
    assert set(record["nodes"]) <= set(found)


def test_given_parameters_take_the_place_of_recorded_ones(record):
    given = {"training": {"epochs": 5}, "weights": "other.safetensors"}
    again = parameters_of(of_training(record, training={"epochs": 3, "seed": 1}), given)
    assert again == {
        "training": {"epochs": 5, "seed": 1}, "weights": "other.safetensors",
    }  # fmt: skip


def test_a_node_that_is_no_more_is_refused(record):
    with pytest.raises(BadInputError, match=r"nodes that this version hasn't \(halve\): install"):
        pipelines_of(record)


def test_a_hidden_secret_is_asked_for(record):
    secret = of_training(record, raw_root="https://***@host/archive")
    with pytest.raises(BadInputError, match=r"hides raw_root, .* '--params raw_root=VALUE'"):
        parameters_of(secret, {})
    assert parameters_of(secret, {"raw_root": "here"}) == {"raw_root": "here"}


def test_results_are_the_same_where_their_fingerprints_are(record):
    other = copy.deepcopy(record)
    record["nodes"]["halve"]["fingerprints"] = {"chip_store": "a", "fit_weights": "b", "x": "c"}
    other["nodes"]["halve"]["fingerprints"] = {"chip_store": "a", "fit_weights": "d"}
    assert same_bits(record, other) == {"chip_store": True, "fit_weights": False}
