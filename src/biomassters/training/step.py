"""One optimizer step: scale, augment, predict, learn."""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from biomassters.inference.device import autocast
from biomassters.loading.batches import Batch
from biomassters.network.agb_net import AgbNet
from biomassters.training.augmentation import augment
from biomassters.training.gradients import Predict, gradients_of
from biomassters.training.losses import masked_rmse
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import Ranks
from biomassters.training.shares import Part, StepFeed
from biomassters.training.state import TrainingState


class StepResult(NamedTuple):
    """What a step came to.

    Attributes:
        loss: Mean over the chips of the whole batch, Mg/ha.
        skipped: Whether nothing was learnt, because loss or gradient was not finite.
    """

    loss: float
    skipped: bool


class Stepper:
    """Takes the optimizer steps of a run.

    Args:
        network: Lies on the device.
        options: Of the run.
        device: Where to compute.
        ranks: This process among those that share each batch.
    """

    def __init__(
        self,
        network: AgbNet,
        options: TrainingOptions,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        self._network, self._options, self._device = network, options, device
        self._ranks = ranks or Ranks()
        self._gradients = gradients_of(network, options, device, self._ranks)
        self._precision = training_precision(device, options.precision)
        self._buffers = list(network.buffers())
        self._statistics = [buffer for buffer in self._buffers if buffer.is_floating_point()]
        self._buffers_before = [buffer.clone() for buffer in self._buffers]

    def take(self, state: TrainingState, step: StepFeed) -> StepResult:
        """Learn from a batch, given in parts whose gradients are added up.

        A step whose loss or gradient is not finite on any rank changes neither weights nor
        running statistics on any.

        Args:
            state: Of the run.
            step: This rank's share of the batch.
        """
        torch._foreach_copy_(self._buffers_before, self._buffers)
        loss = self._accumulate(state, step)
        self._ranks.average(self._statistics)
        limit = self._options.gradient_clip_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self._network.parameters(), limit)
        figures = torch.stack([loss, (~norm.isfinite()).to(loss.dtype)])
        # The only moment at which the processor waits for the device.
        loss_value, not_finite = self._ranks.total(figures).tolist()
        skipped = not_finite > 0 or not math.isfinite(loss_value)
        if skipped:
            torch._foreach_copy_(self._buffers, self._buffers_before)
        else:
            state.optimizer.step()
            if state.averaged is not None:
                state.averaged.update(self._network, state.position.total_steps)
        state.optimizer.zero_grad(set_to_none=True)
        return StepResult(loss_value, skipped)

    @property
    def threads(self) -> int:
        """Torch's own threads for what is not done part by part."""
        return self._gradients.threads

    def _accumulate(self, state: TrainingState, step: StepFeed) -> Tensor:
        """This rank's share of the batch's loss; the gradients are everybody's."""
        place = self._options.seed, state.position.epoch, state.position.step
        self._gradients.begin()
        total = torch.zeros((), device=self._device)
        for group in step.groups:
            total += self._gradients.add(group, partial(self._part_loss, place))
        return total

    def _part_loss(self, place: tuple[int, int, int], predict: Predict, part: Part) -> Tensor:
        seed_torch(*place, part.number)
        # Each part weighs as its share of the chips, so parts add up to the mean.
        return self._loss(predict, part.batch.to(self._device)) * part.weight

    def _loss(self, predict: Predict, batch: Batch) -> Tensor:
        limit = self._options.loss_limit_mg_per_ha
        with torch.no_grad():
            x_MCHW, agb_BHW = augment(
                lambda months: self._network.scaler(batch.s1[months], batch.s2[months]),
                batch.agb,
                batch.samples,
                loss_limit=limit,
            )
        with autocast(self._device, self._precision):
            prediction = predict(x_MCHW, batch.chip_of_month, len(batch))
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
