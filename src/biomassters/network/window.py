"""How large an image must be for every weight of every kernel to meet a pixel.

The deepest features of a small crop are a map of few pixels. On a map of 2 × 2 the outer taps of a
5 × 5 kernel meet nothing but padding: no gradient ever reaches them, they keep their random start,
and on a larger image they act. The default backbone trained on crops of 64 pixels was right on 64
and wrong by hundreds of Mg/ha on 256. Which kernels and strides a network has is asked of its
layers, never of its name. Training refuses such crops (``check_window``), prediction larger images
than such a training saw (``check_trained_window``).
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from timm.layers.padding import get_same_padding
from torch import Tensor, nn

from biomassters.errors import BadInputError
from biomassters.messages import first_line
from biomassters.network.encoder import STRIDES, Encoder

LARGEST_WINDOW = 1024
"""Where the search for a window that fits ends, pixels."""


class UntrainedKernel(NamedTuple):
    """A convolution some of whose taps meet padding alone; kernel and image: height and width."""

    layer: str
    kernel: tuple[int, int]
    image: tuple[int, int]


@cache
def untrained_kernels(backbone: str, side: int) -> tuple[UntrainedKernel, ...]:
    """The encoder's convolutions that a square image (side in pixels) does not train wholly.

    The decoder need not be asked: its kernels are 3 × 3, on maps of twice the encoder's side.

    Returns:
        In the order in which they are called; empty where all taps of all kernels meet pixels.
    """
    with torch.device("meta"):  # shapes are enough: nothing is computed
        encoder = Encoder(backbone, in_channels=1).eval()
        image = torch.empty(1, 1, side, side)
    found: list[UntrainedKernel] = []
    names = {layer: name for name, layer in encoder.named_modules()}

    def look(layer: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        entered, left = inputs[0].shape[-2:], output.shape[-2:]
        if not all(_all_taps_meet_pixels(layer, axis, entered, left) for axis in (0, 1)):
            kernel = layer.kernel_size[0], layer.kernel_size[1]
            found.append(UntrainedKernel(names[layer], kernel, (entered[0], entered[1])))

    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(look)
    try:
        with torch.no_grad():
            encoder(image)
    except (RuntimeError, AssertionError) as error:
        raise BadInputError(
            f"The backbone {backbone} does not take images of {side} pixels ({first_line(error)})."
        ) from error
    return tuple(found)


def _all_taps_meet_pixels(
    layer: nn.Conv2d, axis: int, entered: torch.Size, left: torch.Size
) -> bool:
    """Along one axis, whether every tap meets a pixel of the image at some position."""
    taps, stride, dilation = layer.kernel_size[axis], layer.stride[axis], layer.dilation[axis]
    padding = layer.padding
    if isinstance(padding, str):
        before = (taps - 1) * dilation // 2 if padding == "same" else 0
    elif type(layer) is nn.Conv2d or padding[axis]:
        before = padding[axis]
    else:  # timm's layers that pad as TensorFlow does, when they are called
        before = get_same_padding(entered[axis], taps, stride, dilation) // 2
    return all(
        any(0 <= at * stride - before + tap * dilation < entered[axis] for at in range(left[axis]))
        for tap in range(taps)
    )


@cache
def smallest_window(backbone: str) -> int:
    """Side of the smallest square image that trains every tap of every kernel, pixels.

    Raises:
        BadInputError: The backbone is unknown, or none up to ``LARGEST_WINDOW`` does.
    """
    step = STRIDES[-1]
    for side in range(step, LARGEST_WINDOW + 1, step):
        if not untrained_kernels(backbone, side):
            return side
    raise BadInputError(
        f"Some kernels of the backbone {backbone!r} are not wholly trained even by images of "
        f"{LARGEST_WINDOW} pixels: choose one such as tf_efficientnetv2_b0 or resnet34."
    )


def check_trained_window(description: Mapping[str, Any], side: int, name: str) -> None:
    """Refuse weights, some of whose kernels were not wholly trained, on larger images than theirs.

    Smaller images than those of the training are no such trouble: what acts on them was trained.
    Weights whose description says nothing of their crops pass.

    Raises:
        BadInputError: Taps that were never trained would act on images of this side in pixels.
    """
    recipe = description.get("recipe") or {}
    trained = description.get("window") or recipe.get("crop") or description.get("chip_size")
    backbone = (description.get("network") or {}).get("backbone")
    if not trained or not backbone or side <= trained:
        return
    if untrained_kernels(backbone, trained):
        raise BadInputError(
            f"{name} was trained on windows of {trained} pixels, which did not train all of its "
            f"kernels, so that it is wrong on images of {side}: train again on crops of at least "
            f"{smallest_window(backbone)} pixels, or predict in windows of {trained}."
        )


def check_window(backbone: str, side: int, what: str) -> None:
    """Refuse to train on images that leave a part of a kernel as it was born.

    ``what`` decides the side in pixels, a multiple of 32, and begins the sentence.

    Raises:
        BadInputError: There is such a kernel.
    """
    if untrained := untrained_kernels(backbone, side):
        layer, (height, width), image = untrained[0]
        raise BadInputError(
            f"{what} {side} pixels, on which {len(untrained)} kernels of the backbone {backbone} "
            f"are not wholly trained ({layer}: {height} x {width} taps on a map of {image[0]} x "
            f"{image[1]}), so that the network would be wrong on larger images: use at least "
            f"{smallest_window(backbone)} pixels, or a network.backbone with smaller kernels."
        )
