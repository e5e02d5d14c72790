"""Folders of images of a region, monthly rasters or scenes, as Kedro datasets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from biomassters.simulation.options import SceneSimulationOptions
from biomassters.simulation.simulated_region import SimulatedRegion, write_region
from biomassters.simulation.simulated_scenes import write_scenes


@dataclass(frozen=True)
class SceneSimulation:
    """Scenes to be written: of which monthly images, and how."""

    images: str
    options: SceneSimulationOptions


class RegionImagesDataset(AbstractDataset[SimulatedRegion, str]):
    """Images of a region: a folder, a STAC item collection or a Zarr cube.

    Loading gives the place. Saving takes a simulated region and writes a folder; one that was not
    simulated is never overwritten.

    Example:
        >>> RegionImagesDataset(filepath="data/01_raw/simulated_region").load()
        'data/01_raw/simulated_region'
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Point at images.

        Args:
            filepath: Folder, file or address.
            metadata: For other tools, ignored here.
        """
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> str:
        """The place; what lies there is looked at by whoever reads it."""
        return self._filepath

    def save(self, data: SimulatedRegion) -> None:
        """Write a simulated region, unless just this one is there already."""
        write_region(data, Path(self._filepath))

    def _exists(self) -> bool:
        return Path(self._filepath).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class SimulatedScenesDataset(AbstractDataset[SceneSimulation, str]):
    """A folder of scenes with its items and the description of the catalogue.

    Example:
        >>> SimulatedScenesDataset(filepath="data/01_raw/simulated_scenes").load()
        'data/01_raw/simulated_scenes'
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Point at a folder.

        Args:
            filepath: The folder.
            metadata: For other tools, ignored here.
        """
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> str:
        """The folder."""
        return self._filepath

    def save(self, data: SceneSimulation) -> None:
        """Write the scenes; a folder of others that were simulated is replaced."""
        write_scenes(Path(data.images), Path(self._filepath), data.options)

    def _exists(self) -> bool:
        return Path(self._filepath).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
