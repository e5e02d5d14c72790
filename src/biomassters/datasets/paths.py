"""Paths as Kedro datasets: only the catalog knows them; code of its own reads or writes there.

``LocalDataset`` is what the project's other datasets have in common; ``SideFilesDataset`` holds
small text files beside a raster.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from kedro.io import AbstractDataset, DatasetError

from biomassters.errors import BadInputError
from biomassters.io.files import write_durably
from biomassters.io.storage import is_url

_Saved = TypeVar("_Saved")
_Loaded = TypeVar("_Loaded")


class LocalDataset(AbstractDataset[_Saved, _Loaded]):
    """A dataset that is one file or folder.

    Args:
        filepath: The file or folder.
        metadata: For other tools, ignored here.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath: Any = Path(filepath)
        self.metadata = metadata

    def _exists(self) -> bool:
        return bool(self._filepath.exists())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class FolderDataset(LocalDataset[Any, Path]):
    """The path of a folder, which is made when loaded.

    Example:
        >>> FolderDataset(filepath="data/06_models/simulated/checkpoints").load()  # doctest: +SKIP
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._url = filepath

    def load(self) -> Path:
        """Make the folder if need be and return its path.

        Raises:
            BadInputError: It is a URL, or can't be made.
        """
        if is_url(self._url):
            raise BadInputError(f"{self._url} is a URL, but this needs a folder: name one.")
        folder = Path(self._url)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInputError(
                f"The folder {folder} can't be made ({error.strerror}): choose another."
            ) from error
        return folder

    def save(self, data: Any) -> NoReturn:
        """Refused: whoever loads the folder writes into it."""
        raise DatasetError("A folder is written by the code that uses it, not by the catalog.")

    def _exists(self) -> bool:
        return True


class FileDataset(LocalDataset[Any, Path]):
    """The path of a file that must exist, for code that reads formats of its own.

    Args:
        filepath: The file.
        parameter: Name of the parameter that sets it, for the message when it's missing.
        metadata: For other tools, ignored here.

    Example:
        >>> FileDataset(filepath="modelo_best.pth", parameter="reference_checkpoint")
        ... # doctest: +SKIP
    """

    def __init__(
        self, *, filepath: str, parameter: str, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._parameter = parameter

    def load(self) -> Path:
        """The path; raises BadInputError when there is no such file."""
        path = Path(self._filepath)
        if not path.is_file():
            raise BadInputError(
                f"There is no file {path}; give it with '--params {self._parameter}=PATH'."
            )
        return path

    def save(self, data: Any) -> NoReturn:
        """Refused: the file is the user's."""
        raise DatasetError("This file is brought by the user and never written.")


class PlaceDataset(LocalDataset[Any, str]):
    """A path or address, whatever lies there, for code that knows what to make of it.

    Args:
        filepath: Path or address; nothing is made there.
        made: Whether a node makes what lies there, so that without it the dataset is missing.
        metadata: For other tools, ignored here.

    Example:
        >>> PlaceDataset(filepath="data/01_raw/simulated_region").load()
        'data/01_raw/simulated_region'
    """

    def __init__(
        self, *, filepath: str, made: bool = False, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._filepath, self._made = filepath, made  # Path would change an address

    def load(self) -> str:
        """The path or address."""
        return str(self._filepath)

    def save(self, data: Any) -> None:
        """Take note that a node has written there: what comes after it in the run may read it."""
        if Path(data) != Path(self._filepath):
            raise DatasetError(f"{data} was written, but the catalog says {self._filepath}.")

    def _exists(self) -> bool:
        return not self._made or Path(self._filepath).exists()


class SideFilesDataset(LocalDataset[Mapping[str, str], dict[str, str]]):
    """Text files whose names begin as a raster's does, such as ``agb.qml`` of ``agb.tif``.

    Saving takes texts by what their names add to the raster's without its suffix.

    Args:
        filepath: The raster.
        endings: What names may add; those that are not saved are removed.
        metadata: For other tools, ignored here.

    Example:
        >>> SideFilesDataset(filepath="maps/agb.tif", endings=[".qml"]).load()  # doctest: +SKIP
        {'.qml': '<!DOCTYPE qgis …'}
    """

    def __init__(
        self, *, filepath: str, endings: list[str], metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._raster, self._endings = Path(filepath), endings
        self._filepath = self._beside(endings[0])

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

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._raster), "endings": self._endings}
