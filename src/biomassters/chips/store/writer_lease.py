"""One writer at a time at a URL, as well as storage without locks can tell."""

import json
import logging
import os
import socket
import threading
import time
import uuid
from typing import Any

from biomassters.errors import BadInputError
from biomassters.io import storage

RENEW_S = 5.0  # between two signs of life
_WATCH = 4  # so many of these without one, and the other is taken for dead

_logger = logging.getLogger(__name__)


class WriterLease:
    """An object that its holder renews every few seconds, and deletes at the end.

    Who finds one watches whether it is renewed; no clocks are compared. Of a process of this
    machine that has ended, it is taken over at once. Two runs that start within the same
    second may both believe for a moment that they hold it: the one whose object was
    overwritten sees that at its next renewal, and ends.

    Args:
        url: The object.
        place: What is being written, for messages.

    Raises:
        BadInputError: Another run holds it.
    """

    def __init__(self, url: str, place: str) -> None:
        self._url, self._place = url, place
        self._own = {
            "owner": uuid.uuid4().hex,
            "machine": socket.gethostname(),
            "process": os.getpid(),
        }
        self._lost = False
        self._stop = threading.Event()
        self._wait_for_the_other()
        self._renew(0)
        self._thread = threading.Thread(target=self._keep, name="writer lease", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let others write."""
        self._stop.set()
        self._thread.join()
        if self._is_own(_load(self._url)):
            storage.delete(self._url)

    def require(self) -> None:
        """Refuse to go on when another run has taken the place over."""
        if self._lost:
            raise self._refusal()

    def _wait_for_the_other(self) -> None:
        found = _load(self._url)
        if found is None or _is_dead(found):
            return
        _logger.info("Looking for %g s whether another run is alive.", _WATCH * RENEW_S)
        for _ in range(4 * _WATCH):
            time.sleep(RENEW_S / 4)
            now = _load(self._url)
            if now is None:
                return
            if now != found:
                raise self._refusal()

    def _keep(self) -> None:
        count = 0
        while not self._stop.wait(RENEW_S):
            count += 1
            try:
                found = _load(self._url)
                if found is not None and not self._is_own(found):
                    self._lost = True
                    return
                self._renew(count)
            except BadInputError as error:  # the network; the next time may be better
                _logger.warning("%s", error)

    def _renew(self, count: int) -> None:
        storage.write(self._url, json.dumps({**self._own, "renewed": count}).encode())

    def _is_own(self, found: dict[str, Any] | None) -> bool:
        return found is not None and found["owner"] == self._own["owner"]

    def _refusal(self) -> BadInputError:
        return BadInputError(
            f"Another run is writing {self._place}: wait until it ends, then run again."
        )


def _load(url: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(storage.read(url)))
    except FileNotFoundError:
        return None


def _is_dead(found: dict[str, Any]) -> bool:
    """Whether it was a process of this machine that no longer is."""
    if found["machine"] != socket.gethostname():
        return False
    try:
        os.kill(found["process"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
