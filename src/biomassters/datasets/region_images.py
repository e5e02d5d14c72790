"""Images of a region, monthly rasters or scenes, and items that a search found, for Kedro."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biomassters.datasets.paths import LocalDataset, PlaceDataset
from biomassters.imagery.search import SceneSearch, same_query
from biomassters.io.files import read_json, write_durably
from biomassters.messages import shown_path
from biomassters.simulation.options import SceneSimulationOptions
from biomassters.simulation.simulated_region import SimulatedRegion, write_region
from biomassters.simulation.simulated_scenes import write_scenes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SceneSimulation:
    """Scenes to be written: of which monthly images, and how."""

    images: str
    options: SceneSimulationOptions


class RegionImagesDataset(PlaceDataset):
    """Images of a region: a folder, a STAC item collection or a Zarr cube.

    Loading gives the place. Saving takes a simulated region and writes a folder; one that was not
    simulated is never overwritten.

    Example:
        >>> RegionImagesDataset(filepath="data/01_raw/simulated_region").load()
        'data/01_raw/simulated_region'
    """

    def save(self, data: SimulatedRegion) -> None:
        """Write a simulated region, unless just this one is there already."""
        write_region(data, Path(self._filepath))

    def _exists(self) -> bool:
        return Path(self._filepath).exists()


class SimulatedScenesDataset(LocalDataset[SceneSimulation, str]):
    """A folder of scenes with its items and the description of the catalogue.

    Example:
        >>> SimulatedScenesDataset(filepath="data/01_raw/simulated_scenes").load()
        'data/01_raw/simulated_scenes'
    """

    def load(self) -> str:
        """The folder."""
        return str(self._filepath)

    def save(self, data: SceneSimulation) -> None:
        """Write the scenes; a folder of others that were simulated is replaced."""
        write_scenes(Path(data.images), self._filepath, data.options)


class ItemCollectionDataset(LocalDataset[SceneSearch, dict[str, Any]]):
    """A STAC item collection (JSON).

    Saving takes a search and asks the catalogue, unless the file holds the answer to the same one.

    Example:
        >>> path = "data/01_raw/simulated/items.json"
        >>> ItemCollectionDataset(filepath=path).load()["type"]  # doctest: +SKIP
        'FeatureCollection'
    """

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
