"""Secrets stay with the server that they are for, also when it redirects to another host.

The client in obstore follows redirects, and can't be told not to. On the way to another host it
drops Authorization, but not X-Amz-Security-Token, and its Referer repeats the query, be it an
Azure SAS token or the signature of an address (``tests/chips/test_redirects.py`` shows it). While
one of these is in use, other hosts are sought behind a proxy that nobody can run.
"""

import os
from urllib.parse import urlsplit
from urllib.request import getproxies

ELSEWHERE = "it redirects to another host, where its credentials don't belong"

_NOBODY = "127.0.0.1:0"  # nothing can listen on port 0
_SECRETS = {
    "s3": ("AWS_SESSION_TOKEN", "AWS_TOKEN"),
    "az": ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"),
}
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
_PROVIDERS = {
    "s3": "amazonaws.com,amazonaws.com.cn",
    "az": "core.windows.net,fabric.microsoft.com",
}
_STORAGES = {"s3": "s3", "s3a": "s3", "az": "az", "abfs": "az", "abfss": "az"}


def stay(address: str) -> dict[str, str]:
    """Options of obstore's client that keep an address's secrets at its own host.

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
    """Where a secret may go, None: there is none that a redirect would take along."""
    scheme = address.partition("://")[0]
    if scheme in ("http", "https"):
        parts = urlsplit(address)
        return parts.hostname if parts.query else None
    storage = _STORAGES.get(scheme, "")
    if not any(os.environ.get(name) for name in _SECRETS.get(storage, ())):
        return None
    endpoint = next((os.environ[name] for name in _ENDPOINTS[storage] if os.environ.get(name)), "")
    return urlsplit(endpoint).hostname or _PROVIDERS[storage]
