"""Planted secrets are in nothing that leaves."""

import logging

import pytest
from kedro.io import DataCatalog, MemoryDataset

from biomassters.console import stream
from biomassters.lineage.run_record import RunRecord
from biomassters.lineage.tracking import loggable_parameters
from biomassters.redaction import redact, redacted

SOURCE = "https://me:PLANTED-1@host.example/a/b.tif?sv=1&sig=PLANTED%2F2"
PARAMETERS = {"acquisition": {"source": SOURCE, "secret_access_key": "PLANTED-3"},
              "dask": {"scheduler_address": "tls://u:PLANTED@4@scheduler:8786"},
              "regions": {"hrefs": ["az://box/x?sas=PLANTED-5", "s3://bucket/x.tif"]}}  # fmt: skip


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


def test_numbers_and_names_of_options_stay():
    options = {"tokens": 3, "token": None, "lr": 0.1, "sizes": [1, 2]}
    assert redacted(options) == options
