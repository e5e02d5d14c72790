"""Network weights as a Kedro dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kedro.io import AbstractDataset

if TYPE_CHECKING:  # torch takes seconds to import, and most commands don't need it
    from torch import Tensor

    from biomassters.network.agb_net import AgbNet
    from biomassters.network.mean_network import MeanNetwork

MEMBERS = "members"


@dataclass(frozen=True, eq=False)
class NetworkWeights:
    """A network with what is known of how it came about.

    Attributes:
        network: The network, ready to predict.
        description: What else the JSON beside the weights says: data fingerprint, held-out
            fold, recipe.
        name: For messages and manifests.
        state: The state dict to save, when it isn't the network's current one.
        members: Where the network is the mean of several, these; each never saw the fold that
            its description names.
    """

    network: AgbNet | MeanNetwork
    description: dict[str, Any] = field(default_factory=dict)
    name: str = "weights"
    state: dict[str, Tensor] | None = None
    members: tuple[NetworkWeights, ...] = ()

    @property
    def first(self) -> AgbNet:
        """The network, or the first of several."""
        if self.members:
            return self.members[0].first
        return cast("AgbNet", self.network)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the names and numbers of the weights."""
        digest = hashlib.sha256()
        state = self.network.state_dict() if self.state is None else self.state
        for name in sorted(state):
            digest.update(name.encode())
            digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def joint_weights(members: Sequence[NetworkWeights]) -> NetworkWeights:
    """Networks that predict as one; a single one is itself."""
    if len(members) == 1:
        return members[0]
    from biomassters.network.mean_network import MeanNetwork

    first = members[0]
    network = MeanNetwork([member.first for member in members])
    return NetworkWeights(network, first.description, first.name, members=tuple(members))


class NetworkWeightsDataset(AbstractDataset[NetworkWeights, NetworkWeights]):
    """Weights as safetensors with a JSON beside them; nothing that unpickles code.

    Of networks that predict as one, the first has the file's name and its JSON lists the others.

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
        first = _load(self._filepath)
        others = [_load(self._filepath.with_name(name)) for name in first.description[MEMBERS]]
        return joint_weights([first, *others])

    def save(self, data: NetworkWeights) -> None:
        """Write weights and description."""
        first, *others = data.members or (data,)
        path, names = self._filepath, []
        for number, weights in enumerate(others, 1):
            names.append(f"{path.stem}_{number}{path.suffix}")
            _save(weights, path.with_name(names[-1]))
        _save(first, path, names)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _load(path: Path) -> NetworkWeights:
    from biomassters.network.weights import load_network, read_description

    description = {MEMBERS: [], **read_description(path)}
    return NetworkWeights(load_network(path), description, str(path))


def _save(weights: NetworkWeights, path: Path, others: Sequence[str] = ()) -> None:
    from biomassters.network.weights import save_network

    if weights.state is not None:
        weights.network.load_state_dict(weights.state)
    save_network(weights.first, path, {**weights.description, MEMBERS: list(others)})
