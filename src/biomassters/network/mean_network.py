"""Several networks that predict as one: the mean of what they predict."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from biomassters.network.agb_net import AgbNet


class MeanNetwork(nn.Module):
    """The mean of networks that were trained on different folds.

    Args:
        members: At least one, of the same scaling or not: each scales for itself.
    """

    def __init__(self, members: Sequence[AgbNet]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def agb_nets(self) -> list[AgbNet]:
        """The members, as what they are."""
        return [member for member in self.members if isinstance(member, AgbNet)]

    def forward(
        self, s1: Tensor, s2: Tensor, chip_of_month: Tensor, chip_count: int | None = None
    ) -> Tensor:
        """As ``AgbNet.forward``: float32 [B, 1, H, W], Mg/ha."""
        predicted = [member(s1, s2, chip_of_month, chip_count) for member in self.members]
        return torch.stack(predicted).mean(dim=0)
