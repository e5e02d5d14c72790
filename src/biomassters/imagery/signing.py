"""Signatures of addresses: asked for when a file is opened, kept in memory until they end.

Planetary Computer gives one a storage container that lasts less than an hour
(planetarycomputer.microsoft.com/docs/concepts/sas); nothing that is written holds it.
"""

import json
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from biomassters.errors import BadInputError
from biomassters.io.storage import time_limits_s
from biomassters.messages import redact

_EARLY = timedelta(minutes=2)  # a file that is being opened must not outlast its signature
_MOST_BYTES = 2**20


def without_query(address: str) -> str:
    """An address without what may be a signature; a path as it is."""
    return address.partition("?")[0] if "://" in address else address


@dataclass(frozen=True)
class Signing:
    """How addresses of a catalogue are signed.

    Attributes:
        token_url: ``…/ACCOUNT/CONTAINER`` below it gives ``{"token": …, "msft:expiry": …}``.
        hosts: Ends of the hosts whose addresses want one.
    """

    token_url: str | None
    hosts: tuple[str, ...] = ()

    def sign(self, address: str, *, anew: bool = False) -> str:
        """An address as it is opened.

        Args:
            address: With an older signature or none.
            anew: Don't take one that was asked for before: it was refused.

        Raises:
            BadInputError: No signature can be had.
        """
        parts = urlsplit(address)
        host = parts.hostname or ""
        if self.token_url is None or not any(host.endswith(end) for end in self.hosts):
            return address
        container = parts.path.strip("/").partition("/")[0]
        token = _token(f"{self.token_url}/{host.partition('.')[0]}/{container}", anew)
        return f"{without_query(address)}?{token}"


UNSIGNED = Signing(None)
_tokens: dict[str, tuple[str, datetime]] = {}
_lock = threading.Lock()


def _token(url: str, anew: bool) -> str:
    with _lock:
        if not anew and url in _tokens and _tokens[url][1] > datetime.now(UTC) + _EARLY:
            return _tokens[url][0]
        try:
            with urllib.request.urlopen(url, timeout=time_limits_s()[1]) as answer:
                found = json.loads(answer.read(_MOST_BYTES))
            expiry = datetime.fromisoformat(str(found.get("msft:expiry")))
            _tokens[url] = str(found["token"]).lstrip("?"), expiry
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}"
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            reason = redact(str(getattr(error, "reason", error)))
        else:
            return _tokens[url][0]
    raise BadInputError(
        f"{redact(url)} gives no signature ({reason}): check the network and the catalogue's "
        "token_url, then run again; what is done so far is kept."
    )
