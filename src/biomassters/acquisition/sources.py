"""Where single files come from: object storage, a web server, a folder."""

import re
from pathlib import Path
from typing import Any, Protocol

import fsspec  # type: ignore[import-untyped]
from obstore.exceptions import PermissionDeniedError, UnauthenticatedError
from obstore.fsspec import FsspecStore

from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.wanted import WantedFile
from biomassters.chips.archive.layout import ArchiveFiles
from biomassters.errors import BadInputError
from biomassters.io.bucket_names import names_bucket, require_bucket
from biomassters.io.redirects import stay

_DENIED = (PermissionError, PermissionDeniedError, UnauthenticatedError)
_UNREACHABLE = re.compile(r"(https?://[^/\s]+)(?s:.*)error sending request")
_OPEN: Any = FsspecStore  # its overloads know no options that are put together


class Source(Protocol):
    """Gives a file's bytes; many threads ask at once."""

    def read(self, file: WantedFile) -> bytes:
        """A file's bytes, not yet checked.

        Raises:
            FileNotFoundError: If the source doesn't have it.
            PermissionError: If the source refuses it.
            Exception: If anything else went wrong; it may work the next time.
        """
        ...


class ObjectSource:
    """Files in buckets, each at its address.

    Args:
        prefix: Address of the folder with the archive's folders, None for the addresses in the
            metadata.
        options: Endpoint and time limit.
    """

    def __init__(self, prefix: str | None, options: AcquisitionOptions) -> None:
        self._prefix = prefix
        self._options = options
        self._systems: dict[str, Any] = {}

    def read(self, file: WantedFile) -> bytes:
        """See ``Source.read``."""
        address = self.address(file)
        bucket, _, key = address.removeprefix("s3://").partition("/")
        system = self._systems.get(bucket) or self._systems.setdefault(
            bucket, open_bucket(bucket, self._options)
        )
        return _read(system, f"{bucket}/{key}")

    def address(self, file: WantedFile) -> str:
        """Where a file lies."""
        if self._prefix is not None:
            return f"{self._prefix}/{file.folder}/{file.filename}"
        if not file.address:
            raise BadInputError(
                f"The metadata give no address of {file.filename}: set acquisition.source to a "
                "mirror, or use the official metadata."
            )
        return file.address


class WebSource:
    """Files of a web server.

    Args:
        prefix: Address of the folder with the archive's folders.
        options: Time limit.
    """

    def __init__(self, prefix: str, options: AcquisitionOptions) -> None:
        self._prefix = prefix
        self._system = open_web(prefix, options)

    def read(self, file: WantedFile) -> bytes:
        """See ``Source.read``."""
        return _read(self._system, f"{self._prefix}/{file.folder}/{file.filename}")


class FolderSource:
    """Files of a folder, at any depth.

    Args:
        root: The folder.
    """

    def __init__(self, root: str) -> None:
        self._files = ArchiveFiles.find(root).tif_paths

    def read(self, file: WantedFile) -> bytes:
        """See ``Source.read``."""
        if file.filename not in self._files:
            raise FileNotFoundError("not in the mirror")
        return Path(self._files[file.filename]).read_bytes()


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
        return ObjectSource(None, options)
    if kind == "s3" and separator:
        return ObjectSource(source, options)
    if kind in ("http", "https") and separator:
        return WebSource(source, options)
    if separator:
        raise BadInputError(
            f"acquisition.source: {kind}:// is unknown; use s3, a folder, http(s):// or s3://."
        )
    if not Path(source).is_dir():
        raise BadInputError(
            f"acquisition.source: {source} is not a folder; use s3, an existing folder, http(s):// "
            "or s3://."
        )
    return FolderSource(source)


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
    require_bucket(path)
    if path.startswith("s3://"):
        path = path.removeprefix("s3://")
        system = open_bucket(path.partition("/")[0], options)
    elif path.startswith(("http://", "https://")):
        system = open_web(path, options)
    else:
        return fsspec.open(path, "rb").open()
    system.info(path)  # a file of obstore's that can't be opened complains again when it is freed
    return system.open(path)


def _client(address: str, options: AcquisitionOptions) -> dict[str, Any]:
    return {
        "client_options": {
            "allow_http": address.startswith("http:"),
            "timeout": f"{options.timeout_s:g}s",
            **stay(address),
            "connect_timeout": f"{min(options.timeout_s, 10):g}s",
        },
        # Every try is ours to count: a body can also arrive whole and wrong.
        "retry_config": {"max_retries": 0},
    }


def _read(system: Any, path: str) -> bytes:
    try:
        return bytes(system.cat_file(path))
    except _DENIED as error:
        raise PermissionError(f"access to {path} is denied (403)") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} doesn't exist (404)") from error
    except Exception as error:  # the library has one type for all the rest
        if (server := _UNREACHABLE.search(str(error))) is None:
            raise
        raise ConnectionError(f"{server[1]} can't be reached") from error
