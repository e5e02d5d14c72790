"""Reference checkpoint → weights that inference and submission use."""

from pathlib import Path

import pandas as pd
from kedro.pipeline import Node, Pipeline

from biomassters.datasets.network_weights import NetworkWeights
from biomassters.errors import BadInputError
from biomassters.pipelines import namespaced


def convert_reference(
    reference_checkpoint: Path, held_out_fold: int | None
) -> tuple[NetworkWeights, NetworkWeights, pd.DataFrame]:
    """The tensors of a pickled checkpoint as a network; nothing in the file is executed.

    They stand for both stages of training, of which no history is known. Which chips they never
    saw, nobody knows but who trained them: the challenge's first place trained its last stages on
    its own validation fold too.

    Raises:
        BadInputError: The fold is no number of a fold.
    """
    from biomassters.network.reference.convert import load_reference

    if held_out_fold is not None and (type(held_out_fold) is not int or held_out_fold < 0):
        raise BadInputError(
            f"reference_held_out_fold: {held_out_fold} is no fold; give a number from 0, or null."
        )
    network, description = load_reference(reference_checkpoint)
    trained_on = {"simulated": None, "dataset": f"unknown, from {reference_checkpoint.name}"}
    description |= {"held_out_fold": held_out_fold, "trained_on": trained_on}
    weights = NetworkWeights(network, description, reference_checkpoint.name)
    return weights, weights, pd.DataFrame({"epoch": pd.Series(dtype="int64")})


def create_pipeline() -> Pipeline:
    """One node, which takes the place of training."""
    node = Node(
        convert_reference,
        ["reference_checkpoint", "params:reference_held_out_fold"],
        ["fit_weights", "final_weights", "training_history"],
        name="convert_reference",
    )
    return namespaced("reference_weights", node)
