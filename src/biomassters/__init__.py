"""Forest aboveground biomass from a year of Sentinel-1 and Sentinel-2 images."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biomassters.api import ChipMap, LoadedNetwork, load_network, map_region, predict_chip

__version__ = "0.2.0"
__all__ = ["ChipMap", "LoadedNetwork", "load_network", "map_region", "predict_chip"]


def __getattr__(name: str) -> Any:
    # Whoever imports the package for its version or a small part of it doesn't wait for torch.
    if name in __all__:
        return getattr(import_module("biomassters.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
