"""Do these tensors fit this network? If not, one sentence names the first that does not."""

from collections.abc import Mapping

from torch import Tensor

from biomassters.errors import BadInputError


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Compare names, shapes and types.

    Args:
        found: Tensors of a file.
        expected: Tensors of the network, in its order.
        source: What is at fault, for the message.

    Raises:
        BadInputError: A tensor is missing, of another shape or type, or unknown.
    """
    for key, tensor in expected.items():
        if key not in found:
            raise BadInputError(f"{source} lacks the tensor {key}: use weights of this network.")
        if found[key].shape != tensor.shape:
            raise BadInputError(
                f"{source} holds {key} with shape {list(found[key].shape)} where the network has "
                f"{list(tensor.shape)}: use weights of this network."
            )
        if found[key].dtype != tensor.dtype:
            raise BadInputError(
                f"{source} holds {key} as {str(found[key].dtype).removeprefix('torch.')} where the "
                f"network has {str(tensor.dtype).removeprefix('torch.')}: use weights of this "
                "network."
            )
    for key in found:
        if key not in expected:
            raise BadInputError(
                f"{source} holds the tensor {key}, which the network does not have: use weights "
                "of this network."
            )


def unusable_number(tensors: Mapping[str, Tensor]) -> str | None:
    """What no network can compute with: NaN, infinity, a negative variance of BatchNorm.

    Any of them gives maps without a warning (of nothing, or of NaN).

    Args:
        tensors: By name; integers are not looked at.

    Returns:
        End of a sentence that names the first such tensor; None where all are usable.
    """
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        # torch.isfinite would hold the tensor's size and half of it again; NaN comes through.
        lowest, highest = tensor.aminmax()
        if not (lowest.isfinite() and highest.isfinite()):
            return f"holds NaN or infinity in {key}"
        if key.endswith("running_var") and lowest < 0:
            return f"holds a negative variance in {key}"
    return None
