"""A folder as a Kedro dataset, for code that manages its own files."""

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from biomassters.errors import BadInputError
from biomassters.io.storage import is_url


class FolderDataset(AbstractDataset[Any, Path]):
    """The path of a folder, so that the catalog stays the only place that knows paths.

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
