"""Files at a URL: the few verbs that archives and stores need of object storage.

S3, Google's and Azure's storage are reached through obstore, which was several times as fast
as s3fs (``benchmarks/results/archive.md``); what else fsspec knows, through fsspec. Address and
access come from the environment (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, …) of each machine
or from fsspec's configuration, so that no key ever travels between processes.

The second half is what every client of an address has to keep to, GDAL's and the cubes' as well:
time limits, names of buckets, and secrets that stay with the server that they are for.
"""

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from biomassters.errors import BadInputError

# fsspec and obstore are imported where they are used: only URLs need them.

Place = Path | str  # a local path, or a URL
State = tuple[int, int | str]  # size in bytes, and something that changes with the content
Item = TypeVar("Item")
Result = TypeVar("Result")

_RETRIES = 5
_AT_ONCE = 32
_CHANGES_WITH_CONTENT = (
    "e_tag", "ETag", "etag", "last_modified", "LastModified", "mtime", "created",
)  # fmt: skip


def is_url(place: Place) -> bool:
    """Whether something is a URL rather than a local path."""
    return "://" in str(place)


def place_of(text: Place) -> Place:
    """What a user names: a URL, or an absolute local path, also of a ``file://`` URL."""
    text = str(text)
    if text.startswith("file://"):
        text = unquote(text.removeprefix("file://"))
    return text.rstrip("/") if is_url(text) else Path(os.path.abspath(text))  # noqa: PTH100


def read(url: str) -> bytes:
    """An object's bytes.

    Raises:
        FileNotFoundError: There is none.
        BadInputError: It can't be read.
    """
    return _call("read", url, lambda system, path: bytes(system.cat_file(path)))


def read_range(url: str, start: int, end: int) -> bytes:
    """Bytes ``start`` to ``end`` of an object; errors as of ``read``."""
    return _call("read", url, lambda system, path: bytes(system.cat_file(path, start, end)))


def write(url: str, data: bytes) -> None:
    """Write an object; it appears whole, in place of an older one."""
    _call("written", url, lambda system, path: system.pipe_file(path, data))


def copy(source: str, target: str) -> None:
    """Copy an object within a bucket, without its bytes coming here."""
    _call("copied", target, lambda system, path: system.cp_file(_path(system, source), path))


def delete(url: str) -> None:
    """Delete an object, if there is one."""
    with suppress(FileNotFoundError):
        _call("deleted", url, lambda system, path: system.rm_file(path))


def state(url: str) -> State | None:
    """State of an object, or None where there is none."""
    try:
        return _call("read", url, lambda system, path: _state(system.info(path)))
    except FileNotFoundError:
        return None


def listing(url: str) -> dict[str, State]:
    """States of all objects below a URL, by their names relative to it, in order."""

    def find(system: Any, path: str) -> dict[str, State]:
        system.invalidate_cache()
        head = path.rstrip("/") + "/"
        return {
            name.removeprefix(head): _state(entry)
            for name, entry in sorted(system.find(path, detail=True).items())
            if name.startswith(head) and entry["type"] == "file"
        }

    try:
        return _call("listed", url, find)
    except FileNotFoundError:
        return {}


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call something that waits for the network with every item, many at a time."""
    return list(_pool(os.getpid()).map(work, items))


def fetch(paths: Iterable[str]) -> dict[str, bytes]:
    """Bytes of those paths that are URLs and exist, read side by side."""

    def read_if_there(url: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return read(url)
        return None

    urls = [path for path in paths if is_url(path)]
    contents = zip(urls, side_by_side(read_if_there, urls), strict=True)
    return {url: data for url, data in contents if data is not None}


def _call(verb: str, url: str, work: Callable[[Any, str], Result]) -> Result:
    require_bucket(url)
    try:
        system = _system(url.partition("://")[0], os.getpid())
        return work(system, _path(system, url))
    except (FileNotFoundError, BadInputError):
        raise
    except Exception as error:  # whatever a network library raises
        reason = _reason(error)
    # Out here, for the exceptions of those libraries can't always be pickled by Dask.
    raise BadInputError(
        f"{url} can't be {verb} ({reason}): check the address, the access to it (docs/archive.md, "
        "'Object storage') and the network, then run again."
    )


def _reason(error: Exception) -> str:
    if leads_elsewhere(error):
        return ELSEWHERE
    text = " ".join(str(error).split()) or type(error).__name__
    for status, meaning in (("403", "access denied"), ("404 Not Found", "no such bucket")):
        if f"status code: {status}" in text:
            return f"{meaning}, {status[:3]}"
    return text.partition("<?xml")[0].partition("Debug source")[0].rstrip(" :.")[:300]


def _path(system: Any, url: str) -> str:
    protocol, _, path = url.partition("://")
    return path if protocol in _PROVIDERS else str(system._strip_protocol(url))


@lru_cache
def _system(protocol: str, process: int) -> Any:
    """A file system; each process opens its own, for their threads don't survive a fork."""
    import fsspec  # type: ignore[import-untyped]

    try:
        if protocol not in _PROVIDERS:
            return fsspec.filesystem(protocol)
    except (ValueError, ImportError) as error:
        raise BadInputError(
            f"{protocol}:// can't be read ({error}): use another kind of storage, or install what "
            "it needs."
        ) from None
    from obstore.fsspec import FsspecStore

    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
    options: dict[str, Any] = {
        "retry_config": {"max_retries": _RETRIES},
        "client_options": {
            "allow_http": endpoint.startswith("http:"),
            **client_options(),
            **stay(protocol),
        },
        "skip_instance_cache": True,
    }
    make: Any = FsspecStore  # its overloads know no options that are put together
    return make(protocol, **options | fsspec.config.conf.get(protocol, {}))


