"""Catalogues: which assets of their items are which bands, and how their addresses are signed.

Each is a YAML file: two lie in ``presets``, and a path to another one takes their place. Bands go
by the exact key of an asset, because items repeat bands under other keys: as JPEG 2000, as
``visual`` with three of them, as AOT, which once was read as B2.

Signatures of addresses are asked for when a file is opened, and kept in memory until they end:
Planetary Computer gives one a storage container that lasts less than an hour
(planetarycomputer.microsoft.com/docs/concepts/sas). Nothing that is written holds one.
"""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import Field

from biomassters.errors import BadInputError
from biomassters.io.files import read_regular
from biomassters.io.storage import is_url, time_limits_s
from biomassters.messages import listed, redact
from biomassters.options import Options

_PRESETS = Path(__file__).parent / "presets"
_EARLY = timedelta(minutes=2)  # a file that is being opened must not outlast its signature
_MOST_BYTES = 2**20


class OpticalAssets(Options):
    """Sentinel-2 Level-2A of a catalogue."""

    collection: str = Field(description="Its id")
    bands: dict[str, str] = Field(description="Keys of assets by band, B2 to B12")
    classes: str | None = Field(None, description="Key of the scene classification (SCL)")
    clouds: str | None = Field(None, description="Key of the cloud probability (MSK_CLDPRB)")
    offset_applied: str | None = Field(
        None, description="Property that says whether the offset of baseline 04.00 is off already"
    )


class RadarAssets(Options):
    """Terrain-corrected Sentinel-1 of a catalogue."""

    collection: str = Field(description="Its id")
    bands: dict[str, str] = Field(description="Keys of assets by polarization, VV and VH")
    unit: Literal["power", "dB"] = Field(description="What the pixels hold")
    reference: Literal["gamma0", "sigma0"] = Field(description="What the power is divided by")


class Catalogue(Options):
    """One catalogue."""

    url: str = Field(description="Of its STAC API, or its static catalogue")
    s2: OpticalAssets | None = Field(None, description="Its Sentinel-2")
    s1: RadarAssets | None = Field(None, description="Its Sentinel-1")
    no_s1: str = Field("has no Sentinel-1", description="Why it has none, after its name")
    signed_hosts: tuple[str, ...] = Field((), description="Ends of hosts that want a signature")
    token_url: str | None = Field(
        None, description="Where a signature is asked for: …/ACCOUNT/CONTAINER gives a JSON token"
    )

    def matches(self, sensor: str, item: Mapping[str, Any]) -> bool:
        """Whether an item of a sensor is this catalogue's.

        Sentinel-1's must be of its collection: anybody's files are called vv and vh, and neither
        their unit nor what their power is divided by can be told from that.
        """
        kind = self.s2 if sensor == "s2" else self.s1
        if kind is None or not set(kind.bands.values()) <= set(item["assets"]):
            return False
        return sensor == "s2" or item.get("collection") == kind.collection


def read_catalogue(name: str) -> Catalogue:
    """A preset by its name, or a YAML file of one's own.

    Raises:
        BadInputError: There is neither, or the file says something else.
    """
    presets = {path.stem: path for path in sorted(_PRESETS.glob("*.yml"))}
    path = presets.get(name, Path(name))
    try:
        found = Catalogue.model_validate(yaml.safe_load(read_regular(path)))
        if is_url(found.url):
            return found
        # A static catalogue lies beside the file that names it.
        return found.model_copy(update={"url": str(path.absolute().parent / found.url)})
    except OSError:
        raise BadInputError(
            f"There is no catalogue {name}: choose {listed(presets)}, or name a YAML file."
        ) from None
    except yaml.YAMLError:
        raise BadInputError(f"{path} is not YAML: write it as those in imagery/presets.") from None
    except BadInputError as error:
        raise BadInputError(f"The catalogue {name}: {error}") from None


@cache
def presets() -> tuple[Catalogue, ...]:
    """Those that come with the package."""
    return tuple(read_catalogue(path.stem) for path in sorted(_PRESETS.glob("*.yml")))


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
