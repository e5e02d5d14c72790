"""Several networks that predict as one: the mean of what they predict."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from biomassters.network.agb_net import AgbNet


class MeanNetwork(nn.Module):
    """The mean of networks that were trained on different folds of the same data.

    Args:
        members: At least one; all scale images alike.
    """

    def __init__(self, members: Sequence[AgbNet]) -> None:
        super().__init__()
        first, *others = members
        assert all(other.scaling == first.scaling for other in others), "one scaling for all"
        self.members = nn.ModuleList(members)

    @property
    def agb_nets(self) -> list[AgbNet]:
        """The members, as what they are."""
        return [member for member in self.members if isinstance(member, AgbNet)]

    def scale(self, s1: Tensor, s2: Tensor) -> Tensor:
        """As ``AgbNet.scale``."""
        return self.agb_nets[0].scale(s1, s2)

    def forward_scaled(
        self, x_MCHW: Tensor, chip_of_month: Tensor, chip_count: int | None = None
    ) -> Tensor:
        """As ``AgbNet.forward_scaled``: float32 [B, 1, H, W], Mg/ha."""
        predicted = [net.forward_scaled(x_MCHW, chip_of_month, chip_count) for net in self.agb_nets]
        return torch.stack(predicted).mean(dim=0)

    def forward(
        self, s1: Tensor, s2: Tensor, chip_of_month: Tensor, chip_count: int | None = None
    ) -> Tensor:
        """As ``AgbNet.forward``."""
        return self.forward_scaled(self.scale(s1, s2), chip_of_month, chip_count)
