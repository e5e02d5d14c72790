"""Batches of images to maps of biomass: mean over networks and test-time views, clipping.

``ready_network`` prepares a network, ``predict_batches`` maps with it. Next: ``chips``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.inference.device import autocast, part_threads, precision_used
from biomassters.network.agb_net import AgbNet, Images
from biomassters.network.folding import fold_batch_norm

if TYPE_CHECKING:  # benchmarks/gpu.py predicts with torch and timm alone
    from biomassters.inference.options import InferenceOptions
    from biomassters.loading.batches import Batch

# Test-time views: axes that each reverses; it undoes itself. Forest and sensors have no preferred
# side, so every view is as good a guess as the image itself.
VIEWS: dict[str, tuple[int, ...]] = {
    "identity": (),
    "left_right": (-1,),
    "up_down": (-2,),
    "both": (-2, -1),  # the same as half a turn
}


def apply_view(x_HW: Tensor, view: str) -> Tensor:
    """Look at images [..., H, W] of any type in another way, or turn a prediction back.

    Raises:
        ValueError: The view has no such name.
    """
    if view not in VIEWS:
        raise ValueError(f"No view is called {view!r}; choose from {', '.join(VIEWS)}.")
    axes = VIEWS[view]
    return x_HW.flip(axes) if axes else x_HW


class MeanNetwork(nn.Module):
    """The mean of networks, at least one, trained on different folds of the same data."""

    def __init__(self, members: Sequence[AgbNet]) -> None:
        super().__init__()
        first, *others = members
        assert all(other.scaling == first.scaling for other in others), "one scaling for all"
        self.members = nn.ModuleList(members)

    @property
    def agb_nets(self) -> list[AgbNet]:
        """The members, as what they are."""
        return [member for member in self.members if isinstance(member, AgbNet)]

    @property
    def width(self) -> int:
        """As ``AgbNet.width``, of the first."""
        return self.agb_nets[0].width

    def scale(self, images: Images) -> Tensor:
        """As ``AgbNet.scale``."""
        return self.agb_nets[0].scale(images)

    def forward_scaled(
        self, x_MCHW: Tensor, chip_of_month: Tensor, chip_count: int | None = None
    ) -> Tensor:
        """As ``AgbNet.forward_scaled``."""
        predicted = [net.forward_scaled(x_MCHW, chip_of_month, chip_count) for net in self.agb_nets]
        return torch.stack(predicted).mean(dim=0)


MonthNetwork = AgbNet | MeanNetwork


class Part(NamedTuple):
    """Some chips of a batch: images [M, bands, H, W] by sensor, and whose months they are."""

    images: Images
    chip_of_month: Tensor
    chips: int


def ready_network(
    network: MonthNetwork, options: InferenceOptions, device: torch.device
) -> MonthNetwork:
    """The same network for prediction alone, computed the fastest way that was asked for.

    It is moved to the device, configured and in evaluation mode; a copy when BatchNorm is folded,
    which can neither be trained nor saved.
    """
    members = [
        member.to(device).configure(options.execution).eval()
        for member in (network.agb_nets if isinstance(network, MeanNetwork) else [network])
    ]
    if options.fold_batch_norm:
        members = [fold_batch_norm(member) for member in members]
    return MeanNetwork(members).eval() if isinstance(network, MeanNetwork) else members[0]


def predict_batches(
    network: MonthNetwork,
    batches: Iterable[Batch],
    options: InferenceOptions,
    device: torch.device,
    *,
    total: int | None = None,
    progress: bool = True,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Maps of many chips, in the order of the batches.

    Args:
        network: As for ``predict_batch``; already on ``device``. Set to evaluation for the
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
    precision = precision_used(device, options.precision, network.width)
    with _evaluating(network), Progress("predicting", total, shown=progress) as bar:
        for batch in batches:
            there = batch.to(device)
            # Not around the loop: a context held across a yield would leak into the caller's code.
            with autocast(device, precision):
                agb_BHW = predict_batch(
                    network,
                    there.images,
                    there.chip_of_month,
                    len(there.chip_ids),
                    options.views,
                    options.clip_negative,
                    parts=options.cpu_parts,
                )
            for chip_id, agb_HW in zip(batch.chip_ids, agb_BHW.cpu().numpy(), strict=True):
                if not np.isfinite(agb_HW).all():
                    raise BadInputError(
                        f"Chip {chip_id}: the network predicts NaN or infinite biomass; check that "
                        "its weights come from a run that did not diverge, and try precision "
                        "float32."
                    )
                yield chip_id, agb_HW
                bar.update()


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.train(False)
    try:
        yield
    finally:
        network.train(training)


@torch.inference_mode()
def predict_batch(
    network: MonthNetwork,
    images: Images,
    chip_of_month: Tensor,
    chip_count: int,
    views: Sequence[str] = ("identity",),
    clip_negative: bool = True,
    *,
    parts: int = 1,
) -> Tensor:
    """Biomass of one batch, averaged over views: float32 [B, H, W], Mg/ha.

    The network is used as it is: call ``eval()`` before, or batch normalization looks at the
    batch.

    Args:
        network: On its device.
        images: By sensor [M, bands, H, W], on the network's device.
        chip_of_month: int64 [M].
        chip_count: B.
        views: Names of ``VIEWS``.
        clip_negative: Set negative means to 0. The mean comes first, so that views which
            disagree around 0 are not pushed up.
        parts: See ``predict_views``.
    """
    agb_VBHW = predict_views(network, images, chip_of_month, chip_count, views, parts=parts)
    mean = agb_VBHW.mean(dim=0)
    return mean.clamp_(min=0.0) if clip_negative else mean


@torch.inference_mode()
def predict_views(
    network: MonthNetwork,
    images: Images,
    chip_of_month: Tensor,
    chip_count: int,
    views: Sequence[str],
    *,
    parts: int = 1,
    cores: int | None = None,
) -> Tensor:
    """Biomass of one batch as each view sees it, turned back: float32 [V, B, H, W], not clipped.

    Arguments as of ``predict_batch``. On a CPU so many ``parts`` of the batch are worked side by
    side (``part_threads``), and ``cores`` may be kept busy, with the same bits for any number up to
    ``parts``: a batch of fewer chips leaves threads idle. None: all that the process may use,
    inside a part too.
    """

    def look(part: Part) -> Tensor:
        x_MCHW = network.scale(part.images)  # once for all views
        seen = []
        for view in views:
            agb = network.forward_scaled(apply_view(x_MCHW, view), part.chip_of_month, part.chips)
            seen.append(apply_view(agb, view).float().squeeze(1))
        return torch.stack(seen)

    whole = Part(images, chip_of_month, chip_count)
    if chip_of_month.device.type != "cpu" or network.training:  # BatchNorm sees the batch
        return look(whole)
    apart = parts_apart(whole, parts)
    threads = part_threads(len(apart) if cores is None else parts, cores)
    return torch.cat(threads.run(look, apart), dim=1)


def parts_apart(batch: Part, count: int) -> list[Part]:
    """A batch on the CPU in at most so many parts, each of its own chips, in the same memory."""
    count = min(count, batch.chips)
    ends = [batch.chips * part // count for part in range(count + 1)]
    months = torch.searchsorted(batch.chip_of_month, torch.tensor(ends)).tolist()
    return [
        Part(
            {name: image[a:b] for name, image in batch.images.items()},
            batch.chip_of_month[a:b] - first,
            last - first,
        )
        for (first, last), (a, b) in zip(
            itertools.pairwise(ends), itertools.pairwise(months), strict=True
        )
    ]
