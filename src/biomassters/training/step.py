"""One optimizer step: scale, augment, predict, learn."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from biomassters.inference.device import autocast
from biomassters.network.agb_net import AgbNet
from biomassters.training.augmentation import augment
from biomassters.training.batch import Batch
from biomassters.training.losses import masked_rmse
from biomassters.training.options import TrainingOptions
from biomassters.training.state import TrainingState


class StepResult(NamedTuple):
    """What a step came to.

    Attributes:
        loss: Mean over the batch's chips, Mg/ha.
        skipped: Whether nothing was learnt, because loss or gradient was not finite.
        chip_ids: Chips of the batch.
    """

    loss: float
    skipped: bool
    chip_ids: tuple[str, ...]


class Stepper:
    """Takes the optimizer steps of a run.

    Args:
        network: Lies on the device.
        options: Of the run.
        device: Where to compute.
    """

    def __init__(self, network: AgbNet, options: TrainingOptions, device: torch.device) -> None:
        self._network, self._options, self._device = network, options, device
        self._precision = training_precision(device, options.precision)
        self._buffers = list(network.buffers())
        self._buffers_before = [buffer.clone() for buffer in self._buffers]

    def take(self, state: TrainingState, parts: Iterable[Batch], chips: int) -> StepResult:
        """Learn from a batch, given in parts whose gradients are added up.

        A step whose loss or gradient is not finite changes neither weights nor running
        statistics.

        Args:
            state: Of the run.
            parts: Of the batch.
            chips: Of the whole batch.
        """
        torch._foreach_copy_(self._buffers_before, self._buffers)
        loss, chip_ids = self._accumulate(state, parts, chips)
        limit = self._options.gradient_clip_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self._network.parameters(), limit)
        # The only moment at which the processor waits for the device.
        loss_value, norm_value = torch.stack([loss, norm.float()]).tolist()
        skipped = not (math.isfinite(loss_value) and math.isfinite(norm_value))
        if skipped:
            torch._foreach_copy_(self._buffers, self._buffers_before)
        else:
            state.optimizer.step()
            if state.averaged is not None:
                state.averaged.update(self._network, state.position.total_steps)
        state.optimizer.zero_grad(set_to_none=True)
        return StepResult(loss_value, skipped, chip_ids)

    def _accumulate(
        self, state: TrainingState, parts: Iterable[Batch], chips: int
    ) -> tuple[Tensor, tuple[str, ...]]:
        self._network.train()
        total = torch.zeros((), device=self._device)
        chip_ids: list[str] = []
        for number, part in enumerate(parts):
            seed_torch(self._options.seed, state.position.epoch, state.position.step, number)
            # Each part weighs as its share of the chips, so parts add up to the batch's mean.
            loss = self._loss(part.to(self._device)) * (len(part) / chips)
            loss.backward()
            total += loss.detach()
            chip_ids += part.chip_ids
        return total, tuple(chip_ids)

    def _loss(self, batch: Batch) -> Tensor:
        limit = self._options.loss_limit_mg_per_ha
        with torch.no_grad():
            x_MCHW = self._network.scale(batch.s1, batch.s2)
            x_MCHW, agb_BHW = augment(x_MCHW, batch.agb, batch.samples, loss_limit=limit)
        with autocast(self._device, self._precision):
            prediction = self._network.forward_scaled(x_MCHW, batch.chip_of_month, len(batch))
        return masked_rmse(prediction.squeeze(1), agb_BHW, limit)


def training_precision(device: torch.device, precision: str) -> str:
    """What ``auto`` means for training.

    float16 needs its loss scaled against underflow, bfloat16 does not: a GPU without bfloat16
    trains in float32.
    """
    if precision != "auto":
        return precision
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if has_bfloat16 else "float32"


def seed_torch(seed: int, *place: int) -> None:
    """Seed dropout and stochastic depth as a pure function of the run's seed and a place."""
    torch.manual_seed(int(np.random.SeedSequence([seed, *place]).generate_state(1)[0]))
