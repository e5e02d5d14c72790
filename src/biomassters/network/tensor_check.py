"""Do these tensors fit this network? If not, one sentence names the first that does not."""

from collections.abc import Mapping

from torch import Tensor

from biomassters.errors import BadInputError


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Compare names and shapes.

    Args:
        found: Tensors of a file.
        expected: Tensors of the network, in its order.
        source: What is at fault, for the message.

    Raises:
        BadInputError: A tensor is missing, of another shape, or unknown.
    """
    for key, tensor in expected.items():
        if key not in found:
            raise BadInputError(f"{source} lacks the tensor {key}: use weights of this network.")
        if found[key].shape != tensor.shape:
            raise BadInputError(
                f"{source} holds {key} with shape {list(found[key].shape)} where the network has "
                f"{list(tensor.shape)}: use weights of this network."
            )
    for key in found:
        if key not in expected:
            raise BadInputError(
                f"{source} holds the tensor {key}, which the network does not have: use weights "
                "of this network."
            )
