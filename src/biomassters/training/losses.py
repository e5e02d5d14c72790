"""What training makes small. To add a loss, add a function."""

import torch
from torch import Tensor


def masked_rmse_per_chip(
    prediction_BHW: Tensor, target_BHW: Tensor, limit: float = 400.0
) -> Tensor:
    """Root mean squared error of each chip over the pixels with a target below the limit.

    Value and gradient are always finite: a chip without such a pixel, and a chip predicted
    perfectly, have loss 0 and gradient 0. The square root alone would give NaN for both.

    Args:
        prediction_BHW: Mg/ha, any floating type; the error is computed in float32.
        target_BHW: Mg/ha; NaN counts as left out.
        limit: Targets at or above it are left out, Mg/ha.

    Returns:
        float32 [B], Mg/ha.
    """
    counted = target_BHW < limit
    error = torch.where(counted, prediction_BHW.float() - target_BHW.float(), 0.0)
    mean_square = error.square().sum(dim=(1, 2)) / counted.sum(dim=(1, 2)).clamp(min=1)
    positive = mean_square > 0
    # The inner choice keeps the square root away from 0, where its slope is infinite.
    return torch.where(positive, torch.where(positive, mean_square, 1.0).sqrt(), 0.0)


def masked_rmse(prediction_BHW: Tensor, target_BHW: Tensor, limit: float = 400.0) -> Tensor:
    """Mean over chips of ``masked_rmse_per_chip``: the loss of the challenge's first place.

    Every chip counts, one without a pixel below the limit as 0, so that the loss of a batch
    is the mean of the losses of its equal parts.

    Args:
        prediction_BHW: Mg/ha.
        target_BHW: Mg/ha.
        limit: Targets at or above it are left out, Mg/ha.

    Returns:
        Scalar, Mg/ha.
    """
    return masked_rmse_per_chip(prediction_BHW, target_BHW, limit).mean()
