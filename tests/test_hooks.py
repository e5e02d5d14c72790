from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kedro.io import DatasetError
from kedro.validation.exceptions import ParameterValidationError

from biomassters.errors import BadInputError
from biomassters.hooks import dotted_names, known_parameters, plain_message, unknown_parameters

CONF = Path(__file__).parents[1] / "conf"


def test_dotted_names_of_a_nested_mapping():
    assert list(dotted_names({"a": {"b": {"c": 1}}, "d": None})) == ["a", "a.b", "a.b.c", "d"]


def test_known_parameters_are_those_of_base_and_those_of_the_catalog():
    known = known_parameters(CONF)
    assert {"training", "training.epochs", "training.augmentation.flip", "raw_root"} <= known


def test_a_misspelt_parameter_is_named_with_its_neighbour():
    sentences = unknown_parameters({"training": {"epoch": 3}}, known_parameters(CONF))
    assert sentences == ["There is no parameter 'training.epoch'; did you mean 'training.epochs'?"]


def test_neighbours_come_before_others_and_initials_are_understood():
    known = {"training", "training.learning_rate", "training.crop", "trainin.lr"}
    assert "'training.learning_rate'?" in unknown_parameters({"training": {"lr": 1}}, known)[0]
    assert "'training.crop'?" in unknown_parameters({"training": {"corp": 1}}, known)[0]


def test_an_unknown_branch_is_named_once():
    sentences = unknown_parameters({"nonsense": {"x": {"y": 1}}}, {"training"})
    assert len(sentences) == 1
    assert "'nonsense'" in sentences[0]


@given(st.sets(st.text("abc", min_size=1), min_size=1))
def test_known_names_are_never_refused(names):
    assert unknown_parameters(dict.fromkeys(names, 1), set(names)) == []


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
    import sys

    from biomassters.hooks import install_plain_errors

    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    install_plain_errors()
    install_plain_errors()
    error = BadInputError("No such folder; set raw_root.")
    sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err == "Error: No such folder; set raw_root.\n"


def test_a_fault_of_the_program_shows_its_lines_and_ends_in_one_sentence(capsys, monkeypatch):
    import sys

    from biomassters.chips.folds import make_folds
    from biomassters.hooks import install_plain_errors

    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    install_plain_errors()
    with pytest.raises(TypeError) as caught:
        make_folds(None, None)  # type: ignore[arg-type, call-arg]
    sys.excepthook(caught.type, caught.value, caught.value.__traceback__)
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.count(str(caught.value)) == 1
    assert said.splitlines()[-1].startswith(f"Error: TypeError: {caught.value} (see")


@pytest.mark.parametrize("name", ["base", "biomassters", "test"])
def test_every_environment_names_its_data_set(name):
    assert "dataset:" in (CONF / name / "globals.yml").read_text()
