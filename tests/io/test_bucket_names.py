"""Which addresses of object storage name a bucket."""

import pytest

from biomassters.errors import BadInputError
from biomassters.io import storage
from biomassters.io.bucket_names import names_bucket
from biomassters.io.gdal_open import gdal_environment, open_raster
from biomassters.regions.inputs.cube import read_cube

GOOD = (
    "s3://drivendata-competition-biomassters-public-eu/train/a.tif", "s3://abc", "s3a://a.b-c/x",
    "gs://a_b.c/x", "gs://" + "a.b" * 40, "az://images/x", "az://$web/x",
    "abfss://images@account.dfs.core.windows.net/x", "https://localhost/x#y",
    "s3", "az", "gs/x",
)  # fmt: skip
BAD = (
    "s3://localhost#/x", "s3://127.0.0.1:80/x", "s3://me:word@bucket/x", "s3://a?b/x",
    "s3://ab/x", "s3://" + "a" * 64, "s3://Forest/x", "s3://a..b/x", "s3://127.0.0.1/x",
    "s3:///x", "s3://a%23b/x", "s3://-abc/x", "s3a://localhost#/x", "s3://abc\n/x",
    "gs://localhost#/x", "gs://" + "a" * 64, "az://local.host/x", "az://a@evil.example/x",
    "abfss://images@evil.example/x", "abfss://images@evil.example#.dfs.core.windows.net/x",
)  # fmt: skip


@pytest.mark.parametrize("address", GOOD)
def test_buckets(address):
    assert names_bucket(address)


@pytest.mark.parametrize("address", BAD)
def test_no_buckets(address):
    assert not names_bucket(address)


def open_with_gdal(address):
    with gdal_environment():
        open_raster(address, images=True)


@pytest.mark.parametrize("door", [storage.read, storage.listing, read_cube, open_with_gdal])
def test_every_door_to_object_storage_looks(door):
    with pytest.raises(BadInputError, match=r"^s3://localhost#/x names no bucket .*: correct"):
        door("s3://localhost#/x")
