"""An archive and a store in object storage, through a real S3 server."""

import os

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.archive.archive import Archive, UsableChips
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive
from biomassters.chips.quality.verification import VerificationOptions, verify_archive
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError
from biomassters.io import storage


@pytest.fixture
def bucket(s3_access, request):
    name = f"bucket-{abs(hash(request.node.nodeid)) % 10**9}"
    s3_access.client().create_bucket(Bucket=name)
    return f"s3://{name}"


def results(root, place, work):
    archive = Archive.open(root)
    verification = verify_archive(archive, work, VerificationOptions())
    table, statistics = inspect_archive(archive, InspectionOptions(), None, verification)
    store = write_store(place, UsableChips(archive, table))
    return verification, table, statistics.to_frame(), store


def test_an_archive_in_a_bucket_gives_what_a_folder_gives(
    s3_access, archive_root, tmp_path, request
):
    label = archive_root / "train_agbm" / "0000000b_agbm.tif"
    content = bytearray(label.read_bytes())
    content[-1] ^= 1
    label.write_bytes(content)
    (archive_root / "test_features" / "0000000c_S1_03.tif").unlink()
    s3_access.upload("an-archive", archive_root, "deep/er/")
    url = "s3://an-archive/deep/er"
    there = results(url, "s3://an-archive/chips.zarr", tmp_path / "a")
    keep = VerificationOptions(quarantine=False)
    verify_archive(Archive.open(archive_root), tmp_path / "c", keep)
    here = results(archive_root, tmp_path / "chips.zarr", tmp_path / "b")
    one, other = (frame.drop(columns="quarantined") for frame in (there[0], here[0]))
    pd.testing.assert_frame_equal(one, other)
    assert there[0]["status"].value_counts().to_dict() == {"right": 45, "damaged": 1, "missing": 1}
    assert not there[0]["quarantined"].any()
    assert storage.state(f"{url}/train_agbm/0000000b_agbm.tif") is not None
    for number in (1, 2):
        pd.testing.assert_frame_equal(there[number], here[number])
    assert there[3].fingerprint == here[3].fingerprint
    with pytest.raises(BadInputError, match=r"There is nothing below s3://an-archive/none: set x"):
        Archive.open("s3://an-archive/none", "x")


def test_what_changes_in_a_bucket_is_packed_again(s3_access, archive_root, chips):
    s3_access.upload("changing", archive_root)
    archive = Archive.open("s3://changing")
    before = [archive.signature(name) for name in archive.chip_ids()]
    name = "train_features/0000000a_S1_03.tif"
    data = bytearray(storage.read(f"s3://changing/{name}"))
    data[-1] ^= 1
    storage.write(f"s3://changing/{name}", bytes(data))
    again = Archive.open("s3://changing")
    after = [again.signature(name) for name in again.chip_ids()]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, True]


def test_no_key_is_needed_for_a_public_bucket(s3_access, archive_root, monkeypatch):
    s3_access.upload("public", archive_root)
    for name in [name for name in os.environ if name.startswith("AWS_") and "URL" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    storage._system.cache_clear()
    assert Archive.open("s3://public").chip_ids() == ["0000000a", "0000000b", "0000000c"]


def test_a_store_in_a_bucket_opens_in_xarray(bucket, made_chips, monkeypatch, optional):
    """As the documentation says; s3fs is not needed."""
    import obstore
    from zarr.storage import ObjectStore

    xarray = optional("xarray")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    write_store(f"{bucket}/chips.zarr", made_chips())
    objects = ObjectStore(obstore.store.from_url(f"{bucket}/chips.zarr"), read_only=True)
    store = ChipStore(f"{bucket}/chips.zarr").split("train")
    with xarray.open_zarr(objects, group="train", consolidated=False) as data:
        assert data.s1.units == "dB"
        assert np.array_equal(data.agb.values[1], store.read_chip(1).agb_mg_per_ha)
