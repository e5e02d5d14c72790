"""What training makes small: one function a loss, chosen by name with ``training.loss``.

A loss gives one number a chip, and the loss of a batch is their mean. That keeps it right however
a batch is split: parts and ranks add up ``(mean over their chips) x (their share of the batch's
chips)``, which is the mean over the whole batch for parts of any size. A chip without a pixel that
counts has loss 0 and still counts as a chip.

To add a loss, add a function with ``@register`` here, or in a module of your own that is imported
before the options are checked (``settings.py``, say). Nothing here imports torch, so that the
options know the names without it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[["Tensor", "Tensor", float], "Tensor"]
"""Prediction [B, H, W] (any floating type) and target [B, H, W] in Mg/ha, and the limit at which
targets (and NaN) are left out → float32 [B], finite in value and gradient."""

LOSSES: dict[str, Loss] = {}

HUBER_DELTA_MG_PER_HA = 30.0
"""About the RMSE of the challenge's first place (27.63 Mg/ha): errors beyond it count linearly."""


def register(loss: Loss) -> Loss:
    """Make a loss known by the function's name.

    Raises:
        ValueError: Another module has registered one of this name.
    """
    name = loss.__name__
    if LOSSES.get(name, loss).__module__ != loss.__module__:
        raise ValueError(f"there is a loss {name} already; give yours another name.")
    LOSSES[name] = loss
    return loss


@register
def masked_rmse(prediction_BHW: "Tensor", target_BHW: "Tensor", limit: float = 400.0) -> "Tensor":
    """Root mean squared error of each chip, Mg/ha: the loss of the challenge's first place."""
    mean_square = masked_mse(prediction_BHW, target_BHW, limit)
    positive = mean_square > 0
    # A chip without pixels or error has gradient 0. The inner choice keeps the square root away
    # from 0, where its slope is infinite and 0 times it NaN.
    return mean_square.where(positive, 1.0).sqrt().where(positive, 0.0)


@register
def masked_mse(prediction_BHW: "Tensor", target_BHW: "Tensor", limit: float = 400.0) -> "Tensor":
    """Mean squared error of each chip, (Mg/ha)²."""
    error, counted = _error(prediction_BHW, target_BHW, limit)
    return _mean(error.square(), counted)


@register
def masked_mae(prediction_BHW: "Tensor", target_BHW: "Tensor", limit: float = 400.0) -> "Tensor":
    """Mean absolute error of each chip, Mg/ha."""
    error, counted = _error(prediction_BHW, target_BHW, limit)
    return _mean(error.abs(), counted)


@register
def masked_huber(prediction_BHW: "Tensor", target_BHW: "Tensor", limit: float = 400.0) -> "Tensor":
    """Mean Huber loss of each chip, (Mg/ha)²: half the square, linear beyond the delta.

    As ``torch.nn.functional.huber_loss`` (Huber 1964, doi 10.1214/aoms/1177703732).
    """
    error, counted = _error(prediction_BHW, target_BHW, limit)
    near = error.abs().clamp(max=HUBER_DELTA_MG_PER_HA)
    beyond = error.abs() - near
    return _mean(0.5 * near.square() + HUBER_DELTA_MG_PER_HA * beyond, counted)


def _error(
    prediction_BHW: "Tensor", target_BHW: "Tensor", limit: float
) -> tuple["Tensor", "Tensor"]:
    """Errors in float32, 0 where a pixel does not count, and which do (NaN is below no limit)."""
    counted = target_BHW < limit
    return (prediction_BHW.float() - target_BHW.float()).where(counted, 0.0), counted


def _mean(error_BHW: "Tensor", counted_BHW: "Tensor") -> "Tensor":
    return error_BHW.sum(dim=(1, 2)) / counted_BHW.sum(dim=(1, 2)).clamp(min=1)
