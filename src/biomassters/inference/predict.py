"""Batches of images to maps of biomass: mean over test-time views, clipping."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.inference.device import autocast
from biomassters.inference.options import InferenceOptions
from biomassters.inference.part_threads import part_threads
from biomassters.inference.views import apply_view


class ImageBatch(Protocol):
    """Chips for the network, only the months that exist.

    Attributes:
        s1: int16 [M, 4, H, W] in 0.01 dB.
        s2: uint16 [M, 11, H, W] in counts.
        chip_of_month: int64 [M], which chip of the batch a month belongs to.
        chip_ids: Names of the B chips.
    """

    @property
    def s1(self) -> Tensor: ...  # noqa: D102
    @property
    def s2(self) -> Tensor: ...  # noqa: D102
    @property
    def chip_of_month(self) -> Tensor: ...  # noqa: D102
    @property
    def chip_ids(self) -> Sequence[str]: ...  # noqa: D102
    def to(self, device: torch.device) -> Self: ...  # noqa: D102


class MonthNetwork(Protocol):
    """A network that scales images and predicts from scaled ones, as ``AgbNet`` does."""

    training: bool

    def scale(self, s1: Tensor, s2: Tensor) -> Tensor:
        """Scaled months [M, 15, H, W]."""
        ...

    def forward_scaled(
        self, x_MCHW: Tensor, chip_of_month: Tensor, chip_count: int | None = None
    ) -> Tensor:
        """Biomass [B, 1, H, W], Mg/ha."""
        ...

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation."""
        ...


@torch.inference_mode()
def predict_batch(
    network: MonthNetwork,
    s1: Tensor,
    s2: Tensor,
    chip_of_month: Tensor,
    chip_count: int,
    views: Sequence[str] = ("identity",),
    clip_negative: bool = True,
    *,
    parts: int = 1,
) -> Tensor:
    """Biomass of one batch, averaged over views.

    The network is used as it is: call ``eval()`` before, or batch normalization looks at the
    batch.

    Args:
        network: On its device.
        s1: [M, 4, H, W], on the network's device.
        s2: [M, 11, H, W], on the network's device.
        chip_of_month: int64 [M].
        chip_count: B.
        views: Names of ``views.VIEWS``.
        clip_negative: Set negative means to 0. The mean comes first, so that views which
            disagree around 0 are not pushed up.
        parts: See ``predict_views``.

    Returns:
        float32 [B, H, W], Mg/ha.
    """
    agb_VBHW = predict_views(network, s1, s2, chip_of_month, chip_count, views, parts=parts)
    mean = agb_VBHW.mean(dim=0)
    return mean.clamp_(min=0.0) if clip_negative else mean


@torch.inference_mode()
def predict_views(
    network: MonthNetwork,
    s1: Tensor,
    s2: Tensor,
    chip_of_month: Tensor,
    chip_count: int,
    views: Sequence[str],
    *,
    parts: int = 1,
    cores: int | None = None,
) -> Tensor:
    """Biomass of one batch as each view sees it, turned back; otherwise as ``predict_batch``.

    Args:
        network: As for ``predict_batch``.
        s1: As for ``predict_batch``.
        s2: As for ``predict_batch``.
        chip_of_month: As for ``predict_batch``.
        chip_count: B.
        views: Names of ``views.VIEWS``.
        parts: On a CPU, parts of the batch that are worked side by side (``part_threads``).
        cores: That may be kept busy, with the same bits for any number up to ``parts``: a batch of
            fewer chips leaves threads idle. None: all that the process may use, inside a part too.

    Returns:
        float32 [V, B, H, W], Mg/ha, not clipped.
    """
    images = s1, s2, chip_of_month
    if s1.device.type != "cpu" or network.training:  # batch normalization sees the batch
        return _views(network, images, chip_count, views)
    apart = parts_apart(*images, chip_count, parts)
    threads = part_threads(len(apart) if cores is None else parts, cores)
    return torch.cat(threads.run(lambda one: _views(network, *one, views), apart), dim=1)


Images = tuple[Tensor, Tensor, Tensor]
"""s1, s2 and chip_of_month of a batch."""


def parts_apart(
    s1: Tensor, s2: Tensor, chip_of_month: Tensor, chip_count: int, parts: int
) -> list[tuple[Images, int]]:
    """A batch on the CPU in parts, each of its own chips, in the same memory.

    Args:
        s1: [M, 4, H, W].
        s2: [M, 11, H, W].
        chip_of_month: int64 [M].
        chip_count: B.
        parts: At most so many, even to one chip.

    Returns:
        Images and number of chips of each.
    """
    parts = min(parts, chip_count)
    ends = [chip_count * part // parts for part in range(parts + 1)]
    months = torch.searchsorted(chip_of_month, torch.tensor(ends)).tolist()
    return [
        ((s1[a:b], s2[a:b], chip_of_month[a:b] - first), last - first)
        for (first, last), (a, b) in zip(
            itertools.pairwise(ends), itertools.pairwise(months), strict=True
        )
    ]


def _views(network: MonthNetwork, images: Images, chip_count: int, views: Sequence[str]) -> Tensor:
    s1, s2, chip_of_month = images
    x_MCHW = network.scale(s1, s2)  # once for all views
    seen = (
        apply_view(
            network.forward_scaled(apply_view(x_MCHW, view), chip_of_month, chip_count), view
        )
        for view in views
    )
    return torch.stack([agb_B1HW.float().squeeze(1) for agb_B1HW in seen])


def predict_batches(
    network: MonthNetwork,
    batches: Iterable[ImageBatch],
    options: InferenceOptions,
    device: torch.device,
    *,
    total: int | None = None,
    progress: bool = True,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Maps of many chips, in the order of the batches.

    Args:
        network: As for :func:`predict_batch`; already on ``device``. Set to evaluation for the
            duration and put back afterwards.
        batches: May reuse their buffers: each is done with before the next is asked for.
        options: Views, clipping and precision.
        device: Where the network is.
        total: Chips in all, for the bar.
        progress: Show a bar on stderr.

    Yields:
        Chip id and its biomass, float32 [H, W], Mg/ha.

    Raises:
        BadInputError: A prediction is NaN or infinite.
    """
    with _evaluating(network), Progress("predicting", total, shown=progress) as bar:
        for batch in batches:
            agb_BHW = _predict_on(network, batch.to(device), options, device)
            for chip_id, agb_HW in zip(batch.chip_ids, agb_BHW, strict=True):
                _check_finite(chip_id, agb_HW)
                yield chip_id, agb_HW
                bar.update()


def _predict_on(
    network: MonthNetwork, batch: ImageBatch, options: InferenceOptions, device: torch.device
) -> NDArray[np.float32]:
    # Not around the loop: a context held across a yield would leak into the caller's code.
    with autocast(device, options.precision):
        agb_BHW = predict_batch(
            network,
            batch.s1,
            batch.s2,
            batch.chip_of_month,
            len(batch.chip_ids),
            options.views,
            options.clip_negative,
            parts=options.cpu_parts,
        )
    return agb_BHW.cpu().numpy()


def _check_finite(chip_id: str, agb_HW: NDArray[np.float32]) -> None:
    if not np.isfinite(agb_HW).all():
        raise BadInputError(
            f"Chip {chip_id}: the network predicts NaN or infinite biomass; check that its weights "
            "come from a run that did not diverge, and try precision float32."
        )


@contextmanager
def _evaluating(network: MonthNetwork) -> Iterator[None]:
    training = network.training
    network.train(False)
    try:
        yield
    finally:
        network.train(training)
