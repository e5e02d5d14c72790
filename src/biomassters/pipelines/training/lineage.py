"""Where weights come from: the chips that they learnt from, the weights that they began with."""

from datetime import UTC, datetime
from typing import Any

from biomassters.chips.store.reader import ChipStore
from biomassters.datasets.network_weights import NetworkWeights


def trained_on(chip_store: ChipStore, chips: int) -> dict[str, Any]:
    """What a network is being trained on.

    Args:
        chip_store: The chips.
        chips: How many of them train.
    """
    return {
        "simulated": chip_store.origin.get("simulated"),
        "dataset": chip_store.origin.get("dataset"),
        "chips": chips,
        "data_fingerprint": chip_store.fingerprint,
        "date": datetime.now(UTC).date().isoformat(),
    }


def as_start(weights: NetworkWeights) -> dict[str, Any]:
    """What is to be known of weights that a further stage begins with."""
    return {"fingerprint": weights.fingerprint, "trained_on": weights.trained_on}
