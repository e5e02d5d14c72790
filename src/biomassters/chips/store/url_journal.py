"""The journal of a store that grows at a URL: small objects, for none can be appended to."""

import json
import time
from collections.abc import Mapping, Sequence

from biomassters.chips.store.journal import ChipJournal, journal_line, undamaged_lines
from biomassters.chips.store.layout import MANIFEST_NAME, PLAN_NAME, work_url
from biomassters.chips.store.manifest import ChipRecord
from biomassters.chips.store.place import UrlPlace
from biomassters.chips.store.writer_lease import WriterLease
from biomassters.errors import BadInputError
from biomassters.io import storage

_NOTE_EVERY_S = 2.0
_LEASE = "lease.json"


class UrlJournal(ChipJournal):
    """Finished chips in ``<url>.partial/journal/``, some seconds' worth an object.

    The store grows at its URL; where a finished one is already, beside it, below
    ``<url>.partial``.

    Args:
        url: The store's URL.
        plan: See ``plan_of``.

    Raises:
        BadInputError: Another process writes the same store, or the URL holds something else.
    """

    def __init__(self, url: str, plan: Mapping[str, object]) -> None:
        if "/" not in url.partition("://")[2].strip("/"):
            raise BadInputError(
                f"chip_store: {url} is a whole bucket: give the store a name in it, as in "
                f"{url}/chips.zarr."
            )
        self._url, self._work = url, UrlPlace(work_url(url))
        self._unwritten: list[ChipRecord] = []
        self._lease = WriterLease(f"{self._work.url}/{_LEASE}", url)
        try:
            self.records = self._resume(plan)
        except BaseException:
            self._lease.close()
            raise
        self._noted = time.monotonic()

    def close(self) -> None:
        """See ``ChipJournal.close``."""
        try:
            self._write()
        finally:
            self._lease.close()

    def discard(self) -> None:
        """Delete all that only an unfinished store needs; the plan first."""
        self._unwritten.clear()
        self._work.put({PLAN_NAME: []})
        self._work.put({key: [] for key in self._work.keys() - {_LEASE}})

    def require(self) -> None:
        """Refuse to go on when another run has taken the place over."""
        self._lease.require()

    def _note(self, records: Sequence[ChipRecord]) -> None:
        self.require()
        self._unwritten += records
        if time.monotonic() - self._noted > _NOTE_EVERY_S:
            self._write()

    def _write(self) -> None:
        if self._unwritten:
            lines = "".join(journal_line(record.to_dict()) for record in self._unwritten)
            self._work.put({f"journal/{self._parts:06d}.jsonl": [lines.encode()]})
            self._parts += 1
            self._unwritten.clear()
        self._noted = time.monotonic()

    def _resume(self, plan: Mapping[str, object]) -> dict[tuple[str, int], ChipRecord]:
        """Records of the same plan's chips; anything else of ours is cleared away."""
        try:
            begun = json.loads(storage.read(f"{self._work.url}/{PLAN_NAME}"))
        except FileNotFoundError:
            begun = None
        if begun is None or begun["plan"] != plan:
            self._begin(plan, was_begun=begun is not None)
            return {}
        self.growing = self._place(begun["beside"])
        found = self._work.keys()
        parts = sorted(key for key in found if key.startswith("journal/"))
        texts = storage.side_by_side(lambda key: storage.read(f"{self._work.url}/{key}"), parts)
        self._parts = int(parts[-1][8:14]) + 1 if parts else 0
        lines = [line for text in texts for line in undamaged_lines(text)]
        records = [ChipRecord.from_dict(line) for line in lines]
        return {(record.split, record.index): record for record in records}

    def _begin(self, plan: Mapping[str, object], was_begun: bool) -> None:
        store = UrlPlace(self._url)
        beside = storage.state(f"{self._url}/{MANIFEST_NAME}") is not None
        if not beside:
            strangers = store.keys()
            if strangers and not was_begun:
                raise BadInputError(
                    f"{self._url} holds something that is no chip store ({min(strangers)}): "
                    "choose another URL, or delete what is there."
                )
            store.put({key: [] for key in strangers})
        self.discard()
        self._parts = 0
        self.growing = self._place(beside)
        text = json.dumps({"plan": plan, "beside": beside})
        self._work.put({PLAN_NAME: [text.encode()]})

    def _place(self, beside: bool) -> UrlPlace:
        return UrlPlace(f"{self._work.url}/store" if beside else self._url)
