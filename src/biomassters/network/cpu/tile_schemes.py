"""Schemes that compute a 3×3 convolution with fewer multiplications; the same numbers.

A tile of 2×2 outputs is (outputs)·[(kernel)·w ⊙ (inputs)·x], in rows and columns alike:

* ``WINOGRAD``: F(2×2, 3×3) of Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks",
  CVPR 2016: 16 multiplications a tile instead of 36.
* ``UPSAMPLED``: the convolution of a nearest-upsampled image, computed from the small image. A
  tile of 2×2 outputs sees 3×3 small pixels; as four 2×2 sub-pixel convolutions it takes 16
  multiplications, and on differences of neighbours 9, since w₀·x₋ + (w₁+w₂)·x and
  (w₀+w₁)·x + w₂·x₊ are (w₀+w₁+w₂)·x plus w₀·(x₋−x) and w₂·(x₊−x).
"""

from dataclasses import dataclass

Terms = tuple[tuple[int, int], ...]  # (which, sign), summed


@dataclass(frozen=True)
class Scheme:
    """One dimension of a tile.

    Attributes:
        step: Input pixels from one tile to the next.
        inputs: For each product, the tile's input pixels that it takes.
        kernel: For each product, its weights of the three kernel columns.
        outputs: For each of the two outputs, the products that it sums.
    """

    step: int
    inputs: tuple[Terms, ...]
    kernel: tuple[tuple[float, float, float], ...]
    outputs: tuple[Terms, Terms]

    @property
    def products(self) -> int:
        """Multiplications for two outputs."""
        return len(self.inputs)

    def outputs_of_product(self) -> list[Terms]:
        """For each product, the outputs that it goes into."""
        return [
            tuple((i, sign) for i, terms in enumerate(self.outputs) for k, sign in terms if k == p)
            for p in range(self.products)
        ]


WINOGRAD = Scheme(
    step=2,
    inputs=(((0, 1), (2, -1)), ((1, 1), (2, 1)), ((2, 1), (1, -1)), ((1, 1), (3, -1))),
    kernel=((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    outputs=(((0, 1), (1, 1), (2, 1)), ((1, 1), (2, -1), (3, -1))),
)
UPSAMPLED = Scheme(
    step=1,
    inputs=(((0, 1), (1, -1)), ((1, 1),), ((2, 1), (1, -1))),
    kernel=((1, 0, 0), (1, 1, 1), (0, 0, 1)),
    outputs=(((1, 1), (0, 1)), ((1, 1), (2, 1))),
)
