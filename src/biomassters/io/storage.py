"""Files at a URL: the few verbs that archives and stores need of object storage.

S3, Google's and Azure's storage are reached through obstore, which was several times as fast
as s3fs (``benchmarks/results/archive.md``); what else fsspec knows, through fsspec. Address and
access come from the environment (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, …) of each machine
or from fsspec's configuration, so that no key ever travels between processes.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from biomassters.errors import BadInputError
from biomassters.io.bucket_names import require_bucket
from biomassters.io.redirects import ELSEWHERE, leads_elsewhere, stay
from biomassters.io.timeouts import client_options

Place = Path | str  # a local path, or a URL
State = tuple[int, int | str]  # size in bytes, and something that changes with the content
Item = TypeVar("Item")
Result = TypeVar("Result")

_BY_OBSTORE = ("s3", "s3a", "gs", "az", "abfs", "abfss")
_RETRIES = 5
_AT_ONCE = 32
_MARKS = ("e_tag", "ETag", "etag", "last_modified", "LastModified", "mtime", "created")


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
        found = system.find(path, detail=True)
        return {
            name.removeprefix(head): _state(entry)
            for name, entry in sorted(found.items())
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
    urls = [path for path in paths if is_url(path)]
    contents = zip(urls, side_by_side(_read_or_none, urls), strict=True)
    return {url: data for url, data in contents if data is not None}


def _read_or_none(url: str) -> bytes | None:
    try:
        return read(url)
    except FileNotFoundError:
        return None


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
    return path if protocol in _BY_OBSTORE else str(system._strip_protocol(url))


@lru_cache
def _system(protocol: str, process: int) -> Any:
    """A file system; each process opens its own, for their threads don't survive a fork."""
    import fsspec  # type: ignore[import-untyped]  # only URLs need it

    try:
        if protocol not in _BY_OBSTORE:
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
    mark = next((entry[name] for name in _MARKS if entry.get(name) is not None), "")
    return int(entry["size"]), str(mark)
