"""BatchNorm and ReLU whose result is made again in the backward pass instead of being kept.

The result is needed twice: by ReLU's own backward pass, and by the layers that take it as input.
Both get it from what the norm kept anyway: relu(x·scale + shift), one pass over memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Recipe:
    """How to make relu(x·scale + shift) again.

    Args:
        x: [N, C, H, W].
        scale: [C].
        shift: [C].
    """

    def __init__(self, x: Tensor, scale: Tensor, shift: Tensor) -> None:
        self._x: Tensor | None = x
        self._scale, self._shift = scale, shift
        self._made: Tensor | None = None

    def make(self) -> Tensor:
        """The image; the same one until it is forgotten."""
        if self._made is None:
            if self._x is None:
                raise RuntimeError(
                    "Lean activations are gone after one backward pass: configure the network "
                    "with lean_activations=False for a second one."
                )
            scale, shift = (v.to(self._x.dtype)[:, None, None] for v in (self._scale, self._shift))
            self._made = torch.addcmul(shift, self._x, scale).relu_()
        return self._made

    def forget(self) -> None:
        """Let go of the image and of what it is made of."""
        self._made = self._x = None

    @contextmanager
    def instead_of_keeping(self, image: Tensor) -> Iterator[None]:
        """Have the layers that are called inside keep the recipe instead of the image."""
        # The functions below outlive the forward pass, so they must not hold the image itself.
        pointer, numel = image.data_ptr(), image.numel()

        def keep(tensor: Tensor) -> Any:
            if tensor.data_ptr() == pointer and tensor.numel() == numel:
                return self, tensor.shape, tensor.stride()
            return tensor

        def give_back(kept: Any) -> Tensor:
            if isinstance(kept, Tensor):
                return kept
            recipe, shape, stride = kept
            made: Tensor = recipe.make().as_strided(shape, stride)
            return made

        with torch.autograd.graph.saved_tensors_hooks(keep, give_back):
            yield


def norm_relu(x: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Recipe]:
    """relu(norm(x)) in training, and how to make it again.

    Args:
        x: [N, C, H, W].
        norm: Its statistics are updated.
    """
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked.add_(1)
    recipes: list[Recipe] = []
    y: Tensor = _NormRelu.apply(x, norm.weight, norm.bias, norm, recipes)
    return y, recipes[0]


class _NormRelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d, out: list[Recipe]
    ) -> Tensor:
        y, mean, inverse_sd = torch.native_batch_norm(
            x,
            weight,
            bias,
            norm.running_mean,
            norm.running_var,
            True,
            norm.momentum or 0.0,
            norm.eps,
        )
        scale = weight.detach() * inverse_sd
        ctx.save_for_backward(x, weight, mean, inverse_sd)
        ctx.recipe = Recipe(x.detach(), scale, bias.detach() - mean * scale)
        ctx.eps = norm.eps
        out.append(ctx.recipe)
        return y.relu_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_sd = ctx.saved_tensors
        if x.is_contiguous(memory_format=torch.channels_last):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        passed = torch.ops.aten.threshold_backward(gradient, ctx.recipe.make(), 0)
        ctx.recipe.forget()  # every layer after it has had its backward pass
        gradients = torch.ops.aten.native_batch_norm_backward(
            passed, x, weight, None, None, mean, inverse_sd, True, ctx.eps, [True, True, True]
        )
        return (*gradients, None, None)
