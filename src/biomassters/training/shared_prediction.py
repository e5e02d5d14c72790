"""The network as the ranks of a run share it: their gradients become one."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from biomassters.network.agb_net import AgbNet
from biomassters.training.ranks import Ranks


class _OfScaled(nn.Module):
    """The forward pass on scaled months, as a module of its own for DDP to wrap."""

    def __init__(self, network: AgbNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_MCHW: Tensor, chip_of_month: Tensor, chip_count: int) -> Tensor:
        return self.network.forward_scaled(x_MCHW, chip_of_month, chip_count)


class SharedPrediction:
    """Predicts from scaled months; with several ranks their gradients are averaged.

    Args:
        network: On its device, with the same weights on every rank.
        ranks: Those that share it.
        accumulation: Parts of a batch; where each rank has one, the graph is the same at every
            step, which spares DDP looking for it.
    """

    def __init__(self, network: AgbNet, ranks: Ranks, accumulation: int) -> None:
        self._parallel: DistributedDataParallel | None = None
        self._predict: Callable[..., Tensor] = network.forward_scaled
        if ranks.size > 1:
            self._parallel = _parallel(network, static_graph=accumulation <= ranks.size)
            self._predict = self._parallel

    def __call__(self, x_MCHW: Tensor, chip_of_month: Tensor, chip_count: int) -> Tensor:
        """As ``AgbNet.forward_scaled``."""
        return self._predict(x_MCHW, chip_of_month, chip_count)

    def adding_up(self, *, exchange: bool) -> AbstractContextManager[None]:
        """A block whose gradients are added to those before.

        Args:
            exchange: Whether ranks exchange the sums in it: in the last block of a step.
        """
        if self._parallel is None or exchange:
            return nullcontext()
        silence: AbstractContextManager[None] = self._parallel.no_sync()
        return silence


def _parallel(network: AgbNet, *, static_graph: bool) -> DistributedDataParallel:
    with warnings.catch_warnings():
        # New versions of torch have another name for what old ones know as broadcast_buffers.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        return DistributedDataParallel(
            _OfScaled(network),
            broadcast_buffers=False,  # averaged instead, see Stepper
            gradient_as_bucket_view=True,
            static_graph=static_graph,
        )
