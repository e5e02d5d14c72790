"""The raw archive as a Kedro dataset."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from biomassters.chips.archive.archive import Archive
from biomassters.datasets.paths import LocalDataset
from biomassters.errors import BadInputError
from biomassters.io.storage import place_of
from biomassters.simulation.simulated_chips import SimulatedChips, write_simulated

if TYPE_CHECKING:  # rasterio takes long to import, and most commands don't need it
    from biomassters.regions.chip_cutting import RegionChips


class ArchiveDataset(LocalDataset["SimulatedChips | RegionChips", Archive]):
    """A folder of chips in the layout that DrivenData publishes.

    Loading gives a handle that reads chips on demand. Saving takes simulated chips, or
    those that are cut from a region, and writes the same layout; an archive that came from
    elsewhere is never overwritten.

    Args:
        filepath: The archive's folder, or its URL.
        parameter: The parameter that names it, for messages.
        writable: Whether simulated chips may be written there.
        metadata: For other tools, ignored here.

    Example:
        >>> ArchiveDataset(filepath="data/01_raw/simulated").load()  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        filepath: str,
        parameter: str = "raw_root",
        writable: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._filepath = place_of(filepath)
        self._parameter, self._writable = parameter, writable

    def load(self) -> Archive:
        """Open the archive; raises BadInputError when there is none."""
        return Archive.open(self._filepath, self._parameter)

    def save(self, data: "SimulatedChips | RegionChips") -> None:
        """Write chips, unless just these are there already."""
        if not isinstance(data, SimulatedChips):
            from biomassters.regions.chip_cutting import write_region_chips

            if not isinstance(self._filepath, Path):
                raise BadInputError(f"raw_root: {self._filepath} is no folder: name one for chips.")
            write_region_chips(data, self._filepath)
            return
        if not self._writable:
            raise BadInputError(
                f"{self._filepath} is the place of a real archive, and simulation won't write "
                "there; run '--pipelines from_archive', which begins after the simulation."
            )
        if not isinstance(self._filepath, Path):
            raise BadInputError(
                f"raw_root: simulation can't write to {self._filepath}; name a folder, or use "
                "'--pipelines from_archive', which begins after the simulation."
            )
        write_simulated(data, self._filepath)

    def _exists(self) -> bool:
        return isinstance(self._filepath, str) or self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "writable": self._writable}
