"""Network weights as a Kedro dataset."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

if TYPE_CHECKING:  # torch takes seconds to import, and most commands don't need it
    from torch import Tensor

    from biomassters.network.agb_net import AgbNet


@dataclass(frozen=True, eq=False)
class NetworkWeights:
    """A network with what is known of how it came about.

    Attributes:
        network: The network, ready to predict.
        description: What else the JSON beside the weights says: data fingerprint, held-out
            fold, recipe.
        name: For messages and manifests.
        state: The state dict to save, when it isn't the network's current one.
    """

    network: AgbNet
    description: dict[str, Any] = field(default_factory=dict)
    name: str = "weights"
    state: dict[str, Tensor] | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the names and numbers of the weights."""
        digest = hashlib.sha256()
        state = self.network.state_dict() if self.state is None else self.state
        for name in sorted(state):
            digest.update(name.encode())
            digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class NetworkWeightsDataset(AbstractDataset[NetworkWeights, NetworkWeights]):
    """Weights as safetensors with a JSON beside them; nothing that unpickles code.

    Example:
        >>> path = "data/06_models/simulated/weights.safetensors"
        >>> NetworkWeightsDataset(filepath=path).load()  # doctest: +SKIP
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Point at weights.

        Args:
            filepath: The ``.safetensors`` file.
            metadata: For other tools, ignored here.
        """
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> NetworkWeights:
        """Rebuild the network on the CPU; raises BadInputError when the weights are missing."""
        from biomassters.network.weights import load_network, read_description

        description = read_description(self._filepath)
        return NetworkWeights(load_network(self._filepath), description, str(self._filepath))

    def save(self, data: NetworkWeights) -> None:
        """Write weights and description."""
        from biomassters.network.weights import save_network

        if data.state is not None:
            data.network.load_state_dict(data.state)
        save_network(data.network, self._filepath, data.description)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
