"""Configuration files that hold something else than plain values."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomassters.conf_files import (
    check_run_name,
    dotted_names,
    known_parameters,
    require_readable,
    unknown_parameters,
    unused_places,
)
from biomassters.errors import BadInputError

CONF = Path(__file__).parents[1] / "conf"
LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
)


def test_our_own_files_are_plain(tmp_path):
    require_readable(*(folder for folder in CONF.iterdir() if folder.is_dir()))
    (tmp_path / "parameters.yml").write_text("a: &a {b: 1}\nc: {<<: *a, d: 2026-01-01, e: .5}\n")
    (tmp_path / "globals.yaml").write_text("")
    require_readable(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("training: !!python/object/apply:os.system [touch x]", "line 1 (the tag !!python/object"),
        ("a: 1\ntraining: !!python/name:os.system", "in line 2 (the tag !!python/name:os.system)"),
        ("a: !!python/object/apply:pathlib.Path [x]", "(the tag !!python/object/apply:pathlib.P"),
        ("a: !own 3", "(the tag !own)"),
        ("a: &a [*a]", "(it contains itself)"),
        (LAUGHS, "(more than 100,000 values)"),
        ("a: " + "[" * 100_000, "is no plain YAML"),
        ("a: " + "[" * 900 + "]" * 900, "nests too deeply"),
        ("a: " + "[" * 101 + "]" * 101, "nests too deeply"),
        ("a: [1", "is no plain YAML in line 2"),
        ("a: b: c", "is no plain YAML in line 1"),
        ("a: *nothing", "undefined alias"),
        ("a: \0", "is no text"),
        ("- 1", "it holds no names"),
        ("a: {b: 1, c: 2, b: 3}", "b is there twice"),
        ("a: " + "x" * 2**20, "and such a file has at most"),
    ],
)
def test_what_is_no_plain_value_is_refused(tmp_path, text, sentence):
    path = tmp_path / "base" / "more" / "parameters_x.yml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    start = time.monotonic()
    with pytest.raises(BadInputError) as caught:
        require_readable(tmp_path / "none", tmp_path / "base")
    assert str(caught.value).startswith(str(path))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 5
    assert not (tmp_path / "x").exists()


def test_something_else_in_a_files_place(tmp_path):
    os.mkfifo(tmp_path / "globals.yml")
    with pytest.raises(BadInputError, match=r"globals.yml is a pipe, not a file"):
        require_readable(tmp_path)
    (tmp_path / "globals.yml").unlink()
    (tmp_path / "catalog.yml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(BadInputError, match=r"catalog.yml is no text"):
        require_readable(tmp_path)


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


@pytest.mark.parametrize("name", ["base", "biomassters", "test"])
def test_every_environment_names_its_data_set(name):
    assert "dataset:" in (CONF / name / "globals.yml").read_text()


def test_what_has_moved_is_said_with_its_new_place():
    (sentence,) = unknown_parameters({"finetuning": {"epochs": 60}}, known_parameters(CONF))
    assert "There is no parameter 'finetuning' any more" in sentence
    assert "'training.stages=[{name: fit}, {name: finetune, epochs: 60" in sentence


@pytest.mark.parametrize("name", ["wide", "simulated", "lr-0.01_b", "A" * 64])
def test_a_run_may_have_such_a_name(name):
    check_run_name(name, "simulated", CONF)


@pytest.mark.parametrize(
    "name", ["", "2", 2, True, None, "a b", "a/b", "../up", ".a", "a" * 65, "ä", "a\n"]
)
def test_a_name_that_makes_no_folder_is_refused(name):
    with pytest.raises(BadInputError, match="a run is named by up to 64 letters"):
        check_run_name(name, "simulated", CONF)


def test_a_run_is_not_called_as_another_environments_results_are():
    with pytest.raises(BadInputError, match="results of the environment biomassters lie in"):
        check_run_name("biomassters", "simulated", CONF)
    check_run_name("biomassters", "biomassters", CONF)


def test_an_environment_and_the_command_line_change_what_they_name_and_nothing_beside(tmp_path):
    for folder, text in (("base", "a: {b: 1, c: 2, d: 3}"), ("other", "a: {c: 4}")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "parameters.yml").write_text(text)
    code = (
        "import sys; from kedro.config import OmegaConfigLoader\n"
        "from biomassters.settings import CONFIG_LOADER_ARGS as given\n"
        "given_here = {'runtime_params': {'a': {'d': 5}}, **given}\n"
        "print(OmegaConfigLoader(sys.argv[1], 'other', **given_here)['parameters'])"
    )
    # In a process of its own: a second loader takes over the first one's global resolvers.
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, check=True)
    assert done.stdout.decode().strip() == str({"a": {"b": 1, "c": 4, "d": 5}})


def test_a_file_that_no_node_of_the_run_touches_is_said():
    scoring = {"test_predictions", "test_labels", "final_weights"}
    given = ["submission_file", "test_labels", "run", "training", "weights"]
    (sentence,) = unused_places(given, scoring, CONF)
    assert sentence == (
        "The parameter submission_file has no effect here: no node of this run uses "
        "submission_file."
    )
    assert not unused_places(given, scoring | {"submission_file"}, CONF)
    (sentence,) = unused_places(["scenes_root"], scoring, CONF)
    assert sentence.endswith("uses simulated_scenes@made or simulated_scenes@place.")
