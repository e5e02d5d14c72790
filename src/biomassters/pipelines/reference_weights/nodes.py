"""Verbs of the reference_weights pipeline."""

from pathlib import Path

from biomassters.datasets.network_weights import NetworkWeights


def convert_reference(reference_checkpoint: Path) -> NetworkWeights:
    """The tensors of a pickled checkpoint as a network; nothing in the file is executed."""
    from biomassters.network.pretrained import load_reference

    network, description = load_reference(reference_checkpoint)
    return NetworkWeights(network, description, reference_checkpoint.name)
