"""Numbers, names and paths as people read them; planted secrets are in nothing that leaves."""

import logging

import pytest
from kedro.io import DataCatalog, MemoryDataset

from biomassters.console import stream
from biomassters.lineage.run_record import RunRecord
from biomassters.lineage.tracking import loggable_parameters
from biomassters.messages import (
    counted,
    hint,
    installation,
    listed,
    readable_bytes,
    readable_seconds,
    redact,
    redacted,
    shown_path,
)

SOURCE = "https://me:PLANTED-1@host.example/a/b.tif?sv=1&sig=PLANTED%2F2"
PARAMETERS = {"acquisition": {"source": SOURCE, "secret_access_key": "PLANTED-3"},
              "dask": {"scheduler_address": "tls://u:PLANTED@4@scheduler:8786"},
              "regions": {"hrefs": ["az://box/x?sas=PLANTED-5", "s3://bucket/x.tif"]}}  # fmt: skip


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345, "12.3 kB"),
        (99_960, "100 kB"),
        (999_600, "1.0 MB"),
        (2_300_000, "2.3 MB"),
        (270_000_000_000, "270 GB"),
        (3e15, "3000 TB"),
    ],
)
def test_bytes_are_said_in_a_unit_that_shows_them(count, text):
    assert readable_bytes(count) == text


def test_names_are_listed_as_in_a_sentence():
    assert listed([]) == "none"
    assert listed(["a"]) == "a"
    assert listed("abc") == "a, b and c"


def test_a_name_like_no_other_gets_those_to_choose_from():
    assert hint("trainng", {"training", "reporting"}) == "did you mean 'training'?"
    assert hint("zzz", {"training", "reporting"}) == "choose from reporting and training."
    assert hint("zzz", set()) == "there are none at all."
    many = {f"name_{number:02d}" for number in range(40)}
    assert hint("zzz", many).endswith("name_14 and 25 more.")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (0.9, "0.9 s"), (12.4, "12 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"),
     (3599.7, "1 h 00 min"), (7500, "2 h 05 min"), (360_000, "100 h 00 min")],
)  # fmt: skip
def test_durations_in_words(seconds, text):
    assert readable_seconds(seconds) == text


def test_paths_are_as_short_as_they_can_be_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "data" / "map.tif") == "data/map.tif"
    assert shown_path(tmp_path) == str(tmp_path)
    assert shown_path("/elsewhere/map.tif") == "/elsewhere/map.tif"


@pytest.mark.parametrize(
    "text",
    [
        f"{SOURCE} can't be read: check it.",
        f"({SOURCE}), '{SOURCE}'",
        "tls://PLANTED@scheduler:8786",
        "s3://KEY:PLANTED@bucket/x",
        "b.tif?sv=1&sig=PLANTED%2F2, band 1: IReadBlock failed",
        "cube.zarr?PLANTED=1",
    ],
)
def test_a_secret_in_an_address_is_hidden(text):
    assert "PLANTED" not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/x.tif",
        "/a/b@c.tif",
        "is it there? yes",
        "mail me@host",
        "5 of 7: x?y=1",
        "is it a.tif? y=1",
    ],
)
def test_other_texts_stay(text):
    assert redact(text) == text


def test_the_console_shows_none(capsys):
    logger = logging.getLogger("planted")
    logger.propagate = False
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.warning("no answer from %s", SOURCE)
    logger.removeHandler(handler)
    stream.write(f"Error: {SOURCE} can't be read.\n")
    shown = capsys.readouterr().err
    assert shown.count("host.example/a/b.tif") >= 2
    assert "PLANTED" not in shown


def test_the_run_record_holds_none():
    catalog = DataCatalog({"run_record": MemoryDataset()})
    record = RunRecord()
    record._parameters = PARAMETERS
    record.before_pipeline_run({}, catalog)
    record.on_pipeline_error(ValueError(f"{SOURCE} can't be read"), catalog)
    written = str(catalog.load("run_record"))
    assert "host.example" in written
    assert "PLANTED" not in written


def test_mlflow_is_told_none():
    told = loggable_parameters(PARAMETERS)
    assert told["regions.hrefs"] == "az://box/x?***, s3://bucket/x.tif"
    assert "PLANTED" not in str(told)


def test_a_clone_is_told_to_use_uv():
    """A wheel's command is another: ``test_command`` asks an installed one."""
    assert installation("plots") == "'uv sync --extra plots'"


def test_numbers_and_names_of_options_stay():
    options = {"tokens": 3, "token": None, "lr": 0.1, "sizes": [1, 2]}
    assert redacted(options) == options


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 chips"), (1, "1 chip"), (2, "2 chips"), (1200, "1,200 chips")]
)
def test_one_is_not_many(count, text):
    assert counted(count, "chip") == text
