"""Network weights as a Kedro dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from biomassters.chips.provenance import Provenance
from biomassters.datasets.paths import LocalDataset
from biomassters.errors import BadInputError
from biomassters.inference.options import InferenceOptions
from biomassters.network.starter import STARTER, STARTER_FILE, weights_file

if TYPE_CHECKING:  # torch takes seconds to import, and most commands don't need it
    from torch import Tensor

    from biomassters.inference.predict import MeanNetwork
    from biomassters.network.agb_net import AgbNet

MEMBERS = "members"
STARTER_STAYS = (
    "weights=starter names the weights that come with the package, which no run replaces: to begin "
    "with them, set training.start_from_weights=starter."
)


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

    def check_window(self, height: int, width: int) -> None:
        """Refuse images on which taps of kernels would act that no training reached.

        Raises:
            BadInputError: The images are larger than what an unsound training saw.
        """
        from biomassters.network.window import check_trained_window

        check_trained_window(self.description, max(height, width), self.name)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the names and numbers of the weights."""
        from biomassters.network.weights import weights_fingerprint

        return weights_fingerprint(self.network.state_dict() if self.state is None else self.state)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all networks that predict as one."""
        return tuple(member.name for member in self.members) or (self.name,)

    @property
    def trained_on(self) -> dict[str, Any] | None:
        """What they were trained on; None where nobody noted it."""
        return self.description.get("trained_on")

    @property
    def started_from(self) -> str | None:
        """Fingerprint of the weights that they were fine-tuned from."""
        return (self.description.get("started_from") or {}).get("fingerprint")

    def provenance(
        self, inference: InferenceOptions, chip_pixels: int, networks: int | None = None
    ) -> Provenance:
        """How maps are made with them on chips of this side in pixels.

        So many networks are averaged at every pixel; None: all members.
        """
        from biomassters.inference.device import choose_device, precision_used

        return Provenance(
            started_from=self.started_from,
            trained_on=self.trained_on,
            views=inference.views,
            clip_negative=inference.clip_negative,
            precision=precision_used(
                choose_device(inference.device), inference.precision, self.network.width
            ),
            networks=networks or len(self.files),
            chip_pixels=chip_pixels,
        )


def joint_weights(members: Sequence[NetworkWeights]) -> NetworkWeights:
    """Networks that predict as one; a single one is itself."""
    if len(members) == 1:
        return members[0]
    from biomassters.inference.predict import MeanNetwork

    first = members[0]
    network = MeanNetwork([member.first for member in members])
    return NetworkWeights(network, first.description, first.name, members=tuple(members))


def load_weights(path: Path | str) -> NetworkWeights:
    """A file's network and those that it names, on the CPU; BadInputError if one is missing."""
    path = weights_file(path)
    first = _load(path)
    return joint_weights([first, *map(_load, member_paths(first.description, path))])


class NetworkWeightsDataset(LocalDataset[NetworkWeights, NetworkWeights]):
    """Weights as safetensors with a JSON beside them; nothing that unpickles code.

    Of networks that predict as one, the first has the file's name and its JSON lists the others.

    Args:
        filepath: The ``.safetensors`` file, or ``starter``.
        metadata: For other tools, ignored here.

    Example:
        >>> path = "data/06_models/simulated/weights.safetensors"
        >>> NetworkWeightsDataset(filepath=path).load()  # doctest: +SKIP
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._filepath = weights_file(filepath)

    def load(self) -> NetworkWeights:
        """Rebuild the network on the CPU; raises BadInputError when the weights are missing."""
        return load_weights(self._filepath)

    def save(self, data: NetworkWeights) -> None:
        """Write weights and description; raises BadInputError for the starter's own place."""
        if self._filepath == STARTER_FILE:
            raise BadInputError(STARTER_STAYS)
        first, *others = data.members or (data,)
        path, names = self._filepath, []
        for number, weights in enumerate(others, 1):
            names.append(f"{path.stem}_{number}{path.suffix}")
            _save(weights, path.with_name(names[-1]))
        _save(first, path, names)


def member_paths(description: Mapping[str, Any], path: Path) -> list[Path]:
    """The files of the other networks that predict together with the one at ``path``.

    Its description, the JSON beside it, may be anybody's.

    Raises:
        BadInputError: They are no other weights files of the same folder.
    """
    names = description.get(MEMBERS, [])
    beside = isinstance(names, list) and all(
        isinstance(name, str) and name == Path(name).name and name.endswith(path.suffix)
        for name in names
    )
    if not beside or len({path.name, *names}) != len(names) + 1:
        raise BadInputError(
            f"{path.with_suffix('.json')} lists the {MEMBERS} {str(names)[:80]}, which are no "
            f"other {path.suffix} files beside it: copy it again from a source that you trust."
        )
    return [path.with_name(name) for name in names]


def _load(path: Path) -> NetworkWeights:
    from biomassters.network.weights import load_network, read_description

    description = {MEMBERS: [], **read_description(path)}
    name = STARTER if path == STARTER_FILE else str(path)
    return NetworkWeights(load_network(path), description, name)


def _save(weights: NetworkWeights, path: Path, others: Sequence[str] = ()) -> None:
    from biomassters.network.weights import save_network

    if weights.state is not None:
        weights.network.load_state_dict(weights.state)
    description = {**weights.description, MEMBERS: list(others)}
    save_network(weights.first, path, _first_date_kept(description, path))


def _first_date_kept(description: dict[str, Any], path: Path) -> dict[str, Any]:
    """The same description, with the date of the file if only the date is new.

    A finished training that is run again hands back what it has: the same bytes are written.
    """
    from biomassters.network.weights import read_description

    trained_on = description.get("trained_on")
    try:
        before = read_description(path)
    except BadInputError:
        return description
    known = before.get("trained_on")
    if not trained_on or not known:
        return description
    dated = {**description, "trained_on": {**trained_on, "date": known.get("date")}}
    return dated if all(before.get(name) == dated[name] for name in dated) else description
