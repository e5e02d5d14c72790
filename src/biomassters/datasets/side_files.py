"""Small text files beside a raster, named after it, as a Kedro dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from biomassters.io.files import write_durably


class SideFilesDataset(AbstractDataset[Mapping[str, str], dict[str, str]]):
    """Text files whose names begin as a raster's does, such as ``agb.qml`` of ``agb.tif``.

    Saving takes texts by what their names add to the raster's without its suffix.

    Example:
        >>> SideFilesDataset(filepath="maps/agb.tif", endings=[".qml"]).load()  # doctest: +SKIP
        {'.qml': '<!DOCTYPE qgis …'}
    """

    def __init__(
        self, *, filepath: str, endings: list[str], metadata: dict[str, Any] | None = None
    ) -> None:
        """Point at a raster.

        Args:
            filepath: The raster.
            endings: What names may add; those that are not saved are removed.
            metadata: For other tools, ignored here.
        """
        self._raster, self._endings = Path(filepath), endings
        self._filepath = self._beside(endings[0])
        self.metadata = metadata

    def load(self) -> dict[str, str]:
        """The files that are there, by their endings."""
        found = {ending: self._beside(ending) for ending in self._endings}
        return {ending: path.read_text() for ending, path in found.items() if path.is_file()}

    def save(self, data: Mapping[str, str]) -> None:
        """Write each file whole; one of an earlier raster doesn't stay."""
        for ending in self._endings:
            if ending in data:
                write_durably(self._beside(ending), [data[ending].encode()])
            else:
                self._beside(ending).unlink(missing_ok=True)

    def _beside(self, ending: str) -> Path:
        return self._raster.with_name(self._raster.stem + ending)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._raster), "endings": self._endings}
