import json

import numpy as np
import pytest

from biomassters.chips.store_manifest import ChipRecord, Manifest
from biomassters.errors import BadInputError


@pytest.fixture
def manifest(made_chips):
    source = made_chips()
    records = [
        ChipRecord.of(
            source.chip(chip_id), split, index, f"source {chip_id}", 1000 + index, {"s1": [index]}
        )
        for split, names in source.splits().items()
        for index, chip_id in enumerate(names)
    ]
    return Manifest("lz4", tuple(records))


def test_json_and_back(manifest):
    assert Manifest.from_json(manifest.to_json(), "there") == manifest
    assert json.loads(manifest.to_json())["fingerprint"] == manifest.fingerprint


def test_records(manifest, made_chips):
    assert manifest.splits == ("train", "test")
    assert [record.chip_id for record in manifest.of_split("test")] == ["e5", "f6"]
    assert manifest.sources()["test"] == {"e5": "source e5", "f6": "source f6"}
    for record in manifest.records:
        chip = made_chips().chip(record.chip_id)
        assert np.array_equal(record.present_mask(), chip.present)
        assert record.labelled == (chip.agb_mg_per_ha is not None)
        assert record.georeference == chip.georeference


def test_fingerprint_is_of_the_data_alone(manifest):
    shuffled = Manifest("none", manifest.records[::-1])
    assert shuffled.fingerprint == manifest.fingerprint
    fewer = Manifest("lz4", manifest.records[1:])
    assert fewer.fingerprint != manifest.fingerprint


def test_unknown_version(manifest):
    text = manifest.to_json().replace('"version": 2', '"version": 99')
    with pytest.raises(BadInputError, match=r"store there has format version 99, .* version 2"):
        Manifest.from_json(text, "there")


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"version": 2}', '{"version": 2, "chips": [{}]}']
)
def test_damaged(text):
    with pytest.raises(BadInputError, match="store there has a damaged manifest"):
        Manifest.from_json(text, "there")


def test_an_older_version_is_refused_with_the_remedy():
    with pytest.raises(BadInputError, match=r"format version 1, .* reads version 2: pack it again"):
        Manifest.from_json('{"version": 1, "codec": "lz4", "chips": []}', "there")


def test_chip_ids_that_were_swapped(manifest):
    text = manifest.to_json()
    swapped = text.replace('"a1"', '"x"').replace('"b2"', '"a1"').replace('"x"', '"b2"')
    assert json.loads(swapped)["chips"] != json.loads(text)["chips"]
    with pytest.raises(BadInputError, match="damaged manifest"):
        Manifest.from_json(swapped, "there")
