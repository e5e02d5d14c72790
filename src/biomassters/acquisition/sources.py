"""Where single files come from: object storage, a web server, a folder."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import fsspec  # type: ignore[import-untyped]
from obstore.exceptions import PermissionDeniedError, UnauthenticatedError
from obstore.fsspec import FsspecStore

from biomassters.acquisition.options import AcquisitionOptions
from biomassters.chips.archive.layout import ArchiveFiles
from biomassters.errors import BadInputError
from biomassters.io.storage import names_bucket, require_bucket, stay

_DENIED = (PermissionError, PermissionDeniedError, UnauthenticatedError)
_UNREACHABLE = re.compile(r"(https?://[^/\s]+)(?s:.*)error sending request")
_OPEN: Any = FsspecStore  # its overloads know no options that are put together


class WantedFile(NamedTuple):
    """A file that the archive should have."""

    filename: str
    chip_id: str
    folder: str  # that it belongs into
    size: int  # bytes; of a test label only about
    cksum: int | None  # POSIX; None of a test label, which no metadata list
    address: str  # s3://…, "" where the metadata have none
    path: Path  # where it lies or will lie


# Gives a file's bytes, not yet checked; many threads ask at once. FileNotFoundError: the source
# doesn't have it; PermissionError: it refuses it; after anything else it may work the next time.
Source = Callable[[WantedFile], bytes]


def open_source(options: AcquisitionOptions) -> Source:
    """The source that the options name.

    Raises:
        BadInputError: If it is a folder that doesn't exist, names no bucket, or is of an unknown
            kind.
    """
    require_bucket(options.source)
    source = options.source.rstrip("/")
    kind, separator, _ = source.partition("://")
    if source == "s3":
        return _open_buckets(_listed_address, options)
    if not separator:
        return _open_folder(source)

    def address(file: WantedFile) -> str:
        return f"{source}/{file.folder}/{file.filename}"

    if kind == "s3":
        return _open_buckets(address, options)
    if kind in ("http", "https"):
        web = open_web(source, options)
        return lambda file: _read(web, address(file))
    raise BadInputError(
        f"acquisition.source: {kind}:// is unknown; use s3, a folder, http(s):// or s3://."
    )


def _open_buckets(address: Callable[[WantedFile], str], options: AcquisitionOptions) -> Source:
    system_of = cache(lambda bucket: open_bucket(bucket, options))

    def read(file: WantedFile) -> bytes:
        path = address(file).removeprefix("s3://")
        return _read(system_of(path.partition("/")[0]), path)

    return read


def _listed_address(file: WantedFile) -> str:
    if not file.address:
        raise BadInputError(
            f"The metadata give no address of {file.filename}: set acquisition.source to a "
            "mirror, or use the official metadata."
        )
    return file.address


def _open_folder(root: str) -> Source:
    files = find_mirror(root).tif_paths

    def read(file: WantedFile) -> bytes:
        if file.filename not in files:
            raise FileNotFoundError("not in the mirror")
        return Path(files[file.filename]).read_bytes()

    return read


def find_mirror(root: str) -> ArchiveFiles:
    """Files of a folder that is the source, at any depth.

    Raises:
        BadInputError: There is no such folder.
    """
    if not Path(root).is_dir():
        raise BadInputError(
            f"acquisition.source: {root} is not a folder; use s3, an existing folder, http(s):// "
            "or s3://."
        )
    return ArchiveFiles.find(root)


def open_bucket(bucket: str, options: AcquisitionOptions) -> Any:
    """A file system that reads a bucket anonymously.

    Without an endpoint it asks ``<bucket>.s3.amazonaws.com``, a name that leads to the bucket's
    region, wherever that is.
    """
    assert names_bucket(f"s3://{bucket}"), "else it would choose the server"
    endpoint = options.endpoint or f"https://{bucket}.s3.amazonaws.com"
    return _OPEN(
        "s3",
        endpoint=endpoint,
        virtual_hosted_style_request=options.endpoint is None,
        skip_signature=True,
        region="us-east-1",
        **_client(endpoint, options),
    )


def open_web(address: str, options: AcquisitionOptions) -> Any:
    """A file system that reads from a web server."""
    kind = "https" if address.startswith("https:") else "http"
    return _OPEN(kind, **_client(address, options))


def open_stream(path: str, options: AcquisitionOptions) -> Any:
    """A seekable file, local or remote; BadInputError where an s3:// address has no bucket."""
    if not path.startswith(("s3://", "http://", "https://")):
        require_bucket(path)
        return fsspec.open(path, "rb").open()
    system, path = _remote(path, options)
    system.info(path)  # a file of obstore's that can't be opened complains again when it is freed
    return system.open(path)


def open_ranges(path: str, options: AcquisitionOptions) -> tuple[int, Callable[[int, int], bytes]]:
    """A file, local or remote, of which parts are read, by many threads at once.

    Returns:
        Its size, and what reads from one place up to another.

    Raises:
        FileNotFoundError: There is no such file.
        BadInputError: An s3:// address has no bucket.
    """
    if "://" not in path:
        file = Path(path)

        def read_local(start: int, stop: int) -> bytes:
            with file.open("rb") as opened:
                opened.seek(start)
                return opened.read(stop - start)

        return file.stat().st_size, read_local
    system, path = _remote(path, options)
    return int(system.info(path)["size"]), lambda start, stop: _read(
        system, path, start=start, end=stop
    )


def _remote(address: str, options: AcquisitionOptions) -> tuple[Any, str]:
    """The file system of an address, and what the file is called there."""
    require_bucket(address)
    if not address.startswith("s3://"):
        return open_web(address, options), address
    path = address.removeprefix("s3://")
    return open_bucket(path.partition("/")[0], options), path


def _client(address: str, options: AcquisitionOptions) -> dict[str, Any]:
    return {
        "client_options": {
            "allow_http": address.startswith("http:"),
            "timeout": f"{options.timeout_s:g}s",
            "connect_timeout": f"{min(options.timeout_s, 10):g}s",
            **stay(address),
        },
        # Every try is ours to count: a body can also arrive whole and wrong.
        "retry_config": {"max_retries": 0},
    }


def _read(system: Any, path: str, **part: int) -> bytes:
    try:
        return bytes(system.cat_file(path, **part))
    except _DENIED as error:
        raise PermissionError(f"access to {path} is denied (403)") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} doesn't exist (404)") from error
    except Exception as error:  # the library has one type for all the rest
        if (server := _UNREACHABLE.search(str(error))) is None:
            raise
        raise ConnectionError(f"{server[1]} can't be reached") from error