@lru_cache
def _pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="object storage")


def _state(entry: dict[str, Any]) -> State:
    found = (entry[name] for name in _CHANGES_WITH_CONTENT if entry.get(name) is not None)
    return int(entry["size"]), str(next(found, ""))


# ---- What every client of an address keeps to


def time_limits_s() -> tuple[float, float]:
    """Seconds until a server accepts a connection, and until it has answered.

    One that accepts a connection and never answers would keep a run waiting for ever. The variable
    BIOMASSTERS_TIMEOUT_S sets another number.
    """
    try:
        answer_s = max(1.0, float(os.environ["BIOMASSTERS_TIMEOUT_S"]))
    except (KeyError, ValueError):
        answer_s = 60.0
    return min(10.0, answer_s), answer_s


def client_options() -> dict[str, str]:
    """The time limits as obstore takes them."""
    connect_s, answer_s = time_limits_s()
    return {"connect_timeout": f"{connect_s:g}s", "timeout": f"{answer_s:g}s"}


@dataclass(frozen=True)
class _Provider:
    """Names of buckets, and the variables with secrets that a redirect would take along."""

    bucket: re.Pattern[str]
    rule: str
    secrets: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    hosts: str = ""  # where its secrets belong without an endpoint


# docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_S3 = _Provider(
    re.compile(r"(?!\d+(\.\d+){3}$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    "a bucket's name has 3 to 63 of a-z, 0-9, '.' and '-'",
    secrets=("AWS_SESSION_TOKEN", "AWS_TOKEN"),
    endpoints=("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"),
    hosts="amazonaws.com,amazonaws.com.cn",
)
# cloud.google.com/storage/docs/buckets#naming: longer where dots part it
_GOOGLE = _Provider(
    re.compile(r"(?=[^.]{1,63}(\.[^.]{1,63})*$)[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
    "a bucket's name has 3 to 63 of a-z, 0-9, '.', '_' and '-'",
)
# learn.microsoft.com/rest/api/storageservices: naming and referencing containers
_CONTAINER = r"(\$root|\$web|\$logs|[a-z0-9][a-z0-9-]{1,61}[a-z0-9])"
_ACCOUNT = r"(@[a-z0-9-]{3,63}\.(dfs|blob)\.(core\.windows\.net|fabric\.microsoft\.com))?"
_AZURE = _Provider(
    re.compile(_CONTAINER),
    "a container's name has 3 to 63 of a-z, 0-9 and '-'",
    secrets=("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"),
    endpoints=("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    hosts="core.windows.net,fabric.microsoft.com",
)
_AZURE_WITH_ACCOUNT = replace(_AZURE, bucket=re.compile(_CONTAINER + _ACCOUNT))
_PROVIDERS = {
    "s3": _S3, "s3a": _S3, "gs": _GOOGLE,
    "az": _AZURE, "abfs": _AZURE_WITH_ACCOUNT, "abfss": _AZURE_WITH_ACCOUNT,
}  # fmt: skip


def names_bucket(address: str) -> bool:
    """Whether an address of object storage has a bucket; True for other addresses and paths."""
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in _PROVIDERS:
        return True
    return _PROVIDERS[scheme].bucket.fullmatch(rest.partition("/")[0]) is not None


def require_bucket(address: str) -> None:
    """Refuse an address of object storage whose bucket can't be one.

    What follows ``s3://`` becomes a part of a server's name: ``localhost#`` in
    ``https://<name>.s3.amazonaws.com`` would choose the server.

    Raises:
        BadInputError: What follows ``://`` is no name of a bucket or container.
    """
    if not names_bucket(address):
        # The name isn't repeated: in front of an "@" may stand a password, which is only hidden
        # in whole addresses.
        rule = _PROVIDERS[address.partition("://")[0]].rule
        raise BadInputError(f"{address} names no bucket ({rule}): correct the address.")


ELSEWHERE = "it redirects to another host, where its credentials don't belong"
_NOBODY = "127.0.0.1:0"  # nothing can listen on port 0


def stay(address: str) -> dict[str, str]:
    """Options of obstore's client that keep an address's secrets at its own host.

    The client follows redirects, and can't be told not to. On the way to another host it drops
    Authorization, but not X-Amz-Security-Token, and its Referer repeats the query, be it an Azure
    SAS token or the signature of an address (``tests/io/test_storage.py`` shows it). While one of
    these is in use, other hosts are sought behind a proxy that nobody can run.

    Args:
        address: Any address, or the scheme of one, as in ``s3``.

    Returns:
        Options; none where there is no such secret, and where requests go through a proxy of the
        environment's, which this would replace.
    """
    hosts = _own_hosts(address)
    if hosts is None or any(kind in getproxies() for kind in ("http", "https", "all")):
        return {}
    return {"proxy_url": f"http://{_NOBODY}", "proxy_excludes": hosts}


def leads_elsewhere(error: BaseException) -> bool:
    """Whether a request failed because it was redirected to another host: ``ELSEWHERE`` says so."""
    return _NOBODY in str(error)


def _own_hosts(address: str) -> str | None:
    """Where a secret may go; None: there is none that a redirect would take along."""
    scheme = address.partition("://")[0]
    if scheme in ("http", "https"):
        parts = urlsplit(address)
        return parts.hostname if parts.query else None
    provider = _PROVIDERS.get(scheme)
    if provider is None or not any(map(os.environ.get, provider.secrets)):
        return None
    endpoint = next(filter(None, map(os.environ.get, provider.endpoints)), "")
    return urlsplit(endpoint).hostname or provider.hosts
