"""A place that a pipeline reads from or writes to, as a Kedro dataset."""

from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError


class PlaceDataset(AbstractDataset[Any, str]):
    """A path or address, whatever lies there, for code that knows what to make of it.

    Example:
        >>> PlaceDataset(filepath="data/01_raw/simulated_region").load()
        'data/01_raw/simulated_region'
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Point at a place.

        Args:
            filepath: Path or address; nothing is made there.
            metadata: For other tools, ignored here.
        """
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> str:
        """The path or address."""
        return self._filepath

    def save(self, data: Any) -> NoReturn:
        """Refused: whoever loads the place writes there."""
        raise DatasetError("A place is written by the code that uses it, not by the catalog.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
