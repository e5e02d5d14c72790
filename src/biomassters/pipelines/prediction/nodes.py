"""Verbs of the prediction pipeline."""

from biomassters.chips.archive import Archive
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.datasets.predictions import Predictions
from biomassters.inference.options import InferenceOptions


def predict_archive(
    archive: Archive, weights: NetworkWeights, inference: InferenceOptions
) -> Predictions:
    """Maps of every chip of an archive, made while they are written."""
    from biomassters.training.chip_prediction import predict_chips

    maps = predict_chips(weights.network, archive.chip_ids(), archive.read_chip, inference)
    return Predictions(maps, weights.name, weights.fingerprint)
