"""Items that a search found, as a Kedro dataset."""

import json
import logging
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from biomassters.imagery.search import SceneSearch, same_query
from biomassters.io.files import read_json, write_durably
from biomassters.messages import shown_path

log = logging.getLogger(__name__)


class ItemCollectionDataset(AbstractDataset[SceneSearch, dict[str, Any]]):
    """A STAC item collection (JSON).

    Saving takes a search and asks the catalogue, unless the file holds the answer to the same one.

    Example:
        >>> path = "data/01_raw/simulated/items.json"
        >>> ItemCollectionDataset(filepath=path).load()["type"]  # doctest: +SKIP
        'FeatureCollection'
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Point at a file.

        Args:
            filepath: The file.
            metadata: For other tools, ignored here.
        """
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        """The collection; raises BadInputError where it can't be read."""
        return dict(read_json(self._filepath, "delete it and run '--pipelines imagery' again"))

    def save(self, data: SceneSearch) -> None:
        """Search, unless that was done before."""
        if same_query(self._filepath, data):
            log.info("Searched before: %s; delete it to search again.", shown_path(self._filepath))
            return
        found = data.run()
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._filepath, [json.dumps(found).encode()])

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
