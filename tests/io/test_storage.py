"""Object storage through a real S3 server, names of buckets, and servers that redirect."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
import rasterio
from obstore.store import from_url

from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.sources import open_bucket, open_web
from biomassters.errors import BadInputError
from biomassters.io import storage
from biomassters.io.gdal import gdal_environment, open_raster
from biomassters.io.raster import read_raster, read_size
from biomassters.io.storage import names_bucket, stay
from biomassters.regions.inputs.cube import read_cube


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


def test_fsspecs_own_configuration_counts(s3_access, monkeypatch):
    s3_access.client().create_bucket(Bucket="configured")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    values = {"endpoint": s3_access.url, "client_options": {"allow_http": True}}
    monkeypatch.setitem(fsspec.config.conf, "s3", values)
    storage._system.cache_clear()
    storage.write("s3://configured/a", b"b")
    assert storage.read("s3://configured/a") == b"b"


@pytest.mark.parametrize("compress", [False, True])
def test_a_georeferenced_and_a_compressed_raster(bucket, tmp_path, compress):
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


# ---- names of buckets

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


# ---- servers that redirect to another host: what of a secret arrives there, and what is said

SECRET = "planted-secret"
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


class Handler(BaseHTTPRequestHandler):
    """Answers every request in the same way, or redirects every one."""

    def do_GET(self):
        self.server.requests.append(f"{self.path} {self.headers}")
        target = self.server.target
        self.send_response(307 if target else 200)
        if target:
            self.send_header("Location", f"{target}/elsewhere")
        self.send_header("ETag", '"a"')
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.send_header("Content-Length", "0" if target else "5")
        self.end_headers()
        if not target and self.command == "GET":
            self.wfile.write(b"hello")

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *arguments):
        pass


@contextmanager
def server(target: str = "") -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.requests, made.target = [], target
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


def address_of(made: ThreadingHTTPServer, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{made.server_address[1]}"


@pytest.fixture(params=["localhost", "127.0.0.1"])
def servers(request, monkeypatch):
    """One that redirects to the other; that one by the same host's name or by another's."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    storage._system.cache_clear()
    with server() as other, server(address_of(other, request.param)) as first:
        yield first, other, request.param == "localhost"
    storage._system.cache_clear()


def aws(monkeypatch, endpoint):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "word")
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)


def azure(monkeypatch, endpoint):
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", endpoint)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", f"sv=2024-01-01&sig={SECRET}")


def cube(address):
    read_cube(address)


@pytest.mark.parametrize(
    ("access", "opener", "place"),
    [
        (aws, storage.read, "s3://forest/a"),
        (aws, storage.state, "s3://forest/a"),
        (aws, cube, "s3://forest/a.zarr"),
        (None, cube, "{first}/a.zarr?sig=" + SECRET),
    ],
)
def test_a_secret_does_not_go_to_another_host(monkeypatch, servers, access, opener, place):
    first, other, elsewhere = servers
    if access:
        access(monkeypatch, address_of(first))
    place = place.format(first=address_of(first))
    if elsewhere or opener is cube:  # a cube's metadata are no "hello"
        with pytest.raises(BadInputError) as caught:
            opener(place)
        assert ("it redirects to another host" in str(caught.value)) == elsewhere
    else:
        opener(place)
    assert SECRET in first.requests[0]
    assert bool(other.requests) != elsewhere


def test_a_sas_token_does_not_go_to_another_host(monkeypatch, servers):
    first, other, elsewhere = servers
    azure(monkeypatch, address_of(first))
    # Azure's client takes http:// from nowhere but its options.
    allowed = {"client_options": {"allow_http": True, **stay("az")}}
    monkeypatch.setitem(fsspec.config.conf, "az", allowed)
    if elsewhere:
        with pytest.raises(BadInputError, match="it redirects to another host"):
            storage.read("az://forest/a")
    else:
        storage.read("az://forest/a")
    assert SECRET in first.requests[0]
    assert bool(other.requests) != elsewhere


@pytest.mark.parametrize("servers", ["localhost"], indirect=True)
def test_the_client_itself_would_take_them_along(monkeypatch, servers):
    """When this fails, the client has learnt it, and ``stay`` may go."""
    first, other, _ = servers
    for access, place in ((aws, "s3://forest"), (azure, "az://forest")):
        access(monkeypatch, address_of(first))
        from_url(place, client_options={"allow_http": True}).get("a")
    assert [SECRET in request for request in other.requests] == [True, True]


def test_what_holds_no_secret_is_redirected(monkeypatch, servers, optional):
    """Mirrors and content networks do that; a login in the address stays behind."""
    optional("aiohttp")  # fsspec's for http
    first, other, _ = servers
    aws(monkeypatch, address_of(first))
    options = AcquisitionOptions(endpoint=address_of(first))
    with_login = address_of(first, f"me:{SECRET}@127.0.0.1")
    assert bytes(open_bucket("forest", options).cat_file("forest/a")) == b"hello"
    assert bytes(open_web(with_login, options).cat_file(f"{with_login}/a")) == b"hello"
    assert storage.read(f"{with_login}/a") == b"hello"
    assert len(other.requests) == 3
    assert SECRET not in " ".join(other.requests)


def test_a_proxy_of_the_environment_is_left_in_place(monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert stay("s3")["proxy_excludes"].startswith("amazonaws.com")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert stay("s3") == {}
