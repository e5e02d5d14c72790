"""The network, its weights on disk, and the reference's weights; torch only on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biomassters.network.agb_net import AgbNet
    from biomassters.network.folding import fold_batch_norm
    from biomassters.network.options import ExecutionOptions, NetworkOptions
    from biomassters.network.reference.convert import load_reference
    from biomassters.network.weights import load_network, read_description, save_network

__all__ = [
    "AgbNet",
    "ExecutionOptions",
    "NetworkOptions",
    "fold_batch_norm",
    "load_network",
    "load_reference",
    "read_description",
    "save_network",
]

_HOME = {
    "AgbNet": "agb_net",
    "ExecutionOptions": "options",
    "NetworkOptions": "options",
    "fold_batch_norm": "folding",
    "load_network": "weights",
    "load_reference": "reference.convert",
    "read_description": "weights",
    "save_network": "weights",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
