"""What one block contributes to a map; no torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biomassters.regions.lattice import Block


@dataclass(frozen=True, eq=False)
class BlockMap:
    """What a block contributes to the map.

    Attributes:
        block: Which.
        sums: float32 [2, h, w] of its extent: Σ weight · AGB and Σ weight · spread of the views,
            Mg/ha; None where there is no data.
        months: uint8 [h, w] of its core: months with data at each pixel.
        network_s: Seconds that the network took.
        chips: Chips predicted.
    """

    block: Block
    sums: NDArray[np.float32] | None
    months: NDArray[np.uint8]
    network_s: float = 0.0
    chips: int = 0
