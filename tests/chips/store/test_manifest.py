import json
import time

import numpy as np
import pytest
from crc32c import crc32c

from biomassters.chips.store.manifest import ChipRecord, Manifest, Slot, _checksum
from biomassters.errors import BadInputError


@pytest.fixture
def manifest(made_chips):
    source = made_chips()
    records = [
        ChipRecord.of(
            source.chip(chip_id),
            Slot(split, index, chip_id, f"source {chip_id}"),
            1000 + index,
            {"s1": [index]},
        )
        for split, names in source.splits().items()
        for index, chip_id in enumerate(names)
    ]
    return Manifest("lz4", tuple(records))


def test_json_and_back(manifest):
    assert Manifest.from_json(manifest.to_json(), "there") == manifest
    assert json.loads(manifest.to_json())["fingerprint"] == manifest.fingerprint


def test_records(manifest, made_chips):
    assert list(manifest.splits) == ["train", "test"]
    assert [record.chip_id for record in manifest.splits["test"]] == ["e5", "f6"]
    assert [record.signature for record in manifest.splits["test"]] == ["source e5", "source f6"]
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


def rewritten(manifest, change):
    """A manifest that somebody changed, and whose checksum they made fit."""
    values = json.loads(manifest.to_json())
    del values["checksum"]
    change(values)
    return json.dumps({**values, "checksum": _checksum(values)})


def chip(number, **changes):
    return lambda values: values["chips"][number].update(changes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            chip(0, height=10**9),
            "height of chip 0: .* equal to 4096, got '1000000000'",
        ),
        (chip(3, width=-1), "width of chip 3: "),
        (chip(0, height=16.0), "height of chip 0: "),
        (chip(0, chip_id="../../x"), "chip_id of chip 0: .* got '../../x'"),
        (chip(1, chip_id="=cmd()"), "chip_id of chip 1: "),
        (chip(0, split="../x"), "split of chip 0: "),
        (chip(0, split=".."), "split of chip 0: "),
        (chip(0, present="9" * 12), "present of chip 0: "),
        (chip(0, present="3" * 10**6), "present of chip 0: "),
        (chip(0, crc=2**40), "crc of chip 0: "),
        (chip(0, chunk_crcs={"s1": "x"}), "chunk_crcs.s1 of chip 0: "),
        (chip(0, more=3), "more of chip 0: "),
        (chip(1, index=2**60), "manifest: run"),
        (chip(1, chip_id="a1"), "manifest: run"),
        (lambda values: values.update(chips=[]), "manifest: run"),
        (lambda values: values.update(chips={"a": 1}), "manifest"),
        (lambda values: values.update(codec="pickle"), "manifest: run"),
        (lambda values: values.update(origin=3), "manifest: run"),
    ],
)
def test_what_somebody_changed_is_named(manifest, change, sentence):
    start = time.monotonic()
    with pytest.raises(BadInputError, match=rf"^The chip store there has a damaged .*{sentence}"):
        Manifest.from_json(rewritten(manifest, change), "there")
    assert time.monotonic() - start < 5
    assert Manifest.from_json(rewritten(manifest, lambda values: None), "there") == manifest


def test_a_record_as_a_file_of_its_own(manifest):
    for record in manifest.records:
        assert ChipRecord.from_bytes(record.to_bytes()) == record


def test_a_torn_or_damaged_record_is_none(manifest):
    data = manifest.records[0].to_bytes()
    for end in (0, 1, 8, 9, 30, len(data) - 2):
        assert ChipRecord.from_bytes(data[:end]) is None
    assert ChipRecord.from_bytes(data.replace(b'"index": 0', b'"index": 1')) is None
    text = b"[3]"
    assert ChipRecord.from_bytes(b"%08x %s\n" % (crc32c(text), text)) is None
