"""A file that the user brings, as a Kedro dataset."""

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from biomassters.errors import BadInputError


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
