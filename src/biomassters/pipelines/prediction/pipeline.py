"""Weights + any archive → GeoTIFFs, without labels, folds or a store."""

from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from biomassters.chips.archive.archive import Archive
from biomassters.chips.provenance import warn_of_simulated_weights
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.datasets.predictions import Predictions
from biomassters.inference.options import InferenceOptions
from biomassters.pipelines import namespaced


def predict_archive(
    archive: Archive, weights: NetworkWeights, inference: InferenceOptions
) -> Predictions:
    """Maps of every chip of an archive, made while they are written."""
    return predict_chips_of(archive, archive.chip_ids(), weights, inference)


def predict_chips_of(
    archive: Archive, chip_ids: Sequence[str], weights: NetworkWeights, inference: InferenceOptions
) -> Predictions:
    """Maps of some chips of an archive, with what is to be known of them."""
    from biomassters.inference.chips import predict_chips

    simulated = archive.origin["simulated"]
    warn_of_simulated_weights(weights.name, weights.trained_on, simulated, archive.root)
    weights.check_window(*archive.shape)
    maps = predict_chips(weights.network, chip_ids, archive.read_chip, inference)
    provenance = weights.provenance(inference, max(archive.shape))
    return Predictions(maps, weights.name, weights.fingerprint, provenance)


def create_pipeline() -> Pipeline:
    """One node."""
    return namespaced(
        "prediction",
        Node(
            predict_archive,
            ["prediction_archive", "final_weights", "params:inference"],
            "archive_predictions",
            name="predict_archive",
        ),
    )
