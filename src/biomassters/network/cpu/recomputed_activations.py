"""BatchNorm and activation that keep one image for the backward pass instead of two.

torch keeps what a norm takes, and what its activation takes or gives, too. The second follows
from the first by one multiplication and one addition, so it is made again in the backward pass (as
in Rota Bulò et al., "In-Place Activated BatchNorm", CVPR 2018, who invert instead). The forward
numbers are the same. ``RecomputedBatchNormAct2d`` serves the encoder, ``norm_relu`` the decoder.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_aten = torch.ops.aten

# By the name of its class: the activation, in place, and its gradient, written over what it took.
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "SiLU": (_aten.silu_, lambda g, x: _aten.silu_backward.grad_input(g, x, grad_input=x)),
    "Hardswish": (_aten.hardswish_, lambda g, x: _aten.hardswish_backward.out(g, x, out=x)),
}


def recomputes(module: nn.Module) -> bool:
    """Whether a module that has a switch ``recompute`` makes use of it now."""
    learns = module.training and torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return learns and bool(module.recompute)


def _normalized(x: Tensor, scale_C: Tensor, shift_C: Tensor) -> Tensor:
    scale, shift = (vector.to(x.dtype)[:, None, None] for vector in (scale_C, shift_C))
    return torch.addcmul(shift, x, scale)


# ---- Of the encoder: timm's BatchNorm with SiLU or Hardswish ---------------------------------


class RecomputedBatchNormAct2d(BatchNormAct2d):
    """timm's layer, its weights and its result; made by ``make_recomputable``.

    Attributes:
        recompute: Make the activation's input again in the backward pass.
    """

    recompute = False

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C, H, W]."""
        if not recomputes(self):
            y: Tensor = super().forward(x)
            return y
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        activated: Tensor = _NormAct.apply(x, self.weight, self.bias, self)
        return activated


def make_recomputable(module: nn.Module) -> None:
    """Give timm's layers inside a module, in place, the switch; weights stay as they are."""
    for layer in module.modules():
        if (
            type(layer) is BatchNormAct2d
            and type(layer.act).__name__ in _ACTIVATIONS
            and isinstance(layer.drop, nn.Identity)
            and layer.affine
            and layer.track_running_stats
            and layer.momentum is not None
        ):
            layer.__class__ = RecomputedBatchNormAct2d


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: RecomputedBatchNormAct2d
    ) -> Tensor:
        y, mean, inverse_sd = _batch_norm(x, weight, bias, norm)
        ctx.save_for_backward(x, weight, bias, mean, inverse_sd)
        ctx.eps, ctx.activation = norm.eps, type(norm.act).__name__
        return _ACTIVATIONS[ctx.activation][0](y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse_sd = ctx.saved_tensors
        scale = weight * inverse_sd
        z = _normalized(x, scale, bias - mean * scale)
        _ACTIVATIONS[ctx.activation][1](gradient, z)
        return (*_batch_norm_backward(z, x, weight, mean, inverse_sd, ctx.eps), None)


def _batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalized x, mean and 1 / standard deviation; running statistics are updated."""
    assert norm.momentum is not None
    normalized: tuple[Tensor, Tensor, Tensor] = torch.native_batch_norm(
        x, weight, bias, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps
    )
    return normalized


def _batch_norm_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse_sd: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias."""
    gradients: tuple[Tensor, Tensor, Tensor] = _aten.native_batch_norm_backward(
        gradient, x, weight, None, None, mean, inverse_sd, True, eps, [True, True, True]
    )
    return gradients


# ---- Of the decoder: BatchNorm and ReLU, whose result the next layers don't keep either ------


def norm_relu(x: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, "Recipe"]:
    """relu(norm(x)) in training, and how to make it again.

    Args:
        x: [N, C, H, W].
        norm: Its statistics are updated.
    """
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    recipe = Recipe()
    y: Tensor = _NormRelu.apply(x, norm.weight, norm.bias, norm, recipe)
    return y, recipe


class Recipe:
    """How to make relu(x·scale + shift) again.

    The result is needed twice: by ReLU's own backward pass, and by the layers that take it.
    """

    x_scale_shift: tuple[Tensor, Tensor, Tensor] | None = None
    _made: Tensor | None = None

    def make(self) -> Tensor:
        """The image; the same one until it is forgotten."""
        if self._made is None:
            if self.x_scale_shift is None:
                raise RuntimeError(
                    "Lean activations are gone after one backward pass: configure the network "
                    "with lean_activations=False for a second one."
                )
            self._made = _normalized(*self.x_scale_shift).relu_()
        return self._made

    def forget(self) -> None:
        """Let go of the image and of what it is made of."""
        self._made = self.x_scale_shift = None

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


class _NormRelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d, recipe: Recipe
    ) -> Tensor:
        y, mean, inverse_sd = _batch_norm(x, weight, bias, norm)
        scale = weight.detach() * inverse_sd
        ctx.save_for_backward(x, weight, mean, inverse_sd)
        recipe.x_scale_shift = x.detach(), scale, bias.detach() - mean * scale
        ctx.recipe, ctx.eps = recipe, norm.eps
        return y.relu_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_sd = ctx.saved_tensors
        if x.is_contiguous(memory_format=torch.channels_last):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        passed = _aten.threshold_backward(gradient, ctx.recipe.make(), 0)
        ctx.recipe.forget()  # every layer after it has had its backward pass
        return (*_batch_norm_backward(passed, x, weight, mean, inverse_sd, ctx.eps), None, None)
