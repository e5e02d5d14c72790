"""What makes two runs the same experiment: whether a checkpoint may be continued."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from biomassters.errors import BadInputError
from biomassters.training.checkpoint import content_crc
from biomassters.training.options import TrainingOptions

RESTART = "set training.restart=true to start afresh"


def experiment(
    options: TrainingOptions,
    state: Mapping[str, Tensor],
    *,
    fingerprint: str,
    training_ids: Sequence[str],
    validation_ids: Sequence[str],
    initial_state: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Describe an experiment by what decides its outcome.

    Args:
        options: Of the run; those in ``free_options`` don't count.
        state: Of the network; names and shapes count, values don't: they come from the seed.
        fingerprint: Of the chip store.
        training_ids: Chips learnt from.
        validation_ids: Chips held out.
        initial_state: Weights that the run starts from, where it is given any.

    Returns:
        JSON-ready values, to be stored in every checkpoint.
    """
    return {
        "options": options.model_dump(mode="json", exclude=set(options.free_options)),
        "network": _digest(f"{name} {tuple(value.shape)}" for name, value in state.items()),
        "data": fingerprint,
        "training_chips": _digest(sorted(training_ids)),
        "validation_chips": _digest(sorted(validation_ids)),
        "initial_weights": None if initial_state is None else content_crc(initial_state),
    }


def check_same(begun: Mapping[str, Any], now: Mapping[str, Any], place: object) -> None:
    """Refuse to continue another experiment.

    Args:
        begun: The checkpoint's experiment.
        now: This run's.
        place: Folder of the checkpoints, for the message.

    Raises:
        BadInputError: They differ; the message says in what, and the remedy.
    """
    changed = [what for key, what in _SAID.items() if begun.get(key) != now[key]]
    if changed:
        raise BadInputError(
            f"The checkpoints in {place} belong to a run on something else, "
            f"{' and '.join(changed)} changed since: restore what was, or {RESTART}."
        )
    options = _option_differences(begun["options"], now["options"])
    if options:
        raise BadInputError(
            f"The checkpoints in {place} belong to a run with other options "
            f"({'; '.join(options)}): give them back their values to continue it, or {RESTART}."
        )


_SAID = {
    "data": "the chip store",
    "network": "the network's layers",
    "training_chips": "the chips of the training folds",
    "validation_chips": "the chips of the held-out fold",
    "initial_weights": "the weights it starts from",
}


def _option_differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    before, after = _flat("training", begun), _flat("training", now)
    return [
        f"{name} was {before.get(name, 'unknown')}, is {after.get(name, 'unknown')}"
        for name in sorted(before.keys() | after.keys())
        if name not in before or name not in after or before[name] != after[name]
    ]


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {
        key: leaf
        for part, inner in value.items()
        for key, leaf in _flat(f"{name}.{part}", inner).items()
    }


def _digest(lines: Any) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
