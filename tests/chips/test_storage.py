"""Object storage through a real S3 server: the verbs, an archive, a store, and refusals."""

import os
from pathlib import Path

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


def test_places():
    assert storage.place_of("s3://bucket/x/") == "s3://bucket/x"
    assert storage.place_of("file:///a%20b/c") == Path("/a b/c")
    assert storage.place_of("a") == Path.cwd() / "a"


def test_the_verbs(bucket):
    url = f"{bucket}/below/some name.txt"
    assert storage.state(url) is None
    assert storage.listing(bucket) == {}
    storage.write(url, b"hello")
    assert storage.read(url) == b"hello"
    assert storage.read_range(url, 1, 3) == b"el"
    storage.copy(url, f"{bucket}/below/copy")
    storage.write(f"{bucket}/below-not", b"")
    found = storage.listing(f"{bucket}/below")
    assert list(found) == ["copy", "some name.txt"]
    before = storage.state(url)
    assert before == found["some name.txt"]
    storage.write(url, b"HELLO")
    assert storage.state(url) != before
    storage.delete(url)
    storage.delete(url)
    with pytest.raises(FileNotFoundError):
        storage.read(url)
    assert storage.fetch(["/local", f"{bucket}/below/copy", url]) == {
        f"{bucket}/below/copy": b"hello"
    }


def test_refusals(bucket, monkeypatch):
    with pytest.raises(BadInputError, match=r"can't be listed \(no such bucket, 404\): check"):
        storage.listing("s3://there-is-none/x")
    with pytest.raises(BadInputError, match=r"nosuch:// can't be read"):
        storage.listing("nosuch://x/y")
    storage._system.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(BadInputError, match=r"s3://xyz/y can't be read \(.*check the address"):
        storage.read("s3://xyz/y")


def results(root, place, work):
    archive = Archive.open(root)
    verification = verify_archive(archive, work, VerificationOptions(), progress=False)
    table, statistics = inspect_archive(archive, InspectionOptions(), False, None, verification)
    store = write_store(place, UsableChips(archive, table), progress=False)
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
    verify_archive(Archive.open(archive_root), tmp_path / "c", keep, progress=False)
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


@pytest.mark.parametrize("compress", [False, True])
def test_a_georeferenced_and_a_compressed_raster(bucket, tmp_path, compress):
    import rasterio

    from biomassters.io.raster import read_raster, read_size

    values = np.arange(24, dtype=np.float32).reshape(1, 4, 6)
    options = {"compress": "deflate"} if compress else {}
    place = {"crs": "EPSG:3067", "transform": rasterio.Affine(10, 0, 3e5, 0, -10, 7e6)}
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=4, width=6, dtype="float32", **place, **options
    ) as target:
        target.write(values)
    storage.write(f"{bucket}/a.tif", path.read_bytes())
    found, where = read_raster(f"{bucket}/a.tif")
    assert np.array_equal(found, values)
    assert where is not None
    assert where.crs == "EPSG:3067"
    assert read_size(f"{bucket}/a.tif") == (4, 6)
    storage.write(f"{bucket}/b.tif", b"no TIFF")
    with pytest.raises(BadInputError, match=r"s3://.*b.tif can't be read as a TIFF"):
        read_raster(f"{bucket}/b.tif")


def test_no_key_is_needed_for_a_public_bucket(s3_access, archive_root, monkeypatch):
    s3_access.upload("public", archive_root)
    for name in [name for name in os.environ if name.startswith("AWS_") and "URL" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    storage._system.cache_clear()
    assert Archive.open("s3://public").chip_ids() == ["0000000a", "0000000b", "0000000c"]


def test_fsspecs_own_configuration_counts(s3_access, monkeypatch):
    import fsspec

    s3_access.client().create_bucket(Bucket="configured")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    values = {"endpoint": s3_access.url, "client_options": {"allow_http": True}}
    monkeypatch.setitem(fsspec.config.conf, "s3", values)
    storage._system.cache_clear()
    storage.write("s3://configured/a", b"b")
    assert storage.read("s3://configured/a") == b"b"


def test_a_store_in_a_bucket_opens_in_xarray(bucket, made_chips, monkeypatch, optional):
    """As the documentation says; s3fs is not needed."""
    import obstore
    from zarr.storage import ObjectStore

    xarray = optional("xarray")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    write_store(f"{bucket}/chips.zarr", made_chips(), progress=False)
    objects = ObjectStore(obstore.store.from_url(f"{bucket}/chips.zarr"), read_only=True)
    store = ChipStore(f"{bucket}/chips.zarr").split("train")
    with xarray.open_zarr(objects, group="train", consolidated=False) as data:
        assert data.s1.units == "dB"
        assert np.array_equal(data.agb.values[1], store.read_chip(1).agb_mg_per_ha)
