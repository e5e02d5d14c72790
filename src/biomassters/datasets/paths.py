"""Paths as Kedro datasets: only the catalog knows them; code of its own reads or writes there."""

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from biomassters.errors import BadInputError
from biomassters.io.storage import is_url


class FolderDataset(AbstractDataset[Any, Path]):
    """The path of a folder.

    Example:
        >>> FolderDataset(filepath="data/06_models/simulated/checkpoints").load()  # doctest: +SKIP
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Point at a folder.

        Args:
            filepath: The folder; made when loaded.
            metadata: For other tools, ignored here.
        """
        self._url = filepath
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """Make the folder if need be and return its path.

        Raises:
            BadInputError: It is a URL, or can't be made.
        """
        if is_url(self._url):
            raise BadInputError(f"{self._url} is a URL, but this needs a folder: name one.")
        try:
            self._filepath.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInputError(
                f"The folder {self._filepath} can't be made ({error.strerror}): choose another."
            ) from error
        return self._filepath

    def save(self, data: Any) -> NoReturn:
        """Refused: whoever loads the folder writes into it."""
        raise DatasetError("A folder is written by the code that uses it, not by the catalog.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class FileDataset(AbstractDataset[Any, Path]):
    """The path of a file that must exist, for code that reads formats of its own.

    Example:
        >>> FileDataset(filepath="modelo_best.pth", parameter="reference_checkpoint")
        ... # doctest: +SKIP
    """

    def __init__(
        self, *, filepath: str, parameter: str, metadata: dict[str, Any] | None = None
    ) -> None:
        """Point at a file.

        Args:
            filepath: The file.
            parameter: Name of the parameter that sets it, for the message when it's missing.
            metadata: For other tools, ignored here.
        """
        self._filepath = Path(filepath)
        self._parameter = parameter
        self.metadata = metadata

    def load(self) -> Path:
        """The path; raises BadInputError when there is no such file."""
        if not self._filepath.is_file():
            raise BadInputError(
                f"There is no file {self._filepath}; give it with "
                f"'--params {self._parameter}=PATH'."
            )
        return self._filepath

    def save(self, data: Any) -> NoReturn:
        """Refused: the file is the user's."""
        raise DatasetError("This file is brought by the user and never written.")

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class PlaceDataset(AbstractDataset[str, str]):
    """A path or address, whatever lies there, for code that knows what to make of it.

    Example:
        >>> PlaceDataset(filepath="data/01_raw/simulated_region").load()
        'data/01_raw/simulated_region'
    """

    def __init__(
        self, *, filepath: str, made: bool = False, metadata: dict[str, Any] | None = None
    ) -> None:
        """Point at a place.

        Args:
            filepath: Path or address; nothing is made there.
            made: Whether a node makes what lies there, so that without it the dataset is missing.
            metadata: For other tools, ignored here.
        """
        self._filepath, self._made = filepath, made
        self.metadata = metadata

    def load(self) -> str:
        """The path or address."""
        return self._filepath

    def save(self, data: str) -> None:
        """Take note that a node has written there: what comes after it in the run may read it."""
        if Path(data) != Path(self._filepath):
            raise DatasetError(f"{data} was written, but the catalog says {self._filepath}.")

    def _exists(self) -> bool:
        return not self._made or Path(self._filepath).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
