"""Verbs of the reference_weights pipeline."""

from pathlib import Path

from biomassters.datasets.network_weights import NetworkWeights


def convert_reference(reference_checkpoint: Path) -> tuple[NetworkWeights, NetworkWeights]:
    """The tensors of a pickled checkpoint as a network; nothing in the file is executed.

    They stand for both stages of training.
    """
    from biomassters.network.pretrained import load_reference

    network, description = load_reference(reference_checkpoint)
    weights = NetworkWeights(network, description, reference_checkpoint.name)
    return weights, weights
