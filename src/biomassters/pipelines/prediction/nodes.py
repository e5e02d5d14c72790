"""Verbs of the prediction pipeline."""

from biomassters.chips.archive.archive import Archive
from biomassters.chips.provenance import warn_of_simulated_weights
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.datasets.predictions import Predictions
from biomassters.inference.options import InferenceOptions


def predict_archive(
    archive: Archive, weights: NetworkWeights, inference: InferenceOptions
) -> Predictions:
    """Maps of every chip of an archive, made while they are written."""
    from biomassters.inference.chips import predict_chips

    warn_of_simulated_weights(
        weights.name, weights.trained_on, archive.origin["simulated"], archive.root
    )
    weights.check_window(*archive.shape)
    maps = predict_chips(weights.network, archive.chip_ids(), archive.read_chip, inference)
    provenance = weights.provenance(inference, max(archive.shape))
    return Predictions(maps, weights.name, weights.fingerprint, provenance)
