"""Servers that redirect to another host: what of a secret arrives there, and what is said."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest
from obstore.store import from_url

from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.sources import open_bucket, open_web
from biomassters.errors import BadInputError
from biomassters.io import storage
from biomassters.io.redirects import stay
from biomassters.regions.inputs.cube import read_cube

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
    """When this fails, the client has learnt it, and ``chips.redirects`` may go."""
    first, other, _ = servers
    for access, place in ((aws, "s3://forest"), (azure, "az://forest")):
        access(monkeypatch, address_of(first))
        from_url(place, client_options={"allow_http": True}).get("a")
    assert [SECRET in request for request in other.requests] == [True, True]


def test_what_holds_no_secret_is_redirected(monkeypatch, servers):
    """Mirrors and content networks do that; a login in the address stays behind."""
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
