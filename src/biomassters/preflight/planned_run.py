"""The run that is about to begin, as the checks look at it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, CatalogProtocol
from kedro.pipeline import Pipeline

from biomassters.io.storage import is_url

_PARAMETERS = ("params:", "parameters")


@dataclass(frozen=True)
class PlannedRun:
    """The nodes to run and where their datasets lie.

    Attributes:
        pipeline: The nodes.
        catalog: Their datasets.
        skips_finished: Whether nodes whose outputs exist are left out.
    """

    pipeline: Pipeline
    catalog: CatalogProtocol
    skips_finished: bool = False

    def options(self, name: str) -> Any | None:
        """The options of a parameter that a node takes, None where none does."""
        if f"params:{name}" not in self.pipeline.inputs():
            return None
        dataset = self.dataset(f"params:{name}")
        return None if dataset is None else dataset.load()

    def makes(self, name: str) -> bool:
        """Whether a node makes this dataset."""
        return name in self.pipeline.all_outputs()

    def takes(self, name: str) -> bool:
        """Whether a node takes this dataset, made by another one or not."""
        return any(name in node.inputs for node in self.pipeline.nodes)

    def brought(self) -> list[str]:
        """Datasets that must be there already, by name."""
        return sorted(name for name in self.pipeline.inputs() if not name.startswith(_PARAMETERS))

    def dataset(self, name: str) -> AbstractDataset[Any, Any] | None:
        """A dataset of the catalog."""
        return self.catalog.get(name)

    def path(self, name: str) -> Path | None:
        """Where a dataset lies on this machine; None in memory and on object storage."""
        dataset = self.dataset(name)
        path = getattr(dataset, "_filepath", None)
        if path is None or is_url(path) or getattr(dataset, "_protocol", "file") != "file":
            return None
        return Path(str(path)).absolute()


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) and path != here else str(path)
